//! The other replicas: where they may be, by the names that the operator gave, and which of them
//! was found where. Nothing else is ever connected to. Who is asked for what another one has says
//! so and has done nothing; then the next is asked.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::base::limits;
use crate::front::replicas::sending::{self, Outcome};
use crate::front::replicas::{Errand, Lost};
use crate::http::Responder;
use crate::model::place::Here;
use crate::net::dial;

pub struct Peers {
    /// `host` or `host:port`.
    places: Vec<String>,
    /// Where a place names none.
    port: u16,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    addresses: Vec<SocketAddr>,
    looked: Option<Instant>,
    /// Who answered where, the last one at the end.
    found: Vec<(SocketAddr, String)>,
}

impl Peers {
    pub fn new(places: Vec<String>, port: u16) -> Peers {
        let state = Mutex::default();
        Peers {
            places,
            port,
            state,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// When nobody answered for `errand.to`.
    pub fn pass_on(
        &self,
        here: &Here,
        errand: &Errand<'_>,
        out: &mut Responder<'_>,
    ) -> Result<(), Lost> {
        if self.places.is_empty() {
            return Err(Lost::Alone);
        }
        let begun = Instant::now();
        let until = begun + limits::REPLICA_FIND;
        let mut lost = Lost::Gone;
        for address in self.in_order(errand.to, begun + limits::REPLICA_REACH)? {
            let left = until.saturating_duration_since(Instant::now());
            let time = left.min(limits::REPLICA_CONNECT);
            if time.is_zero() {
                return Err(Lost::Unreached);
            }
            let mut stream = match dial::connect(address, time) {
                Ok(stream) => stream,
                Err(error) => {
                    if error.kind() != ErrorKind::ConnectionRefused {
                        lost = Lost::Unreached;
                    }
                    continue;
                }
            };
            match sending::send(&mut stream, here, errand, out) {
                Outcome::Answered => {
                    self.note(address, errand.to);
                    return Ok(());
                }
                Outcome::Misdirected(name) => self.note(address, &name),
                Outcome::Unreached => lost = Lost::Unreached,
                Outcome::ClientGone => return Ok(()),
                Outcome::Silent => return Err(Lost::Silent),
            }
        }
        Err(lost)
    }

    /// All addresses, the likely one first and those where others were found last.
    fn in_order(&self, to: &str, until: Instant) -> Result<Vec<SocketAddr>, Lost> {
        let addresses = self.addresses(until).map_err(|why| {
            log::warn!("replicas not found: {why}");
            Lost::Unreached
        })?;
        let state = self.state();
        let rank = |address: &SocketAddr| {
            let found = state.found.iter().rfind(|(at, _)| at == address);
            found.map_or(1, |(_, name)| if name == to { 0 } else { 2 })
        };
        let ranked = |rank_of: u8| addresses.iter().filter(move |at| rank(at) == rank_of);
        let ordered = (0..3).flat_map(ranked).copied();
        Ok(ordered.collect())
    }

    fn addresses(&self, until: Instant) -> Result<Vec<SocketAddr>, String> {
        {
            let state = self.state();
            let is_fresh = |looked: Instant| looked.elapsed() < limits::REPLICA_LOOK;
            if state.looked.is_some_and(is_fresh) {
                return Ok(state.addresses.clone());
            }
        }
        let mut all = Vec::new();
        for place in &self.places {
            match dial::addresses(place, self.port, until) {
                Ok(found) => all.extend(found),
                // One of several may be away.
                Err(why) if self.places.len() == 1 => return Err(format!("{place}: {why}")),
                Err(why) => log::info!("replica not found place={place:?}: {why}"),
            }
        }
        let mut state = self.state();
        all.clone_into(&mut state.addresses);
        state.looked = Some(Instant::now());
        Ok(all)
    }

    fn note(&self, address: SocketAddr, name: &str) {
        if name.is_empty() {
            return;
        }
        let mut state = self.state();
        if state
            .found
            .last()
            .is_some_and(|(at, known)| *at == address && known == name)
        {
            return;
        }
        state
            .found
            .retain(|(at, known)| *at != address && known != name);
        if state.found.len() >= limits::REPLICAS {
            state.found.remove(0);
        }
        state.found.push((address, name.to_owned()));
    }
}
