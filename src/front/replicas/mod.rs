//! Several gateways behind one load balancer. What a client carries for one of them (the id of a
//! session, the state of a parked call, the id of a task) names it, sealed by a key that all have;
//! whoever gets the request passes it on, once, to the one who can answer. Nobody knows more of
//! another than that: there is no membership, no leader and no shared memory here. Called by
//! connection threads; the router's clock looks at the file of keys.

pub mod hop;
pub mod keys;
pub mod peers;
pub mod reading;
pub mod sending;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::base::{limits, sys};
use crate::config::replicas::ReplicaSettings;
use crate::front::replicas::hop::{Hop, Known, Nonces};
use crate::front::replicas::keys::KeyFile;
use crate::front::replicas::peers::Peers;
use crate::http::{Head, Reply, Responder};
use crate::model::place::{Here, PlaceKey};
use crate::model::rotating::Master;

pub struct Replicas {
    pub here: Here,
    file: KeyFile,
    nonces: Nonces,
    peers: Peers,
}

/// A request as it came to this replica, for another one.
#[derive(Clone, Copy)]
pub struct Errand<'a> {
    pub head: &'a Head<'a>,
    pub body: &'a [u8],
    pub client: IpAddr,
    /// Which replica it is for.
    pub to: &'a str,
}

/// Why a request did not get an answer of the replica that it is for. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// This gateway is told of no other.
    Alone,
    /// No replica of that name is there any more.
    Gone,
    /// It may be there, and was not reached.
    Unreached,
    /// It took the request and ended before it answered.
    Silent,
}

impl Lost {
    /// 404 where the client had better begin anew.
    pub fn status(self) -> u16 {
        match self {
            Lost::Alone | Lost::Gone => 404,
            Lost::Unreached => 503,
            Lost::Silent => 502,
        }
    }

    /// What is said of what was asked for.
    pub fn tell(self) -> &'static str {
        match self {
            Lost::Alone => {
                "is with another replica, and this gateway is told of none: set replica-peers, \
                 or let the load balancer keep a session at one replica"
            }
            Lost::Gone => "was with a replica that is not there any more",
            Lost::Unreached => "is with a replica that cannot be reached; try again",
            Lost::Silent => "is with a replica that ended before it answered",
        }
    }
}

impl Replicas {
    /// `None`: this gateway is alone. With it the keys, for whatever else is sealed by them.
    ///
    /// # Errors
    /// What is wrong with the settings or the keys.
    pub fn open(
        settings: &ReplicaSettings,
        port: u16,
    ) -> Result<Option<(Replicas, Vec<Master>)>, String> {
        if let Some(flaw) = settings.flaw() {
            return Err(flaw.to_owned());
        }
        let Some(path) = &settings.keys else {
            return Ok(None);
        };
        let (file, masters) = KeyFile::open(path).map_err(|why| format!("failed to {why}"))?;
        let name = settings.name.clone().unwrap_or_else(sys::host_name);
        let key = Arc::new(PlaceKey::new(&masters));
        log::info!("one of several replicas name={name:?}");
        let replicas = Replicas {
            here: Here { key, name },
            file,
            nonces: Nonces::default(),
            peers: Peers::new(settings.peers.clone(), port),
        };
        Ok(Some((replicas, masters)))
    }

    /// Keys that have changed. Those that cannot be read leave the others in force.
    pub fn look(&self, now: Instant) -> Option<Vec<Master>> {
        let masters = self.file.look(now)?;
        self.here.key.rotate(&masters);
        Some(masters)
    }

    /// The other replica that a text of a client names.
    pub fn holder_of(&self, placed: &str) -> Option<String> {
        let is_short = placed.len() <= limits::PLACED_BYTES;
        let (_, name) = is_short.then(|| self.here.key.split(placed))??;
        (name != self.here.name).then_some(name)
    }

    /// What another replica says of a request that it passes on. `Ok(None)`: it comes from a
    /// client.
    ///
    /// # Errors
    /// The answer to one that is not to be believed, or not meant for this replica.
    pub fn accept(&self, head: &Head<'_>) -> Result<Option<Hop>, Reply> {
        let Some(shown) = head.header(hop::HEADER) else {
            return Ok(None);
        };
        let hop = Hop::open(&self.here, shown, head).inspect_err(|reply| {
            // Who looks for a replica asks the others, too.
            if reply.status != hop::MISDIRECTED {
                log::warn!("request not accepted from another replica");
            }
        })?;
        match self.nonces.show(hop.nonce, Instant::now()) {
            Known::New => Ok(Some(hop)),
            Known::Shown => Err(hop::refusal("it was shown before")),
            Known::Full => {
                let (name, proof) = hop.proof(&self.here);
                let reply = Reply::text(503, "too many requests of other replicas");
                Err(reply.with("Retry-After", "5").with(name, proof))
            }
        }
    }

    /// Gives the answer of the replica that `errand` is for to the client.
    ///
    /// # Errors
    /// When there is none.
    pub fn pass_on(&self, errand: &Errand<'_>, out: &mut Responder<'_>) -> Result<(), Lost> {
        let passed = self.peers.pass_on(&self.here, errand, out);
        if let Err(lost) = passed {
            let to = errand.to;
            log::info!("request not passed on replica={to:?} reason={lost:?}");
        }
        passed
    }
}
