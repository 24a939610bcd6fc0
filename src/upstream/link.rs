//! One live connection to a server process: calls in flight, and questions it has asked.
//! Shared by the connection threads that call, the reader thread that answers, and the owner.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, OnceLock};
use std::time::Instant;

use prometheus::IntCounter;

use crate::base::{limits, ordered};
use crate::journal::metrics::events::Change;
use crate::journal::metrics::meter::{DISCARDED, Meter, discarded, of_method, server_left};
use crate::journal::metrics::outcome::Outcome;
use crate::journal::span::Span;
use crate::mcp::era::Era;
use crate::mcp::error::{Reason, RpcError, result_response};
use crate::mcp::level::Level;
use crate::mcp::list::ListKind;
use crate::mcp::meta;
use crate::mcp::method::{CANCELLED, Method};
use crate::upstream::call::{
    Answer, Asked, CallId, MailSender, Mailbox, Outgoing, Reply, next_call_id,
};
use crate::upstream::calls::{Answered, Calls};
use crate::upstream::handshake::ClientFace;
use crate::upstream::listening::Listening;
use crate::upstream::outlet::{Outlet, SendError};
pub use crate::upstream::pending::{Attributed, Caller};
use crate::upstream::pending::{Pending, Waits};
use crate::upstream::remote::Remote;
use crate::upstream::tasks::{Errand, Tasks};
use crate::upstream::traced::{self, Towards};
use crate::wire::members::{Edit, Members, splice};
use crate::wire::message::{FROM_CLIENT, FROM_SERVER, blank_line_breaks};

/// What a server said about itself in the handshake. Capabilities are raw JSON.
#[derive(Debug, Clone)]
pub struct Hello {
    pub era: Era,
    pub capabilities: String,
    pub instructions: Option<String>,
    pub server_info: String,
}

impl Hello {
    pub fn declares(&self, capability: &str) -> bool {
        let members = Members::parse(&self.capabilities, 0, FROM_SERVER);
        members.is_ok_and(|members| members.get(capability).is_some())
    }

    /// A part of a capability that is true, such as `resources.subscribe`.
    pub fn declares_that(&self, capability: &str, part: &str) -> bool {
        let Ok(members) = Members::parse(&self.capabilities, 0, FROM_SERVER) else {
            return false;
        };
        let inner = members.get(capability).unwrap_or("{}");
        let inner = Members::parse(inner, 1, FROM_SERVER);
        inner.is_ok_and(|inner| inner.get(part) == Some("true"))
    }
}

/// The way to the server.
enum Wire {
    Pipe(Outlet),
    Remote(Arc<Remote>),
}

pub struct Link {
    server: String,
    /// Tells the processes of all servers apart.
    number: u64,
    wire: Wire,
    calls: Calls<Waiting, Closed>,
    hello: OnceLock<Hello>,
    greeted: OnceLock<Instant>,
    /// Lists that the server said have changed, one bit for each `ListKind`.
    dirty: AtomicU8,
    pub counters: Counters,
    /// Lines that came from the server, of whatever kind: who counts them sees that it lives.
    lines: AtomicU64,
    /// A call of a client ran out of time.
    unanswered: AtomicBool,
    /// Calls that may use it, those that wait for their clients included.
    leases: AtomicUsize,
    /// The log level it was asked for, plus one; 0 for none.
    told_level: AtomicU8,
    /// What it tells us of, if it is stateless.
    listening: Listening,
    tasks: Tasks,
}

/// What a server did that it should not have done. For health, metrics and logs.
#[derive(Debug)]
pub struct Counters {
    pub noise_lines: Count,
    pub unknown_ids: Count,
    pub dropped_notices: Count,
    pub too_long_lines: Count,
    pub stray_errors: Count,
    /// A stateless server must not ask.
    pub stray_requests: Count,
    pub lost_answers: Count,
}

/// A count of this process, which is a part of that of the server.
#[derive(Debug, Default)]
pub struct Count {
    here: AtomicU64,
    of_server: Option<IntCounter>,
}

