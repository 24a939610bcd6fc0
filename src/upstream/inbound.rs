//! What a server's lines mean. Runs on the server's reader thread, which never waits for
//! anybody: what cannot be handed over at once is refused or dropped, and counted.

use std::io::Read;
use std::sync::Arc;

use crate::base::limits;
use crate::journal::audit;
use crate::journal::metrics::outcome::Outcome;
use crate::journal::metrics::{events, is_recording};
use crate::journal::span;
use crate::mcp::error::{self, Reason, RpcError};
use crate::mcp::level::Level;
use crate::mcp::list::ListKind;
use crate::mcp::meta;
use crate::mcp::method::{self, Ask};
use crate::mcp::task;
use crate::upstream::call::{Answer, Asked, CallId, Notice};
use crate::upstream::event::{Event, Outlook, SessionMessage};
use crate::upstream::link::{Attributed, Count, Link, count};
use crate::upstream::listening::Filter;
use crate::upstream::signals::ProcessSignals;
use crate::upstream::tasks;
use crate::wire::json::{elements, quoted, string_value};
use crate::wire::lines::{Line, LineReader, find_id};
use crate::wire::members::{Edit, Members, span_in, splice};
use crate::wire::message::{Envelope, FROM_SERVER, Kind};

/// Where the reader thread sends what does not belong to a call.
pub struct Inbound {
    pub link: Arc<Link>,
    pub signals: Arc<ProcessSignals>,
    pub outlook: Outlook,
}

/// Where a message about a task belongs.
enum TaskOf {
    /// That waits for its end.
    Call(Attributed),
    Session(String),
}

impl Inbound {
    /// Reads until the child closes its output.
    pub fn run(&self, stdout: impl Read) {
        let mut lines = LineReader::new(stdout, limits::LINE_BYTES);
        loop {
            match lines.next_line() {
                Ok(Some(Line::Text(line))) => {
                    self.link.heard_line();
                    self.line(line, None);
                }
                Ok(Some(Line::TooLong { bytes, id, is_call })) => {
                    self.link.heard_line();
                    self.too_long(bytes, id, is_call);
                }
                Ok(None) | Err(_) => break,
            }
        }
        self.signals.output_closed();
    }

    /// A response costs its call, or, when that cannot be told, all of them. What `is_call` had
    /// a method and answers nobody.
    pub fn too_long(&self, bytes: u64, id: Option<u64>, is_call: bool) {
        bump(&self.link.counters.too_long_lines);
        let limit = limits::LINE_BYTES;
        let detail = format!("result too large ({bytes} bytes, limit {limit})");
        log::warn!(
            "line skipped server={:?} bytes={bytes} limit={limit}",
            self.link.server()
        );
        let error = RpcError::gateway(Reason::TooLarge, self.link.server(), &detail);
        match id {
            _ if is_call => {}
            Some(id) => self.link.spoilt(id, error),
            None => self.link.fail_all(&error),
        }
    }

    /// One message, or a batch. `stream`: the call on whose own stream it came, over HTTP.
    pub fn line(&self, line: &[u8], stream: Option<CallId>) {
        let Ok(text) = std::str::from_utf8(line) else {
            self.spoilt(line, "not UTF-8");
            return self.noise(line);
        };
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if !text.starts_with('[') {
            return self.message(text, stream);
        }
        // A batch: servers of revision 2025-03-26 may send one.
        match elements(text, FROM_SERVER) {
            Some(messages) => messages
                .into_iter()
                .for_each(|message| self.message(message, stream)),
            None => self.noise(line),
        }
    }

