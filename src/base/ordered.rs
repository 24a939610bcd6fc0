//! Order with one sort for all types. What `collect` makes of a map, and every `sort` of a slice,
//! is a whole sort of its own in the binary for each type: maps are filled one by one here, and
//! few items are inserted where they belong; of many the places are sorted. Pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// As many are in order sooner than places for them are written down.
const FEW: usize = 16;

/// Of two pairs with one key the last counts.
pub fn map<K: Ord, V>(pairs: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        map.insert(key, value);
    }
    map
}

pub fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    for item in items {
        set.insert(item);
    }
    set
}

/// Equals stay in their order.
pub fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, T::cmp);
}

/// Equals stay in their order.
pub fn sort_by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    sort_by(items, |one, other| key(one).cmp(&key(other)));
}

/// Equals stay in their order.
pub fn sort_by<T>(items: &mut [T], compare: impl Fn(&T, &T) -> Ordering) {
    if items.len() > FEW {
        let swaps = swaps(items.len(), &|one, other| {
            compare(&items[one], &items[other])
        });
        for (one, other) in swaps {
            items.swap(one, other);
        }
        return;
    }
    for end in 1..items.len() {
        let mut at = end;
        while at > 0 && compare(&items[at - 1], &items[at]).is_gt() {
            items.swap(at - 1, at);
            at -= 1;
        }
    }
}

/// What brings items into order, one after the other.
fn swaps(len: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..len).collect();
    order.sort_by(|one, other| compare(*one, *other));
    let mut swaps = Vec::new();
    for start in 0..len {
        // Round the circle of those that stand in each other's place, until it is closed.
        let mut at = start;
        loop {
            let from = std::mem::replace(&mut order[at], at);
            if from == start {
                break;
            }
            swaps.push((at, from));
            at = from;
        }
    }
    swaps
}

#[cfg(test)]
mod tests {
    use super::{map, sort, sort_by_key};

    #[test]
    fn equals_stay_in_their_order() {
        let mut pairs = [(3, 'a'), (1, 'b'), (3, 'c'), (1, 'd'), (0, 'e'), (2, 'f')];
        sort_by_key(&mut pairs, |(number, _)| *number);
        assert_eq!(
            pairs.map(|(_, letter)| letter),
            ['e', 'b', 'd', 'f', 'a', 'c']
        );
        let last = map(pairs).into_values().collect::<String>();
        assert_eq!(last, "edfc");
    }

    #[test]
    fn sorts_as_the_standard_library_does() {
        let mut seed = 1_u64;
        for len in 0..200 {
            let numbers = std::iter::repeat_with(|| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 33) % (len + 1)
            });
            let items: Vec<(u64, u64)> = numbers.zip(0..len).collect();
            let (mut by_key, mut whole, mut expect) = (items.clone(), items.clone(), items);
            expect.sort_by_key(|(key, _)| *key);
            sort_by_key(&mut by_key, |(key, _)| *key);
            assert_eq!(by_key, expect);
            sort(&mut whole);
            assert_eq!(whole, expect);
        }
    }
}
