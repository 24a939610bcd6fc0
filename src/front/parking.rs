//! Calls of stateless clients whose server waits for an answer that only the client can give.
//! The client has been told what is asked, and may come back with the answers or not: meanwhile
//! its call waits here, without a thread. What the client carries in between is sealed, and good
//! for one return, of the same caller, with the same request. The lock is never held across a
//! send.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ring::digest;

use crate::base::{ordered, sys};
use crate::front::ask;
use crate::front::exchange::Outstanding;
use crate::front::inputs::fits;
use crate::front::lot::{Lot, Token};
use crate::journal::metrics::events;
use crate::mcp::error::{INVALID_PARAMS, RpcError};
use crate::mcp::meta;
use crate::mcp::method::Ask;
use crate::model::place::Here;
use crate::model::seal::SealKey;
use crate::relay::bridge::SERVER_INFO;
use crate::upstream::call::{Asked, Mailbox};
use crate::upstream::link::Link;
use crate::wire::json::quoted;
use crate::wire::members::Members;
use crate::wire::message::{Envelope, FROM_CLIENT, FROM_SERVER};

pub struct Parking {
    key: SealKey,
    /// One of several replicas says in each state that the call waits with it.
    here: Option<Here>,
    timeout: Duration,
    calls: Mutex<Lot<Parked>>,
}

/// One call, and what its server wants to know.
pub struct Parked {
    pub call: Outstanding,
    /// Takes what the server says meanwhile.
    pub mailbox: Mailbox,
    pub inquiry: Inquiry,
}

/// What the server of one call has asked so far.
#[derive(Default)]
pub struct Inquiry {
    /// Those without an answer.
    pub questions: Vec<Question>,
    /// All there ever were.
    pub count: usize,
    /// What it wanted and the client does not have, as raw JSON of capabilities.
    pub lacking: Option<&'static str>,
}

/// One question that the client is asked in `inputRequests`.
pub struct Question {
    /// Its key there: unique over all rounds of a call.
    pub key: String,
    pub ask: Ask,
    /// The server's own id of it.
    pub upstream_id: String,
    /// As the client gets it: raw JSON, without envelope.
    pub text: String,
}

/// A call that its client has come back to.
pub struct Return {
    pub call: Outstanding,
    pub kept: Kept,
}

/// What gathered while the client was away, and what it brought.
pub struct Kept {
    /// What the server said meanwhile.
    pub mailbox: Mailbox,
    pub inquiry: Inquiry,
    /// Answers as raw JSON, each with the server's id of its question.
    pub answers: Vec<(String, String)>,
}

impl Inquiry {
    /// Takes a question in. False when its text is no request.
    pub fn add(&mut self, asked: &Asked) -> bool {
        let Some(text) = input_request(asked) else {
            return false;
        };
        self.count += 1;
        self.questions.push(Question {
            key: format!("r{}", self.count),
            ask: asked.ask,
            upstream_id: asked.upstream_id.clone(),
            text,
        });
        true
    }

    /// The server takes a question back.
    pub fn withdraw(&mut self, upstream_id: &str) {
        self.questions
            .retain(|question| question.upstream_id != upstream_id);
    }

    /// Answers what is open: nobody else will.
    pub fn give_up(&mut self, link: &Link, why: &str) {
        for question in self.questions.drain(..) {
            ask::give_up(link, question.ask, &question.upstream_id, why);
        }
    }
}

impl Parking {
    pub fn new(timeout: Duration, here: Option<Here>) -> Option<Parking> {
        let mut key = [0; 32];
        sys::random_bytes(&mut key);
        Some(Parking {
            key: SealKey::new(&key)?,
            here,
            timeout,
            calls: Mutex::default(),
        })
    }