impl Counters {
    fn new(server: &str) -> Counters {
        let [noise, unknown, notices, too_long, errors, requests, answers] =
            DISCARDED.map(|reason| Count {
                here: AtomicU64::new(0),
                of_server: discarded(server, reason),
            });
        Counters {
            noise_lines: noise,
            unknown_ids: unknown,
            dropped_notices: notices,
            too_long_lines: too_long,
            stray_errors: errors,
            stray_requests: requests,
            lost_answers: answers,
        }
    }
}

impl Count {
    /// One more. Gives all there were so far.
    pub(crate) fn add(&self) -> u64 {
        if let Some(of_server) = &self.of_server {
            of_server.inc();
        }
        self.here.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn get(&self) -> u64 {
        self.here.load(Ordering::Relaxed)
    }
}

/// Why a link takes no call any more.
type Closed = (Reason, String);

struct Waiting {
    mail: MailSender,
    progress_token: Option<String>,
    caller: Caller,
    errand: Errand,
    began: Instant,
    meter: Option<Arc<Meter>>,
    /// Set while the call's trace is recorded; ends with the call.
    span: Option<Box<Span>>,
}

impl Waiting {
    /// It is over.
    fn measure(&mut self, outcome: Outcome) {
        if let Some(meter) = &self.meter {
            meter.call.record(self.began.elapsed(), outcome);
        }
        // One that has more to say has said it.
        if let Some(span) = self.span.as_mut().filter(|span| !span.is_judged()) {
            span.end(outcome);
        }
    }

    /// It is over with an error of ours.
    fn fail(mut self, id: CallId, error: RpcError) {
        if let Some(span) = &mut self.span {
            span.fail_with(&error);
        }
        self.measure(Outcome::of_error(&error));
        deliver(&self.mail, id, Reply::Failed(error));
    }
}

impl Waits for Waiting {
    fn caller(&self) -> Caller {
        self.caller
    }
}

impl Link {
    pub fn new(server: &str, outlet: Outlet) -> Link {
        Link::over(server, Wire::Pipe(outlet))
    }

    /// To a server that is no child of ours.
    pub fn over_http(server: &str, remote: Arc<Remote>) -> Link {
        Link::over(server, Wire::Remote(remote))
    }

    fn over(server: &str, wire: Wire) -> Link {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Link {
            server: server.to_owned(),
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            wire,
            calls: Calls::default(),
            hello: OnceLock::new(),
            greeted: OnceLock::new(),
            dirty: AtomicU8::new(0),
            counters: Counters::new(server),
            lines: AtomicU64::new(0),
            unanswered: AtomicBool::new(false),
            leases: AtomicUsize::new(0),
            told_level: AtomicU8::new(0),
            listening: Listening::default(),
            tasks: Tasks::default(),
        }
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// What it works on for sessions of 2025-11-25.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    pub fn server(&self) -> &str {
        &self.server
    }

    /// `None` for a server over HTTP.
    pub fn outlet(&self) -> Option<&Outlet> {
        match &self.wire {
            Wire::Pipe(outlet) => Some(outlet),
            Wire::Remote(_) => None,
        }
    }

    /// `None` for a child.
    /// What the server says, as it may be told to others.
    pub fn hide(&self, text: &str) -> String {
        self.remote()
            .map_or_else(|| text.to_owned(), |remote| remote.hide(text))
    }

    pub fn remote(&self) -> Option<&Arc<Remote>> {
        match &self.wire {
            Wire::Pipe(_) => None,
            Wire::Remote(remote) => Some(remote),
        }
    }

    pub fn listening(&self) -> &Listening {
        &self.listening
    }

    pub fn hello(&self) -> Option<&Hello> {
        self.hello.get()
    }

    /// Known after the handshake; until then nobody is taken for stateless.
    pub fn is_stateless(&self) -> bool {
        self.hello().is_some_and(|hello| hello.era.is_stateless())
    }

    /// Set by the owner after the handshake.
    pub fn set_hello(&self, hello: Hello) {
        self.pending().is_stateless = hello.era.is_stateless();
        // A second handshake on one process does not happen; the first one stands.
        let _ = self.hello.set(hello);
        let _ = self.greeted.set(Instant::now());
    }

    fn pending(&self) -> MutexGuard<'_, Pending<Waiting, Closed>> {
        self.calls.lock()
    }

