//! What one line says, as far as whoever notes it knows.

use crate::journal::audit::event::{Event, Outcome, Reason};
use crate::journal::audit::line::Kind;
use crate::journal::context::Origin;
use crate::model::principal::Principal;

/// One event that is no request of a client: those are a `Call`. What is empty or `None` does not
/// stand in the line. Who, from where, and the request are those that the thread works on
/// (`journal::context`) unless they are given.
#[derive(Clone)]
pub struct Record<'a> {
    pub event: Event,
    pub outcome: Outcome,
    pub reason: Option<Reason>,
    pub who: Option<&'a Principal>,
    /// Who it says it is, where nobody has been identified; `who` counts before these.
    pub issuer: &'a str,
    pub subject: &'a str,
    pub client: &'a str,
    pub from: Option<&'a Origin>,
    /// The session's id; the line has a digest of it.
    pub session: &'a str,
    pub protocol: &'a str,
    pub transport: &'a str,
    pub server: &'a str,
    pub method: &'a str,
    /// A tool, a prompt, a URI, a key, a command.
    pub name: &'a str,
    pub code: Option<i64>,
    /// Separated by spaces.
    pub scopes_used: &'a str,
    pub scopes_missing: &'a str,
    /// The rule that decided.
    pub policy: &'a str,
    /// How many this line stands for.
    pub count: Option<u64>,
    /// For people; secrets that are known are masked.
    pub detail: &'a str,
}

impl Record<'static> {
    pub const fn new(event: Event, outcome: Outcome) -> Record<'static> {
        Record {
            event,
            outcome,
            reason: None,
            who: None,
            issuer: "",
            subject: "",
            client: "",
            from: None,
            session: "",
            protocol: "",
            transport: "",
            server: "",
            method: "",
            name: "",
            code: None,
            scopes_used: "",
            scopes_missing: "",
            policy: "",
            count: None,
            detail: "",
        }
    }

    /// Refused, and why.
    pub const fn denied(event: Event, reason: Reason) -> Record<'static> {
        let mut record = Record::new(event, Outcome::Deny);
        record.reason = Some(reason);
        record
    }
}

impl<'a> Record<'a> {
    pub fn kind(&self) -> Kind<'a> {
        Kind {
            session: self.session,
            protocol: self.protocol,
            transport: self.transport,
            method: self.method,
        }
    }
}
