//! The answer to a stateless request that a server works on. Runs on the thread of the request,
//! from the relayed call to the last byte. A client that is gone has taken its request back: the
//! server is told at once, and nothing more is sent. Deliberately absent: anything kept for a
//! client that comes back.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::base::{limits, ordered};
use crate::front::ask;
use crate::front::exchange::{Outstanding, token_over};
use crate::front::face::Abilities;
use crate::front::listen::has_ended;
use crate::front::output::Output;
use crate::front::parking::{self, Inquiry, Kept, Parking, input_requests, input_required};
use crate::front::stateless::Terms;
use crate::front::tasks;
use crate::journal::metrics::outcome::Outcome;
use crate::mcp::error::{
    HEADER_MISMATCH, METHOD_NOT_FOUND, MISSING_CLIENT_CAPABILITY, Reason, RpcError,
    UNSUPPORTED_VERSION, result_response,
};
use crate::mcp::meta;
use crate::mcp::method::{Ask, Method};
use crate::model::hint::CacheHint;
use crate::model::principal::Principal;
use crate::model::task_id::TaskKey;
use crate::relay::bridge::error::{Asked as About, Verdict, session_to_stateless, unknown_result};
use crate::relay::bridge::input::{InputRequest, InputRequired};
use crate::relay::bridge::result::{self, ResultType};
use crate::relay::bridge::{Edits, SERVER_INFO};
use crate::upstream::call::{Answer, Asked, Mailbox, Notice, Reply};
use crate::wire::members::Members;
use crate::wire::message::{Envelope, FROM_CLIENT, FROM_SERVER};

/// A request that was sent on.
pub struct Relayed<'a> {
    pub call: Outstanding,
    /// The server speaks the era of the client.
    pub from_stateless: bool,
    pub method: Method,
    /// The name or URI that it is about.
    pub about: Cow<'a, str>,
    pub terms: Terms<'a>,
    /// What a question of its server is bound to, should it ask one.
    pub bound: Bound<'a>,
    /// Makes names for the tasks that it tells of.
    pub task_key: Arc<TaskKey>,
    /// Set when the client came back to a call that was parked.
    pub back: Option<Box<Kept>>,
}

/// The parts of `parking::bound`.
#[derive(Clone, Copy)]
pub struct Bound<'a> {
    pub view: u64,
    pub method: &'a str,
    pub params: Option<&'a str>,
    pub progress_token: Option<&'a str>,
}

impl Bound<'_> {
    pub fn digest(&self, principal: &str) -> Vec<u8> {
        parking::bound(principal, self.view, self.method, self.params)
    }
}

/// One relayed request and its client, until the answer is complete.
pub struct Waiting<'a, 'o, 'c> {
    relayed: Relayed<'a>,
    mailbox: &'a Mailbox,
    output: Output<'o, 'c>,
    parking: &'a Parking,
    inquiry: Inquiry,
    /// When what the server has asked so far goes to the client.
    ask_at: Option<Instant>,
    /// The token of the request: with it the answer ends.
    pub whose: Option<&'a Arc<Principal>>,
}

