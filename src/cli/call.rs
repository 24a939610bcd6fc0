//! `onemcp call SERVER/TOOL`: one tool, its result as one line of JSON as the server gave it.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{after, select};
use signal_hook::consts::SIGTERM;

use crate::base::exit::EXIT_FALSE;
use crate::base::{limits, sys};
use crate::cli::args::{Arguments, ClientFlags, object};
use crate::cli::client::with_client;
use crate::cli::deadline::Deadline;
use crate::cli::local::{Local, configuration, find_server, unknown_server, with_servers};
use crate::cli::outcome::{Failure, finish, member, write_line};
use crate::config::settings::Flags;
use crate::front::face::Abilities;
use crate::mcp::error::{INVALID_PARAMS, Reason, RpcError};
use crate::mcp::list::ListKind;
use crate::mcp::meta;
use crate::upstream::call::{Answer, Asked, CallId, Mailbox, Outgoing, Reply};
use crate::upstream::handshake::ClientFace;
use crate::upstream::link::Link;
use crate::upstream::server::{Server, State, Status};
use crate::wire::json::quoted;
use crate::wire::message::{Envelope, FROM_SERVER, Kind};

/// Gives the exit code.
pub fn run(
    target: &str,
    arguments: &Arguments,
    client: &ClientFlags,
    flags: &Flags,
    out: &mut dyn Write,
) -> u8 {
    let result = read_arguments(arguments).and_then(|arguments| match &client.url {
        None => local(target, &arguments, client, flags, out),
        Some(url) => remote(target, &arguments, url, client, flags, out),
    });
    finish(result, out)
}

/// The arguments as they were written: an object, if any were.
fn read_arguments(arguments: &Arguments) -> Result<String, Failure> {
    let text = match arguments {
        Arguments::None => return Ok("{}".to_owned()),
        Arguments::Json(text) => return Ok(text.clone()),
        Arguments::Stdin => read_bounded("stdin", std::io::stdin().lock())?,
        Arguments::File(path) => read_file(path)?,
    };
    Ok(object(&text)?)
}

fn read_file(path: &Path) -> Result<String, Failure> {
    let name = path.display().to_string();
    match std::fs::File::open(path) {
        Ok(file) => read_bounded(&name, file),
        Err(error) => Err(Failure::Usage(format!("failed to read {name}: {error}"))),
    }
}

fn read_bounded(name: &str, source: impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    let limit = limits::LINE_BYTES as u64;
    match source.take(limit + 1).read_to_string(&mut text) {
        Ok(count) if count as u64 > limit => Err(Failure::Usage(format!(
            "--args: {name} holds more than {limit} bytes"
        ))),
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::Usage(format!("failed to read {name}: {error}"))),
    }
}

/// Every way to read `SERVER/TOOL`, the longest server's name first: both may hold slashes.
fn readings(target: &str) -> impl Iterator<Item = (&str, &str)> {
    let slashes = target.rmatch_indices('/').map(|(at, _)| at);
    slashes
        .map(|at| (&target[..at], &target[at + 1..]))
        .filter(|(server, tool)| !server.is_empty() && !tool.is_empty())
}

fn call_params(tool: &str, arguments: &str) -> String {
    format!("\"name\":{},\"arguments\":{arguments}", quoted(tool))
}

/// Prints the result. Its `isError` is the exit code.
fn print_result(result: &str, out: &mut dyn Write) -> Result<u8, Failure> {
    write_line(out, result)?;
    match member(result, "isError").as_deref() {
        Some("true") => Ok(EXIT_FALSE),
        _ => Ok(0),
    }
}

fn local(
    target: &str,
    arguments: &str,
    client: &ClientFlags,
    flags: &Flags,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    sys::prepare_process();
    let config = configuration(flags)?;
    let found = readings(target).find_map(|(name, tool)| Some((find_server(&config, name)?, tool)));
    let Some((server, tool)) = found else {
        let name = readings(target).next().map_or(target, |(name, _)| name);
        return Err(unknown_server(&config, name));
    };
    let deadline = client.timeout.map(Deadline::after);
    with_servers(&config, &[server], |local| {
        local.wait_ready(deadline)?;
        let result = LocalCall::start(local, tool, arguments, deadline)?.finish()?;
        print_result(&result, out)
    })
}

