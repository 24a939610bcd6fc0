//! What is known of each server at one moment, in the words of health: the roll that all bodies
//! of health are written from.

use std::time::Instant;

use crate::base::time;
use crate::config::server::ServerConfig;
use crate::front::redacted::{is_secret_name, redacted};
use crate::front::tally::Tally;
use crate::relay::world::World;
use crate::upstream::server::{Server, State, Status};

/// One server.
pub struct Seen<'w> {
    pub server: &'w Server,
    pub entry: &'w ServerConfig,
    pub status: Status,
    /// What an operator should know of what it offers.
    pub remark: Option<&'w str>,
}

/// All servers of a world, in its order.
pub fn call<'w>(world: &'w World) -> Vec<Seen<'w>> {
    let servers = world.servers().iter().enumerate();
    let seen = servers.map(|(position, server)| Seen::at(world, position, server));
    seen.collect()
}

pub fn tally(roll: &[Seen<'_>]) -> Tally {
    Tally::of(roll.iter().map(|seen| seen.status.state))
}

impl<'w> Seen<'w> {
    /// `server` in the place of the one that stands there.
    pub fn at(world: &'w World, position: usize, server: &'w Server) -> Seen<'w> {
        let offer = world.offers[position].as_ref();
        Seen {
            server,
            entry: &world.fixed.entries[position],
            status: server.status(),
            remark: offer.and_then(|offer| offer.remark.as_deref()),
        }
    }
}

impl Seen<'_> {
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    pub fn is_enabled(&self) -> bool {
        self.status.state != State::Disabled
    }

    /// The state as `/health` and supervision call it.
    pub fn word(&self) -> &'static str {
        match self.status.state {
            State::Ready => "connected",
            State::Pending | State::Loading => "loading",
            State::Failed => "error",
            State::Restarting => "restarting",
            State::CrashLoop => "crash-loop",
            State::AwaitingOauth => "awaiting_oauth",
            State::Stopped | State::Disabled => "disconnected",
        }
    }

    pub fn last_error(&self) -> Option<String> {
        let error = self.status.last_error.as_ref()?;
        Some(self.redacted(error))
    }

    /// What is wrong with its lists although it is connected.
    pub fn lists(&self) -> Option<String> {
        let note = self.status.lists.as_ref()?;
        Some(self.redacted(note))
    }

    /// A process may repeat what it was given.
    fn redacted(&self, text: &str) -> String {
        let given = self.entry.process.iter().flat_map(|process| &process.env);
        let secret = given.filter(|(name, _)| is_secret_name(name));
        redacted(text, secret.map(|(_, value)| value.expose()))
    }

    /// When it is tried again.
    pub fn next_try(&self) -> Option<String> {
        let left = self
            .status
            .retry_at?
            .checked_duration_since(Instant::now())?;
        Some(time::rfc3339_after(left))
    }
}