impl<'a, 'o, 'c> Waiting<'a, 'o, 'c> {
    pub fn new(
        relayed: Relayed<'a>,
        mailbox: &'a Mailbox,
        output: Output<'o, 'c>,
        parking: &'a Parking,
    ) -> Waiting<'a, 'o, 'c> {
        Waiting {
            relayed,
            mailbox,
            output,
            parking,
            inquiry: Inquiry::default(),
            ask_at: None,
            whose: None,
        }
    }

    /// Waits for the server and answers.
    pub fn run(mut self) {
        if let Some(back) = self.relayed.back.take()
            && let Went::Done = self.resume(*back)
        {
            return;
        }
        let mut now = Instant::now();
        let mut quiet_until = now + limits::UNDECIDED;
        let mut look_at = now + limits::CLIENT_LOOK;
        loop {
            let deadline = self.relayed.call.deadline;
            let wake = deadline.min(quiet_until).min(look_at);
            let wake = self.ask_at.map_or(wake, |at| wake.min(at));
            let mut is_there = true;
            let mail = self.mailbox.wait(wake);
            if has_ended(self.whose) {
                return self.cut_off();
            }
            if let Some(mail) = mail {
                // Mail of another call is of an earlier request, which is over.
                if mail.call != self.relayed.call.call {
                    continue;
                }
                match self.receive(mail.reply) {
                    Went::On => {}
                    Went::Shown => quiet_until = Instant::now() + limits::STREAM_KEEP_ALIVE,
                    Went::Away => is_there = false,
                    Went::Done => return,
                }
            }
            now = Instant::now();
            if now >= look_at {
                self.relayed.call.look();
                is_there = is_there && !self.output.is_gone();
                look_at = now + limits::CLIENT_LOOK;
            }
            if is_there && now >= quiet_until {
                is_there = self.output.keep_alive();
                quiet_until = now + limits::STREAM_KEEP_ALIVE;
            }
            if !is_there {
                return self.abandon();
            }
            if self.ask_at.is_some_and(|at| at <= now) {
                return self.park();
            }
            if now >= self.relayed.call.deadline {
                return self.expire();
            }
        }
    }

    fn receive(&mut self, reply: Reply) -> Went {
        match reply {
            Reply::Answer(answer) => {
                self.relayed.call.answered(&answer);
                self.answered(&answer);
            }
            Reply::Failed(error) => self.fail(200, &error),
            Reply::Cancelled => return Went::Done,
            Reply::Notice(notice) => return self.notice(notice),
            Reply::Asked(asked) => {
                self.relayed.call.extend();
                self.asked(&asked);
                return Went::On;
            }
            Reply::AskAnswered => {
                self.relayed.call.extend();
                return Went::On;
            }
            Reply::AskWithdrawn { upstream_id } => {
                self.inquiry.withdraw(&upstream_id);
                if self.inquiry.questions.is_empty() {
                    self.ask_at = None;
                }
                return Went::On;
            }
        }
        let link = self.relayed.call.link();
        self.inquiry.give_up(link, "the call has ended");
        Went::Done
    }

    fn notice(&mut self, notice: Notice) -> Went {
        let is_wanted = match notice.level {
            // Progress; a log message says nothing about this call's end.
            None => {
                self.relayed.call.extend();
                true
            }
            Some(level) => self
                .relayed
                .terms
                .level
                .is_some_and(|wanted| level >= wanted),
        };
        if !is_wanted || !self.output.takes_notices() {
            return Went::On;
        }
        match self.output.event(notice.text) {
            true => Went::Shown,
            false => Went::Away,
        }
    }

    /// A question of a server with sessions: waits a moment for others, so that the client gets
    /// them together.
    fn asked(&mut self, asked: &Asked) {
        let envelope = Envelope::parse(&asked.text, FROM_SERVER).ok();
        let params = envelope.and_then(|envelope| envelope.params);
        let abilities = Abilities::parse(self.relayed.terms.capabilities);
        let error = match abilities.refuses(asked.ask, params) {
            Some(error) => {
                self.inquiry.lacking = Some(required(asked.ask, params));
                error
            }
            None if !may_ask(self.relayed.method) => ask::over("this request cannot ask"),
            None if self.inquiry.questions.len() >= limits::SESSION_CALLS => {
                ask::over("the call has too many open")
            }
            None if self.inquiry.add(asked) => {
                let soon = Instant::now() + limits::GATHER;
                self.ask_at.get_or_insert(soon);
                return;
            }
            None => ask::over("it cannot be read"),
        };
        let link = self.relayed.call.link();
        link.answer_error(&asked.upstream_id, &error);
    }

    /// Tells the client what is asked, and leaves the call until it comes back.
    fn park(mut self) {
        let kept = Mailbox::new(1);
        let call = &self.relayed.call;
        call.link().redirect(call.call, kept.sender(), None);
        // What came before that is still here: perhaps the end of the call.
        while let Some(mail) = self.mailbox.wait(Instant::now()) {
            let is_ours = mail.call == self.relayed.call.call;
            if is_ours && let Went::Done = self.receive(mail.reply) {
                return;
            }
        }
        let Relayed {
            mut call,
            bound,
            terms,
            ..
        } = self.relayed;
        let bound = bound.digest(terms.principal.unwrap_or_default());
        let operation = call.operation.take();
        let client_id = call.client_id.clone();
        let server = call.link().server().to_owned();
        let asked = std::mem::take(&mut self.inquiry);
        let asks = input_requests(&asked.questions);
        let parked = self.parking.park(&bound, call, kept, asked);
        let response = match parked {
            Ok(state) => {
                operation
                    .iter()
                    .for_each(|operation| operation.ended(Outcome::Success));
                result_response(&client_id, &input_required(&asks, &state))
            }
            Err(parked) => {
                parked.give_up("too many calls wait for their clients");
                let detail = "asks something, and too many calls wait for their clients already";
                let error = RpcError::gateway(Reason::Busy, &server, detail);
                operation
                    .iter()
                    .for_each(|operation| operation.failed(&error));
                error.response(Some(&client_id))
            }
        };
        self.output.respond(200, &[&response]);
    }

    /// The client is back at a call that was parked: takes it up where it is.
    fn resume(&mut self, back: Kept) -> Went {
        let Kept {
            mailbox,
            inquiry,
            answers,
        } = back;
        self.inquiry = inquiry;
        let link = self.relayed.call.link().clone();
        let (call, token) = (self.relayed.call.call, self.relayed.bound.progress_token);
        link.redirect(call, self.mailbox.sender(), token);
        while let Some(mail) = mailbox.wait(Instant::now()) {
            // News from while the client was away carry a token that is no longer its own.
            let is_old = matches!(mail.reply, Reply::Notice(_));
            if !is_old && let Went::Done = self.receive(mail.reply) {
                return Went::Done;
            }
        }
        for (upstream_id, answer) in answers {
            link.answer_result(&upstream_id, &answer);
        }
        if !self.inquiry.questions.is_empty() {
            self.ask_at = Some(Instant::now());
        }
        Went::On
    }

    /// The server's response in the words of this era, with the client's id in it. What need not
    /// change is sent as it came, without a copy.
    fn answered(&mut self, answer: &Answer) {
        let Ok(text) = std::str::from_utf8(&answer.line) else {
            return self.spoilt("is not UTF-8");
        };
        let payload = &text[answer.payload.clone()];
        let Ok(members) = Members::parse(payload, 1, FROM_SERVER) else {
            return self.spoilt("has a key that stands twice");
        };
        if let Some(lacking) = self.inquiry.lacking
            && (answer.is_error || members.get("isError") == Some("true"))
        {
            return self.fail(400, &missing_capability(lacking));
        }
        if answer.is_error {
            return self.failed(text, payload, &members, answer.id.clone());
        }
        if let Err(error) = self.check_type(&members) {
            return self.fail(200, &error);
        }
        let read = self.relayed.method == Method::ResourcesRead;
        let tasks = match tasks::of_answer(&self.relayed, text, payload, &members) {
            Ok(tasks) => tasks,
            Err(error) => return self.fail(200, &error),
        };
        let edits = match self.relayed.from_stateless {
            true => result::stateless_to_stateless(text, &members),
            false => result::session_to_stateless(text, &members, read.then_some(NOT_KEPT)),
        };
        match edits {
            Ok(mut edits) => {
                edits.extend(tasks);
                self.pass(200, text, answer.id.clone(), edits);
            }
            Err(_) => self.spoilt("has a key that stands twice"),
        }
    }

    /// A stateless server must not ask for what the client does not declare, and a result of a type
    /// that the client does not know is none.
    fn check_type(&self, result: &Members<'_>) -> Result<(), RpcError> {
        if !self.relayed.from_stateless {
            return Ok(());
        }
        let server = self.relayed.call.link().server();
        let capabilities = self.relayed.terms.capabilities;
        match ResultType::of(result) {
            ResultType::Complete | ResultType::Task => Ok(()),
            ResultType::InputRequired => {
                let asks = InputRequired::parse(result);
                let flaw = match asks {
                    _ if !may_ask(self.relayed.method) => {
                        "answered a request that cannot ask".to_owned()
                    }
                    Err(flaw) => flaw,
                    Ok(asks) => match undeclared(&asks, &Abilities::parse(capabilities)) {
                        None => return Ok(()),
                        Some(method) => {
                            format!("asked for {method}, which the client does not declare")
                        }
                    },
                };
                Err(RpcError::gateway(Reason::BadUpstream, server, &flaw))
            }
            // Of an extension that only the two of them may know.
            ResultType::Other(raw) if raw.starts_with('"') && has_extensions(capabilities) => {
                Ok(())
            }
            ResultType::Other(raw) => Err(unknown_result(server, &raw)),
        }
    }

    fn failed(&mut self, text: &str, error: &str, members: &Members<'_>, id: Range<usize>) {
        let code = members.get("code").and_then(|code| code.parse().ok());
        let code: i32 = code.unwrap_or_default();
        let server = self.relayed.call.link().server().to_owned();
        if self.relayed.from_stateless {
            if matches!(code, HEADER_MISMATCH | UNSUPPORTED_VERSION) {
                let detail = "did not accept what the gateway says in its request";
                let error = RpcError::gateway(Reason::BadUpstream, &server, detail);
                return self.fail(200, &error);
            }
            return self.pass(status_of(code), text, id, Edits::new());
        }
        let about = About {
            server: &server,
            method: self.relayed.method,
            uri: Some(&self.relayed.about),
        };
        match session_to_stateless(text, error, &about) {
            Verdict::Pass(edits) => self.pass(status_of(code), text, id, edits),
            Verdict::Instead(error) => self.fail(200, &error),
            Verdict::Result(result) => self.visits(&result),
        }
    }

    /// URLs that must be visited before the request can succeed. The client sends it again then.
    fn visits(&mut self, result: &str) {
        let abilities = Abilities::parse(self.relayed.terms.capabilities);
        if !abilities.elicitation_url || self.relayed.method == Method::Complete {
            let error = missing_capability("{\"elicitation\":{\"url\":{}}}");
            return self.fail(400, &error);
        }
        let rest = result.strip_prefix('{').unwrap_or_default();
        let ours = format!("\"_meta\":{{\"{}\":{SERVER_INFO}}}", meta::SERVER_INFO);
        self.relayed.call.ends(Outcome::Success);
        let response = result_response(&self.relayed.call.client_id, &format!("{{{ours},{rest}"));
        self.output.respond(200, &[&response]);
    }

    fn pass(&mut self, status: u16, text: &str, id: Range<usize>, mut edits: Edits) {
        edits.push((id, self.relayed.call.client_id.clone()));
        // What is inserted comes before what is replaced at the same place.
        ordered::sort_by_key(&mut edits, |(span, _)| (span.start, span.end));
        let mut parts: Vec<&[u8]> = Vec::with_capacity(2 * edits.len() + 1);
        let mut at = 0;
        for (span, instead) in &edits {
            parts.push(&text.as_bytes()[at..span.start]);
            parts.push(instead.as_bytes());
            at = span.end;
        }
        parts.push(&text.as_bytes()[at..]);
        self.output.respond(status, &parts);
    }

    fn fail(&mut self, status: u16, error: &RpcError) {
        self.relayed.call.failed(error);
        let response = error.response(Some(&self.relayed.call.client_id));
        self.output.respond(status, &[&response]);
    }

    fn spoilt(&mut self, what: &str) {
        let server = self.relayed.call.link().server();
        let detail = format!("malformed answer: it {what}");
        let error = RpcError::gateway(Reason::BadUpstream, server, &detail);
        self.fail(200, &error);
    }

    fn abandon(mut self) {
        let call = &self.relayed.call;
        let link = call.link();
        let why = "the client closed its connection";
        // First, so that what the server asks next is nobody's.
        link.cancel(call.call, why);
        self.inquiry.give_up(link, why);
    }

    /// The token has ended: nothing of what the server said or says goes out any more.
    fn cut_off(mut self) {
        let (call, error) = (&self.relayed.call, token_over());
        let link = call.link();
        // First, so that what the server asks next is nobody's.
        link.cancel(call.call, &error.message);
        self.inquiry.give_up(link, &error.message);
        self.fail(200, &error);
    }

    fn expire(mut self) {
        let call = &self.relayed.call;
        call.link().expire(call.call);
        self.inquiry.give_up(call.link(), "the call timed out");
        let detail = format!(
            "gave no answer within {} s; raise \"requestTimeout\" if it needs longer",
            call.timeout.as_secs_f64()
        );
        let error = RpcError::gateway(Reason::Timeout, call.link().server(), &detail);
        self.fail(200, &error);
    }
}

