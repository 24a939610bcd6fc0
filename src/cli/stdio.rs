//! `onemcp --transport stdio`: the gateway as the child of a desktop client. It ends with its
//! client: at the end of the input what was asked is still answered, as long as somebody reads;
//! a signal, or a closed output, ends it at once.

use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::{Handle, Signals};

use crate::base::{limits, sys, thread};
use crate::cli::serve::end_at_once;
use crate::config::Config;
use crate::front::pipes::End;
use crate::front::stdio::Stdio;
use crate::gateway::reload::Loader;
use crate::gateway::run::{Gateway, StartError};

/// Why a program that serves a client on its pipes ends.
pub enum Why {
    Client(End),
    Signal,
}

/// Runs a gateway to the end of its client. Gives what still waits for a second signal.
pub fn serve(
    config: Config,
    loader: Option<Loader>,
    signals: Signals,
) -> Result<Handle, StartError> {
    let cannot = |error: std::io::Error| {
        StartError::Unavailable(format!("failed to serve on stdin and stdout: {error}"))
    };
    let children = limits::STOP_EOF + limits::STOP_TERM;
    let patience = config.settings.shutdown_timeout.saturating_sub(children);
    let files = sys::take_stdio().map_err(cannot)?;
    let gateway = Gateway::start(config, loader)?;
    match gateway.url() {
        Some(url) => log::info!("serving on stdin and stdout, and listening url={url}"),
        None => log::info!("serving on stdin and stdout"),
    }
    // Room for all there will be: the end of either stream, and one signal.
    let (ends, ended) = bounded(3);
    let second = watch_signals(signals, ends.clone()).map_err(cannot)?;
    let tell = move |end| {
        // Nobody waits any more: then it ends already.
        let _ = ends.try_send(Why::Client(end));
    };
    let client = gateway.talk(files, tell).map_err(cannot)?;
    if let Ok(Why::Client(End::Input)) = ended.recv() {
        log::info!("end of input: answering what was asked");
        client.drain();
        wait_written(&ended, Instant::now() + patience);
    }
    end(client, gateway);
    Ok(second)
}

/// Until everything is written, nobody reads, a signal comes, or the time is over.
pub fn wait_written(ended: &Receiver<Why>, deadline: Instant) {
    if ended.recv_deadline(deadline).is_err() {
        log::warn!("calls are cancelled: they were not answered in time");
    }
}

fn end(client: Stdio, gateway: Gateway) {
    client.stop();
    gateway.stop();
}

pub fn watch_signals(mut signals: Signals, ends: Sender<Why>) -> std::io::Result<Handle> {
    let handle = signals.handle();
    thread::spawn("signal", limits::STACK_WORKER_BYTES, move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                log::info!("signal HUP: nothing to reload");
                continue;
            }
            log::info!("signal {signal}: shutting down; once more ends at once");
            // Room for it was made.
            let _ = ends.try_send(Why::Signal);
            return end_at_once(&mut signals);
        }
    })?;
    Ok(handle)
}
