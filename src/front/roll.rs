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
}

/// All servers of a world, in its order.
pub fn call<'w>(world: &'w World) -> Vec<Seen<'w>> {
    let servers = world.servers().iter().zip(&world.fixed.entries);
    let seen = servers.map(|(server, entry)| {
        let status = server.status();
        Seen {
            server,
            entry,
            status,
        }
    });
    seen.collect()
}

pub fn tally(roll: &[Seen<'_>]) -> Tally {
    Tally::of(roll.iter().map(|seen| seen.status.state))
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