    /// Sends a client's request on, under our id and with our progress token.
    pub fn call(
        &self,
        request: &Outgoing<'_>,
        session: u64,
        mail: &MailSender,
    ) -> Result<CallId, RpcError> {
        self.call_for(request, session, Errand::None, mail)
    }

    /// The same for a request that has to do with tasks.
    pub fn call_for(
        &self,
        request: &Outgoing<'_>,
        session: u64,
        errand: Errand,
        mail: &MailSender,
    ) -> Result<CallId, RpcError> {
        let id = next_call_id();
        let mut digits = itoa::Buffer::new();
        let wire_id = digits.format(id);
        let mut edits = Vec::with_capacity(request.edits.len() + 2);
        edits.push(Edit {
            span: request.id.clone(),
            text: wire_id,
        });
        edits.extend(request.edits.iter().map(|(span, text)| Edit {
            span: span.clone(),
            text,
        }));
        if let Some(span) = &request.progress_token {
            edits.push(Edit {
                span: span.clone(),
                text: wire_id,
            });
        }
        // What is inserted comes before what is replaced at the same place.
        ordered::sort_by_key(&mut edits, |edit| (edit.span.start, edit.span.end));
        let mut line = Vec::with_capacity(request.text.len() + 32);
        splice(request.text, &edits, &mut line);
        blank_line_breaks(&mut line);
        line.push(b'\n');
        let towards = Towards {
            server: &self.server,
            remote: self.remote().map(Arc::as_ref),
        };
        let (line, span) = traced::outgoing(line, &towards);
        let token = request
            .progress_token
            .clone()
            .map(|span| request.text[span].to_owned());
        let waiting = Waiting {
            mail: mail.clone(),
            progress_token: token,
            caller: Caller::Client { session },
            errand,
            began: Instant::now(),
            meter: request.meter.clone(),
            span: span.map(Box::new),
        };
        self.submit(id, line, waiting)
    }

    /// A request of the gateway itself. `params` is a raw JSON object, without `_meta`: a
    /// stateless server is told in it who asks.
    pub fn request(
        &self,
        method: &str,
        params: &str,
        mail: &MailSender,
    ) -> Result<CallId, RpcError> {
        let id = next_call_id();
        self.request_as(id, method, params, mail)?;
        Ok(id)
    }

