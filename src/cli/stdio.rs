//! `onemcp --transport stdio`: the gateway as the child of a desktop client. It ends with its
//! client: at the end of the input, or at a signal, what was asked is still answered, as long as
//! somebody reads; a closed output ends it at once.

use std::time::Instant;

use signal_hook::iterator::{Handle, Signals};

use crate::base::sys;
use crate::cli::serve::hand_over;
use crate::config::Config;
use crate::front::pipes::End;
use crate::gateway::drain::{LastMoment, Times};
use crate::gateway::ending::EndWhy;
use crate::gateway::reload::Loader;
use crate::gateway::run::{Gateway, StartError};

/// Runs a gateway to the end of its client. Gives what still waits for a second signal, and
/// what sees to the end of everything.
pub fn serve(
    config: Config,
    loader: Option<Loader>,
    signals: Signals,
) -> Result<(Handle, LastMoment), StartError> {
    let cannot = |error: std::io::Error| {
        StartError::Unavailable(format!("failed to serve on stdin and stdout: {error}"))
    };
    let budget = config.settings.shutdown_timeout;
    let files = sys::take_stdio().map_err(cannot)?;
    let mut gateway = Gateway::start(config, loader)?;
    match gateway.url() {
        Some(url) => log::info!("serving on stdin and stdout, and listening url={url}"),
        None => log::info!("serving on stdin and stdout"),
    }
    let ending = gateway.ending.clone();
    let second = hand_over(signals, ending.clone(), gateway.on_reload()).map_err(cannot)?;
    gateway.talk(files).map_err(cannot)?;
    let ended = match ending.wait() {
        EndWhy::Client(end) => {
            let times = Times::new(Instant::now(), budget);
            if end == End::Input {
                gateway.hear_out(times.calls);
            }
            gateway.end_within(times)
        }
        why => gateway.end(why),
    };
    Ok((second, ended.map_err(cannot)?))
}
