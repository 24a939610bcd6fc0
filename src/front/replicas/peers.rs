//! The other replicas: where they may be, by the names that the operator gave, and which of them
//! was found where. Nothing else is ever connected to. Who is asked for what another one has says
//! so and has done nothing; then the next is asked.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::front::replicas::sending::{self, Outcome};
use crate::front::replicas::{Errand, Lost};
use crate::http::Responder;
use crate::model::place::Here;
use crate::net::dial;

const LOOK: Duration = limits::REPLICA_LOOK;
const AWAY: Duration = limits::REPLICA_AWAY;

pub struct Peers {
    /// `host` or `host:port`.
    places: Vec<String>,
    /// Where a place names none.
    port: u16,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of each place, as far as they are known.
    addresses: Vec<Vec<SocketAddr>>,
    /// When somebody began to look for them last.
    looked: Option<Instant>,
    /// Some place was not found: there may be more replicas than are known.
    lacks: bool,
    /// Who hung, or was no replica, and when.
    away: Vec<(SocketAddr, Instant)>,
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
        let find = |place: &str, until| dial::addresses(place, self.port, until);
        self.look(begun, find);
        let (addresses, mut lost) = self.in_order(errand.to, begun);
        for address in addresses {
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
                        self.note_away(address);
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
                Outcome::Unreached => {
                    lost = Lost::Unreached;
                    self.note_away(address);
                }
                Outcome::ClientGone => return Ok(()),
                Outcome::Silent => {
                    self.note_away(address);
                    return Err(Lost::Silent);
                }
            }
        }
        Err(lost)
    }

    /// All addresses: the likely one first, behind it those where others were found, and last
    /// those where nobody answered. With them, what is so when nobody there has it.
    fn in_order(&self, to: &str, now: Instant) -> (Vec<SocketAddr>, Lost) {
        let state = self.state();
        let is_away = |address: &SocketAddr| {
            let known = state.away.iter().find(|(at, _)| at == address);
            known.is_some_and(|(_, since)| now.saturating_duration_since(*since) < AWAY)
        };
        let rank = |address: &SocketAddr| match state.found.iter().rfind(|(at, _)| at == address) {
            _ if is_away(address) => 3,
            Some((_, name)) if name == to => 0,
            None => 1,
            Some(_) => 2,
        };
        let mut ordered = Vec::new();
        for rank_of in 0..4 {
            for address in state.addresses.iter().flatten() {
                if rank(address) == rank_of && !ordered.contains(address) {
                    ordered.push(*address);
                }
            }
        }
        let lost = if state.lacks {
            Lost::Unreached
        } else {
            Lost::Gone
        };
        (ordered, lost)
    }

    /// Looks the places up now and then, by one caller at a time: meanwhile the others go by what
    /// is known. What cannot be found stays as it was.
    fn look(&self, now: Instant, find: impl Fn(&str, Instant) -> Result<Vec<SocketAddr>, String>) {
        let is_first = {
            let mut state = self.state();
            let is_fresh = |looked: Instant| now.saturating_duration_since(looked) < LOOK;
            let is_first = state.addresses.is_empty();
            if !is_first && state.looked.is_some_and(is_fresh) {
                return;
            }
            state.looked = Some(now);
            is_first
        };
        let until = now + limits::REPLICA_REACH;
        let count = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        let mut all = Vec::with_capacity(self.places.len());
        let mut lacks = false;
        for (left, place) in (1..=count).rev().zip(&self.places) {
            // One that hangs leaves the others their part of the time.
            let begun = Instant::now();
            let until = begun + until.saturating_duration_since(begun) / left;
            let found = find(place, until).map_err(|why| {
                log::warn!("addresses of replicas not found place={place:?}: {why}");
                lacks = true;
            });
            all.push(found);
        }
        let mut state = self.state();
        state.addresses.resize_with(all.len(), Vec::new);
        for (known, found) in state.addresses.iter_mut().zip(all) {
            if let Ok(found) = found {
                *known = found;
            }
        }
        state.lacks = lacks;
        if is_first {
            // What is not known at all is looked for soon again, and not by everybody at once.
            state.looked = Some(Instant::now());
        }
    }

    fn note_away(&self, address: SocketAddr) {
        let (mut state, now) = (self.state(), Instant::now());
        let is_other = |at: &SocketAddr, since: Instant| {
            *at != address && now.saturating_duration_since(since) < AWAY
        };
        state.away.retain(|(at, since)| is_other(at, *since));
        if state.away.len() < limits::REPLICAS {
            state.away.push((address, now));
        }
    }

    fn note(&self, address: SocketAddr, name: &str) {
        if name.is_empty() {
            return;
        }
        let mut state = self.state();
        state.away.retain(|(at, _)| *at != address);
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};

    use super::{AWAY, LOOK, Peers};
    use crate::front::replicas::Lost;

    fn peers() -> Peers {
        Peers::new(vec!["a".to_owned(), "b".to_owned()], 1)
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    /// What `b` gives; `a` is at port 1.
    fn look(peers: &Peers, now: Instant, b: &Result<Vec<SocketAddr>, String>) {
        peers.look(now, |place, _| match place {
            "a" => Ok(vec![at(1)]),
            _ => b.clone(),
        });
    }

    #[test]
    fn a_name_that_is_not_found_takes_nothing_away() {
        let (peers, mut now) = (peers(), Instant::now());
        let fails = || Err("no answer".to_owned());
        look(&peers, now, &fails());
        // Who is asked for may be at a place that is not known yet.
        assert_eq!(peers.in_order("x", now), (vec![at(1)], Lost::Unreached));
        let mut next = |b: Result<Vec<SocketAddr>, String>| {
            now += LOOK + Duration::from_secs(1);
            look(&peers, now, &b);
            peers.in_order("x", now)
        };
        assert_eq!(
            next(Ok(vec![at(2), at(1)])),
            (vec![at(1), at(2)], Lost::Gone)
        );
        assert_eq!(next(fails()), (vec![at(1), at(2)], Lost::Unreached));
        assert_eq!(next(Ok(vec![at(3)])), (vec![at(1), at(3)], Lost::Gone));
    }

    #[test]
    fn one_looks_while_the_others_go_by_what_is_known() {
        let (peers, now) = (peers(), Instant::now());
        let asked = Cell::new(0);
        let fails = |_: &str, _: Instant| {
            asked.set(asked.get() + 1);
            Err("no answer".to_owned())
        };
        peers.look(now, fails);
        // That there was no answer is remembered, too.
        peers.look(now, fails);
        assert_eq!(asked.get(), 2);
        look(&peers, now + LOOK * 2, &Ok(vec![at(2)]));
        let later = now + LOOK * 4;
        peers.look(later, |place, _| {
            peers.look(later, |_, _| panic!("one looks already"));
            assert_eq!(peers.in_order("x", later).0, [at(1), at(2)]);
            Err(format!("no {place}"))
        });
    }

    #[test]
    fn who_hung_is_asked_last_for_a_while() {
        let (peers, now) = (peers(), Instant::now());
        look(&peers, now, &Ok(vec![at(2), at(3)]));
        peers.note(at(1), "one");
        peers.note(at(3), "three");
        let order = |now: Instant| peers.in_order("three", now).0;
        assert_eq!(order(now), [at(3), at(2), at(1)]);
        peers.note_away(at(3));
        peers.note_away(at(2));
        let now = Instant::now();
        assert_eq!(order(now), [at(1), at(2), at(3)]);
        assert_eq!(order(now + AWAY), [at(3), at(2), at(1)]);
        peers.note(at(3), "three");
        assert_eq!(order(now), [at(3), at(1), at(2)]);
    }
}