    /// The same under an id that is known before it is sent.
    pub(crate) fn request_as(
        &self,
        id: CallId,
        method: &str,
        params: &str,
        mail: &MailSender,
    ) -> Result<(), RpcError> {
        let introduced = self.is_stateless().then(|| with_meta(params));
        let params = introduced.as_deref().unwrap_or(params);
        let line = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}\n"
        );
        let waiting = Waiting {
            mail: mail.clone(),
            progress_token: None,
            caller: Caller::Gateway,
            errand: Errand::None,
            began: Instant::now(),
            meter: Method::parse(method).and_then(|method| of_method(&self.server, method)),
            span: None,
        };
        self.submit(id, line.into_bytes(), waiting)?;
        Ok(())
    }

    fn submit(&self, id: CallId, line: Vec<u8>, waiting: Waiting) -> Result<CallId, RpcError> {
        let began = waiting.began;
        self.calls.enter(id, waiting, |closed| match closed {
            Some((reason, detail)) => RpcError::gateway(*reason, &self.server, detail),
            None => self.busy("has too many calls in flight"),
        })?;
        let deadline = began + limits::QUEUE_WAIT;
        let sent = match &self.wire {
            Wire::Pipe(outlet) => outlet.send(line, deadline),
            Wire::Remote(remote) => remote.send(Some(id), line, Some(deadline)),
        };
        match sent {
            Ok(()) => Ok(id),
            Err(error) => {
                // Gone already when the link was closed meanwhile: then its answer is in the
                // mailbox, and the caller takes that one.
                let Some(mut waiting) = self.calls.take(id) else {
                    return Ok(id);
                };
                let error = match error {
                    SendError::Busy => self.busy("does not take requests fast enough"),
                    SendError::Closed => self.gone(),
                };
                waiting.measure(Outcome::of_error(&error));
                Err(error)
            }
        }
    }

    fn busy(&self, detail: &str) -> RpcError {
        RpcError::gateway(Reason::Busy, &self.server, detail)
    }

    fn gone(&self) -> RpcError {
        RpcError::gateway(
            Reason::Restarting,
            &self.server,
            "is not running at the moment",
        )
    }

    /// A notification of the gateway; `params` is raw JSON. Lost when the child does not read.
    pub fn notify(&self, method: &str, params: &str) {
        if self.try_send(notification(method, params)).is_err() {
            log::debug!("notification lost server={:?} method={method}", self.server);
        }
    }

    /// Takes a call back: a later answer is dropped, and the server is told.
    pub fn cancel(&self, id: CallId, reason: &str) -> bool {
        self.take_back(id, reason, Outcome::Cancelled)
    }

    fn take_back(&self, id: CallId, reason: &str, outcome: Outcome) -> bool {
        let known = self.abandon(id, outcome);
        if known {
            let reason = crate::wire::json::quoted(reason);
            let params = format!("{{\"requestId\":{id},\"reason\":{reason}}}");
            match &self.wire {
                Wire::Pipe(_) => self.notify(CANCELLED, &params),
                Wire::Remote(remote) => remote.cancel(id, notification(CANCELLED, &params)),
            }
        }
        known
    }

    /// Takes a call back that the server did not answer in its time.
    pub fn expire(&self, id: CallId) -> bool {
        let known = self.take_back(id, "timed out", Outcome::Failed(Reason::Timeout));
        if known {
            self.unanswered.store(true, Ordering::Relaxed);
        }
        known
    }

    /// True once after a call ran out of time.
    pub fn take_unanswered(&self) -> bool {
        self.unanswered.swap(false, Ordering::Relaxed)
    }

    pub fn heard_line(&self) {
        self.lines.fetch_add(1, Ordering::Relaxed);
    }

    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// The oldest call of a client that is in flight.
    pub fn oldest_call(&self) -> Option<CallId> {
        self.pending().oldest()
    }

    /// No longer waits for the answer to `id`, without a word to the server.
    pub fn forget(&self, id: CallId) {
        if let Some(mut waiting) = self.calls.take(id) {
            waiting.measure(Outcome::Failed(Reason::Timeout));
        }
    }

    /// Answers a question of the server with the client's own response text, whose id stands at
    /// `id`.
    pub fn answer_with(&self, upstream_id: &str, text: &str, id: std::ops::Range<usize>) {
        let mut line = Vec::with_capacity(text.len() + upstream_id.len());
        splice(
            text,
            &[Edit {
                span: id,
                text: upstream_id,
            }],
            &mut line,
        );
        self.send_answer(line);
    }

    pub fn answer_result(&self, upstream_id: &str, result: &str) {
        self.send_answer(result_response(upstream_id, result));
    }

    pub fn answer_error(&self, upstream_id: &str, error: &RpcError) {
        self.send_answer(error.response(Some(upstream_id)));
    }

    fn send_answer(&self, mut line: Vec<u8>) {
        blank_line_breaks(&mut line);
        line.push(b'\n');
        if self.try_send(line).is_err()
            && let Some(seen) = count(&self.counters.lost_answers)
        {
            log::warn!(
                "answer to a question lost server={:?} seen={seen}: it does not read",
                self.server
            );
        }
    }

    fn try_send(&self, line: Vec<u8>) -> Result<(), SendError> {
        match &self.wire {
            Wire::Pipe(outlet) => outlet.try_send(line),
            Wire::Remote(remote) => remote.send(None, line, None),
        }
    }

    /// Whether somebody waits for the answer to `id`.
    pub fn awaits(&self, id: CallId) -> bool {
        self.pending().calls.contains_key(&id)
    }

    /// Takes a call out whose answer nobody waits for, and remembers that the server may still
    /// be at it.
    fn abandon(&self, id: CallId, outcome: Outcome) -> bool {
        let waiting = self.calls.abandon(id, Instant::now());
        waiting
            .map(|mut waiting| waiting.measure(outcome))
            .is_some()
    }

    /// From now on everything about a call goes to `mail`, and its progress carries `token`. False
    /// when the call is over: then its answer is where it was to go before.
    pub fn redirect(&self, id: CallId, mail: &MailSender, token: Option<&str>) -> bool {
        self.calls.redirect(id, |waiting| {
            waiting.mail = mail.clone();
            waiting.progress_token = token.map(str::to_owned);
        })
    }

    /// The one answer of a call. Called by the reader thread only.
    pub fn answered(&self, id: CallId, answer: Answer) {
        if let Some((errand, token)) = self.errand_of(id) {
            self.tasks.learn(&errand, id, token.as_deref(), &answer);
        }
        let outcome = answer.outcome;
        let answered = self.calls.answer(id, |waiting| {
            if let Some(span) = &mut waiting.span {
                span.answer(&answer.line[answer.payload.clone()], answer.is_error);
            }
            deliver(&waiting.mail, id, Reply::Answer(answer));
        });
        match answered {
            Answered::To(mut waiting) => waiting.measure(outcome),
            Answered::Late => {}
            Answered::Nobody => bump(&self.counters.unknown_ids),
        }
    }

    /// What a call has to do with tasks, and its client's progress token.
    fn errand_of(&self, id: CallId) -> Option<(Errand, Option<String>)> {
        let pending = self.pending();
        let waiting = pending.calls.get(&id)?;
        let is_any = waiting.errand != Errand::None;
        is_any.then(|| (waiting.errand.clone(), waiting.progress_token.clone()))
    }

    /// The same, with an error of ours in place of an answer that cannot be used: the server is
    /// done with the call.
    pub fn spoilt(&self, id: CallId, error: RpcError) {
        if let Some(waiting) = self.calls.take(id) {
            waiting.fail(id, error);
        }
    }

    /// An error of ours, while the server may still be at the call.
    pub fn failed(&self, id: CallId, error: RpcError) {
        let fail = |waiting: Waiting| waiting.fail(id, error);
        self.calls.fail(id, Instant::now(), fail);
    }

    /// Every pending call gets `error`; the link stays open.
    pub fn fail_all(&self, error: &RpcError) {
        let calls: Vec<CallId> = self.pending().calls.keys().copied().collect();
        let listening = self.listening.calls();
        for id in calls.into_iter().filter(|id| !listening.contains(id)) {
            self.failed(id, error.clone());
        }
    }

    /// The process is gone or unusable: every pending call gets one error, later calls too.
    pub fn close(&self, reason: Reason, detail: &str) {
        let (is_first, calls) = self.calls.close((reason, detail.to_owned()));
        if is_first {
            self.has_ended();
        }
        self.listening.turn_off();
        for (id, waiting) in calls {
            let error = RpcError::gateway(reason, &self.server, detail);
            waiting.fail(id, error);
        }
        match &self.wire {
            Wire::Pipe(outlet) => outlet.close(),
            Wire::Remote(remote) => remote.close(),
        }
    }

    fn has_ended(&self) {
        let transport = match self.wire {
            Wire::Pipe(_) => "pipe",
            Wire::Remote(_) => "tcp",
        };
        if let Some(greeted) = self.greeted.get() {
            server_left(&self.server, transport, greeted.elapsed());
        }
    }

    /// Gives a progress or log message to its call, if there is room: these may be lost.
    /// `token`: only while the call's progress carries it.
    fn notice(&self, id: CallId, token: Option<&str>, reply: Reply) {
        let pending = self.pending();
        let Some(waiting) = pending.calls.get(&id) else {
            return;
        };
        let is_current = token.is_none() || waiting.progress_token.as_deref() == token;
        if !is_current
            || waiting.mail.len() >= limits::MAILBOX_SOFT
            || !waiting.mail.post(id, reply)
        {
            bump(&self.counters.dropped_notices);
        }
    }

    /// Progress of call `id`; `rewrite` gets the client's own token and gives the message. False
    /// when nobody waits for it.
    pub fn progressed(
        &self,
        id: CallId,
        rewrite: impl FnOnce(&str) -> Option<crate::upstream::call::Notice>,
    ) -> bool {
        let found = self
            .pending()
            .calls
            .get(&id)
            .map(|w| w.progress_token.clone());
        let Some(Some(token)) = found else {
            return false;
        };
        if let Some(notice) = rewrite(&token) {
            self.notice(id, Some(&token), Reply::Notice(notice));
        }
        true
    }

    /// The call that a message without a call's name belongs to, if that is no guess.
    pub fn attribute(&self, one_session: bool) -> Option<Attributed> {
        self.pending().attribute(one_session, Instant::now())
    }

    /// The client's call on whose own stream a message came.
    pub fn on_stream_of(&self, call: CallId) -> Option<Attributed> {
        self.pending().on_stream_of(call)
    }

    /// The call that waits for the end of a task: what is asked on its behalf goes there.
    pub fn awaiting(&self, task: &str) -> Option<Attributed> {
        let pending = self.pending();
        let awaits =
            |waiting: &Waiting| matches!(&waiting.errand, Errand::Awaits { task: t } if t == task);
        let (call, _) = pending.calls.iter().find(|(_, waiting)| awaits(waiting))?;
        Some(Attributed {
            call: *call,
            certain: true,
        })
    }

    /// One more call may use it.
    pub(crate) fn hold(&self) {
        self.leases.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn let_go(&self) {
        self.leases.fetch_sub(1, Ordering::Relaxed);
    }

    /// Some call may use it still, also one that waits for its client.
    pub fn is_held(&self) -> bool {
        self.leases.load(Ordering::Relaxed) > 0
    }

    /// No call of a client is in work here, not even one that was taken back.
    pub fn is_quiet(&self) -> bool {
        self.pending().is_quiet(Instant::now())
    }

    pub fn client_calls(&self) -> usize {
        self.pending().client_calls()
    }

    pub fn noticed(&self, to: &Attributed, notice: crate::upstream::call::Notice) {
        self.notice(to.call, None, Reply::Notice(notice));
    }

    /// Hands a question to the call it belongs to. False when there is no room: the caller then
    /// refuses it.
    pub fn asked(&self, to: &Attributed, asked: Asked) -> bool {
        let pending = self.pending();
        let Some(waiting) = pending.calls.get(&to.call) else {
            return false;
        };
        // More room than for notices, and one slot for each call's answer stays free.
        let room = waiting.mail.len() < limits::MAILBOX_SOFT + 8;
        room && waiting.mail.post(to.call, Reply::Asked(asked))
    }

    /// A question was withdrawn: tells every call here that may have passed it on.
    pub fn ask_withdrawn(&self, upstream_id: &str) {
        let calls: Vec<CallId> = self.pending().clients().map(|(id, _)| id).collect();
        for id in calls {
            let reply = Reply::AskWithdrawn {
                upstream_id: upstream_id.to_owned(),
            };
            self.notice(id, None, reply);
        }
    }

    pub fn mark_dirty(&self, kind: ListKind) -> Change {
        let bit = 1 << kind as u8;
        match self.dirty.fetch_or(bit, Ordering::AcqRel) & bit {
            0 => Change::Received,
            _ => Change::Gathered,
        }
    }

    /// Lists to read again; forgets them.
    pub fn take_dirty(&self) -> Vec<ListKind> {
        let bits = self.dirty.swap(0, Ordering::AcqRel);
        ListKind::ALL
            .into_iter()
            .filter(|kind| bits & (1 << *kind as u8) != 0)
            .collect()
    }

    /// Asks for log messages of `level` and above, unless it did so last. The answer goes to a
    /// mailbox that nobody reads.
    pub fn tell_level(&self, level: Level) {
        let code = level as u8 + 1;
        if self.told_level.swap(code, Ordering::AcqRel) == code {
            return;
        }
        let params = format!("{{\"level\":\"{}\"}}", level.as_str());
        let mail = Mailbox::new(1);
        if let Err(error) = self.request("logging/setLevel", &params, mail.sender()) {
            self.told_level.store(0, Ordering::Release);
            log::debug!("level not set server={:?}: {}", self.server, error.message);
        }
    }

    /// The server no longer knows the level it was told.
    pub fn forget_level(&self) {
        self.told_level.store(0, Ordering::Release);
    }

    /// Takes back calls of the gateway itself that are older than call `first`: nobody waits for
    /// them, and a server that never answers them must not run out of room.
    pub fn expire_gateway_calls(&self, first: CallId) {
        let old: Vec<CallId> = {
            let pending = self.pending();
            let is_old = |(id, waiting): &(&CallId, &Waiting)| {
                **id < first && waiting.caller == Caller::Gateway
            };
            let calls = pending.calls.iter().filter(is_old);
            calls.map(|(id, _)| *id).collect()
        };
        let listening = self.listening.calls();
        for id in old.into_iter().filter(|id| !listening.contains(id)) {
            self.cancel(id, "the gateway no longer waits");
        }
    }
}

