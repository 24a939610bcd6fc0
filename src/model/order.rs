//! The order of one server's list, remembered so that a page cursor keeps its place while
//! entries come and go.
//!
//! A snapshot without an owner: `merge` makes the next one. An entry that vanished leaves a
//! tombstone where it stood; if it comes back there, it takes its old place again. Every place
//! has a number of its own, and cursors hold that number: the name alone would not do, because
//! an entry may vanish and come back somewhere else. Between two pages an entry that stays is
//! neither repeated nor skipped. Deliberately absent: that promise for entries which the server
//! itself moves past each other; its new order is shown as it is.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ring::digest;

use crate::base::{limits, ordered};
use crate::wire::hex;

/// Names are unique within one list: the catalogue has dropped repetitions.
#[derive(Clone, Debug, Default)]
pub struct ListOrder {
    slots: Vec<Slot>,
    live: usize,
    next_place: u64,
    merges: u64,
}

#[derive(Clone, Debug)]
struct Slot {
    name: Arc<str>,
    place: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Live {
        index: usize,
    },
    /// In which merge: the oldest are forgotten first.
    Vanished {
        merge: u64,
    },
}

/// The last entry of a page, as a cursor remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The native name or URI; a digest of it when it is very long.
    pub name: String,
    pub place: u64,
    /// Among the live entries of that time: the last resort when all else is forgotten.
    pub index: u64,
}

impl ListOrder {
    /// The next snapshot. Its live entries are exactly `new`; every entry that is not among
    /// them any more becomes a tombstone behind the predecessor it had.
    pub fn merge(&self, new: &[String]) -> ListOrder {
        let kept = self.kept(new);
        let mut kept_in_order = kept.iter().flatten().copied();
        let mut next = ListOrder {
            slots: Vec::with_capacity(self.slots.len().max(new.len())),
            live: new.len(),
            next_place: self.next_place,
            merges: self.merges + 1,
        };
        let first_kept = kept_in_order.next().unwrap_or(self.slots.len());
        next.bury(&self.slots[..first_kept]);
        for (index, name) in new.iter().enumerate() {
            let state = State::Live { index };
            let Some(at) = kept[index] else {
                next.slots.push(Slot {
                    name: name.as_str().into(),
                    place: next.next_place,
                    state,
                });
                next.next_place += 1;
                continue;
            };
            next.slots.push(Slot {
                state,
                ..self.slots[at].clone()
            });
            // What is new here comes behind the tombstones: they stay next to their predecessor.
            let next_kept = kept_in_order.next().unwrap_or(self.slots.len());
            next.bury(&self.slots[at + 1..next_kept]);
        }
        next.forget_oldest();
        next
    }

    /// What a cursor has to remember of the live entry at `index`.
    pub fn mark(&self, index: usize) -> Option<Mark> {
        let slot = self
            .slots
            .iter()
            .find(|slot| slot.state == State::Live { index })?;
        let name = name_in_mark(&slot.name).into_owned();
        Some(Mark {
            name,
            place: slot.place,
            index: index as u64,
        })
    }

    /// The index of the first live entry after the marked one; the number of live entries when
    /// it was the last.
    pub fn resume(&self, mark: &Mark) -> usize {
        // After a restart a number may belong to another entry, so the name has to agree.
        let same_place = self
            .slots
            .iter()
            .position(|slot| slot.place == mark.place && name_in_mark(&slot.name) == mark.name);
        match same_place {
            Some(at) => self.first_live_after(at),
            // Of an entry that nobody knows any more, what stood behind it has moved up.
            None => self
                .next_after(&mark.name)
                .unwrap_or(self.live.min(clamped(mark.index))),
        }
    }

