//! The commands that begin with `config`: what they are given, and where their answers go.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::cli::args::ConfigCommand;
use crate::cli::{check, diff, import, show};
use crate::config::process_environment;
use crate::config::schema;
use crate::config::settings::Flags;

pub fn run(asked: &ConfigCommand, flags: &Flags) -> ExitCode {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    match carry_out(asked, flags, &mut out, &mut err) {
        Ok(code) => ExitCode::from(code),
        // Whoever read the output is gone; the answer is not known to anybody.
        Err(_) => ExitCode::FAILURE,
    }
}

fn carry_out(
    asked: &ConfigCommand,
    flags: &Flags,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let environment = process_environment();
    match asked {
        ConfigCommand::Check { file, json } => {
            check::run(file.as_deref(), *json, flags, &environment, out, err)
        }
        ConfigCommand::Schema => {
            out.write_all(schema::text().as_bytes())?;
            out.flush()?;
            Ok(0)
        }
        ConfigCommand::Import { client, how } => {
            let surroundings = import::Surroundings {
                flags,
                environment: &environment,
                here: std::env::current_dir().unwrap_or_default(),
            };
            import::run(*client, how, &surroundings, out, err)
        }
        ConfigCommand::Show { file, origin, json } => {
            let how = show::How {
                origin: *origin,
                json: *json,
            };
            show::run(file.as_deref(), how, flags, &environment, out, err)
        }
        ConfigCommand::Diff { file, json } => diff::run(file, *json, flags, &environment, out, err),
    }
}
