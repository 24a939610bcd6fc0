//! What servers tell the router thread. A blocking send, because the router never waits for a
//! server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crossbeam_channel::Sender;

use crate::mcp::level::Level;
use crate::mcp::list::ListKind;
use crate::mcp::method::{Ask, Asks};
use crate::model::hint::CacheHint;
use crate::model::listing::{Item, Listing};
use crate::upstream::call::{Asked, Notice};
use crate::upstream::link::Link;

/// Which handle of a server. A handle that takes the place of another one of the same name has
/// its slot, and an epoch of its own: what the old one still reports is known as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerId {
    pub slot: usize,
    pub epoch: u64,
}

impl ServerId {
    /// A handle in `slot`.
    pub fn new(slot: usize) -> ServerId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let epoch = NEXT.fetch_add(1, Ordering::Relaxed);
        ServerId { slot, epoch }
    }
}

pub enum Event {
    /// A server's state changed; read it from the server.
    Status { server: ServerId },
    /// All lists of a server that has just become ready.
    Listing { server: ServerId, listing: Listing },
    /// One list that was read again.
    List {
        server: ServerId,
        kind: ListKind,
        items: Vec<Item>,
        hint: Option<CacheHint>,
    },
    /// `session`: set when the process belongs to that session alone.
    ResourceUpdated {
        server: ServerId,
        session: Option<String>,
        uri: String,
        text: Vec<u8>,
    },
    /// From a stateless server: the whole notification.
    TaskChanged {
        server: ServerId,
        id: String,
        text: Arc<str>,
    },
    ElicitationComplete {
        server: ServerId,
        session: Option<String>,
        id: String,
        text: Vec<u8>,
    },
    /// Somebody wants to see that the router turns: it answers.
    Beat(Sender<()>),
    /// An operator took tools for good that are not as they were pinned.
    Approved,
    /// The gateway is at its end: the router returns.
    Stop,
    /// From a process that belongs to one session.
    ToSession {
        session: String,
        link: Arc<Link>,
        message: SessionMessage,
    },
}

pub enum SessionMessage {
    Ask(Asked),
    Log(Notice),
    /// `notifications/tasks/status`, or progress of a task: the whole message.
    Task(Vec<u8>),
}

impl SessionMessage {
    pub fn log(text: Vec<u8>, level: Level) -> SessionMessage {
        SessionMessage::Log(Notice {
            text,
            level: Some(level),
        })
    }
}

/// A process's way to the router: which server it is, and whose.
#[derive(Clone)]
pub struct Outlook {
    pub server: ServerId,
    /// Set when the process serves one session only.
    pub session: Option<String>,
    /// What the server has asked so far (`Asks`): one place for all its processes.
    pub asked: Arc<AtomicU8>,
    /// What a server hears that asks for roots while no call is in flight: a raw result.
    pub roots: Arc<str>,
    pub router: Sender<Event>,
}

impl Outlook {
    pub fn is_one_session(&self) -> bool {
        self.session.is_some()
    }

    /// The server asked something without naming the call that it is about.
    pub fn note_ask(&self, ask: Ask) {
        self.asked
            .fetch_or(Asks::NONE.with(ask).bits(), Ordering::Relaxed);
    }

    pub fn send(&self, event: Event) {
        // The router is gone only while the gateway ends; then nobody needs the event.
        let _ = self.router.send(event);
    }

    /// For one session, whose process or not.
    pub fn tell(&self, session: String, link: &Arc<Link>, message: SessionMessage) {
        let link = link.clone();
        self.send(Event::ToSession {
            session,
            link,
            message,
        });
    }

    /// False when the process belongs to no single session.
    pub fn tell_session(&self, link: &Arc<Link>, message: SessionMessage) -> bool {
        let Some(session) = self.session.clone() else {
            return false;
        };
        self.tell(session, link, message);
        true
    }
}
