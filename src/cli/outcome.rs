//! What `list` and `call` come to: lines on stdout, words on stderr, and the exit code.

use std::fmt;
use std::io::{self, Write};

use crate::base::exit::{EXIT_FALSE, EXIT_REFUSED, EXIT_TIMEOUT, EXIT_UNREACHABLE, EXIT_USAGE};
use crate::cli::args::UsageError;
use crate::cli::say;
use crate::config::LoadError;
use crate::mcp::error::{INTERNAL_ERROR, Reason, RpcError};
use crate::wire::json::string_value;
use crate::wire::members::Members;
use crate::wire::message::{FROM_SERVER, blank_line_breaks};

/// Why a command did not do what it was asked to do.
#[derive(Debug)]
pub enum Failure {
    Usage(String),
    Configuration(LoadError),
    /// The error object of an answer, as raw JSON: a server's, or a gateway's about a server.
    Answered(String),
    /// There is no such endpoint (HTTP 404): perhaps another one has what is looked for.
    NoEndpoint(String),
    Unreachable(String),
    Timeout(String),
    Refused(String),
    /// A signal ended the command.
    Signal(i32),
    /// Whoever read stdout is gone.
    Output(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Failure {
        Failure::Answered(error.object())
    }
}

impl From<UsageError> for Failure {
    fn from(error: UsageError) -> Failure {
        Failure::Usage(error.to_string())
    }
}

impl Failure {
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => EXIT_USAGE,
            Failure::Configuration(error) => error.exit_code(),
            Failure::Answered(error) => exit_code_of(error),
            Failure::NoEndpoint(_) | Failure::Unreachable(_) => EXIT_UNREACHABLE,
            Failure::Timeout(_) => EXIT_TIMEOUT,
            Failure::Refused(_) => EXIT_REFUSED,
            // What a shell shows for a program that a signal ended.
            Failure::Signal(signal) => u8::try_from(128 + signal).unwrap_or(EXIT_FALSE),
            Failure::Output(_) => EXIT_FALSE,
        }
    }

    /// The error object for stdout. A command line or a file that is wrong has none: nobody
    /// was asked anything.
    fn object(&self) -> Option<String> {
        match self {
            Failure::Answered(error) => Some(error.clone()),
            Failure::NoEndpoint(text)
            | Failure::Unreachable(text)
            | Failure::Timeout(text)
            | Failure::Refused(text) => Some(RpcError::new(INTERNAL_ERROR, text.clone()).object()),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Configuration(error) => error.fmt(f),
            Failure::Answered(error) => match member(error, "message") {
                Some(raw) => f.write_str(&string_value(&raw).unwrap_or_default()),
                None => f.write_str(error),
            },
            Failure::Usage(text)
            | Failure::NoEndpoint(text)
            | Failure::Unreachable(text)
            | Failure::Timeout(text)
            | Failure::Refused(text) => f.write_str(text),
            Failure::Signal(signal) => write!(f, "ended by signal {signal}"),
            Failure::Output(error) => write!(f, "failed to write to stdout: {error}"),
        }
    }
}

/// The gateway says in `data.onemcp.reason` why a server gave no answer; every other error
/// is the server's own.
fn exit_code_of(error: &str) -> u8 {
    let reason = member(error, "data")
        .and_then(|data| member(&data, "onemcp"))
        .and_then(|onemcp| member(&onemcp, "reason"));
    let Some(reason) = reason else {
        return EXIT_FALSE;
    };
    match reason.trim_matches('"') {
        known if known == Reason::Timeout.as_str() => EXIT_TIMEOUT,
        known if known == Reason::TooLarge.as_str() => EXIT_FALSE,
        _ => EXIT_UNREACHABLE,
    }
}

/// A member of an object, raw. `None` also when the text is not an object.
pub fn member(object: &str, key: &str) -> Option<String> {
    let members = Members::parse(object, 1, FROM_SERVER).ok()?;
    members.get(key).map(str::to_owned)
}

/// Writes raw JSON as one line.
pub fn write_line(out: &mut dyn Write, json: &str) -> io::Result<()> {
    let mut line = json.as_bytes().to_vec();
    blank_line_breaks(&mut line);
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

/// Gives the exit code, after saying what went wrong: to scripts and to people.
pub fn finish(result: Result<u8, Failure>, out: &mut dyn Write) -> u8 {
    let failure = match result {
        Ok(code) => return code,
        Err(failure) => failure,
    };
    if let Failure::Configuration(error) = &failure {
        crate::cli::serve::refused(error);
        return failure.exit_code();
    }
    say(&format!("onemcp: {failure}"));
    if let Some(object) = failure.object() {
        // If it cannot be written, the exit code still tells.
        let _ = write_line(out, &format!("{{\"error\":{object}}}"));
    }
    failure.exit_code()
}

#[cfg(test)]
mod tests {
    use super::{Failure, finish};
    use crate::mcp::error::{Reason, RpcError};

    fn check(failure: Failure, expect_code: u8, expect_out: &str) {
        let mut out = Vec::new();
        assert_eq!(finish(Err(failure), &mut out), expect_code);
        assert_eq!(String::from_utf8(out).unwrap(), expect_out);
    }

    #[test]
    fn exit_codes_and_lines() {
        check(Failure::Usage("x".into()), 64, "");
        check(
            Failure::Answered("{\"code\":-32602,\n\"message\":\"m\"}".into()),
            1,
            "{\"error\":{\"code\":-32602, \"message\":\"m\"}}\n",
        );
        check(
            Failure::Refused("m".into()),
            77,
            "{\"error\":{\"code\":-32603,\"message\":\"m\"}}\n",
        );
        check(Failure::Signal(15), 143, "");
    }

    #[test]
    fn reasons_of_the_gateway_decide() {
        let code = |reason| Failure::from(RpcError::gateway(reason, "s", "x")).exit_code();
        assert_eq!(code(Reason::Timeout), 75);
        assert_eq!(code(Reason::TooLarge), 1);
        assert_eq!(code(Reason::Crashed), 69);
        assert_eq!(code(Reason::BadUpstream), 69);
        // A server may say anything in its own data.
        let own = r#"{"code":1,"message":"m","data":{"onemcp":7}}"#;
        assert_eq!(Failure::Answered(own.into()).exit_code(), 1);
    }
}
