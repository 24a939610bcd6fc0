//! How a server behind a URL is greeted: `server/discover`, then `initialize`, then an event
//! stream as in 2024-11-05, until it is known what it is. Runs on the owner thread; every wait
//! ends when the gateway stops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::config::remote::RemoteKind;
use crate::mcp::method::DISCOVER;
use crate::upstream::call::{Mailbox, Reply};
use crate::upstream::handshake::{ClientFace, Dialogue, Fault, Limit};
use crate::upstream::link::{Hello, with_meta};
use crate::upstream::remote::detect::{Heard, Step, after_discover, after_initialize};
use crate::upstream::remote::state::Manner;
use crate::upstream::remote::trouble::{Cause, Trouble};
use crate::upstream::remote::{Remote, lock};
use crate::upstream::signals::End;
use crate::upstream::verdict::{Verdict, stateless_hello};
use crate::wire::message::{Envelope, FROM_SERVER, Kind};

/// One greeting.
pub struct Greeting<'a, 'd, 'g> {
    pub remote: &'a Arc<Remote>,
    pub dialogue: Dialogue<'d, 'g>,
    pub kind: RemoteKind,
    pub face: &'a ClientFace,
    pub limit: Limit,
    started: Instant,
}

impl<'a, 'd, 'g> Greeting<'a, 'd, 'g> {
    pub fn new(
        remote: &'a Arc<Remote>,
        dialogue: Dialogue<'d, 'g>,
        kind: RemoteKind,
        face: &'a ClientFace,
        limit: Limit,
    ) -> Greeting<'a, 'd, 'g> {
        let started = Instant::now();
        Greeting {
            remote,
            dialogue,
            kind,
            face,
            limit,
            started,
        }
    }

    /// `known`: what the server was when it was greeted last.
    pub fn run(mut self, known: Option<Verdict>) -> Result<Hello, Fault> {
        match (self.kind, known) {
            (RemoteKind::Sse, _) | (RemoteKind::Auto, Some(Verdict::Sse)) => self.by_events(""),
            (_, Some(Verdict::Session)) => self.by_session(),
            _ => self.by_discovery(),
        }
    }

    fn by_discovery(&mut self) -> Result<Hello, Fault> {
        // A server that finds fault with the first request gets a second one.
        let mut is_stateless = false;
        for _ in 0..2 {
            let (hello, step, why) = self.discover()?;
            match (step, hello) {
                (Step::Stateless, Some(hello)) => {
                    lock(&self.remote.state).manner = Manner::Stateless;
                    return Ok(hello);
                }
                (Step::DiscoverAgain, _) => is_stateless = true,
                // Some servers answer so to every method that they do not know.
                (Step::Later, _) if self.has_failed_inside() => is_stateless = false,
                (Step::Later | Step::Refused, _) => return Err(Fault::Bad(why)),
                _ => return self.by_session(),
            }
        }
        if !is_stateless {
            return self.by_session();
        }
        Err(Fault::Bad(
            "says that it speaks the stateless revision, and refuses server/discover".to_owned(),
        ))
    }

    fn has_failed_inside(&self) -> bool {
        let trouble = lock(&self.remote.last).trouble.clone();
        trouble.is_some_and(|trouble| matches!(trouble.cause, Cause::Status(500 | 501)))
    }

    /// What it says about itself, what that leads to, and the cause if it leads nowhere.
    fn discover(&mut self) -> Result<(Option<Hello>, Step, String), Fault> {
        let link = self.dialogue.link;
        let mail = Mailbox::new(1);
        let call = link
            .request(DISCOVER, &with_meta("{}"), mail.sender())
            .map_err(|error| self.dialogue.not_asked(error))?;
        let time = limits::REMOTE_PROBE.min(self.limit.time / 2);
        let limit = Limit { time, ..self.limit };
        let reply = match self.dialogue.wait(call, mail.receiver(), limit) {
            Ok(reply) => reply,
            Err(Fault::Timeout(..)) => {
                link.cancel(call, "the gateway no longer waits");
                return Ok((None, after_discover(&Heard::Silence), String::new()));
            }
            Err(fault) => return Err(fault),
        };
        let last = lock(&self.remote.last).clone();
        Ok(match reply {
            Reply::Answer(answer) => {
                let envelope = Envelope::from_bytes(&answer.line, FROM_SERVER);
                match envelope.map(|envelope| envelope.kind) {
                    Ok(Kind::Error { error, .. }) => {
                        let status = last.status;
                        let step = after_discover(&Heard::Error { status, error });
                        (None, step, String::new())
                    }
                    Ok(Kind::Result { result, .. }) => {
                        let hello = stateless_hello(result);
                        let described = hello.is_some();
                        let step = after_discover(&Heard::Result { described });
                        (hello, step, String::new())
                    }
                    _ => (None, Step::Initialize, String::new()),
                }
            }
            _ => {
                let trouble = last
                    .trouble
                    .unwrap_or_else(|| Trouble::unusable("gave no answer"));
                let step = after_discover(&Heard::Trouble(&trouble));
                (None, step, trouble.detail)
            }
        })
    }

    fn by_session(&mut self) -> Result<Hello, Fault> {
        lock(&self.remote.last).trouble = None;
        let limit = self.left();
        let refused = match self.dialogue.initialize(self.face, limit) {
            Ok(hello) => {
                self.settle(0)?;
                if let Err(error) = self.remote.follow() {
                    return Err(Fault::Busy(format!(
                        "got no thread for its stream: {error}"
                    )));
                }
                return Ok(hello);
            }
            Err(Fault::Bad(why)) => why,
            Err(fault) => return Err(fault),
        };
        let Some(trouble) = lock(&self.remote.last).trouble.clone() else {
            return Err(Fault::Bad(refused));
        };
        match (after_initialize(&Heard::Trouble(&trouble)), self.kind) {
            (Step::Sse, RemoteKind::Auto) => self.by_events(&trouble.detail),
            _ => Err(Fault::Bad(trouble.detail)),
        }
    }

    /// The server has heard that it is initialized before anything else is asked. `streams`: how
    /// many exchanges do not end.
    fn settle(&mut self, streams: usize) -> Result<(), Fault> {
        const SLICE: Duration = Duration::from_millis(50);
        let deadline = Instant::now() + self.left().time;
        while !self.remote.flights.are_few_within(streams, SLICE) && Instant::now() < deadline {
            self.look()?;
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), Fault> {
        match self.dialogue.watch.look() {
            None => Ok(()),
            Some(End::Stop) => Err(Fault::Stopped),
            Some(end) => Err(Fault::Gone(end)),
        }
    }

    /// HTTP with SSE. `before`: what led here.
    fn by_events(&mut self, before: &str) -> Result<Hello, Fault> {
        const SLICE: Duration = Duration::from_millis(50);
        let opened = self.remote.follow_all();
        opened.map_err(|error| Fault::Busy(format!("got no thread for its stream: {error}")))?;
        let limit = self.left();
        let deadline = Instant::now() + limit.time;
        while !self.remote.has_endpoint_within(SLICE) {
            if let Err(fault) = self.look() {
                let trouble = lock(&self.remote.last).trouble.clone();
                return Err(match (fault, trouble) {
                    (Fault::Gone(_), Some(trouble)) => Fault::Bad(both(before, &trouble)),
                    (fault, _) => fault,
                });
            }
            if Instant::now() >= deadline {
                return Err(Fault::Timeout(limit.time, limit.key));
            }
        }
        let limit = self.left();
        let hello = self.dialogue.initialize(self.face, limit)?;
        self.settle(1)?;
        Ok(hello)
    }

    /// What is left of the limit; a server always gets a moment.
    fn left(&self) -> Limit {
        let time = self.limit.time.saturating_sub(self.started.elapsed());
        Limit {
            time: time.max(Duration::from_secs(1)),
            ..self.limit
        }
    }
}

/// Both ways failed: the first one is more likely what was meant.
fn both(before: &str, trouble: &Trouble) -> String {
    match (before, trouble.cause) {
        ("", _) => trouble.detail.clone(),
        (_, Cause::Stopped) => before.to_owned(),
        _ => format!(
            "{before}; as a server with HTTP and SSE it {}",
            trouble.detail
        ),
    }
}

impl Remote {
    /// What the greeting found out.
    pub fn verdict(&self) -> Option<Verdict> {
        Some(match lock(&self.state).manner {
            Manner::Fresh => return None,
            Manner::Session(_) => Verdict::Session,
            Manner::Stateless => Verdict::Stateless,
            Manner::Sse { .. } => Verdict::Sse,
        })
    }

    fn has_endpoint_within(&self, time: Duration) -> bool {
        let never = crate::net::stop::Stop::default();
        self.await_state(Instant::now() + time, &never, |state| {
            matches!(state.manner, Manner::Sse { endpoint: Some(_) })
        })
    }
}
