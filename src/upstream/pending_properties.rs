//! The calls of one link against a plain account of them: whatever happens in whatever order,
//! each caller comes out once, and no message is taken for somebody else's.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::Index;

use super::{Caller, Pending, Waits};
use crate::base::laws::for_all;
use crate::base::limits;

#[derive(Debug, Clone)]
enum Step {
    Enter(Caller),
    Answer(Index),
    TakeBack(Index),
    Fail(Index),
    Pass(Duration),
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = (1..4_u64).prop_map(|session| Step::Enter(Caller::Client { session }));
    let second = Duration::from_secs(1);
    let step = prop_oneof![
        8 => client,
        2 => Just(Step::Enter(Caller::Gateway)),
        5 => any::<Index>().prop_map(Step::Answer),
        4 => any::<Index>().prop_map(Step::TakeBack),
        1 => any::<Index>().prop_map(Step::Fail),
        1 => Just(Step::Pass(second)),
        1 => Just(Step::Pass(limits::COOLING)),
        1 => Just(Step::Pass(limits::ABANDONED - second)),
        1 => Just(Step::Close),
    ];
    vec(step, 0..24)
}

/// One that waits, known by the number that only it has.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Waiting {
    id: u64,
    caller: Caller,
}

impl Waits for Waiting {
    fn caller(&self) -> Caller {
        self.caller
    }
}

/// The plain account: calls in the order of their ids, and those taken back.
struct Account {
    now: Instant,
    next: u64,
    calls: Vec<Waiting>,
    left: Vec<(Waiting, Instant)>,
    memory: Duration,
}

impl Account {
    fn chosen(&self, index: &Index) -> u64 {
        index.index(usize::try_from(self.next).expect("small") + 1) as u64
    }

    fn remove(&mut self, id: u64) -> Option<Waiting> {
        let at = self.calls.iter().position(|call| call.id == id)?;
        Some(self.calls.remove(at))
    }

    fn is_client(waiting: &&Waiting) -> bool {
        waiting.caller != Caller::Gateway
    }

    /// Taken back, and perhaps still in work.
    fn lingering(&self) -> impl Iterator<Item = &Waiting> {
        let all = self.left.iter();
        let young = all.filter(|(_, since)| self.now.duration_since(*since) < self.memory);
        young.map(|(waiting, _)| waiting)
    }
}

fn take(step: &Step, pending: &mut Pending<Waiting, ()>, account: &mut Account) {
    match step {
        Step::Enter(caller) => {
            account.next += 1;
            let waiting = Waiting {
                id: account.next,
                caller: *caller,
            };
            if pending.closed.is_none() {
                assert!(pending.enter(waiting.id, waiting));
                account.calls.push(waiting);
            }
        }
        Step::Answer(index) => {
            let id = account.chosen(index);
            let taken = pending.take(id);
            assert_eq!(taken, account.remove(id));
            // An old one may be forgotten already; a young one is not.
            let is_left = account.left.iter().any(|(left, _)| left.id == id);
            let is_young = account.lingering().any(|left| left.id == id);
            let is_late = taken.is_none() && pending.is_late_answer(id);
            assert!(is_late <= is_left && (is_young <= is_late), "call {id}");
            account.left.retain(|(left, _)| left.id != id);
        }
        Step::TakeBack(index) | Step::Fail(index) => {
            let id = account.chosen(index);
            let known = account.remove(id);
            assert_eq!(pending.abandon(id, account.now), known);
            let known = known.filter(|call| Account::is_client(&call));
            account.left.extend(known.map(|call| (call, account.now)));
        }
        Step::Pass(time) => account.now += *time,
        Step::Close => {
            let all: Vec<Waiting> = pending.close(()).into_values().collect();
            assert_eq!(all.len(), account.calls.len());
            assert!(account.calls.iter().all(|call| all.contains(call)));
            account.calls.clear();
        }
    }
}

fn agree(pending: &mut Pending<Waiting, ()>, account: &Account) {
    let clients: Vec<&Waiting> = account.calls.iter().filter(Account::is_client).collect();
    assert_eq!(pending.calls.len(), account.calls.len());
    assert_eq!(pending.client_calls(), clients.len());
    assert_eq!(pending.oldest(), clients.first().map(|call| call.id));
    let lingering: Vec<&Waiting> = account.lingering().collect();
    let is_quiet = clients.is_empty() && lingering.is_empty();
    assert_eq!(pending.is_quiet(account.now), is_quiet);
    for one_session in [false, true] {
        let found = pending.attribute(one_session, account.now);
        let Some(newest) = clients.last() else {
            assert!(found.is_none(), "there is no call that it could be");
            continue;
        };
        let is_alone = clients.len() == 1;
        let is_certain = is_alone && lingering.is_empty();
        let is_theirs = is_alone && lingering.iter().all(|left| left.caller == newest.caller);
        let expected = (is_theirs || one_session).then_some((newest.id, is_certain));
        assert_eq!(found.map(|found| (found.call, found.certain)), expected);
    }
    for call in &account.calls {
        let found = pending.on_stream_of(call.id).map(|found| found.call);
        assert_eq!(found, Account::is_client(&call).then_some(call.id));
    }
}

#[test]
fn each_call_comes_out_once_and_nothing_is_anybody_elses() {
    let start = Instant::now();
    for_all((steps(), any::<bool>()), |(steps, is_stateless)| {
        let mut pending = Pending {
            is_stateless,
            ..Pending::default()
        };
        let memory = match is_stateless {
            true => limits::COOLING,
            false => limits::ABANDONED,
        };
        let mut account = Account {
            now: start,
            next: 0,
            calls: Vec::new(),
            left: Vec::new(),
            memory,
        };
        for step in &steps {
            take(step, &mut pending, &mut account);
            agree(&mut pending, &account);
        }
    });
}
