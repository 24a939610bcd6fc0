//! `onemcp serve`: the gateway until a signal ends it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::base::exit::EXIT_CONFIGURATION;
use crate::base::{limits, room, sys, thread};
use crate::cli::{say, stdio};
use crate::config::problem::Problem;
use crate::config::settings::{Flags, Transport};
use crate::config::{Config, LoadError, load, load_named, process_environment, secret_sources};
use crate::gateway::drain::LastMoment;
use crate::gateway::ending::{EndWhy, Ending};
use crate::gateway::reload::Loader;
use crate::gateway::run::{Gateway, StartError};
use crate::journal;
use crate::journal::audit::run::{Audit, Plan};
use crate::secrets::store::Store;

pub fn run(flags: &Flags) -> ExitCode {
    let store = Arc::new(Store::default());
    match load(flags, &process_environment(), &store) {
        Ok(config) => {
            let loader = loader(config.path.clone(), flags, store);
            serve(config, Some(loader), |_| {})
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
/// that is away for a moment must not be taken for another one. Without a path the configuration
/// was a flag or a variable, and what may have changed is what it names.
fn loader(path: Option<PathBuf>, flags: &Flags, store: Arc<Store>) -> Loader {
    let (flags, environment) = (flags.clone(), process_environment());
    let secrets = store.clone();
    let load = move || load_named(path.as_deref(), &flags, &environment, &store);
    Loader {
        load: Box::new(load),
        secrets,
    }
}

/// Runs a gateway to its end. `started` is told its URL.
pub fn serve(config: Config, loader: Option<Loader>, started: impl FnOnce(&str)) -> ExitCode {
    let settings = &config.settings;
    let log = match journal::log::start(settings) {
        Ok(log) => log,
        Err(error) => {
            say(&format!("onemcp: failed to start the log: {error}"));
            return ExitCode::FAILURE;
        }
    };
    sys::log_refusals();
    room::settle();
    log_problems(&config.problems);
    let audit = match start_audit(&config) {
        Ok(audit) => audit,
        Err(why) => {
            log::error!("failed to {why}");
            log.finish();
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    let code = match serve_logged(config, loader, started) {
        Ok(last) => {
            sys::finish_watcher();
            last.all_gone();
            audit.into_iter().for_each(Audit::finish);
            log.finish();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            log::error!("{error}");
            ExitCode::from(error.exit_code())
        }
    };
    sys::finish_watcher();
    audit.into_iter().for_each(Audit::finish);
    log.finish();
    code
}

fn start_audit(config: &Config) -> Result<Option<Audit>, String> {
    let settings = &config.settings;
    let state = secret_sources::state_folder(settings, &process_environment());
    journal::audit::run::start(&Plan {
        settings: &settings.audit,
        headers: &config.audit_headers,
        egress_allow: &settings.egress_allow,
        state: state.as_deref(),
        has_auth: settings.auth.enabled,
        is_stdio: settings.transport == Transport::Stdio,
    })
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
) -> Result<LastMoment, StartError> {
    let cannot = |error: std::io::Error| {
        let remedy = room::remedy(&error);
        StartError::Unavailable(format!("failed to start the gateway: {error}{remedy}"))
    };
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT]).map_err(cannot)?;
    let reaper = sys::start_reaper().map_err(cannot)?;
    let (second, last) = match config.settings.transport {
        Transport::Http => {
            let gateway = Gateway::start(config, loader)?;
            let url = gateway.url().unwrap_or_default();
            let ending = gateway.ending.clone();
            let second = hand_over(signals, ending.clone(), gateway.on_reload()).map_err(cannot)?;
            announce(&gateway, &url);
            started(&url);
            // What the start needed, this thread needs no more.
            sys::rest_heap();
            let why = ending.wait();
            (second, gateway.end(why).map_err(cannot)?)
        }
        Transport::Stdio => stdio::serve(config, loader, signals)?,
    };
    sys::end_orphans(last.at - limits::END_REST / 2);
    reaper.stop();
    second.close();
    Ok(last)
}

/// The one line on stdout that scripts read. A thread of its own writes it, because a full pipe
/// that nobody reads must hold up neither signals nor the end; it is not waited for.
fn announce(gateway: &Gateway, url: &str) {
    let port = gateway.address.map_or(0, |address| address.port());
    log::info!("listening url={url}");
    let health = gateway.health_address();
    let health = health.map_or_else(String::new, |at| format!(",\"health\":{}", at.port()));
    let event = "{\"event\":\"listening\"";
    let line = format!("{event},\"url\":\"{url}\",\"port\":{port}{health}}}\n");
    let again = line.clone();
    let write = move || write_out(&line);
    if let Err(error) = thread::spawn("announce", limits::STACK_WORKER_BYTES, write) {
        log::warn!("no thread to announce on stdout: {error}");
        write_out(&again);
    }
}

fn write_out(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody may be reading; the gateway serves all the same.
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

/// Hands signals over for as long as the program runs: HUP to `on_reload`, the first of TERM, INT
/// and QUIT to `ending`. A second one ends the process at once: the watcher then ends the
/// children.
///
/// # Errors
/// When the system refuses the thread.
pub fn hand_over(
    mut signals: Signals,
    ending: Arc<Ending>,
    on_reload: impl Fn() + Send + 'static,
) -> std::io::Result<Handle> {
    let handle = signals.handle();
    thread::spawn("signal", limits::STACK_WORKER_BYTES, move || {
        let mut is_second = false;
        for signal in signals.forever() {
            match EndWhy::of_signal(signal) {
                None => {
                    journal::log::reopen();
                    on_reload();
                }
                Some(_) if is_second => std::process::exit(128 + SIGTERM),
                Some(why) => {
                    log::info!("{}: shutting down; once more ends at once", why.as_str());
                    is_second = true;
                    ending.ask(why);
                }
            }
        }
    })?;
    Ok(handle)
}

/// For programs that read their configuration once.
pub fn nothing_to_reload() {
    log::info!("signal HUP: nothing to reload");
}
