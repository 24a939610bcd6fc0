//! The answer to one POST. It starts undecided: if all that comes is the result, it is one JSON
//! body; a notification, a question or a second of silence turns it into an event stream, if
//! the client takes one. Runs on the connection thread, from the first relayed call to the last
//! byte. A client that is gone does not end the work: what comes is kept for its return.
//!
//! On a channel (`front::channel`) nothing is decided: each message is sent when it comes, and the
//! thread is one of `front::workers`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::front::ask;
use crate::front::channel::{Channel, Voice};
use crate::front::listen::has_ended;
use crate::front::operation::Operation;
use crate::front::rounds::{self, Translation, Turn};
use crate::front::session::{PendingAsk, Session};
use crate::front::session_tasks;
use crate::front::sessions::drop_subscription;
use crate::front::stream::{EventStream, Token, event_id};
use crate::http::Responder;
use crate::journal::metrics::outcome::Outcome;
use crate::mcp::error::{INVALID_REQUEST, Reason, RpcError};
use crate::mcp::task::Part;
use crate::model::principal::Principal;
use crate::upstream::call::{Answer, Asked, CallId, Mail, Mailbox, Notice, Reply};
use crate::upstream::caller::Lease;
use crate::upstream::link::Link;
use crate::upstream::server::Server;
use crate::wire::message::blank_line_breaks;
use crate::wire::sse;

/// What the client takes (its Accept header).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepts {
    pub json: bool,
    pub stream: bool,
}

/// One relayed request that has no answer yet.
pub struct Outstanding {
    pub call: CallId,
    /// Raw JSON.
    pub client_id: String,
    /// The link it was sent on, and the right to use it.
    pub lease: Lease,
    pub timeout: Duration,
    pub deadline: Instant,
    /// Extensions end here.
    pub ceiling: Instant,
    pub effect: Effect,
    pub translation: Translation,
    /// The request of the client that it answers.
    pub operation: Option<Operation>,
}

/// What the answer of a call changes in its session.
pub enum Effect {
    None,
    /// Counted at the server already; taken back unless the server agrees.
    Subscribe {
        server: Arc<Server>,
        uri: String,
    },
}

impl Outstanding {
    pub fn new(call: CallId, client_id: &str, lease: Lease, timeout: Duration) -> Outstanding {
        let now = Instant::now();
        let longest = timeout.max(limits::CALL_DEADLINE_MAX);
        let client_id = client_id.to_owned();
        Outstanding {
            call,
            client_id,
            lease,
            timeout,
            deadline: now + timeout,
            ceiling: now + longest,
            effect: Effect::None,
            translation: Translation::None,
            operation: None,
        }
    }

    pub fn link(&self) -> &Arc<Link> {
        &self.lease.link
    }

    /// When something is to be done if nothing comes before.
    fn due_at(&self) -> Instant {
        let told = self.operation.as_ref().and_then(Operation::due_at);
        let due = self.translation.due_at().into_iter().chain(told);
        due.fold(self.deadline, Instant::min)
    }

    /// The same call for another request of the client, with its whole time before it.
    pub fn resumed(self, client_id: &str) -> Outstanding {
        let Outstanding {
            call,
            lease,
            timeout,
            ..
        } = self;
        Outstanding::new(call, client_id, lease, timeout)
    }

    /// The same with what a server said.
    pub fn answered(&self, answer: &Answer) {
        if let Some(operation) = &self.operation {
            operation.answered(answer);
        }
    }

    /// It is answered with an error of ours.
    pub fn failed(&self, error: &RpcError) {
        if let Some(operation) = &self.operation {
            operation.failed(error);
        }
    }

    /// How the request of the client ends, unless something comes between.
    pub fn ends(&self, outcome: Outcome) {
        if let Some(operation) = &self.operation {
            operation.ended(outcome);
        }
    }

    /// Tells of it when it takes long.
    pub fn look(&self) {
        if let Some(operation) = &self.operation {
            operation.look();
        }
    }

    pub fn extend(&mut self) {
        self.deadline = self
            .deadline
            .max((Instant::now() + self.timeout).min(self.ceiling));
    }
}

