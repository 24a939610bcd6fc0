//! The commands of the binary: what each word of the command line starts, and the exit codes
//! that scripts rely on: 0 ok, 1 the thing asked about is false or the tool said so, 64 usage,
//! 69 unreachable, 75 timeout, 77 refused, 78 configuration.

pub mod alerts;
pub mod args;
pub mod audit;
pub mod auth;
pub mod call;
pub mod check;
pub mod client;
pub mod config;
pub mod control;
pub mod deadline;
pub mod demo;
pub mod demo_server;
pub mod dialogue;
pub mod diff;
pub mod gateway_url;
pub mod health;
pub mod help;
pub mod import;
pub mod key;
pub mod list;
pub mod local;
pub mod login;
pub mod outcome;
pub mod picture;
pub mod pins;
pub mod proxy;
pub mod secret;
pub mod serve;
pub mod show;
pub mod stdio;
pub mod terminal;

use std::io::Write;
use std::process::ExitCode;

use log::LevelFilter;

use crate::base::exit::EXIT_USAGE;
use crate::base::sys;
use crate::cli::args::{Command, DemoKind, Invocation};
use crate::cli::outcome::Failure;
use crate::config::settings::{Origin, Settings};
use crate::journal;

/// Parses the command line and carries it out.
pub fn main() -> ExitCode {
    let invocation = match args::parse(std::env::args_os().skip(1)) {
        Ok(invocation) => invocation,
        Err(error) => {
            say(&format!("onemcp: {error}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    run(invocation)
}

fn run(invocation: Invocation) -> ExitCode {
    let Invocation { command, flags } = invocation;
    match command {
        Command::Help(topic) => print(&help::text(topic)),
        Command::Version => print(&format!("{}\n", help::version())),
        Command::DemoServer(kind) => demo_server::run(match kind {
            DemoKind::Clock => "clock",
            DemoKind::Notes => "notes",
        }),
        Command::Config(asked) => config::run(&asked, &flags),
        Command::Serve => {
            sys::prepare_process();
            serve::run(&flags)
        }
        Command::Demo => {
            sys::prepare_process();
            demo::run(&flags)
        }
        Command::Control { verb, control } => control::run(&verb, &control, &flags),
        Command::Login { asked, control } => login::run(&asked, &control, &flags),
        Command::Secret(asked) => secret::run(&asked, &flags),
        Command::Password => ExitCode::from(auth::password(&mut std::io::stdout())),
        Command::Key(asked) => key::run(&asked, &flags),
        Command::Alerts(verb) => ExitCode::from(alerts::run(&verb, &flags, &mut std::io::stdout())),
        Command::Audit(asked) => ExitCode::from(audit::run(&asked, &flags, &mut std::io::stdout())),
        Command::Proxy(proxy) => proxy::run(&proxy, &flags),
        Command::Health(asked) => {
            ExitCode::from(health::run(&asked, &flags, &mut std::io::stdout()))
        }
        Command::List { server, client } => ExitCode::from(list::run(
            server.as_deref(),
            &client,
            &flags,
            &mut std::io::stdout(),
        )),
        Command::Call {
            target,
            arguments,
            client,
        } => ExitCode::from(call::run(
            &target,
            &arguments,
            &client,
            &flags,
            &mut std::io::stdout(),
        )),
    }
}

fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// One line for a person. A closed stderr is no reason to fail.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// For commands whose answer people came to read: warnings only, unless more is asked for.
pub fn quieten(settings: &mut Settings) {
    if *settings.origin("logging.level") == Origin::Default {
        settings.log_level = LevelFilter::Warn;
    }
}

/// Runs `body` with the log on stderr, and writes what is queued before it returns.
pub fn with_log<T>(
    settings: &Settings,
    body: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    // The files are the gateway's.
    let mut settings = settings.clone();
    (settings.log_file, settings.server_log_dir) = (None, None);
    let log = journal::log::start(&settings)
        .map_err(|error| Failure::Unreachable(format!("failed to start the log: {error}")))?;
    let result = body();
    log.finish();
    result
}