fn notification(method: &str, params: &str) -> Vec<u8> {
    format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{params}}}\n").into_bytes()
}

/// What the gateway itself says in a request to a stateless server.
pub(crate) fn with_meta(params: &str) -> String {
    let face = ClientFace::shared();
    let capabilities = with_tasks(&face.capabilities);
    let meta = meta::of_request(&capabilities, &face.info);
    let rest = params.trim_start_matches('{');
    let comma = if rest == "}" { "" } else { "," };
    format!("{{\"_meta\":{{{meta}}}{comma}{rest}")
}

/// Whoever wants news of tasks must know what tasks are. Nothing that the gateway asks for itself
/// can become one.
fn with_tasks(capabilities: &str) -> String {
    let extension = format!("{{\"{}\":{{}}}}", meta::TASKS_EXTENSION);
    let members = Members::parse(capabilities, 1, FROM_CLIENT);
    members.map_or_else(|_| "{}".to_owned(), |m| m.with("extensions", &extension))
}

/// Never fails for want of room: `notice` and `asked` leave a slot for each call's answer. A
/// receiver that is gone wants no answer.
fn deliver(mail: &MailSender, call: CallId, reply: Reply) {
    if !mail.post(call, reply) {
        log::debug!("answer dropped call={call}: its connection is gone");
    }
}