/// The way to the client.
enum Out<'a, 'c> {
    Http(&'a mut Responder<'c>),
    Channel(Voice<'a>),
}

/// Everything one POST, or one message on a channel, needs until its answer is complete.
pub struct Exchange<'a, 'c> {
    pub session: &'a Arc<Session>,
    out: Out<'a, 'c>,
    pub headers: &'a [(&'a str, &'a str)],
    pub accepts: Accepts,
    pub mailbox: &'a Mailbox,
    /// The client sent an array and gets one.
    pub is_batch: bool,
    /// Responses that are complete: those of a batch, until the answer is sent.
    pub done: Vec<Vec<u8>>,
    stream: Option<Stream>,
    /// The token of the request: with it the answer ends. A channel has its own watch.
    pub whose: Option<&'a Arc<Principal>>,
}

/// The event stream that an answer has become.
struct Stream {
    log: Arc<EventStream>,
    own: Token,
    /// The client took everything so far.
    connected: bool,
}

impl<'a, 'c> Exchange<'a, 'c> {
    pub fn new(
        session: &'a Arc<Session>,
        out: &'a mut Responder<'c>,
        headers: &'a [(&'a str, &'a str)],
        accepts: Accepts,
        mailbox: &'a Mailbox,
    ) -> Exchange<'a, 'c> {
        Exchange {
            session,
            out: Out::Http(out),
            headers,
            accepts,
            mailbox,
            is_batch: false,
            done: Vec::new(),
            stream: None,
            whose: None,
        }
    }

    pub fn on_channel(
        session: &'a Arc<Session>,
        channel: &'a Channel,
        mailbox: &'a Mailbox,
    ) -> Exchange<'a, 'c> {
        Exchange {
            session,
            out: Out::Channel(Voice::new(channel)),
            headers: &[],
            accepts: Accepts {
                json: true,
                stream: true,
            },
            mailbox,
            is_batch: false,
            done: Vec::new(),
            stream: None,
            whose: None,
        }
    }

    /// Waits for all calls and answers.
    pub fn run(mut self, mut calls: Vec<Outstanding>) {
        let mut quiet_until = Instant::now() + limits::UNDECIDED;
        if !self.accepts.json {
            self.open_stream();
        }
        while !calls.is_empty() {
            let next_deadline = calls
                .iter()
                .map(Outstanding::due_at)
                .min()
                .unwrap_or(quiet_until);
            let mail = self.mailbox.wait(self.wake(next_deadline.min(quiet_until)));
            if has_ended(self.whose) {
                self.cut_off(&mut calls);
                break;
            }
            match mail {
                Some(mail) => {
                    if self.receive(mail, &mut calls) {
                        // The one answer of a plain request went out as it came.
                        return;
                    }
                    if self.stream.is_some() {
                        quiet_until = Instant::now() + limits::STREAM_KEEP_ALIVE;
                    }
                }
                None => {
                    calls.iter().for_each(Outstanding::look);
                    self.expire(&mut calls);
                    if Instant::now() >= quiet_until {
                        self.break_silence();
                        quiet_until = Instant::now() + limits::STREAM_KEEP_ALIVE;
                    }
                }
            }
            if self.advance(&mut calls) {
                return;
            }
        }
        self.finish();
    }

    fn wake(&self, due: Instant) -> Instant {
        match self.whose {
            Some(_) => due.min(Instant::now() + limits::TOKEN_LOOK),
            None => due,
        }
    }

    /// The token has ended: nothing of what servers said or say goes out any more.
    fn cut_off(&mut self, calls: &mut Vec<Outstanding>) {
        self.done.clear();
        let error = token_over();
        for call in calls.drain(..) {
            // First, so that what the server asks next is nobody's.
            call.link().cancel(call.call, &error.message);
            self.fail(&call, &error);
        }
    }