    fn message(&self, text: &str, stream: Option<CallId>) {
        let envelope = match Envelope::parse(text, FROM_SERVER) {
            Ok(envelope) => envelope,
            Err(error) => {
                // Broken JSON may be half a line, of a process that is about to end.
                if !error.is_syntax() {
                    self.spoilt(text.as_bytes(), &error.to_string());
                }
                return self.noise(text.as_bytes());
            }
        };
        match &envelope.kind {
            Kind::Result { id, result } if !result.starts_with('{') => {
                self.malformed(id.parse().ok(), "\"result\" is not an object");
            }
            Kind::Result { id, result } => self.response(text, id, result, false),
            Kind::Error {
                id: Some(id),
                error,
            } if !is_error_object(error) => {
                self.malformed(id.parse().ok(), "\"error\" has no code and message");
            }
            Kind::Error {
                id: Some(id),
                error,
            } => self.response(text, id, error, true),
            Kind::Error { id: None, error } => {
                if let Some(seen) = count(&self.link.counters.stray_errors) {
                    log::warn!(
                        "server reports an error without a request server={:?} seen={seen}: {}",
                        self.link.server(),
                        cut(error)
                    );
                }
            }
            Kind::Request { id, method } => self.request(&envelope, id, method, stream),
            Kind::Notification { method } => self.notification(&envelope, method, stream),
        }
    }

    fn response(&self, text: &str, id: &str, payload: &str, is_error: bool) {
        match id.parse::<u64>() {
            Ok(number) => {
                let answer = Answer {
                    line: text.as_bytes().to_vec(),
                    id: span_in(text, id),
                    payload: span_in(text, payload),
                    is_error,
                    outcome: match is_recording() || span::is_on() || audit::is_on() {
                        true => Outcome::of_response(payload.as_bytes(), is_error),
                        false => Outcome::Success,
                    },
                };
                self.link.answered(number, answer);
                if self.link.listening().calls().contains(&number) {
                    self.signals.listening_changed();
                }
            }
            Err(_) => bump(&self.link.counters.unknown_ids),
        }
    }

    /// A response of which no more than the id can be read: its call need not wait. A log line
    /// that happens to be JSON, or a request, whose id is the server's own, is none.
    fn spoilt(&self, line: &[u8], why: &str) {
        let has = |word: &[u8]| memchr::memmem::find(line, word).is_some();
        if !has(b"\"jsonrpc\"") || has(b"\"method\"") {
            return;
        }
        self.malformed(find_id(line), why);
    }

    /// Clients drop what their schema does not know and would wait in vain, so they are told.
    fn malformed(&self, id: Option<CallId>, why: &str) {
        let Some(id) = id else {
            return bump(&self.link.counters.unknown_ids);
        };
        let detail = format!("malformed answer: {why}");
        let error = RpcError::gateway(Reason::BadUpstream, self.link.server(), &detail);
        self.link.spoilt(id, error);
    }

    /// Stdout must hold messages only, but many servers print banners there: tolerated.
    fn noise(&self, line: &[u8]) {
        if let Some(seen) = count(&self.link.counters.noise_lines) {
            log::warn!(
                "line that is not a message server={:?} seen={seen} line={:?}",
                self.link.server(),
                cut(&String::from_utf8_lossy(line))
            );
        }
    }

    /// The call that a message without a call's name belongs to, if that is certain enough.
    fn attribute(&self, stream: Option<CallId>) -> Option<Attributed> {
        match stream {
            Some(call) => self.link.on_stream_of(call),
            None => self.link.attribute(self.outlook.is_one_session()),
        }
    }

    fn request(&self, envelope: &Envelope<'_>, id: &str, method: &str, stream: Option<CallId>) {
        if self.link.is_stateless() {
            return self.stray_request(method);
        }
        if method == "ping" {
            return self.link.answer_result(id, "{}");
        }
        let Some(ask) = Ask::parse(method) else {
            let message = format!("method not found: {method}");
            return self
                .link
                .answer_error(id, &RpcError::new(error::METHOD_NOT_FOUND, message));
        };
        let task = envelope.params.and_then(task::related);
        if stream.is_none() && task.is_none() && self.link.client_calls() > 0 {
            self.outlook.note_ask(ask);
        }
        let asked = Asked {
            ask,
            upstream_id: id.to_owned(),
            text: envelope.text.to_owned(),
            certain: false,
        };
        let found = match (&task, stream) {
            (Some(task), None) => match self.of_task(task) {
                Some(TaskOf::Call(call)) => Some(call),
                Some(TaskOf::Session(session)) => {
                    let message = SessionMessage::Ask(asked);
                    return self.outlook.tell(session, &self.link, message);
                }
                None => None,
            },
            _ => self.attribute(stream),
        };
        match found {
            Some(call) => {
                let asked = Asked {
                    certain: call.certain,
                    ..asked
                };
                if !self.link.asked(&call, asked) {
                    self.refuse(id, "the client has too many messages waiting");
                }
            }
            None if self.outlook.is_one_session() => self.unsolicited_ask(asked),
            None if ask == Ask::Roots => self.link.answer_result(id, &self.outlook.roots),
            None => self.refuse(id, refusal(self.link.client_calls())),
        }
    }

