//! The commands of the binary: what each word of the command line starts, and the exit codes
//! that scripts rely on: 0 ok, 1 the thing asked about is false or the tool said so, 64 usage,
//! 69 unreachable, 75 timeout, 77 refused, 78 configuration.

pub mod args;
pub mod check;
pub mod demo_server;
pub mod help;
pub mod serve;

use std::io::Write;
use std::process::ExitCode;

use crate::base::sys;
use crate::cli::args::{Command, DemoKind, EXIT_USAGE, Invocation};
use crate::config::process_environment;

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
        Command::Version => print(&help::version()),
        Command::DemoServer(kind) => demo_server::run(match kind {
            DemoKind::Clock => "clock",
            DemoKind::Notes => "notes",
        }),
        Command::ConfigCheck { file } => {
            let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
            let environment = process_environment();
            match check::run(file.as_deref(), &flags, &environment, &mut out, &mut err) {
                Ok(code) => ExitCode::from(code),
                // Whoever read the output is gone; the answer is not known to anybody.
                Err(_) => ExitCode::FAILURE,
            }
        }
        Command::Serve => {
            sys::prepare_process();
            serve::run(&flags)
        }
        Command::Demo | Command::List { .. } | Command::Call { .. } => ExitCode::FAILURE,
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