/// What a message did to the answer.
enum Went {
    On,
    /// Something was written.
    Shown,
    /// The client is gone.
    Away,
    /// The answer is complete.
    Done,
}

/// What a server with sessions read may have changed since.
const NOT_KEPT: CacheHint = CacheHint {
    ttl_ms: 0,
    is_private: true,
};

/// Only these may be answered with `input_required` (basic/patterns/mrtr).
pub fn may_ask(method: Method) -> bool {
    matches!(
        method,
        Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead
    )
}

/// The first question that a client cannot answer.
fn undeclared(asks: &InputRequired, abilities: &Abilities) -> Option<String> {
    let is_refused = |request: &&InputRequest| match Ask::parse(&request.method) {
        Some(ask) => abilities.refuses(ask, request.params.as_deref()).is_some(),
        None => true,
    };
    asks.requests
        .iter()
        .find(is_refused)
        .map(|request| request.method.clone())
}

/// Whether a client declares extensions beside those that the gateway knows.
fn has_extensions(capabilities: &str) -> bool {
    let extensions = Members::parse(capabilities, 1, FROM_CLIENT)
        .ok()
        .and_then(|members| Members::parse(members.get("extensions")?, 2, FROM_CLIENT).ok());
    extensions.is_some_and(|all| all.iter().any(|(name, _)| name != meta::TASKS_EXTENSION))
}