    /// Whose a task is that a message names: nothing needs to be guessed.
    fn of_task(&self, task: &str) -> Option<TaskOf> {
        let call = self.link.awaiting(task).map(TaskOf::Call);
        let owner = || self.link.tasks().owner(task);
        call.or_else(|| owner().map(|owner| TaskOf::Session(owner.session)))
    }

    /// Requests to clients are not of its era, and an answer would not be understood.
    fn stray_request(&self, method: &str) {
        if let Some(seen) = count(&self.link.counters.stray_requests) {
            log::warn!(
                "stateless server sends requests server={:?} seen={seen} method={:?}",
                self.link.server(),
                cut(method)
            );
        }
    }

    fn unsolicited_ask(&self, asked: Asked) {
        let id = asked.upstream_id.clone();
        if !self
            .outlook
            .tell_session(&self.link, SessionMessage::Ask(asked))
        {
            self.refuse(&id, "the session has no stream open");
        }
    }

    fn refuse(&self, id: &str, why: &str) {
        let message = format!("the gateway cannot pass this question on: {why}");
        self.link
            .answer_error(id, &RpcError::new(error::INVALID_REQUEST, message));
    }

    fn notification(&self, envelope: &Envelope<'_>, method: &str, stream: Option<CallId>) {
        if self.link.is_stateless() && !self.is_for_us(envelope, method) {
            return bump(&self.link.counters.dropped_notices);
        }
        match method {
            method::LISTENING => self.listening(envelope),
            method::CANCELLED if self.link.is_stateless() => self.listening_ended(envelope),
            method::PROGRESS => self.progress(envelope),
            method::MESSAGE => self.log_message(envelope, stream),
            method::CANCELLED => self.withdrawn(envelope),
            method::RESOURCE_UPDATED => self.resource_updated(envelope),
            method::ELICITATION_COMPLETE => self.elicitation_complete(envelope),
            method::TASK_CHANGED if self.link.is_stateless() => self.task_changed(envelope),
            method::TASK_STATUS if !self.link.is_stateless() => self.task_status(envelope),
            _ => match ListKind::ALL
                .into_iter()
                .find(|kind| kind.changed() == method)
            {
                Some(kind) => self.list_changed(kind),
                None => log::debug!(
                    "notification ignored server={:?} method={:?}",
                    self.link.server(),
                    cut(method)
                ),
            },
        }
    }

    /// A stateless server tells of changes under the id of a subscription only.
    fn is_for_us(&self, envelope: &Envelope<'_>, method: &str) -> bool {
        match method {
            method::PROGRESS | method::MESSAGE | method::CANCELLED | method::LISTENING => true,
            _ => {
                subscription_id(envelope).is_some_and(|call| self.link.listening().is_current(call))
            }
        }
    }

    fn listening(&self, envelope: &Envelope<'_>) {
        let members = envelope
            .params
            .and_then(|params| Members::parse(params, 1, FROM_SERVER).ok());
        let honoured = members.and_then(|members| members.get("notifications"));
        let honoured = Filter::read(honoured.unwrap_or("{}"));
        let call = subscription_id(envelope);
        match call.is_some_and(|call| self.link.listening().acknowledge(call, honoured)) {
            true => self.signals.listening_changed(),
            false => bump(&self.link.counters.unknown_ids),
        }
    }

