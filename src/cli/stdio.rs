//! `onemcp --transport stdio`: the gateway as the child of a desktop client. It ends with its
//! client: at the end of the input what was asked is still answered, as long as somebody reads;
//! a signal, or a closed output, ends it at once.

use std::time::Instant;

use signal_hook::iterator::{Handle, Signals};

use crate::base::sys;
use crate::cli::serve::hand_over;
use crate::config::Config;
use crate::front::pipes::End;
use crate::gateway::drain::{LastMoment, Times};
use crate::gateway::ending::{EndWhy, Ending};
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
    let gateway = Gateway::start(config, loader)?;
    match gateway.url() {
        Some(url) => log::info!("serving on stdin and stdout, and listening url={url}"),
        None => log::info!("serving on stdin and stdout"),
    }
    let ending = gateway.ending.clone();
    let second = hand_over(signals, ending.clone(), gateway.on_reload()).map_err(cannot)?;
    let asked = ending.clone();
    let tell = move |end| asked.ask(EndWhy::Client(end));
    let client = gateway.talk(files, tell).map_err(cannot)?;
    let why = ending.wait();
    let times = Times::new(Instant::now(), budget);
    if why == EndWhy::Client(End::Input) {
        log::info!("end of input: answering what was asked");
        client.drain();
        wait_written(&ending, times.calls);
    }
    client.stop();
    let ended = match why {
        EndWhy::Client(_) => gateway.end_within(times),
        // Clients of the listener, if there is one, have their time.
        _ => gateway.end(why),
    };
    Ok((second, ended.map_err(cannot)?))
}

/// Until everything is written, nobody reads, a signal comes, or the time is over.
pub fn wait_written(ending: &Ending, deadline: Instant) {
    if ending.wait_until(deadline).is_none() {
        log::warn!("calls are cancelled: they were not answered in time");
    }
}