/// HTTP has words for some errors.
fn status_of(code: i32) -> u16 {
    match code {
        METHOD_NOT_FOUND => 404,
        MISSING_CLIENT_CAPABILITY => 400,
        _ => 200,
    }
}

/// The capabilities without which a question cannot be asked.
fn required(ask: Ask, params: Option<&str>) -> &'static str {
    let members = params.and_then(|params| Members::parse(params, 1, FROM_SERVER).ok());
    let has = |key: &str| {
        members
            .as_ref()
            .is_some_and(|members| members.get(key).is_some())
    };
    let mode = members.as_ref().and_then(|members| members.string("mode"));
    match ask {
        Ask::Roots => "{\"roots\":{}}",
        Ask::Sampling if has("tools") => "{\"sampling\":{\"tools\":{}}}",
        Ask::Sampling => "{\"sampling\":{}}",
        Ask::Elicitation if mode.as_deref() == Some("url") => "{\"elicitation\":{\"url\":{}}}",
        Ask::Elicitation => "{\"elicitation\":{}}",
    }
}

pub fn missing_capability(required: &str) -> RpcError {
    let message = format!("the request needs capabilities that it does not declare: {required}");
    RpcError {
        code: MISSING_CLIENT_CAPABILITY,
        message,
        data: Some(format!("{{\"requiredCapabilities\":{required}}}")),
    }
}