    /// The server takes a subscription back: that it may, and nothing else.
    fn listening_ended(&self, envelope: &Envelope<'_>) {
        let call = envelope
            .params
            .and_then(|params| Members::parse(params, 1, FROM_SERVER).ok())
            .and_then(|members| members.get("requestId")?.trim_matches('"').parse().ok());
        let Some(call) = call.filter(|call| self.link.listening().calls().contains(call)) else {
            return bump(&self.link.counters.unknown_ids);
        };
        let detail = "took the subscription back";
        let error = RpcError::gateway(Reason::BadUpstream, self.link.server(), detail);
        self.link.failed(call, error);
        self.signals.listening_changed();
    }

    fn list_changed(&self, kind: ListKind) {
        events::list_changed(kind, self.link.mark_dirty(kind));
        if kind == ListKind::Resources {
            self.link.mark_dirty(ListKind::Templates);
        }
        self.signals.lists_said();
    }

    fn progress(&self, envelope: &Envelope<'_>) {
        let Some(params) = envelope.params else {
            return;
        };
        let Ok(members) = Members::parse(params, 1, FROM_SERVER) else {
            return;
        };
        let Some(token) = members.get("progressToken") else {
            return;
        };
        let Ok(call) = token.trim_matches('"').parse::<u64>() else {
            return bump(&self.link.counters.unknown_ids);
        };
        let span = span_in(envelope.text, token);
        let with_token = |original: &str| {
            let mut text = Vec::with_capacity(envelope.text.len() + original.len());
            splice(
                envelope.text,
                &[Edit {
                    span: span.clone(),
                    text: original,
                }],
                &mut text,
            );
            text
        };
        let is_awaited = self.link.progressed(call, |original| {
            let text = with_token(original);
            Some(Notice { text, level: None })
        });
        if is_awaited {
            return;
        }
        // A call that has become a task was answered, and its progress goes on.
        let owner = self.link.tasks().made_by(call);
        match owner.and_then(|owner| Some((owner.session, owner.token?))) {
            Some((session, token)) => {
                let message = SessionMessage::Task(with_token(&token));
                self.outlook.tell(session, &self.link, message);
            }
            None => bump(&self.link.counters.unknown_ids),
        }
    }

    fn log_message(&self, envelope: &Envelope<'_>, stream: Option<CallId>) {
        let level = envelope
            .params
            .and_then(|params| Members::parse(params, 1, FROM_SERVER).ok())
            .and_then(|members| Level::parse(&members.string("level")?));
        let Some(level) = level else {
            // Clients know eight levels, and some read nothing any more after a ninth.
            return bump(&self.link.counters.dropped_notices);
        };
        let text = envelope.text.as_bytes().to_vec();
        let task = envelope.params.and_then(task::related);
        if let Some(owner) = task.and_then(|task| self.link.tasks().owner(&task)) {
            let message = SessionMessage::log(text, level);
            return self.outlook.tell(owner.session, &self.link, message);
        }
        match self.attribute(stream) {
            Some(call) => self.link.noticed(
                &call,
                Notice {
                    text,
                    level: Some(level),
                },
            ),
            None if self.outlook.is_one_session() => {
                self.outlook
                    .tell_session(&self.link, SessionMessage::log(text, level));
            }
            None => log::debug!(
                "log message belongs to no call server={:?} level={} text={:?}",
                self.link.server(),
                level.as_str(),
                cut(envelope.params.unwrap_or_default())
            ),
        }
    }

    fn withdrawn(&self, envelope: &Envelope<'_>) {
        let id = envelope
            .params
            .and_then(|params| Members::parse(params, 1, FROM_SERVER).ok())
            .and_then(|members| members.get("requestId"));
        if let Some(id) = id {
            self.link.ask_withdrawn(id);
        }
    }

    fn resource_updated(&self, envelope: &Envelope<'_>) {
        let uri = envelope
            .params
            .and_then(|params| Members::parse(params, 1, FROM_SERVER).ok())
            .and_then(|members| members.get("uri"))
            .and_then(string_value);
        if let Some(uri) = uri {
            let text = match self.link.is_stateless() {
                true => updated_notice(envelope),
                false => envelope.text.as_bytes().to_vec(),
            };
            let (server, uri) = (self.outlook.server, uri.into_owned());
            let session = self.outlook.session.clone();
            self.outlook.send(Event::ResourceUpdated {
                server,
                session,
                uri,
                text,
            });
        }
    }