/// One call at a server of this process.
struct LocalCall<'a> {
    local: &'a Local,
    link: Arc<Link>,
    call: CallId,
    mail: Mailbox,
    /// Of the server, for the error.
    timeout: Duration,
    /// When it ends unless there is progress, and when it ends anyhow.
    ends: Instant,
    ceiling: Instant,
    deadline: Option<Deadline>,
}

impl<'a> LocalCall<'a> {
    fn start(
        local: &'a Local,
        tool: &str,
        arguments: &str,
        deadline: Option<Deadline>,
    ) -> Result<LocalCall<'a>, Failure> {
        let started = &local.started[0];
        let server = &started.server;
        let link = match (&started.failed, server.shared_link()) {
            (None, Some(link)) => link,
            (failed, _) => {
                let status = failed.clone().unwrap_or_else(|| server.status());
                return Err(not_available(server, status));
            }
        };
        let listed = local.catalog();
        if listed
            .by_native(ListKind::Tools, server.id.slot, tool)
            .is_none()
        {
            let message = format!("unknown tool: {tool}");
            return Err(RpcError::new(INVALID_PARAMS, message).into());
        }
        let text = request(tool, arguments, &introduction(&link));
        let mail = Mailbox::new(1);
        let call = link.call(&text.outgoing(), 0, mail.sender())?;
        let timeout = server.config.request_timeout;
        let now = Instant::now();
        Ok(LocalCall {
            local,
            link,
            call,
            mail,
            timeout,
            ends: now + timeout,
            ceiling: now + timeout.max(limits::CALL_DEADLINE_MAX),
            deadline,
        })
    }

    /// The raw result.
    fn finish(mut self) -> Result<String, Failure> {
        loop {
            let hard = self.deadline.map_or(self.ceiling, |deadline| deadline.at());
            let until = self.ends.min(hard);
            let timeout = after(until.saturating_duration_since(Instant::now()));
            let outcome = select! {
                recv(self.mail.receiver()) -> mail => match mail {
                    Ok(mail) => self.receive(mail.reply),
                    Err(_) => Some(Err(self.gateway_error(Reason::Crashed, "is gone"))),
                },
                recv(self.local.signals) -> signal => {
                    Some(Err(Failure::Signal(signal.unwrap_or(SIGTERM))))
                }
                // Nothing but the call counts now; events are taken so that nobody waits.
                recv(self.local.events) -> _ => None,
                recv(timeout) -> _ => Some(Err(self.timed_out(hard))),
            };
            if let Some(outcome) = outcome {
                self.link.cancel(self.call, "no longer wanted");
                return outcome;
            }
        }
    }

    fn receive(&mut self, reply: Reply) -> Option<Result<String, Failure>> {
        match reply {
            Reply::Answer(answer) => Some(self.result(&answer)),
            Reply::Failed(error) => Some(Err(error.into())),
            Reply::Notice(notice) => {
                let text = String::from_utf8_lossy(&notice.text);
                log::info!("notification server={:?} {text}", self.link.server());
                self.ends = Instant::now() + self.timeout;
                None
            }
            Reply::Asked(asked) => {
                self.refuse(&asked);
                None
            }
            Reply::Cancelled | Reply::AskAnswered | Reply::AskWithdrawn { .. } => None,
        }
    }

    fn result(&self, answer: &Answer) -> Result<String, Failure> {
        let bad = || self.gateway_error(Reason::BadUpstream, "sent an unusable answer");
        let envelope = Envelope::from_bytes(&answer.line, FROM_SERVER).map_err(|_| bad())?;
        match envelope.kind {
            Kind::Result { result, .. } if asks(result) => Err(self.gateway_error(
                Reason::BadUpstream,
                "asks a question before it answers, and nobody is here to answer it; \
                 call the tool from a client of the gateway",
            )),
            Kind::Result { result, .. } => Ok(result.to_owned()),
            Kind::Error { error, .. } => Err(Failure::Answered(error.to_owned())),
            _ => Err(bad()),
        }
    }

    /// There is nobody here who could answer a question.
    fn refuse(&self, asked: &Asked) {
        if let Some(error) = Abilities::default().refuses(asked.ask, None) {
            self.link.answer_error(&asked.upstream_id, &error);
        }
    }

    fn timed_out(&self, hard: Instant) -> Failure {
        let passed = self.deadline.filter(|_| hard <= self.ends);
        if let Some(deadline) = passed {
            return deadline.passed();
        }
        let detail = format!(
            "gave no answer within {} s; raise \"requestTimeout\" if it needs longer",
            self.timeout.as_secs_f64()
        );
        self.gateway_error(Reason::Timeout, &detail)
    }

    fn gateway_error(&self, reason: Reason, detail: &str) -> Failure {
        RpcError::gateway(reason, self.link.server(), detail).into()
    }
}

