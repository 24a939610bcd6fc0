//! How the time of an end is shared out, and in what order servers stop. Pure: moments and names
//! are passed in.

use std::time::{Duration, Instant};

use crate::base::limits;

/// The parts of `--shutdown-timeout`, as moments.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Calls in flight have time until then.
    pub calls: Instant,
    /// Children are killed by then.
    pub children: Instant,
    pub end: Instant,
}

impl Times {
    /// The children have the last five seconds, or half of a small budget.
    pub fn new(begin: Instant, budget: Duration) -> Times {
        let budget = budget.max(limits::END_LEAST);
        let children = limits::END_CHILDREN.min(budget / 2);
        let rest = limits::END_REST.min(children / 2);
        Times {
            calls: begin + budget.saturating_sub(children),
            children: begin + budget.saturating_sub(rest),
            end: begin + budget,
        }
    }
}

impl Times {
    /// How far apart so many streams are ended.
    pub fn stream_gap(&self, streams: usize, now: Instant) -> Duration {
        let most = limits::END_SPREAD.min(self.calls.saturating_duration_since(now) / 4);
        let count = u32::try_from(streams).unwrap_or(u32::MAX).max(1);
        limits::END_STREAM_GAP.min(most / count)
    }
}

/// The time of one of so many stages that are left.
pub fn stage_share(left: usize, deadline: Instant, now: Instant) -> Duration {
    let left = u32::try_from(left).unwrap_or(u32::MAX).max(1);
    deadline.saturating_duration_since(now) / left
}

/// Places in the list, by when they stop. Names that are not in it count as gone.
pub fn stages(servers: &[(&str, &[String])]) -> Vec<Vec<usize>> {
    let mut left: Vec<usize> = (0..servers.len()).collect();
    let mut stages = Vec::new();
    while !left.is_empty() {
        let is_needed = |at: &usize| {
            let name = servers[*at].0;
            let needs = |other: &usize| servers[*other].1.iter().any(|one| one == name);
            left.iter().any(|other| other != at && needs(other))
        };
        let (later, now): (Vec<usize>, Vec<usize>) = left.iter().partition(|at| is_needed(at));
        if now.is_empty() {
            // A circle: the configuration refuses those.
            stages.push(later);
            break;
        }
        stages.push(now);
        left = later;
    }
    stages
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Times, stages};

    #[test]
    fn children_have_the_last_seconds() {
        let begin = Instant::now();
        let parts = |milliseconds: u64| {
            let times = Times::new(begin, Duration::from_millis(milliseconds));
            [times.calls, times.children, times.end].map(|at| (at - begin).as_millis())
        };
        assert_eq!(parts(25_000), [20_000, 23_750, 25_000]);
        assert_eq!(parts(10_000), [5_000, 8_750, 10_000]);
        assert_eq!(parts(4_000), [2_000, 3_000, 4_000]);
        assert_eq!(parts(1_000), [500, 750, 1_000]);
        assert_eq!(parts(0), parts(1_000));
    }

    #[test]
    fn who_depends_on_others_stops_first() {
        let names =
            |list: &[&str]| -> Vec<String> { list.iter().map(|name| (*name).to_owned()).collect() };
        let check = |servers: &[(&str, &[&str])], expected: &[&[usize]]| {
            let owned: Vec<Vec<String>> = servers.iter().map(|(_, on)| names(on)).collect();
            let asked: Vec<(&str, &[String])> = servers
                .iter()
                .zip(&owned)
                .map(|((name, _), on)| (*name, on.as_slice()))
                .collect();
            assert_eq!(stages(&asked), expected, "{servers:?}");
        };
        check(&[], &[]);
        check(&[("a", &[]), ("b", &[])], &[&[0, 1]]);
        check(&[("db", &[]), ("api", &["db"])], &[&[1], &[0]]);
        check(
            &[
                ("db", &[]),
                ("api", &["db", "gone"]),
                ("web", &["api", "db"]),
                ("x", &[]),
            ],
            &[&[2, 3], &[1], &[0]],
        );
        check(
            &[("a", &["b"]), ("b", &["a"]), ("c", &[])],
            &[&[2], &[0, 1]],
        );
    }
}