/// Counts something that may come in floods. Gives the count when it is worth a log line: the
/// first ones, then ever fewer.
pub(crate) fn count(counter: &Count) -> Option<u64> {
    let seen = counter.add();
    (seen <= 5 || seen.is_power_of_two()).then_some(seen)
}

fn bump(counter: &Count) {
    counter.add();
}

#[cfg(test)]
mod tests {
    use super::{Count, Link, count, with_meta};
    use crate::mcp::level::Level;
    use crate::upstream::call::{Mailbox, next_call_id};
    use crate::upstream::outlet::Outlet;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    fn link() -> (Link, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        (Link::new("s", Outlet::new(OwnedFd::from(writer))), reader)
    }

    fn said(link: &Link, mut reader: std::io::PipeReader) -> String {
        link.outlet().expect("a pipe").close();
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        text
    }

    #[test]
    fn introduces_itself_to_stateless_servers() {
        for params in ["{}", "{\"a\":{}}"] {
            let text = with_meta(params);
            let value: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
            let meta = &value["_meta"];
            assert_eq!(
                meta["io.modelcontextprotocol/protocolVersion"],
                "2026-07-28"
            );
            assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "onemcp");
            assert!(meta["io.modelcontextprotocol/clientCapabilities"].is_object());
            assert_eq!(value.get("a").is_some(), params.len() > 2);
        }
    }

    #[test]
    fn tells_a_level_only_when_it_changed() {
        let (link, reader) = link();
        for level in [
            Level::Info,
            Level::Info,
            Level::Debug,
            Level::Debug,
            Level::Info,
        ] {
            link.tell_level(level);
        }
        assert_eq!(said(&link, reader).lines().count(), 3);
    }

    #[test]
    fn takes_back_old_calls_of_its_own() {
        let (link, reader) = link();
        link.tell_level(Level::Info);
        let border = next_call_id();
        let mail = Mailbox::new(1);
        let young = link.request("ping", "{}", mail.sender()).expect("a call");
        link.expire_gateway_calls(border);
        assert_eq!(
            link.pending().calls.keys().copied().collect::<Vec<_>>(),
            [young]
        );
        let text = said(&link, reader);
        assert!(text.contains("notifications/cancelled"), "{text}");
    }

    #[test]
    fn floods_are_logged_ever_less() {
        let counter = Count::default();
        let logged = (0..100_000).filter(|_| count(&counter).is_some()).count();
        assert!((5..30).contains(&logged), "{logged}");
    }
}
