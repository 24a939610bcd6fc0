//! How a process is greeted whose era is not certain: `server/discover` first, because a
//! stateless server may refuse everything else, then `initialize`. Runs on the owner thread.
//!
//! A server of the session era may take such a first request badly: it may say nothing, end, or
//! answer nothing any more. `Fault::Spoilt` says that the probe may be to blame for a failure.

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::base::limits;
use crate::mcp::method::DISCOVER;
use crate::upstream::call::{CallId, Mail, Mailbox, Reply};
use crate::upstream::handshake::{ClientFace, Dialogue, Fault, Limit};
use crate::upstream::link::{Hello, with_meta};
use crate::upstream::verdict::{Verdict, is_stateless_error, stateless_hello};
use crate::wire::message::{Envelope, FROM_SERVER, Kind};

/// What an answer to the probe means.
enum Heard {
    Stateless(Hello),
    /// Stateless, but it would not describe itself.
    Again,
    Session,
}

/// A probe on its way.
struct Probe {
    call: CallId,
    mail: Mailbox,
}

impl Dialogue<'_, '_> {
    /// The first exchange with a process. `known`: what it spoke when it was started last; if
    /// that has changed, the answer says so.
    pub fn greet(
        &mut self,
        known: Option<Verdict>,
        face: &ClientFace,
        limit: Limit,
    ) -> Result<Hello, Fault> {
        let started = Instant::now();
        let hello = match known {
            Some(Verdict::Session | Verdict::Sse) => self.greet_session(face, limit),
            Some(Verdict::Stateless) => self.greet_stateless(face, limit, limit.time),
            None => self.greet_stateless(face, limit, limits::PROBE.min(limit.time / 3)),
        };
        log::debug!(
            "greeted server={:?} known={known:?} ms={}",
            self.link.server(),
            started.elapsed().as_millis()
        );
        hello
    }

    /// `initialize`; a server that refuses it may have become a stateless one.
    fn greet_session(&mut self, face: &ClientFace, limit: Limit) -> Result<Hello, Fault> {
        let started = Instant::now();
        let refused = match self.initialize(face, limit) {
            Err(Fault::Bad(why)) => why,
            other => return other,
        };
        let probe = self.probe()?;
        let reply = self.wait(probe.call, probe.mail.receiver(), left(limit, started));
        self.link.forget(probe.call);
        match reply.map(hear) {
            Ok(Heard::Stateless(hello)) => Ok(hello),
            Err(fault @ Fault::Stopped) => Err(fault),
            _ => Err(Fault::Bad(refused)),
        }
    }

    /// `server/discover`, and `initialize` unless the answer to that comes within `patience` and
    /// is a stateless server's.
    fn greet_stateless(
        &mut self,
        face: &ClientFace,
        limit: Limit,
        patience: Duration,
    ) -> Result<Hello, Fault> {
        let started = Instant::now();
        let probe = self.probe().map_err(spoilt)?;
        let time = patience.min(limit.time);
        let answer = self.wait(probe.call, probe.mail.receiver(), Limit { time, ..limit });
        match answer.map(hear) {
            Ok(Heard::Stateless(hello)) => return Ok(hello),
            Ok(Heard::Again) => return self.discover(left(limit, started)),
            Ok(Heard::Session) => {}
            Err(Fault::Timeout(..)) => log::info!(
                "no answer to server/discover, trying initialize server={:?} waited_ms={}",
                self.link.server(),
                time.as_millis()
            ),
            Err(fault) => return Err(spoilt(fault)),
        }
        let outcome = self.initialize(face, left(limit, started));
        // Never taken back on the wire: before `initialize` no server expects to hear of that.
        self.link.forget(probe.call);
        match (outcome, late(probe.mail.receiver(), probe.call)) {
            (Ok(hello), _) => Ok(hello),
            // It was slow to start, and has never heard of `initialize`.
            (Err(Fault::Bad(_) | Fault::Timeout(..)), Some(hello)) => Ok(hello),
            (Err(Fault::Timeout(_, key)), _) => Err(spoilt(Fault::Timeout(limit.time, key))),
            (Err(fault), _) => Err(spoilt(fault)),
        }
    }

    /// A second and last `server/discover`.
    fn discover(&mut self, limit: Limit) -> Result<Hello, Fault> {
        let probe = self.probe()?;
        let reply = self.wait(probe.call, probe.mail.receiver(), limit)?;
        match hear(reply) {
            Heard::Stateless(hello) => Ok(hello),
            _ => Err(Fault::Bad(
                "says that it speaks the stateless revision, and refuses server/discover"
                    .to_owned(),
            )),
        }
    }

    fn probe(&mut self) -> Result<Probe, Fault> {
        let mail = Mailbox::new(1);
        let call = self.link.request(DISCOVER, &with_meta("{}"), mail.sender());
        let call = call.map_err(|error| self.not_asked(error))?;
        Ok(Probe { call, mail })
    }
}

fn spoilt(fault: Fault) -> Fault {
    match fault {
        Fault::Stopped => Fault::Stopped,
        fault => Fault::Spoilt(Box::new(fault)),
    }
}

/// What is left of a limit; a server always gets a moment.
fn left(limit: Limit, started: Instant) -> Limit {
    let time = limit.time.saturating_sub(started.elapsed());
    Limit {
        time: time.max(Duration::from_millis(500)),
        ..limit
    }
}

fn hear(reply: Reply) -> Heard {
    let Reply::Answer(answer) = reply else {
        return Heard::Session;
    };
    let envelope = Envelope::from_bytes(&answer.line, FROM_SERVER);
    match envelope.map(|envelope| envelope.kind) {
        Ok(Kind::Result { result, .. }) => {
            stateless_hello(result).map_or(Heard::Session, Heard::Stateless)
        }
        Ok(Kind::Error { error, .. }) if is_stateless_error(error) => Heard::Again,
        _ => Heard::Session,
    }
}

/// The answer to a probe that came after its time.
fn late(mail: &Receiver<Mail>, call: CallId) -> Option<Hello> {
    let ours = mail.try_iter().find(|mail| mail.call == call)?;
    match hear(ours.reply) {
        Heard::Stateless(hello) => Some(hello),
        Heard::Again | Heard::Session => None,
    }
}