    /// True when the whole answer has been sent.
    fn receive(&mut self, mail: Mail, calls: &mut Vec<Outstanding>) -> bool {
        // Mail of a call that is over (it timed out, or belongs to an earlier request).
        let Some(at) = calls.iter().position(|call| call.call == mail.call) else {
            return false;
        };
        match mail.reply {
            Reply::Answer(answer) => {
                calls[at].answered(&answer);
                if matches!(calls[at].translation, Translation::None) {
                    let call = calls.swap_remove(at);
                    return self.answered(&call, answer, calls.is_empty());
                }
                let mail = self.accepts.stream.then(|| self.mailbox.sender());
                let turn = rounds::answered(&mut calls[at], &answer, self.session, mail);
                return self.take_turn(turn, at, calls);
            }
            Reply::Failed(error) => {
                let call = calls.swap_remove(at);
                self.fail(&call, &error);
            }
            Reply::Cancelled => {
                return self.take_turn(Turn::Drop, at, calls);
            }
            Reply::Notice(notice) => {
                if notice.level.is_none() {
                    // Progress; a log message says nothing about this call's end.
                    calls[at].extend();
                }
                if calls[at].translation.lets_pass(&notice) {
                    self.notice(notice, calls[at].link());
                }
            }
            Reply::Asked(asked) => {
                calls[at].extend();
                self.asked(&calls[at], &asked);
            }
            Reply::AskAnswered => calls[at].extend(),
            Reply::AskWithdrawn { upstream_id } => {
                if let Some(id) = self.session.withdraw_ask(&upstream_id, calls[at].link()) {
                    self.event(ask::withdrawal(id), None);
                }
            }
        }
        false
    }

    /// Goes on with calls that are due. True when the whole answer has been sent.
    fn advance(&mut self, calls: &mut Vec<Outstanding>) -> bool {
        while let Some(at) = calls.iter().position(|call| call.translation.is_due()) {
            let turn = rounds::resume(&mut calls[at], self.session, self.mailbox.sender());
            if self.take_turn(turn, at, calls) {
                return true;
            }
        }
        false
    }

    /// True when the whole answer has been sent.
    fn take_turn(&mut self, turn: Turn, at: usize, calls: &mut Vec<Outstanding>) -> bool {
        match turn {
            Turn::Wait => {}
            Turn::Ask(questions) => {
                calls[at].extend();
                for question in questions {
                    self.event(question, None);
                }
            }
            Turn::Respond { response, success } => {
                let call = calls.swap_remove(at);
                self.end(&call, success);
                return self.deliver(&call, &[&response], calls.is_empty());
            }
            Turn::Fail(error) => {
                let call = calls.swap_remove(at);
                self.fail(&call, &error);
            }
            Turn::Drop => {
                let call = calls.swap_remove(at);
                call.ends(Outcome::Cancelled);
                // The client knows: its questions are over without a word.
                refuse_all(&self.session.end(call.call));
                self.end(&call, false);
            }
        }
        false
    }

    fn fail(&mut self, call: &Outstanding, error: &RpcError) {
        call.failed(error);
        self.end(call, false);
        self.respond(call, error.response(Some(&call.client_id)));
    }

    /// The server's response, with the client's id in it.
    fn answered(&mut self, call: &Outstanding, answer: Answer, last: bool) -> bool {
        self.end(call, !answer.is_error);
        let (before, after) = (
            &answer.line[..answer.id.start],
            &answer.line[answer.id.end..],
        );
        let parts = [before, call.client_id.as_bytes(), after];
        self.deliver(call, &parts, last)
    }

    /// A response, sent without copying when it is the whole answer: then true.
    fn deliver(&mut self, call: &Outstanding, parts: &[&[u8]], last: bool) -> bool {
        let whole = last && !self.is_batch && self.stream.is_none();
        match &mut self.out {
            Out::Http(out) if whole => {
                out.send(200, &with_type(self.headers, "application/json"), parts);
                true
            }
            _ => {
                self.respond(call, parts.concat());
                false
            }
        }
    }

