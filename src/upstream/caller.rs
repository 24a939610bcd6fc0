//! Who calls, as far as servers need to know, and the right to one link that a call is given.

use std::sync::Arc;

use crate::mcp::method::Asks;
use crate::upstream::link::Link;
use crate::upstream::pool::Whose;
use crate::upstream::server::{Server, SessionFace};

/// On whose behalf a link is wanted. A stateless request never gets a session.
#[derive(Clone, Copy)]
pub enum Caller<'a> {
    Session(&'a SessionFace),
    Stateless(StatelessFace<'a>),
}

/// What one stateless request says about its client.
#[derive(Debug, Clone, Copy)]
pub struct StatelessFace<'a> {
    /// Who it is, once that is known for sure.
    pub principal: Option<&'a str>,
    /// Its `clientCapabilities`: raw JSON.
    pub capabilities: &'a str,
}

impl<'a> Caller<'a> {
    /// Somebody of whom nothing is known.
    pub const NOBODY: Caller<'static> = Caller::Stateless(StatelessFace {
        principal: None,
        capabilities: "{}",
    });

    /// What its client can be asked.
    pub fn asks(&self) -> Asks {
        match self {
            Caller::Session(face) => face.asks,
            Caller::Stateless(face) => Asks::declared(face.capabilities),
        }
    }

    pub fn principal(&self) -> Option<&'a str> {
        match self {
            Caller::Session(face) => face.principal.as_deref(),
            Caller::Stateless(face) => face.principal,
        }
    }
}

/// The link that one call may use, until this is dropped. A call may wait for its client and have
/// nothing at work at the server: as long as the lease is held the process is needed.
pub struct Lease {
    pub link: Arc<Link>,
    seat: Option<Seat>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.link.let_go();
    }
}

/// A place at a process that is not everybody's.
struct Seat {
    server: Arc<Server>,
    whose: Whose,
}

impl Lease {
    pub(crate) fn shared(link: Arc<Link>) -> Lease {
        link.hold();
        Lease { link, seat: None }
    }

    pub(crate) fn seated(link: Arc<Link>, server: Arc<Server>, whose: Whose) -> Lease {
        link.hold();
        let seat = Some(Seat { server, whose });
        Lease { link, seat }
    }

    /// The call waits for its client alone, or goes on: a process of one call may be taken away
    /// from one that waits too long while others want it.
    pub fn set_parked(&self, parked: bool) {
        if let Some(seat) = &self.seat
            && matches!(seat.whose, Whose::OneCall(_))
        {
            seat.server.pool().set_parked(&seat.whose, parked);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.server.pool().give_back(&self.whose);
    }
}
