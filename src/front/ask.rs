//! Questions of servers (sampling, elicitation, roots) on their way to a client and back. The
//! client sees ids of ours; the server gets its own id back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::ordered;
use crate::front::session::{PendingAsk, ServerAsk, Session};
use crate::front::session_tasks;
use crate::mcp::error::{INVALID_REQUEST, RpcError};
use crate::mcp::method::Ask;
use crate::mcp::task::Part;
use crate::upstream::call::{Asked, CallId, MailSender, Reply};
use crate::upstream::link::Link;
use crate::wire::json::string_value;
use crate::wire::members::{Edit, Members, span_in, splice};
use crate::wire::message::{Envelope, FROM_CLIENT, FROM_SERVER, Kind, blank_line_breaks};

pub fn next_ask_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What a server hears when nobody can answer any more.
pub fn over(why: &str) -> RpcError {
    RpcError::new(
        INVALID_REQUEST,
        format!("the question cannot be answered: {why}"),
    )
}

/// Answers a question that nobody will answer: a form is closed, the rest fails.
pub fn give_up(link: &Link, ask: Ask, upstream_id: &str, why: &str) {
    match ask {
        Ask::Elicitation => link.answer_result(upstream_id, "{\"action\":\"cancel\"}"),
        Ask::Sampling | Ask::Roots => link.answer_error(upstream_id, &over(why)),
    }
}

/// Prepares a question for the client of `session`: the text to send it, or `None` when it was
/// refused on the client's behalf.
pub fn relay(
    session: &Session,
    link: &Arc<Link>,
    asked: &Asked,
    call: Option<(CallId, MailSender)>,
) -> Option<Vec<u8>> {
    let text = asked.text.clone().into_bytes();
    let Some(text) = session_tasks::shown(session, link, text, Part::Other) else {
        link.answer_error(&asked.upstream_id, &over("its task cannot be named"));
        return None;
    };
    let text = String::from_utf8(text).ok()?;
    let envelope = Envelope::parse(&text, FROM_SERVER).ok()?;
    if let Some(error) = session.abilities.refuses(asked.ask, envelope.params) {
        link.answer_error(&asked.upstream_id, &error);
        return None;
    }
    let Kind::Request { id, .. } = &envelope.kind else {
        return None;
    };
    let params = envelope
        .params
        .and_then(|raw| Members::parse(raw, 1, FROM_SERVER).ok());
    let token = params
        .as_ref()
        .and_then(|params| Members::parse(params.get("_meta")?, 2, FROM_SERVER).ok())
        .and_then(|meta| meta.get("progressToken"));
    if let (Ask::Elicitation, Some(params)) = (asked.ask, &params)
        && let Some(id) = params.get("elicitationId").and_then(string_value)
    {
        session.note_elicitation(link.server(), id.into_owned());
    }
    let number = next_ask_id();
    let pending = PendingAsk::Server(ServerAsk {
        link: link.clone(),
        upstream_id: asked.upstream_id.clone(),
        progress_token: token.map(str::to_owned),
        call,
    });
    if let Err(why) = session.register_ask(number, pending) {
        link.answer_error(&asked.upstream_id, &over(why));
        return None;
    }
    let number = number.to_string();
    let mut edits = vec![Edit {
        span: span_in(envelope.text, id),
        text: &number,
    }];
    if let Some(token) = token {
        edits.push(Edit {
            span: span_in(envelope.text, token),
            text: &number,
        });
    }
    ordered::sort_by_key(&mut edits, |edit| edit.span.start);
    let mut told = Vec::with_capacity(text.len() + 16);
    splice(envelope.text, &edits, &mut told);
    blank_line_breaks(&mut told);
    Some(told)
}

/// The client's response to a question: goes to the server that asked, or to the call that will
/// bring it there. One that nobody waits for any more is dropped.
pub fn answered(session: &Session, text: &str, id: &str) {
    let number = id.parse().ok();
    let Some((number, ask)) = number.and_then(|id| Some((id, session.take_ask(id)?))) else {
        log::debug!("response of a client to no open question dropped");
        return;
    };
    let call = match ask {
        PendingAsk::Server(ask) => {
            answer(session, &ask, text, id);
            ask.call
        }
        PendingAsk::Round(ask) => {
            ask.inputs.put(number, ask.ask, text);
            Some((ask.call, ask.mail))
        }
    };
    if let Some((call, mail)) = call {
        // Full: then the call is looked at, and extended, for what waits there.
        mail.post(call, Reply::AskAnswered);
    }
}

/// The client will say nothing more: whatever it was asked is answered with an error.
pub fn end_of_answers(session: &Session) {
    let error = over("the input of the client has ended");
    for id in session.mute() {
        let response = error.response(Some(&id.to_string()));
        let Ok(envelope) = Envelope::from_bytes(&response, FROM_CLIENT) else {
            continue;
        };
        if let Kind::Error { id: Some(id), .. } = &envelope.kind {
            answered(session, envelope.text, id);
        }
    }
}

fn answer(session: &Session, ask: &ServerAsk, text: &str, id: &str) {
    let edited = session_tasks::answered(session, text).and_then(|t| String::from_utf8(t).ok());
    let Some(edited) = edited else {
        let at = span_in(text, id);
        return ask.link.answer_with(&ask.upstream_id, text, at);
    };
    let kind = Envelope::parse(&edited, FROM_CLIENT).map(|envelope| envelope.kind);
    if let Ok(Kind::Result { id, .. }) = kind {
        let at = span_in(&edited, id);
        ask.link.answer_with(&ask.upstream_id, &edited, at);
    }
}

/// Progress that a client reports on a question.
pub fn progressed(session: &Session, params: &str) {
    let Ok(members) = Members::parse(params, 1, FROM_SERVER) else {
        return;
    };
    let Some(token) = members.get("progressToken") else {
        return;
    };
    let Some((link, original)) = token.parse().ok().and_then(|id| session.ask_progress(id)) else {
        return;
    };
    link.notify(
        crate::mcp::method::PROGRESS,
        &members.with("progressToken", &original),
    );
}

/// The notification that takes a question back from the client.
pub fn withdrawal(id: u64) -> Vec<u8> {
    let method = crate::mcp::method::CANCELLED;
    format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{{\"requestId\":{id}}}}}")
        .into_bytes()
}