    /// One complete response: an event, or kept until all are there.
    fn respond(&mut self, call: &Outstanding, response: Vec<u8>) {
        if let (Out::Channel(voice), false) = (&mut self.out, self.is_batch) {
            voice.answer(response);
            return;
        }
        if self.stream.is_none() {
            self.done.push(response);
            return;
        }
        let detail = "answered, but the answer is too large to keep for a client that is away";
        let error = RpcError::gateway(Reason::TooLarge, call.link().server(), detail);
        self.event(response, Some(error.response(Some(&call.client_id))));
    }

    fn end(&mut self, call: &Outstanding, success: bool) {
        if let Effect::Subscribe { server, uri } = &call.effect
            && !self.subscribed(success, server, uri)
        {
            drop_subscription(server, uri);
        }
        let open = self.session.end(call.call);
        refuse_all(&open);
        for (id, ask) in open {
            if let PendingAsk::Round(_) = ask {
                self.event(ask::withdrawal(id), None);
            }
        }
    }

    /// True when the session has the subscription now.
    fn subscribed(&self, agreed: bool, server: &Server, uri: &str) -> bool {
        if agreed {
            server.confirm_subscription(uri);
        }
        agreed && self.session.add_subscription(uri, server.id.slot)
    }

    fn notice(&mut self, notice: Notice, link: &Link) {
        if !self.accepts.stream || !self.session.wants(notice.level) {
            return;
        }
        if let Some(text) = session_tasks::shown(self.session, link, notice.text, Part::Other) {
            self.event(text, None);
        }
    }

    fn asked(&mut self, call: &Outstanding, asked: &Asked) {
        if !self.accepts.stream {
            let error = ask::over("the client accepts no event stream");
            return call.link().answer_error(&asked.upstream_id, &error);
        }
        let belongs_to = asked
            .certain
            .then(|| (call.call, self.mailbox.sender().clone()));
        if let Some(text) = ask::relay(self.session, call.link(), asked, belongs_to) {
            self.event(text, None);
        }
    }

    /// Ends calls whose time is over: the server is told, the client gets an error.
    fn expire(&mut self, calls: &mut Vec<Outstanding>) {
        let now = Instant::now();
        let mut at = 0;
        while at < calls.len() {
            if calls[at].deadline > now {
                at += 1;
                continue;
            }
            if calls[at].ceiling > now
                && self.session.has_open_ask(calls[at].call, calls[at].link())
            {
                calls[at].extend();
                at += 1;
                continue;
            }
            let call = calls.swap_remove(at);
            match call.translation.is_asking() {
                true => call.link().cancel(call.call, "timed out"),
                false => call.link().expire(call.call),
            };
            let detail = match call.translation.is_asking() {
                true => "waits for input that the client did not give in time".to_owned(),
                false => format!(
                    "gave no answer within {} s; raise \"requestTimeout\" if it needs longer",
                    call.timeout.as_secs_f64()
                ),
            };
            let error = RpcError::gateway(Reason::Timeout, call.link().server(), &detail);
            self.fail(&call, &error);
        }
    }

    /// Nothing came for a while: opens the stream, or keeps it open.
    fn break_silence(&mut self) {
        let Out::Http(out) = &mut self.out else {
            return;
        };
        match &mut self.stream {
            Some(stream) if stream.connected => {
                stream.connected = out.write_stream(sse::KEEP_ALIVE);
                if !stream.connected {
                    stream.log.detach(stream.own);
                }
            }
            Some(_) => {}
            None if self.accepts.stream => self.open_stream(),
            None => {}
        }
    }

    fn open_stream(&mut self) {
        let (Out::Http(out), None) = (&mut self.out, &self.stream) else {
            return;
        };
        let log = self.session.open_stream();
        let own = log.attach(None, false);
        let connected = out.start_stream(200, &with_type(self.headers, "text/event-stream"));
        let mut stream = Stream {
            log,
            own,
            connected,
        };
        if self.session.revision.has_priming_event() {
            let mut event = Vec::new();
            let id = event_id(stream.log.number(), stream.log.reserve());
            sse::write_event(Some(&id), Some(limits::STREAM_RETRY_MS), b"", &mut event);
            stream.connected = stream.connected && out.write_stream(&event);
        }
        if !stream.connected {
            stream.log.detach(own);
        }
        self.stream = Some(stream);
        for response in std::mem::take(&mut self.done) {
            let instead = response.clone();
            self.event(response, Some(instead));
        }
    }

