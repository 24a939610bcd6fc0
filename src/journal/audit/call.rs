//! A request of a client on its way to its line: its texts as they came, and numbers. The thread
//! `audit` makes members of them, many in a row: on the threads of requests, each after other
//! work of its own, the same would cost twice as much.

use std::cell::Cell;
use std::time::{Duration, Instant};

use ring::digest;

use crate::base::limits;
use crate::base::mask::masked;
use crate::journal::audit;
use crate::journal::audit::event::{Event, Outcome, Reason};
use crate::journal::audit::line::{self, Kind};

/// What is told of one request.
pub struct Call {
    pub facts: Facts,
    /// From `kind` on, in their order.
    pub(in crate::journal::audit) texts: Vec<u8>,
}

/// All of it that has no length of its own.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    pub event: Event,
    pub outcome: Outcome,
    pub reason: Option<Reason>,
    pub result_bytes: Option<u64>,
    pub is_error: Option<bool>,
    pub code: Option<i64>,
    pub spent: Duration,
    /// As long as the server took for it.
    pub upstream: Option<Duration>,
    pub detail: &'static str,
    pub(in crate::journal::audit) arguments_bytes: Option<u64>,
    pub(in crate::journal::audit) lengths: Lengths,
}

/// Of its texts, in this order.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::journal::audit) struct Lengths {
    pub around: usize,
    kind: usize,
    name: usize,
    arguments: usize,
    server: usize,
}

/// The texts. `shown` is what is left.
pub struct Texts<'a> {
    /// Members that are ready: who asks, and in which request; and what kind of request it is.
    pub around: &'a [u8],
    pub kind: &'a [u8],
    pub name: &'a [u8],
    pub arguments: Arguments<'a>,
    pub server: &'a [u8],
    pub shown: &'a str,
}

#[derive(Clone, Copy)]
pub enum Arguments<'a> {
    Text(&'a [u8]),
    /// Of those that are long.
    Digest(&'a [u8]),
}

/// The kind of the last request: on most threads it is that of the next one, too.
struct Last {
    session: String,
    others: [&'static str; 3],
    said: Vec<u8>,
}

thread_local! {
    static LAST: Cell<Option<Box<Last>>> = const { Cell::new(None) };
}

impl Call {
    /// `session` is empty where there are none; `others`: revision, transport and method.
    pub fn new(
        event: Event,
        (session, others): (&str, [&'static str; 3]),
        name: &str,
        arguments: Option<&str>,
    ) -> Call {
        let mut texts = Vec::with_capacity(limits::AUDIT_CALL_BYTES);
        let kind = push_kind(&mut texts, session, others);
        let before = texts.len();
        push_name(&mut texts, name);
        let name = texts.len() - before;
        let before = texts.len();
        let all = arguments.unwrap_or_default().as_bytes();
        match all.len() {
            0..=limits::AUDIT_ARGUMENTS_KEPT_BYTES => texts.extend_from_slice(all),
            _ => texts.extend_from_slice(digest::digest(&digest::SHA256, all).as_ref()),
        }
        let lengths = Lengths {
            kind,
            name,
            arguments: texts.len() - before,
            ..Lengths::default()
        };
        let facts = Facts {
            event,
            outcome: Outcome::Error,
            reason: None,
            result_bytes: None,
            is_error: None,
            code: None,
            spent: Duration::ZERO,
            upstream: None,
            detail: "",
            arguments_bytes: arguments.map(|text| text.len() as u64),
            lengths,
        };
        Call { facts, texts }
    }

    /// The server that it goes to, and its arguments if they are to be shown.
    pub fn goes_to(&mut self, server: &str, shown: &str) {
        let lengths = &mut self.facts.lengths;
        self.texts
            .truncate(lengths.kind + lengths.name + lengths.arguments);
        self.texts.extend_from_slice(server.as_bytes());
        lengths.server = server.len();
        self.texts.extend_from_slice(shown.as_bytes());
    }

    /// Tells it. `at`: now, or a moment ago.
    pub fn tell(&self, at: Instant) {
        audit::note_call(self, at);
    }
}

fn push_kind(out: &mut Vec<u8>, session: &str, others: [&'static str; 3]) -> usize {
    let last = LAST.try_with(Cell::take).ok().flatten();
    let is_same = |last: &Last| last.others == others && last.session == session;
    let last = last.filter(|last| is_same(last)).unwrap_or_else(|| {
        let [protocol, transport, method] = others;
        let kind = Kind {
            session,
            protocol,
            transport,
            method,
        };
        Box::new(Last {
            session: session.to_owned(),
            others,
            said: line::kind(&kind, &audit::mark),
        })
    });
    out.extend_from_slice(&last.said);
    let length = last.said.len();
    let _ = LAST.try_with(|place| place.set(Some(last)));
    length
}

/// More of it than its line will have; a secret must not be cut before it is found.
fn push_name(out: &mut Vec<u8>, name: &str) {
    if name.len() <= limits::AUDIT_TEXT_BYTES {
        return out.extend_from_slice(name.as_bytes());
    }
    let name = masked(name);
    let cut = (0..=limits::AUDIT_TEXT_BYTES.min(name.len())).rev();
    let end = cut.into_iter().find(|at| name.is_char_boundary(*at));
    out.extend_from_slice(&name.as_bytes()[..end.unwrap_or_default()]);
}

impl Facts {
    pub(in crate::journal::audit) fn texts<'a>(&self, all: &'a [u8]) -> Texts<'a> {
        let mut rest = all;
        let mut next = |length: usize| {
            let (text, after) = rest.split_at(length.min(rest.len()));
            rest = after;
            text
        };
        let lengths = self.lengths;
        let is_kept = self.arguments_bytes <= Some(limits::AUDIT_ARGUMENTS_KEPT_BYTES as u64);
        let around = next(lengths.around);
        let kind = next(lengths.kind);
        let name = next(lengths.name);
        let arguments = next(lengths.arguments);
        let server = next(lengths.server);
        Texts {
            around,
            kind,
            name,
            arguments: match is_kept {
                true => Arguments::Text(arguments),
                false => Arguments::Digest(arguments),
            },
            server,
            // It was text when it was put in.
            shown: std::str::from_utf8(rest).unwrap_or_default(),
        }
    }
}