    /// Like `resume` by the name alone, as it stands in a mark; nothing if it is unknown.
    pub fn next_after(&self, name: &str) -> Option<usize> {
        let named = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, s)| name_in_mark(&s.name) == name);
        let (at, _) = named.max_by_key(|(_, slot)| match slot.state {
            State::Live { .. } => (true, 0),
            State::Vanished { merge } => (false, merge),
        })?;
        Some(self.first_live_after(at))
    }

    /// Live entries.
    pub fn len(&self) -> usize {
        self.live
    }

    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    fn first_live_after(&self, at: usize) -> usize {
        let live = self.slots[at + 1..]
            .iter()
            .find_map(|slot| match slot.state {
                State::Live { index } => Some(index),
                State::Vanished { .. } => None,
            });
        live.unwrap_or(self.live)
    }

    fn bury(&mut self, slots: &[Slot]) {
        let merge = self.merges;
        self.slots.extend(slots.iter().map(|slot| Slot {
            state: match slot.state {
                State::Live { .. } => State::Vanished { merge },
                vanished => vanished,
            },
            ..slot.clone()
        }));
    }

    fn forget_oldest(&mut self) {
        let mut tombstones: Vec<(u64, u64)> = self
            .slots
            .iter()
            .filter_map(|slot| match slot.state {
                State::Live { .. } => None,
                State::Vanished { merge } => Some((merge, slot.place)),
            })
            .collect();
        let Some(surplus @ 1..) = tombstones.len().checked_sub(limits::TOMBSTONES) else {
            return;
        };
        ordered::sort(&mut tombstones);
        let oldest: HashSet<u64> = tombstones[..surplus]
            .iter()
            .map(|(_, place)| *place)
            .collect();
        self.slots.retain(|slot| !oldest.contains(&slot.place));
    }

    /// For each new entry the slot whose place it keeps, in ascending order of slots.
    /// Entries that were live come first: only what they leave free goes to returning ones.
    fn kept(&self, new: &[String]) -> Vec<Option<usize>> {
        let mut live: HashMap<&str, usize> = HashMap::new();
        let mut vanished: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, slot) in self.slots.iter().enumerate() {
            match slot.state {
                State::Live { .. } => drop(live.insert(&slot.name, at)),
                State::Vanished { .. } => vanished.entry(&slot.name).or_default().push(at),
            }
        }
        let survivors: Vec<Option<usize>> =
            new.iter().map(|name| live.remove(name.as_str())).collect();
        let mut kept = longest_rising(&survivors);
        let mut ceilings = vec![self.slots.len(); new.len()];
        for index in (1..new.len()).rev() {
            ceilings[index - 1] = kept[index].unwrap_or(ceilings[index]);
        }
        // One past the last slot that is taken.
        let mut floor = 0;
        for index in 0..new.len() {
            if kept[index].is_none() && survivors[index].is_none() {
                let places = vanished
                    .get(new[index].as_str())
                    .map_or(&[][..], Vec::as_slice);
                let free = floor..ceilings[index];
                kept[index] = places.iter().copied().find(|at| free.contains(at));
            }
            floor = kept[index].map_or(floor, |at| at + 1);
        }
        kept
    }
}

/// The same values with as few as possible blanked out, so that the rest only rises.
fn longest_rising(values: &[Option<usize>]) -> Vec<Option<usize>> {
    // `tails[n]`: where the rising row of length n + 1 with the lowest end has that end.
    let mut tails: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = vec![None; values.len()];
    for (index, value) in values.iter().enumerate() {
        if value.is_some() {
            let length = tails.partition_point(|&tail| values[tail] < *value);
            before[index] = length.checked_sub(1).map(|shorter| tails[shorter]);
            match tails.get_mut(length) {
                Some(tail) => *tail = index,
                None => tails.push(index),
            }
        }
    }
    let mut rising = vec![None; values.len()];
    let mut at = tails.last().copied();
    while let Some(index) = at {
        rising[index] = values[index];
        at = before[index];
    }
    rising
}

/// A URI may be long, a cursor may not.
fn name_in_mark(name: &str) -> Cow<'_, str> {
    if name.len() <= limits::CURSOR_NAME_BYTES {
        return Cow::Borrowed(name);
    }
    let bytes = digest::digest(&digest::SHA256, name.as_bytes());
    Cow::Owned(format!("sha256:{}", hex::encode(bytes.as_ref())))
}