    /// Writes one event and keeps it. Opens the stream if need be. `instead`: set for a
    /// response, to be kept in its place if it is too large.
    fn event(&mut self, mut data: Vec<u8>, instead: Option<Vec<u8>>) {
        if let Out::Channel(voice) = &mut self.out {
            voice.tell(data);
            return;
        }
        self.open_stream();
        let (Out::Http(out), Some(stream)) = (&mut self.out, &mut self.stream) else {
            return;
        };
        blank_line_breaks(&mut data);
        let mut event = Vec::new();
        // Kept first: if the write fails, the client finds the event when it resumes.
        let (seq, write_it) = match &instead {
            Some(instead) => stream
                .log
                .push_response(data.clone(), stream.own, instead.clone()),
            None => stream.log.push(data.clone(), Some(stream.own)),
        };
        if !stream.connected || !write_it {
            return;
        }
        let id = event_id(stream.log.number(), seq);
        sse::write_event(Some(&id), None, &data, &mut event);
        stream.connected = out.write_stream(&event);
        if !stream.connected {
            stream.log.detach(stream.own);
            stream.log.not_delivered(seq, instead);
        }
    }

    fn finish(self) {
        let out = match self.out {
            Out::Http(out) => out,
            Out::Channel(_) if self.done.is_empty() => return,
            Out::Channel(mut voice) => {
                voice.answer(whole(&self.done, self.is_batch));
                return;
            }
        };
        if let Some(stream) = self.stream {
            stream.log.finish(Instant::now());
            stream.log.detach(stream.own);
            out.finish_stream();
            return;
        }
        if self.done.is_empty() {
            // Every request was cancelled: there is nothing to say, and nothing must be said.
            if !self.accepts.stream {
                return out.send(202, self.headers, &[]);
            }
            out.start_stream(200, &with_type(self.headers, "text/event-stream"));
            out.finish_stream();
            return;
        }
        let headers = with_type(self.headers, "application/json");
        out.send(200, &headers, &[&whole(&self.done, self.is_batch)]);
    }
}

/// All responses as one text: those of a batch are an array.
fn whole(done: &[Vec<u8>], is_batch: bool) -> Vec<u8> {
    match is_batch {
        false => done.concat(),
        true => [b"[".as_slice(), &done.join(&b","[..]), b"]"].concat(),
    }
}

/// What a call is told whose token has ended before it.
pub fn token_over() -> RpcError {
    RpcError::new(INVALID_REQUEST, "the token is good no more")
}

/// Questions of a call that has ended.
fn refuse_all(open: &[(u64, PendingAsk)]) {
    let error = ask::over("the call it belonged to has ended");
    open.iter().for_each(|(_, ask)| ask.refuse(&error));
}

/// The headers of one answer: few enough for the stack.
pub struct Headers<'a> {
    all: [(&'a str, &'a str); HEADERS],
    len: usize,
}

/// Content type, two for streams, three for CORS, the session id, Retry-After.
const HEADERS: usize = 8;

impl<'a> Headers<'a> {
    pub fn push(&mut self, header: (&'a str, &'a str)) {
        if let Some(free) = self.all.get_mut(self.len) {
            *free = header;
            self.len += 1;
        }
    }
}

impl<'a> std::ops::Deref for Headers<'a> {
    type Target = [(&'a str, &'a str)];

    fn deref(&self) -> &Self::Target {
        &self.all[..self.len]
    }
}

/// The headers of an answer. A stream must not be held back by caches and proxies.
pub fn with_type<'a>(headers: &[(&'a str, &'a str)], content_type: &'a str) -> Headers<'a> {
    let mut all = Headers {
        all: [("", ""); HEADERS],
        len: 0,
    };
    all.push(("Content-Type", content_type));
    if content_type == "text/event-stream" {
        all.push(("Cache-Control", "no-cache, no-transform"));
        all.push(("X-Accel-Buffering", "no"));
    }
    headers.iter().for_each(|header| all.push(*header));
    all
}