fn not_available(server: &Server, status: Status) -> Failure {
    let cause = status.last_error.unwrap_or_default();
    let detail = match status.state {
        State::Disabled => "is disabled in the file".to_owned(),
        State::Failed => format!("did not start: {cause}"),
        other => format!("is {}: {cause}", other.as_str()),
    };
    RpcError::gateway(Reason::BadUpstream, server.name(), &detail).into()
}

/// A request's text and where its id and its progress token stand.
struct Request {
    text: String,
    id: usize,
    token: usize,
}

/// What a stateless server wants to be told in each request: that nobody is here who could
/// answer questions.
fn introduction(link: &Link) -> String {
    match link.is_stateless() {
        true => meta::of_request("{}", &ClientFace::shared().info) + ",",
        false => String::new(),
    }
}

/// A stateless server's way to ask.
fn asks(result: &str) -> bool {
    member(result, "resultType").as_deref() == Some("\"input_required\"")
}

/// `introduction`: members of `_meta`, with a comma behind.
fn request(tool: &str, arguments: &str, introduction: &str) -> Request {
    let mut text = "{\"jsonrpc\":\"2.0\",\"id\":".to_owned();
    let id = text.len();
    text.push_str("0,\"method\":\"tools/call\",\"params\":{");
    text.push_str(&call_params(tool, arguments));
    text.push_str(",\"_meta\":{");
    text.push_str(introduction);
    text.push_str("\"progressToken\":");
    let token = text.len();
    text.push_str("0}}}");
    Request { text, id, token }
}

impl Request {
    fn outgoing(&self) -> Outgoing<'_> {
        Outgoing {
            text: &self.text,
            id: self.id..self.id + 1,
            edits: Vec::new(),
            progress_token: Some(self.token..self.token + 1),
            meter: None,
        }
    }
}

fn remote(
    target: &str,
    arguments: &str,
    url: &str,
    flags: &ClientFlags,
    settings: &Flags,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    with_client(url, flags, settings, |client| {
        for (server, tool) in readings(target) {
            let mut session = match client.open(client.url.of_server(server)) {
                Ok(session) => session,
                Err(Failure::NoEndpoint(_)) => continue,
                Err(failure) => return Err(failure),
            };
            let params = call_params(tool, arguments);
            let params = format!("{{{params},\"_meta\":{{\"progressToken\":0}}}}");
            let result = session.request("tools/call", &params)?;
            return print_result(&result, out);
        }
        // A gateway that has no such server, or no gateway at all?
        client.open(client.url.endpoint())?;
        let name = readings(target).next().map_or(target, |(name, _)| name);
        let hint = "onemcp list --url shows those that there are";
        let message = format!("unknown server {name:?}; {hint}");
        Err(RpcError::new(INVALID_PARAMS, message).into())
    })
}

#[cfg(test)]
mod tests {
    use super::{asks, readings, request};

    #[test]
    fn names_may_hold_slashes() {
        let read = |target| readings(target).collect::<Vec<_>>();
        assert_eq!(read("a/b"), [("a", "b")]);
        assert_eq!(read("g/x/y"), [("g/x", "y"), ("g", "x/y")]);
        assert_eq!(read("/b"), []);
        assert_eq!(read("a/"), []);
        assert_eq!(read("é/ü"), [("é", "ü")]);
    }

    #[test]
    fn requests_know_their_places() {
        let request = request("t\"", "{\"a\":1}", "\"i\":{},");
        let value: serde_json::Value = serde_json::from_str(&request.text).unwrap();
        assert_eq!(value["params"]["name"], "t\"");
        assert_eq!(value["params"]["arguments"]["a"], 1);
        assert!(value["params"]["_meta"]["i"].is_object());
        assert!(asks(
            r#"{"resultType":"input_required","inputRequests":{}}"#
        ));
        assert!(!asks(r#"{"resultType":"complete"}"#) && !asks("{}"));
        assert_eq!(&request.text[request.outgoing().id], "0");
        assert!(request.text[request.token..].starts_with("0}}}"));
    }
}
