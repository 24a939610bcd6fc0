//! Counts of what happens, beside calls: facts, changed lists, and what was dropped or given up.
//! Those of a server go with it.

use std::sync::LazyLock;

use prometheus::IntCounterVec;

use crate::journal::fact::{Fact, Refused, Turn};
use crate::journal::metrics::table::{
    ALERTS, CONFIG_RELOADS, HTTP_REFUSED, LIST_CHANGED, LOST, PARKED_EXPIRED, REFUSALS,
    SERVER_TURNS, SINK_FAILURES, TOOLS_CHANGED,
};
use crate::journal::metrics::{counters, is_recording, meter};
use crate::mcp::list::ListKind;

struct Events {
    turns: IntCounterVec,
    tools_changed: IntCounterVec,
    reloads: IntCounterVec,
    refusals: IntCounterVec,
    http_refused: IntCounterVec,
    list_changed: IntCounterVec,
    parked_expired: IntCounterVec,
    alerts: IntCounterVec,
    sink_failures: IntCounterVec,
    lost: IntCounterVec,
}

/// `None` when the registry refuses one.
static EVENTS: LazyLock<Option<Events>> = LazyLock::new(|| {
    let events = Events {
        turns: counters(&SERVER_TURNS)?,
        tools_changed: counters(&TOOLS_CHANGED)?,
        reloads: counters(&CONFIG_RELOADS)?,
        refusals: counters(&REFUSALS)?,
        http_refused: counters(&HTTP_REFUSED)?,
        list_changed: counters(&LIST_CHANGED)?,
        parked_expired: counters(&PARKED_EXPIRED)?,
        alerts: counters(&ALERTS)?,
        sink_failures: counters(&SINK_FAILURES)?,
        lost: counters(&LOST)?,
    };
    events.begin();
    Some(events)
});

fn events() -> Option<&'static Events> {
    EVENTS.as_ref().filter(|_| is_recording())
}

const TURNS: [&str; 4] = ["ready", "down", "crash_loop", "gone"];

/// What becomes of a changed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A server said so.
    Received,
    /// The same, of a list that is to be read again anyway.
    Gathered,
    /// A client was told.
    Sent,
    /// A client was not told: it has not taken the last such message yet, or the start is not
    /// over.
    Suppressed,
}

impl Change {
    const ALL: [Change; 4] = [
        Change::Received,
        Change::Gathered,
        Change::Sent,
        Change::Suppressed,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Change::Received => "received",
            Change::Gathered => "gathered",
            Change::Sent => "sent",
            Change::Suppressed => "suppressed",
        }
    }
}

/// Resources and templates are announced as one.
fn kind_word(kind: ListKind) -> &'static str {
    match kind {
        ListKind::Tools => "tools",
        ListKind::Prompts => "prompts",
        ListKind::Resources | ListKind::Templates => "resources",
    }
}

impl Events {
    /// What has few labels is there from the beginning: the first of its kind is seen as one.
    fn begin(&self) {
        for kind in [ListKind::Tools, ListKind::Prompts, ListKind::Resources] {
            for change in Change::ALL {
                let labels = [kind_word(kind), change.as_str()];
                self.list_changed.with_label_values(&labels);
            }
        }
        for outcome in ["applied", "rejected"] {
            self.reloads.with_label_values(&[outcome]);
        }
        for what in Refused::ALL {
            self.refusals.with_label_values(&[what.as_str()]);
        }
        self.parked_expired.with_label_values::<&str>(&[]);
    }
}

/// Makes the counters, so that a scrape finds them before anything has happened.
pub fn prepare() {
    events();
}

/// Counts a fact.
pub fn fact(fact: &Fact) {
    let Some(events) = events() else {
        return;
    };
    match fact {
        Fact::Server { name, turn } if meter::is_known(name) => {
            let turn = match turn {
                Turn::Ready => TURNS[0],
                Turn::Down { .. } => TURNS[1],
                Turn::CrashLoop { .. } => TURNS[2],
                Turn::Gone => TURNS[3],
            };
            events.turns.with_label_values(&[name.as_str(), turn]).inc();
        }
        Fact::ToolsChanged { server, .. } if meter::is_known(server) => {
            events.tools_changed.with_label_values(&[server]).inc();
        }
        // Of a server that has left, whose series have gone with it.
        Fact::Server { .. } | Fact::ToolsChanged { .. } => {}
        Fact::ConfigApplied { .. } => events.reloads.with_label_values(&["applied"]).inc(),
        Fact::ConfigRejected { .. } => events.reloads.with_label_values(&["rejected"]).inc(),
        Fact::Refused { what, .. } => events.refusals.with_label_values(&[what.as_str()]).inc(),
        Fact::Sink { name, failing } if failing.is_some() => {
            events.sink_failures.with_label_values(&[name]).inc();
        }
        Fact::Lost { what, count } => events.lost.with_label_values(&[what]).inc_by(*count),
        Fact::Sink { .. }
        | Fact::Certificate { .. }
        | Fact::CertificateRejected(_)
        | Fact::Stopping { .. } => {}
    }
}

/// The listener refused a request. `status`: one of ours.
pub fn http_refused(status: u16) {
    if let Some(events) = events() {
        let status = status.to_string();
        events.http_refused.with_label_values(&[&status]).inc();
    }
}

pub fn list_changed(kind: ListKind, change: Change) {
    if let Some(events) = events() {
        let labels = [kind_word(kind), change.as_str()];
        events.list_changed.with_label_values(&labels).inc();
    }
}

/// A sink of alerts was asked.
pub fn alert_tried(sink: &str, sent: bool) {
    if let Some(events) = events() {
        let outcome = if sent { "sent" } else { "failed" };
        events.alerts.with_label_values(&[sink, outcome]).inc();
    }
}

pub fn parked_expired(count: usize) {
    if let Some(events) = events() {
        let counter = events.parked_expired.with_label_values::<&str>(&[]);
        counter.inc_by(count as u64);
    }
}

/// A server has left the configuration.
pub(crate) fn forget_server(name: &str) {
    let Some(events) = EVENTS.as_ref() else {
        return;
    };
    // An error says that there is no such series.
    for turn in TURNS {
        let _ = events.turns.remove_label_values(&[name, turn]);
    }
    let _ = events.tools_changed.remove_label_values(&[name]);
}