    /// The state of a task of 2025-11-25: for the session that made it, and no other.
    fn task_status(&self, envelope: &Envelope<'_>) {
        let params = envelope.params.unwrap_or("{}");
        let task = tasks::named(params);
        let owner = task.as_ref().and_then(|task| self.link.tasks().owner(task));
        let (Some(task), Some(owner)) = (task, owner) else {
            return bump(&self.link.counters.unknown_ids);
        };
        self.link.tasks().heard(&task, params);
        let message = SessionMessage::Task(envelope.text.as_bytes().to_vec());
        self.outlook.tell(owner.session, &self.link, message);
    }

    fn task_changed(&self, envelope: &Envelope<'_>) {
        let params = envelope
            .params
            .and_then(|params| Members::parse(params, 1, FROM_SERVER).ok());
        if let Some(id) = params.and_then(|params| params.string("taskId")) {
            self.outlook.send(Event::TaskChanged {
                server: self.outlook.server,
                id: id.into_owned(),
                text: envelope.text.into(),
            });
        }
    }

    fn elicitation_complete(&self, envelope: &Envelope<'_>) {
        let id = envelope
            .params
            .and_then(|params| Members::parse(params, 1, FROM_SERVER).ok())
            .and_then(|members| members.get("elicitationId"))
            .and_then(string_value);
        if let Some(id) = id {
            let text = envelope.text.as_bytes().to_vec();
            let (server, session) = (self.outlook.server, self.outlook.session.clone());
            let id = id.into_owned();
            self.outlook.send(Event::ElicitationComplete {
                server,
                session,
                id,
                text,
            });
        }
    }
}

fn subscription_id(envelope: &Envelope<'_>) -> Option<CallId> {
    let params = Members::parse(envelope.params?, 1, FROM_SERVER).ok()?;
    let inner = Members::parse(params.get("_meta")?, 2, FROM_SERVER).ok()?;
    let id = inner.get(meta::SUBSCRIPTION_ID)?;
    id.trim_matches('"').parse().ok()
}

/// What a stateless server says of a changed resource, without the id of our subscription.
fn updated_notice(envelope: &Envelope<'_>) -> Vec<u8> {
    let params = without(envelope.params.unwrap_or("{}"), "_meta", |inner| {
        let rest = without(inner, meta::SUBSCRIPTION_ID, |_| None);
        (rest != "{}").then_some(rest)
    });
    let method = method::RESOURCE_UPDATED;
    format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{params}}}").into_bytes()
}

/// An object whose member `key` is what `instead` makes of it.
fn without(object: &str, key: &str, instead: impl Fn(&str) -> Option<String>) -> String {
    let Ok(members) = Members::parse(object, 2, FROM_SERVER) else {
        return "{}".to_owned();
    };
    let kept = members.iter().filter_map(|(name, raw)| {
        let value = match name == key {
            true => instead(raw)?,
            false => raw.to_owned(),
        };
        Some(format!("{}:{value}", quoted(name)))
    });
    let kept: Vec<String> = kept.collect();
    format!("{{{}}}", kept.join(","))
}

fn refusal(client_calls: usize) -> &'static str {
    match client_calls {
        0 => "no client request is in flight that it could belong to",
        _ => {
            "several client requests are in flight and it does not say which one it belongs to; \
              set \"instances\": \"session\" for this server"
        }
    }
}

fn bump(counter: &Count) {
    counter.add();
}

/// What JSON-RPC demands of an error, and clients check.
fn is_error_object(error: &str) -> bool {
    Members::parse(error, 0, FROM_SERVER).is_ok_and(|members| {
        let code = members.get("code").unwrap_or("");
        code.parse::<i64>().is_ok() && members.string("message").is_some()
    })
}

/// At most 200 characters of foreign text, for a log line.
fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}
