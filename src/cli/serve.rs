//! `onemcp serve`: the gateway until a signal ends it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::base::{limits, sys, thread};
use crate::cli::{say, stdio};
use crate::config::problem::Problem;
use crate::config::settings::{Flags, Transport};
use crate::config::{Config, LoadError, load, load_file, process_environment};
use crate::gateway::reload::Loader;
use crate::gateway::run::{Gateway, StartError};
use crate::journal;

pub fn run(flags: &Flags) -> ExitCode {
    match load(flags, &process_environment()) {
        Ok(config) => {
            let loader = config.path.clone().map(|path| loader(path, flags));
            serve(config, loader, |_| {})
        }
        Err(error) => refused(&error),
    }
}

pub fn refused(error: &LoadError) -> ExitCode {
    for problem in error
        .problems()
        .iter()
        .filter(|problem| !problem.is_fatal())
    {
        say(&format!("onemcp: {problem}"));
    }
    for line in error.to_string().lines() {
        say(&format!("onemcp: {line}"));
    }
    ExitCode::from(error.exit_code())
}

/// Reads the same files again, with the same flags and variables. Nothing is looked for: a file
/// that is away for a moment must not be taken for another one.
fn loader(path: PathBuf, flags: &Flags) -> Loader {
    let (flags, environment) = (flags.clone(), process_environment());
    Box::new(move || load_file(&path, &flags, &environment))
}

/// Runs a gateway to its end. `started` is told its URL.
pub fn serve(config: Config, loader: Option<Loader>, started: impl FnOnce(&str)) -> ExitCode {
    let settings = &config.settings;
    let log = match journal::log::start(settings.log_level, settings.log_format) {
        Ok(log) => log,
        Err(error) => {
            say(&format!("onemcp: failed to start the log: {error}"));
            return ExitCode::FAILURE;
        }
    };
    sys::log_refusals();
    log_problems(&config.problems);
    let code = match serve_logged(config, loader, started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::from(error.exit_code())
        }
    };
    sys::finish_watcher();
    log.finish();
    code
}

/// What was found in the configuration and stops nothing.
pub fn log_problems(problems: &[Problem]) {
    for problem in problems {
        match problem.is_error() {
            true => log::error!("{problem}"),
            false => log::warn!("{problem}"),
        }
    }
}

fn serve_logged(
    config: Config,
    loader: Option<Loader>,
    started: impl FnOnce(&str),
) -> Result<(), StartError> {
    let cannot = |error: std::io::Error| {
        StartError::Unavailable(format!("failed to start the gateway: {error}"))
    };
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT]).map_err(cannot)?;
    let reaper = sys::start_reaper().map_err(cannot)?;
    let second = match config.settings.transport {
        Transport::Http => {
            let gateway = Gateway::start(config, loader)?;
            let url = gateway.url().unwrap_or_default();
            announce(&gateway, &url);
            started(&url);
            let second = wait_for_end(signals, &gateway).map_err(cannot)?;
            gateway.stop();
            second
        }
        Transport::Stdio => stdio::serve(config, loader, signals)?,
    };
    sys::end_orphans();
    reaper.stop();
    second.close();
    Ok(())
}

/// The one line on stdout that scripts read. A thread of its own writes it, because a full pipe
/// that nobody reads must hold up neither signals nor the end; it is not waited for.
fn announce(gateway: &Gateway, url: &str) {
    let port = gateway.address.map_or(0, |address| address.port());
    log::info!("listening url={url}");
    let line = format!("{{\"event\":\"listening\",\"url\":\"{url}\",\"port\":{port}}}\n");
    let write = move || {
        let mut out = std::io::stdout().lock();
        // Nobody may be reading; the gateway serves all the same.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    };
    if let Err(error) = thread::spawn("announce", limits::STACK_WORKER_BYTES, write) {
        log::error!("listening not announced on stdout: {error}");
    }
}

/// Waits for TERM, INT or QUIT. A second one ends the process at once: the watcher then ends
/// the children. HUP is for reloading and never ends the gateway.
fn wait_for_end(mut signals: Signals, gateway: &Gateway) -> std::io::Result<Handle> {
    for signal in signals.forever() {
        if signal == SIGHUP {
            gateway.begin_reload();
            continue;
        }
        log::info!("signal {signal}: shutting down; once more ends at once");
        break;
    }
    let handle = signals.handle();
    thread::spawn("signal", limits::STACK_WORKER_BYTES, move || {
        end_at_once(&mut signals);
    })?;
    Ok(handle)
}

/// Waits for one more signal to end by.
pub fn end_at_once(signals: &mut Signals) {
    if signals.forever().any(|signal| signal != SIGHUP) {
        std::process::exit(128 + SIGTERM);
    }
}
