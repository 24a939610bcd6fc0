//! What happens that an operator cares about, as values: noted in a few places, counted by
//! metrics, judged by alerts. Process-wide, like the log. What a single call does is no fact: it
//! is timed where it is relayed.
//!
//! Whoever notes a fact never waits: one that nobody has room for is counted and dropped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::limits;
use crate::journal::audit::facts;
use crate::journal::metrics::events;

/// Texts hold no secrets and no line breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    Server {
        name: String,
        turn: Turn,
    },
    /// A server that was listed before offers other tools, by their own names.
    ToolsChanged {
        server: String,
        added: Vec<String>,
        removed: Vec<String>,
        /// The same name with another definition.
        changed: Vec<String>,
    },
    ConfigApplied {
        version: u64,
    },
    /// Files that would not do; what was in force stays so.
    ConfigRejected {
        problems: Vec<String>,
    },
    /// Somebody asked for what he may not have.
    Refused {
        what: Refused,
        /// Who it was, as far as that is known: an address, or a process.
        whom: String,
    },
    /// A log file, or a sink of alerts: why it takes nothing, or `None` when it does again.
    Sink {
        name: String,
        failing: Option<String>,
    },
    /// What was to be written or sent, and was not.
    Lost {
        what: String,
        count: u64,
    },
    /// A certificate was looked at.
    Certificate {
        whose: String,
        ends: SystemTime,
    },
    /// Changed certificate files of the listener: why they will not do and the old pair goes on, or
    /// `None` when new ones are in force.
    CertificateRejected(Option<String>),
    /// The gateway was asked to end.
    Stopping {
        why: &'static str,
    },
}

/// What became of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    Ready,
    /// It should serve and does not. `state` is the word that health has for it.
    Down {
        state: &'static str,
        why: String,
    },
    /// It died so often that it is tried only now and then.
    CrashLoop {
        why: String,
    },
    /// It was disabled or left the configuration.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Host,
    Origin,
    /// On the control socket.
    Operator,
    /// `/metrics`, by who is not on this machine.
    Metrics,
    /// A token that is missing or not good.
    Token,
    /// More than a token reaches, by who knows what there is.
    Scope,
    /// Too much of one principal or address.
    Pace,
}

impl Refused {
    pub const ALL: [Refused; 7] = [
        Refused::Host,
        Refused::Origin,
        Refused::Operator,
        Refused::Metrics,
        Refused::Token,
        Refused::Scope,
        Refused::Pace,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Refused::Host => "host",
            Refused::Origin => "origin",
            Refused::Operator => "operator",
            Refused::Metrics => "metrics",
            Refused::Token => "token",
            Refused::Scope => "scope",
            Refused::Pace => "rate",
        }
    }
}

/// Whoever acts on facts: one thread, if there is one.
static LISTENER: RwLock<Option<Sender<Fact>>> = RwLock::new(None);

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Sinks that take nothing now, and why: the log fails before anybody listens.
static FAILING: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// Takes what happened to whoever wants to know.
pub fn note(fact: Fact) {
    if is_new(&fact) {
        events::fact(&fact);
        facts::tell(&fact);
    }
    let listener = LISTENER.read().unwrap_or_else(PoisonError::into_inner);
    let Some(queue) = &*listener else {
        return;
    };
    if queue.try_send(fact).is_err() {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// False for a sink of which the same is known already: an outage is one, however often it is told.
fn is_new(fact: &Fact) -> bool {
    let Fact::Sink { name, failing } = fact else {
        return true;
    };
    let mut known = FAILING.lock().unwrap_or_else(PoisonError::into_inner);
    let before = match failing {
        Some(why) => known.insert(name.clone(), why.clone()),
        None => known.remove(name),
    };
    before.is_some() != failing.is_some()
}

/// Facts from now on, and what takes nothing already; an earlier listener hears nothing more.
pub fn listen() -> Receiver<Fact> {
    let (queue, facts) = bounded(limits::FACTS);
    let mut listener = LISTENER.write().unwrap_or_else(PoisonError::into_inner);
    let known = FAILING.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, why) in &*known {
        let (name, failing) = (name.clone(), Some(why.clone()));
        // There are few of them, and the queue is empty.
        let _ = queue.try_send(Fact::Sink { name, failing });
    }
    *listener = Some(queue);
    facts
}

/// Facts that the listener had no room for.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::{Fact, dropped, is_new, listen, note};
    use crate::base::limits;

    #[test]
    fn who_does_not_listen_holds_nobody_up() {
        let facts = listen();
        let before = dropped();
        let applied = |version: usize| Fact::ConfigApplied {
            version: version as u64,
        };
        (0..limits::FACTS + 10).for_each(|version| note(applied(version)));
        assert!(dropped() - before >= 10);
        assert_eq!(facts.try_iter().take(limits::FACTS).count(), limits::FACTS);
    }

    #[test]
    fn an_outage_is_one_however_often_it_is_told() {
        let sink = |why: Option<&str>| Fact::Sink {
            name: "outage".to_owned(),
            failing: why.map(str::to_owned),
        };
        for (why, new) in [
            (None, false),
            (Some("full"), true),
            (Some("full"), false),
            (Some("gone"), false),
            (None, true),
            (Some("full"), true),
            (None, true),
        ] {
            assert_eq!(is_new(&sink(why)), new, "{why:?}");
        }
    }
}