    fn calls(&self) -> MutexGuard<'_, Lot<Parked>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn len(&self) -> usize {
        self.calls().len()
    }

    pub fn is_empty(&self) -> bool {
        self.calls().is_empty()
    }

    /// Keeps a call until its client comes back with the text returned here. Gives the call back
    /// when there is no room.
    pub fn park(
        &self,
        bound: &[u8],
        call: Outstanding,
        mailbox: Mailbox,
        inquiry: Inquiry,
    ) -> Result<String, Box<Parked>> {
        let until = Instant::now() + self.timeout;
        let parked = Parked {
            call,
            mailbox,
            inquiry,
        };
        let (mut token, mut nonce) = ([0; 16], [0; 12]);
        sys::random_bytes(&mut token);
        sys::random_bytes(&mut nonce);
        let state = self.key.seal(bound, &token, nonce);
        let state = state.and_then(|state| match &self.here {
            Some(here) => here.put_behind(&state),
            None => Some(state),
        });
        let Some(state) = state else {
            return Err(Box::new(parked));
        };
        let mut calls = self.calls();
        if calls.is_full() {
            return Err(Box::new(parked));
        }
        parked.call.lease.set_parked(true);
        calls.enter(token, until, parked);
        Ok(state)
    }

    /// The call that a client returns to, with `responses` (the raw `inputResponses`). It is no
    /// longer parked: a second return finds nothing.
    ///
    /// # Errors
    /// -32602 when the state is not of this request and caller, was used or is too old, or when
    /// an answer cannot be one; in the last case the client may come back once more.
    pub fn take(
        &self,
        bound: &[u8],
        state: &str,
        responses: Option<&str>,
    ) -> Result<Return, RpcError> {
        let bad = |what: &str| RpcError::new(INVALID_PARAMS, what.to_owned());
        let foreign = || bad("requestState does not belong to this request; send it anew without");
        let gone =
            || bad("requestState has been used or has expired; send the request anew without it");
        let state = match &self.here {
            Some(here) => here.key.split(state).ok_or_else(foreign)?.0,
            None => state,
        };
        let token = self.key.open(bound, state).ok_or_else(foreign)?;
        let token: Token = token.try_into().map_err(|_| foreign())?;
        let mut calls = self.calls();
        let parked = calls.get(&token).ok_or_else(gone)?;
        let answers = read_answers(&parked.inquiry.questions, responses)?;
        let mut parked = calls.leave(&token).ok_or_else(gone)?;
        drop(calls);
        parked.call.lease.set_parked(false);
        let is_open = |question: &Question| {
            let answered = answers.iter().any(|(id, _)| *id == question.upstream_id);
            !answered
        };
        parked.inquiry.questions.retain(is_open);
        let Parked {
            call,
            mailbox,
            inquiry,
            ..
        } = parked;
        let kept = Kept {
            mailbox,
            inquiry,
            answers,
        };
        Ok(Return { call, kept })
    }

    /// When the next call is given up.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.calls().next()
    }

    /// Gives up calls whose client has not come back in time.
    pub fn expire(&self, now: Instant) {
        let over = self.calls().take_late(now);
        if !over.is_empty() {
            events::parked_expired(over.len());
            log::info!(
                "calls given up, clients did not come back count={}",
                over.len()
            );
        }
        over.into_iter()
            .for_each(|parked| parked.give_up("the client did not come back in time"));
    }

    /// The gateway is at its end.
    pub fn close(&self) {
        let all = self.calls().take_all();
        all.into_iter()
            .for_each(|parked| parked.give_up("the gateway is shutting down"));
    }
}

impl Parked {
    /// Answers what its server asked, and takes the call back.
    pub fn give_up(mut self, why: &str) {
        let link = self.call.link();
        // First, so that what the server asks next is nobody's.
        link.cancel(self.call.call, why);
        self.inquiry.give_up(link, why);
    }
}

