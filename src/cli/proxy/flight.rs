//! One request of the client, or a batch of them, on its way to the endpoint and back.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cli::proxy::lock;
use crate::mcp::method;
use crate::net::stop::Stop;
use crate::wire::json::elements;
use crate::wire::members::Members;
use crate::wire::message::{Envelope, EnvelopeError, FROM_SERVER, Kind, canonical_id};

/// What a line of the client is.
pub(super) enum Heard {
    Request(Flight),
    Notification {
        method: String,
    },
    /// To a question of the server.
    Response,
}

pub(super) struct Flight {
    /// Empty for a batch.
    pub method: String,
    pub is_stateless: bool,
    pub stop: Stop,
    /// Raw ids that have no answer yet.
    open: Mutex<Vec<String>>,
    is_cancelled: AtomicBool,
    /// When something of it reached the client that was no answer.
    told: Mutex<Option<Instant>>,
    since: Instant,
}

impl Heard {
    /// # Errors
    /// Why the line is no message.
    pub(super) fn read(line: &str) -> Result<Heard, EnvelopeError> {
        if line.trim_start().starts_with('[') {
            let messages = elements(line, FROM_SERVER).unwrap_or_default();
            let ids = messages
                .iter()
                .filter_map(|message| id_of(message))
                .collect();
            return Ok(Heard::Request(Flight::new(String::new(), ids, false)));
        }
        let envelope = Envelope::parse(line, FROM_SERVER)?;
        Ok(match &envelope.kind {
            Kind::Request { id, method } => {
                let is_stateless = envelope.params.is_some_and(is_stateless);
                let ids = vec![(*id).to_owned()];
                Heard::Request(Flight::new(method.to_string(), ids, is_stateless))
            }
            Kind::Notification { method } => Heard::Notification {
                method: method.to_string(),
            },
            Kind::Result { .. } | Kind::Error { .. } => Heard::Response,
        })
    }
}

fn id_of(message: &str) -> Option<String> {
    match Envelope::parse(message, FROM_SERVER).ok()?.kind {
        Kind::Request { id, .. } => Some(id.to_owned()),
        _ => None,
    }
}

fn is_stateless(params: &str) -> bool {
    let members = Members::parse(params, 1, FROM_SERVER).ok();
    let meta =
        members.and_then(|members| Members::parse(members.get("_meta")?, 2, FROM_SERVER).ok());
    meta.is_some_and(|meta| meta.get(crate::mcp::meta::PROTOCOL_VERSION).is_some())
}

/// The request that `notifications/cancelled` is about.
pub(super) fn cancelled(line: &str) -> Option<String> {
    let envelope = Envelope::parse(line, FROM_SERVER).ok()?;
    let members = Members::parse(envelope.params?, 1, FROM_SERVER).ok()?;
    members.get("requestId").map(str::to_owned)
}

impl Flight {
    pub(super) fn new(method: String, ids: Vec<String>, is_stateless: bool) -> Flight {
        Flight {
            method,
            is_stateless,
            stop: Stop::default(),
            open: Mutex::new(ids),
            is_cancelled: AtomicBool::new(false),
            told: Mutex::new(None),
            since: Instant::now(),
        }
    }

    pub(super) fn is_initialize(&self) -> bool {
        self.method == "initialize" && !self.is_stateless
    }

    /// Whether it lasts until it is taken back.
    pub(super) fn is_endless(&self) -> bool {
        self.method == method::LISTEN
    }

    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    pub(super) fn has_id(&self, id: &str) -> bool {
        let wanted = canonical_id(id);
        lock(&self.open)
            .iter()
            .any(|open| canonical_id(open) == wanted)
    }

    /// Nobody waits for it any more: nothing of it reaches the client.
    pub(super) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
        lock(&self.open).clear();
        self.stop.stop();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    pub(super) fn note_told(&self) {
        *lock(&self.told) = Some(Instant::now());
    }

    pub(super) fn told(&self) -> Option<Instant> {
        *lock(&self.told)
    }

    pub(super) fn has_open(&self) -> bool {
        !lock(&self.open).is_empty()
    }

    pub(super) fn take_open(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.open))
    }

    /// The first id that has no answer.
    pub(super) fn first_open(&self) -> Option<String> {
        lock(&self.open).first().cloned()
    }

    /// A message that came for it, or an array of them: notes which are answered. True when it
    /// holds the answer to its one request.
    pub(super) fn note_answers(&self, text: &str) -> bool {
        if text.trim_start().starts_with('[') {
            for message in elements(text, FROM_SERVER).unwrap_or_default() {
                self.note_answers(message);
            }
            return false;
        }
        let Ok(envelope) = Envelope::parse(text, FROM_SERVER) else {
            return false;
        };
        let id = match envelope.kind {
            Kind::Result { id, .. } | Kind::Error { id: Some(id), .. } => canonical_id(id),
            _ => return false,
        };
        let mut open = lock(&self.open);
        let before = open.len();
        open.retain(|one| canonical_id(one) != id);
        open.len() < before
    }
}
