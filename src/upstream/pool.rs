//! The processes of one server beside its shared one: of a session, of a principal, or with one
//! call each. Connection threads take a seat at one and give it back; the router's clock ends
//! those that nobody uses. Waits are bounded; the lock is never held across one but the pool's
//! own.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::upstream::server::Instance;

/// Whose a process is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    /// By its id.
    Session(String),
    Principal(String),
    /// Nobody's for long: one call at a time, of anybody.
    OneCall(u64),
}

#[derive(Default)]
pub(crate) struct Pool {
    entries: Mutex<Entries>,
    /// A seat became free, or a process ended.
    changed: Condvar,
}

#[derive(Default)]
struct Entries {
    map: HashMap<Whose, Entry>,
    /// Ended or about to end, and not joined yet.
    leaving: Vec<Arc<Instance>>,
    next: u64,
    /// No process is started any more.
    closed: bool,
    /// Nobody gets a seat any more.
    stopping: bool,
}

struct Entry {
    instance: Arc<Instance>,
    seats: usize,
    /// When its last seat was given back, or it was made.
    used: Instant,
    /// Since when the call on its seat waits for its client alone.
    parked: Option<Instant>,
}

/// Why there is no process.
#[derive(Debug)]
pub(crate) enum NoSeat {
    Stopping,
    Full,
    Failed(std::io::Error),
}