fn clamped(index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str) -> Vec<String> {
        list.split_whitespace().map(str::to_owned).collect()
    }

    /// All slots, tombstones in brackets.
    fn shown(order: &ListOrder) -> String {
        let slots = order.slots.iter().map(|slot| match slot.state {
            State::Live { .. } => slot.name.to_string(),
            State::Vanished { .. } => format!("[{}]", slot.name),
        });
        slots.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn tombstones_stay_behind_their_predecessor() {
        let cases: [(&[&str], &str); 9] = [
            (&["a b c"], "a b c"),
            (&["a b c", "a c"], "a [b] c"),
            (&["a b c", "b c"], "[a] b c"),
            (&["a b c", ""], "[a] [b] [c]"),
            (&["a b c", "a x c"], "a [b] x c"),
            (&["a b c", "a c", "a b c"], "a b c"),
            (&["a b c", "", "a b c"], "a b c"),
            (&["a b c", "a c", "a c b"], "a [b] c b"),
            (&["a b c d", "a d", "b a d c"], "b a [b] [c] d c"),
        ];
        for (merges, expect) in cases {
            let order = merges
                .iter()
                .fold(ListOrder::default(), |o, list| o.merge(&names(list)));
            assert_eq!(shown(&order), expect, "{merges:?}");
        }
    }

    #[test]
    fn resumes_where_the_page_ended() {
        // Lists before and after the mark, the marked index, the expected rest.
        let cases = [
            ("a b c d", 1, "a b c d", "c d"),
            ("a b c d", 1, "a c d", "c d"),
            ("a b c d", 1, "b c d", "c d"),
            ("a b c d", 1, "a c d b", "c d b"),
            ("a b c d", 1, "x a y c z d", "y c z d"),
            ("a b c d", 3, "a b c", ""),
            ("a b c d", 3, "a b c e", "e"),
            ("a b c d", 0, "", ""),
        ];
        for (before, index, after, rest) in cases {
            let order = ListOrder::default().merge(&names(before));
            let mark = order.mark(index).unwrap();
            let order = order.merge(&names(after));
            let found = names(after)[order.resume(&mark)..].join(" ");
            assert_eq!(found, rest, "{before} at {index}, then {after}");
        }
    }

    #[test]
    fn without_memory_the_name_decides_and_then_the_index() {
        let mark = ListOrder::default()
            .merge(&names("a b c d"))
            .mark(2)
            .unwrap();
        let restarted = |list: &str| ListOrder::default().merge(&names(list));
        assert_eq!(restarted("c x y").resume(&mark), 1);
        assert_eq!(restarted("x y z").resume(&mark), 2);
        assert_eq!(restarted("x").resume(&mark), 1);
        assert_eq!(restarted("x y").next_after("y"), Some(2));
        assert_eq!(restarted("x y").next_after("z"), None);
        assert_eq!(restarted("x").mark(1), None);
    }

    #[test]
    fn long_names_are_marked_by_digest() {
        let long: Vec<String> = (0..3)
            .map(|n| format!("{}{n}", "u".repeat(limits::CURSOR_NAME_BYTES)))
            .collect();
        let order = ListOrder::default().merge(&long);
        let mark = order.mark(1).unwrap();
        assert_eq!(mark.name.len(), 7 + 64);
        assert_eq!(order.resume(&mark), 2);
        assert_eq!(order.merge(&long[2..]).resume(&mark), 0);
        assert_eq!(ListOrder::default().merge(&long[1..]).resume(&mark), 1);
    }

    #[test]
    fn tombstones_are_bounded_and_the_oldest_go_first() {
        let many =
            |from: usize, to: usize| -> Vec<String> { (from..to).map(|n| n.to_string()).collect() };
        let limit = limits::TOMBSTONES;
        let order = ListOrder::default()
            .merge(&many(0, limit + 20))
            .merge(&many(10, limit + 20));
        let order = order.merge(&many(limit + 19, limit + 20));
        assert_eq!(order.slots.len(), limit + 1);
        assert_eq!(order.next_after("0"), None);
        assert_eq!(order.next_after("9"), None);
        assert_eq!(order.next_after(&(limit + 18).to_string()), Some(0));
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.0 >> 33) as usize % bound
        }
    }

    /// Removes and adds at random places; now and then an entry that was there before, but not
    /// just now: that would be a move.
    fn change(list: &mut Vec<String>, fresh: &mut usize, random: &mut Random) {
        let before = list.clone();
        for _ in 0..random.below(6) {
            if !list.is_empty() && random.below(2) == 0 {
                list.remove(random.below(list.len()));
                continue;
            }
            let number = if random.below(3) == 0 {
                random.below(*fresh)
            } else {
                *fresh
            };
            *fresh += 1;
            let name = format!("n{number}");
            if !list.contains(&name) && !before.contains(&name) {
                list.insert(random.below(list.len() + 1), name);
            }
        }
    }

    /// Pages through a changing list. An entry that was there all the time is shown exactly
    /// once; no entry is shown twice unless it vanished and came back in between.
    #[test]
    fn paging_neither_repeats_nor_skips() {
        for seed in 0..10_000_u64 {
            let mut random = Random(seed);
            let mut list: Vec<String> = (0..random.below(20)).map(|n| format!("n{n}")).collect();
            let mut fresh = 20;
            let mut order = ListOrder::default();
            for _ in 0..random.below(4) {
                order = order.merge(&list);
                change(&mut list, &mut fresh, &mut random);
            }
            order = order.merge(&list);
            let mut always: HashSet<String> = list.iter().cloned().collect();
            let mut shown: Vec<String> = Vec::new();
            let mut since_shown: HashSet<String> = HashSet::new();
            let mut mark = None;
            loop {
                let start = mark.as_ref().map_or(0, |mark| order.resume(mark));
                let page = 1 + random.below(4);
                let end = list.len().min(start + page);
                for name in &list[start..end] {
                    let repeated = since_shown.contains(name);
                    assert!(!repeated, "seed {seed}: {name} twice, {shown:?} {list:?}");
                    since_shown.insert(name.clone());
                    shown.push(name.clone());
                }
                if end >= list.len() {
                    break;
                }
                mark = order.mark(end - 1);
                for _ in 0..random.below(3) {
                    change(&mut list, &mut fresh, &mut random);
                    order = order.merge(&list);
                    always.retain(|name| list.contains(name));
                    since_shown.retain(|name| list.contains(name));
                }
            }
            for name in &always {
                let count = shown.iter().filter(|shown| *shown == name).count();
                assert_eq!(count, 1, "seed {seed}: {name}, {shown:?} {list:?}");
            }
            let live: Vec<&str> = order
                .slots
                .iter()
                .filter(|slot| matches!(slot.state, State::Live { .. }))
                .map(|slot| &*slot.name)
                .collect();
            assert_eq!(live, list, "seed {seed}");
        }
    }
}
