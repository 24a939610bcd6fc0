//! Order for short lists in code that seldom runs. What `collect` makes of a map, and every
//! `sort`, is a whole sort of its own in the binary for each type; here items are inserted one
//! by one. Pure. Deliberately absent: speed for long lists in `sort_by_key`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

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
pub fn sort_by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    for end in 1..items.len() {
        let mut at = end;
        while at > 0 && key(&items[at - 1]) > key(&items[at]) {
            items.swap(at - 1, at);
            at -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{map, sort_by_key};

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
}