/// What one look at the pool comes to.
enum Look {
    Taken(Whose, Arc<Instance>),
    Make(Whose),
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().map.is_empty()
    }

    /// A living process of `whose`, without taking a seat.
    pub(crate) fn living(&self, whose: &Whose) -> Option<Arc<Instance>> {
        let entries = self.lock();
        let entry = entries.map.get(whose)?;
        entry.instance.is_living().then(|| entry.instance.clone())
    }

    pub(crate) fn all(&self) -> Vec<Arc<Instance>> {
        let entries = self.lock();
        let all = entries.map.values().map(|entry| entry.instance.clone());
        all.collect()
    }

    /// Those that belong to no session.
    pub(crate) fn beside(&self) -> Vec<Arc<Instance>> {
        let entries = self.lock();
        let beside = entries.map.iter();
        let beside = beside.filter(|(whose, _)| !matches!(whose, Whose::Session(_)));
        beside.map(|(_, entry)| entry.instance.clone()).collect()
    }

    /// A seat at the process of `whose`, which `make` starts if it is not there. Waits until
    /// `deadline` while there are `most` already.
    pub(crate) fn seat(
        &self,
        whose: &Whose,
        most: usize,
        deadline: Instant,
        make: impl Fn(&Whose) -> std::io::Result<Arc<Instance>>,
    ) -> Result<(Whose, Arc<Instance>), NoSeat> {
        self.wait(most, deadline, make, |entries| match entries.sit(whose) {
            Some(instance) => Look::Taken(whose.clone(), instance),
            None => Look::Make(whose.clone()),
        })
    }

    /// A seat at a process on which nothing else happens.
    pub(crate) fn seat_alone(
        &self,
        most: usize,
        deadline: Instant,
        make: impl Fn(&Whose) -> std::io::Result<Arc<Instance>>,
    ) -> Result<(Whose, Arc<Instance>), NoSeat> {
        self.wait(most, deadline, make, |entries| match entries.sit_alone() {
            Some((whose, instance)) => Look::Taken(whose, instance),
            None => {
                entries.next += 1;
                Look::Make(Whose::OneCall(entries.next))
            }
        })
    }

    fn wait(
        &self,
        most: usize,
        deadline: Instant,
        make: impl Fn(&Whose) -> std::io::Result<Arc<Instance>>,
        look: impl Fn(&mut Entries) -> Look,
    ) -> Result<(Whose, Arc<Instance>), NoSeat> {
        let mut entries = self.lock();
        loop {
            if entries.stopping {
                return Err(NoSeat::Stopping);
            }
            let wanted = match look(&mut entries) {
                Look::Taken(whose, instance) => return Ok((whose, instance)),
                Look::Make(_) if entries.closed => return Err(NoSeat::Stopping),
                Look::Make(whose) if entries.living() < most => {
                    return entries.make(whose, make);
                }
                Look::Make(whose) => whose,
            };
            let now = Instant::now();
            // The one that is missed least makes room.
            if entries.ending() < most && entries.end_one(now) {
                return entries.make(wanted, make);
            }
            if now >= deadline {
                return Err(NoSeat::Full);
            }
            // Whether a process has become quiet is seen by looking.
            let slice = limits::POOL_LOOK.min(deadline - now);
            entries = self
                .changed
                .wait_timeout(entries, slice)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// A seat at the process of `whose`, if that is there.
    pub(crate) fn seat_living(&self, whose: &Whose) -> Option<Arc<Instance>> {
        self.lock().sit(whose)
    }

    pub(crate) fn give_back(&self, whose: &Whose) {
        if let Some(entry) = self.lock().map.get_mut(whose) {
            entry.seats = entry.seats.saturating_sub(1);
            entry.used = Instant::now();
            entry.parked = None;
        }
        self.changed.notify_one();
    }

    /// The call on a seat waits for its client, or goes on.
    pub(crate) fn set_parked(&self, whose: &Whose, parked: bool) {
        if let Some(entry) = self.lock().map.get_mut(whose) {
            entry.parked = parked.then(Instant::now);
        }
    }

    /// Ends the process of `whose`. Returns at once; `reap` joins.
    pub(crate) fn end(&self, whose: &Whose) {
        self.lock().retire(whose);
    }

    /// Ends what nobody has used for `idle`, unless `keep` says no; forgets processes that have
    /// ended and joins their threads.
    pub(crate) fn reap(&self, idle: Duration, keep: impl Fn(&Whose) -> bool) {
        let ended: Vec<Arc<Instance>> = {
            let mut entries = self.lock();
            let is_over = |(whose, entry): &(&Whose, &Entry)| {
                let is_unused = entry.seats == 0 && entry.used.elapsed() >= idle;
                let is_idle = is_unused && !keep(whose) && !entry.instance.has_tasks();
                is_idle || !entry.instance.is_living()
            };
            let over: Vec<Whose> = entries
                .map
                .iter()
                .filter(is_over)
                .map(|(w, _)| w.clone())
                .collect();
            over.iter().for_each(|whose| entries.retire(whose));
            let leaving = std::mem::take(&mut entries.leaving);
            let (living, ended) = leaving
                .into_iter()
                .partition(|instance| instance.is_living());
            entries.leaving = living;
            ended
        };
        ended.iter().for_each(|instance| instance.join());
    }

    /// Ends all; the next calls start others. `reap` joins.
    pub(crate) fn restart(&self) {
        let mut entries = self.lock();
        let all: Vec<Arc<Instance>> = entries.map.drain().map(|(_, one)| one.instance).collect();
        all.iter().for_each(|instance| instance.signals().restart());
        entries.leaving.extend(all);
        self.changed.notify_all();
    }

    /// Starts none any more; nobody waits for a seat.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Ends all; `join` waits for them.
    pub(crate) fn stop(&self, patience: Duration) {
        let mut entries = self.lock();
        entries.stopping = true;
        let all = entries.map.values();
        all.for_each(|entry| entry.instance.signals().stop_within(patience));
        self.changed.notify_all();
    }

    /// Waits until all that were told to end are over; false at the deadline.
    pub(crate) fn wait_stopped(&self, deadline: Instant) -> bool {
        let all: Vec<Arc<Instance>> = {
            let entries = self.lock();
            let inside = entries.map.values().map(|entry| entry.instance.clone());
            inside.chain(entries.leaving.iter().cloned()).collect()
        };
        all.iter().all(|instance| instance.wait_stopped(deadline))
    }

    pub(crate) fn join(&self) {
        let all = {
            let mut entries = self.lock();
            let mut all = std::mem::take(&mut entries.leaving);
            all.extend(entries.map.drain().map(|(_, entry)| entry.instance));
            all
        };
        all.iter().for_each(|instance| instance.join());
    }
}

impl Entries {
    fn living(&self) -> usize {
        let living = self.map.values().filter(|entry| entry.instance.is_living());
        living.count()
    }

    /// Those that were told to end and are not over yet.
    fn ending(&self) -> usize {
        let ending = self.leaving.iter().filter(|instance| instance.is_living());
        ending.count()
    }

    fn sit(&mut self, whose: &Whose) -> Option<Arc<Instance>> {
        let entry = self.map.get_mut(whose)?;
        if !entry.instance.is_living() {
            return None;
        }
        entry.seats += 1;
        Some(entry.instance.clone())
    }

    fn sit_alone(&mut self) -> Option<(Whose, Arc<Instance>)> {
        let is_free = |(whose, entry): &(&Whose, &mut Entry)| {
            matches!(whose, Whose::OneCall(_)) && entry.seats == 0 && entry.instance.is_quiet()
        };
        let (whose, entry) = self.map.iter_mut().find(is_free)?;
        entry.seats = 1;
        Some((whose.clone(), entry.instance.clone()))
    }

    fn make(
        &mut self,
        whose: Whose,
        make: impl Fn(&Whose) -> std::io::Result<Arc<Instance>>,
    ) -> Result<(Whose, Arc<Instance>), NoSeat> {
        let instance = make(&whose).map_err(NoSeat::Failed)?;
        let entry = Entry {
            instance: instance.clone(),
            seats: 1,
            used: Instant::now(),
            parked: None,
        };
        self.retire(&whose);
        self.map.insert(whose.clone(), entry);
        Ok((whose, instance))
    }

    /// Ends the process that is missed least: one without a call, longest unused; a process of
    /// one call that stays busy with a call that was taken back; and then the one whose client has
    /// been away longest.
    fn end_one(&mut self, now: Instant) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        let rank = |(whose, entry): (&Whose, &Entry)| {
            let is_one_call = matches!(whose, Whose::OneCall(_));
            let (order, age) = match entry.parked {
                Some(at) if since(at) >= limits::PARKED_AT_LEAST => (1, since(at)),
                None if entry.seats > 0 => return None,
                // Free, and not taken: it is still at work for a call that was taken back.
                None if is_one_call && since(entry.used) < limits::COOLING => return None,
                None => (0, since(entry.used)),
                Some(_) => return None,
            };
            let living = entry.instance.is_living();
            living.then_some(((order, std::cmp::Reverse(age)), whose.clone()))
        };
        let found = self
            .map
            .iter()
            .filter_map(rank)
            .min_by_key(|(rank, _)| *rank);
        let Some((_, whose)) = found else {
            return false;
        };
        self.retire(&whose);
        true
    }

    /// Tells the process of `whose` to end and forgets whose it was.
    fn retire(&mut self, whose: &Whose) {
        if let Some(entry) = self.map.remove(whose) {
            entry.instance.signals().stop();
            self.leaving.push(entry.instance);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NoSeat, Pool, Whose};
    use crate::base::limits;
    use crate::upstream::link::Link;
    use crate::upstream::outlet::Outlet;
    use crate::upstream::server::{Instance, State};
    use std::os::fd::OwnedFd;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    /// One that is up and has nothing to do.
    fn up(_: &Whose) -> std::io::Result<Arc<Instance>> {
        let (_, writer) = std::io::pipe()?;
        let link = Arc::new(Link::new("s", Outlet::new(OwnedFd::from(writer))));
        let instance = Instance::new(State::Ready);
        instance.update(|_, slot| *slot = Some(link));
        Ok(instance)
    }

    fn alone(pool: &Pool, most: usize) -> Result<Whose, NoSeat> {
        let taken = pool.seat_alone(most, Instant::now(), up);
        taken.map(|(whose, _)| whose)
    }

    #[test]
    fn one_call_at_a_time_and_no_more_processes_than_allowed() {
        let pool = Pool::default();
        let first = alone(&pool, 2).expect("a seat");
        let second = alone(&pool, 2).expect("a seat");
        assert_ne!(first, second);
        assert!(matches!(alone(&pool, 2), Err(NoSeat::Full)));
        pool.give_back(&first);
        assert_eq!(alone(&pool, 2).expect("a seat"), first);
        pool.stop(Duration::from_secs(1));
        assert!(matches!(alone(&pool, 9), Err(NoSeat::Stopping)));
    }

    #[test]
    fn a_session_keeps_its_process_until_others_need_the_room() {
        let pool = Pool::default();
        let session = |name: &str| Whose::Session(name.to_owned());
        let sit = |name: &str| pool.seat(&session(name), 2, Instant::now(), up);
        for name in ["a", "b", "a"] {
            assert!(sit(name).is_ok(), "{name}");
        }
        pool.give_back(&session("b"));
        assert!(sit("c").is_ok());
        assert!(pool.living(&session("b")).is_none());
        // The two others have calls in work.
        assert!(matches!(sit("d"), Err(NoSeat::Full)));
    }

    #[test]
    fn a_caller_takes_the_process_of_whoever_is_away_longest() {
        let pool = Pool::default();
        let away = alone(&pool, 2).expect("a seat");
        let busy = alone(&pool, 2).expect("a seat");
        pool.set_parked(&away, true);
        let now = Instant::now();
        let later = now + limits::PARKED_AT_LEAST + Duration::from_secs(1);
        assert!(!pool.lock().end_one(now));
        assert!(pool.lock().end_one(later));
        assert!(pool.living(&away).is_none() && pool.living(&busy).is_some());
        assert!(!pool.lock().end_one(later));
    }

    #[test]
    fn what_nobody_uses_is_ended() {
        let pool = Pool::default();
        let busy = alone(&pool, 9).expect("a seat");
        let kept = Whose::Session("kept".to_owned());
        let idle = Whose::Session("idle".to_owned());
        for whose in [&kept, &idle] {
            assert!(pool.seat(whose, 9, Instant::now(), up).is_ok());
            pool.give_back(whose);
        }
        pool.reap(Duration::ZERO, |whose| *whose == kept);
        assert!(pool.living(&idle).is_none());
        assert!(pool.living(&kept).is_some() && pool.living(&busy).is_some());
    }
}