/// What the state of a parked call is bound to: who asks, where, and for what. The same however
/// the client writes its JSON.
pub fn bound(principal: &str, view: u64, method: &str, params: Option<&str>) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut part = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_le_bytes());
        context.update(bytes);
    };
    part(principal.as_bytes());
    part(&view.to_le_bytes());
    part(method.as_bytes());
    let members = params.and_then(|params| Members::parse(params, 1, FROM_CLIENT).ok());
    let of_round = ["_meta", "inputResponses", "requestState"];
    let mut facts: Vec<(&str, &str)> = match &members {
        Some(members) => members
            .iter()
            .filter(|(key, _)| !of_round.contains(key))
            .collect(),
        None => Vec::new(),
    };
    ordered::sort(&mut facts);
    for (key, raw) in facts {
        part(key.as_bytes());
        part(canonical(raw).as_bytes());
    }
    context.finish().as_ref().to_vec()
}

/// The same text for all spellings of one value: sorted members, no white space.
fn canonical(raw: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(raw) {
        Ok(mut value) => {
            value.sort_all_objects();
            value.to_string()
        }
        // Numbers beyond what the parser holds: the text itself.
        Err(_) => raw.to_owned(),
    }
}

/// The answers that were given to `questions`; keys of other questions are ignored.
fn read_answers(
    questions: &[Question],
    responses: Option<&str>,
) -> Result<Vec<(String, String)>, RpcError> {
    let bad = |what: String| RpcError::new(INVALID_PARAMS, what);
    let Some(raw) = responses else {
        return Ok(Vec::new());
    };
    let members = Members::parse(raw, 2, FROM_CLIENT)
        .map_err(|error| bad(format!("params: \"inputResponses\": {error}")))?;
    let mut answers = Vec::new();
    for question in questions {
        let Some(answer) = members.get(&question.key) else {
            continue;
        };
        if !fits(question.ask, answer) {
            let key = &question.key;
            return Err(bad(format!(
                "params: \"inputResponses\": {key:?} is no result of its request"
            )));
        }
        answers.push((question.upstream_id.clone(), answer.to_owned()));
    }
    Ok(answers)
}

/// A question without its envelope, and without what only a session could carry.
fn input_request(asked: &Asked) -> Option<String> {
    let envelope = Envelope::parse(&asked.text, FROM_SERVER).ok()?;
    let method = asked.ask.method();
    let Some(params) = envelope.params else {
        return Some(format!("{{\"method\":\"{method}\"}}"));
    };
    let members = Members::parse(params, 1, FROM_SERVER).ok()?;
    let kept = members.iter().filter_map(|(key, raw)| match key {
        "elicitationId" | "task" => None,
        "_meta" => without(raw, "progressToken").map(|meta| format!("\"_meta\":{meta}")),
        _ => Some(format!("{}:{raw}", quoted(key))),
    });
    let params = kept.collect::<Vec<_>>().join(",");
    Some(format!(
        "{{\"method\":\"{method}\",\"params\":{{{params}}}}}"
    ))
}

/// An object without one member; nothing when that was all.
fn without(raw: &str, name: &str) -> Option<String> {
    let members = Members::parse(raw, 2, FROM_SERVER).ok()?;
    let kept = members.iter().filter(|(key, _)| *key != name);
    let kept: Vec<String> = kept
        .map(|(key, raw)| format!("{}:{raw}", quoted(key)))
        .collect();
    (!kept.is_empty()).then(|| format!("{{{}}}", kept.join(",")))
}

/// What is asked, as the raw JSON of `inputRequests`.
pub fn input_requests(questions: &[Question]) -> String {
    let asked = questions.iter();
    let asked = asked.map(|question| format!("{}:{}", quoted(&question.key), question.text));
    format!("{{{}}}", asked.collect::<Vec<_>>().join(","))
}

/// The result that tells a client what is asked.
pub fn input_required(requests: &str, state: &str) -> String {
    format!(
        "{{\"resultType\":\"input_required\",\"inputRequests\":{requests},\
         \"requestState\":{},\"_meta\":{{\"{}\":{SERVER_INFO}}}}}",
        quoted(state),
        meta::SERVER_INFO
    )
}

#[cfg(test)]
#[path = "parking_tests.rs"]
mod tests;
