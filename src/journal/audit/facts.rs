//! Facts (`journal::fact`) that are events of the audit log, too.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::journal::audit::event::{Event, Outcome, Reason};
use crate::journal::audit::record::Record;
use crate::journal::audit::rejects::reject;
use crate::journal::audit::{is_on, note};
use crate::journal::fact::{Fact, Refused, Turn};

/// Servers that were ready once and are not now: when they are ready again, that is a restart.
static DOWN: Mutex<Option<HashSet<String>>> = Mutex::new(None);

pub fn tell(fact: &Fact) {
    if !is_on() {
        return;
    }
    match fact {
        Fact::Server { name, turn } => server(name, turn),
        Fact::ToolsChanged {
            server,
            added,
            removed,
            changed,
        } => note(Record {
            server,
            detail: &format!("added {added:?} removed {removed:?} changed {changed:?}"),
            ..Record::new(Event::ToolChanged, Outcome::Ok)
        }),
        Fact::ConfigApplied { .. } => {}
        Fact::ConfigRejected { problems } => note(Record {
            count: Some(problems.len() as u64),
            detail: &problems.join("; "),
            ..Record::new(Event::ConfigRejected, Outcome::Error)
        }),
        Fact::Refused { what, whom } => refused(*what, whom),
        Fact::Sink {
            name,
            failing: Some(why),
        } => note(Record {
            name,
            detail: why,
            ..Record::new(Event::WebhookFail, Outcome::Error)
        }),
        Fact::Stopping { why } => note(Record {
            detail: why,
            ..Record::new(Event::Stop, Outcome::Ok)
        }),
        Fact::Sink { .. }
        | Fact::Lost { .. }
        | Fact::Certificate { .. }
        | Fact::CertificateRejected(_) => {}
    }
}

fn server(name: &str, turn: &Turn) {
    let mut down = DOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let down = down.get_or_insert_with(HashSet::new);
    let (event, outcome, detail) = match turn {
        Turn::Ready if down.remove(name) => (Event::ServerRestart, Outcome::Ok, ""),
        Turn::Ready => (Event::ServerStart, Outcome::Ok, ""),
        Turn::Down { why, .. } => {
            down.insert(name.to_owned());
            (Event::ServerExit, Outcome::Error, why.as_str())
        }
        Turn::CrashLoop { why } => {
            down.insert(name.to_owned());
            (Event::ServerBreaker, Outcome::Error, why.as_str())
        }
        Turn::Gone => {
            down.remove(name);
            (Event::ServerExit, Outcome::Ok, "ended by the gateway")
        }
    };
    note(Record {
        server: name,
        detail,
        ..Record::new(event, outcome)
    });
}

fn refused(what: Refused, whom: &str) {
    let (event, reason) = match what {
        Refused::Host => (Event::HostReject, Reason::BadHost),
        Refused::Origin => (Event::OriginReject, Reason::BadOrigin),
        Refused::Operator | Refused::Metrics => (Event::OperatorReject, Reason::Policy),
        // Who judged them told it, and knows more.
        Refused::Token | Refused::Scope | Refused::Pace => return,
    };
    reject(Record {
        detail: whom,
        name: what.as_str(),
        ..Record::denied(event, reason)
    });
}
