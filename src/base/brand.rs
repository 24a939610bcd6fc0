//! The brand: a mark that everything a server starts inherits and does not lose by leaving its
//! group and session, closing its files, changing its environment, or losing its parents.
//!
//! It is the hard limit of time under realtime scheduling, set to some number of centuries:
//! that binds nobody, nobody else uses it, only a privileged process could raise it again, and
//! `/proc` shows it of every process. The number tells the gateway, and the group of the leader.
//! Chosen once, before the watcher is forked. Deliberately absent: a brand where the system
//! refuses one, or for a gateway deep below others; then only family and pipes tell.

use std::fs;
use std::sync::OnceLock;

use rustix::process::Resource;
use rustix::process::Rlimit;

use crate::base::limits;
use crate::base::sys;

/// The brand of group 0, which nobody bears; those of real groups are below it.
static TOP: OnceLock<u64> = OnceLock::new();

/// The numbers of one gateway: more than there can be process ids.
const SPAN: u64 = 1 << 23;
/// Gateways that can be told apart.
const SPANS: u64 = 1 << 36;

/// Only for a process that has no second thread yet.
pub(crate) fn choose() {
    let most = rustix::process::getrlimit(Resource::Rttime).maximum;
    let mut random = [0; 8];
    sys::random_bytes(&mut random);
    let number = u64::from_le_bytes(random);
    if let Some(top) = top_below(most, number) {
        let _ = TOP.set(top);
    }
}

/// Below whatever this process bears itself: without privileges a limit can only be lowered.
fn top_below(most: Option<u64>, number: u64) -> Option<u64> {
    let most = most.map_or(limits::BRAND_MOST_US, |most| {
        most.min(limits::BRAND_MOST_US)
    });
    let top = most.checked_sub((1 + number % SPANS) * SPAN)?;
    (top > limits::BRAND_LEAST_US).then_some(top)
}

/// What the leader of a group bears, and everybody after it.
pub fn of_group(pgid: i32) -> Option<u64> {
    Some(TOP.get()? - u64::from(pgid.unsigned_abs()) % SPAN)
}

/// For the child itself, between fork and exec: makes one system call.
pub(crate) fn bear(brand: u64) {
    let limit = Rlimit {
        current: Some(brand),
        maximum: Some(brand),
    };
    let _ = rustix::process::setrlimit(Resource::Rttime, limit);
}

/// Whether a process bears this brand.
pub fn bears(pid: i32, brand: u64) -> bool {
    read(pid) == Some(brand)
}

/// Whether a process was started by a server of this gateway.
pub(crate) fn is_ours(pid: i32) -> bool {
    let Some(top) = TOP.get() else { return false };
    read(pid).is_some_and(|brand| (top - SPAN..*top).contains(&brand))
}

fn read(pid: i32) -> Option<u64> {
    parse(&fs::read_to_string(format!("/proc/{pid}/limits")).ok()?)
}

/// The columns: name, soft limit, hard limit, unit.
fn parse(table: &str) -> Option<u64> {
    let row = |line: &str| line.strip_prefix("Max realtime timeout").map(str::to_owned);
    let columns = table.lines().find_map(row)?;
    columns.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{SPAN, SPANS, parse, top_below};
    use crate::base::limits;

    #[test]
    fn reads_the_hard_limit() {
        let row = "Max realtime timeout      7                    4711                 us \n";
        let table =
            format!("Limit   Soft Limit   Hard Limit  Units\nMax cpu time 1 2 seconds\n{row}");
        assert_eq!(parse(&table), Some(4711));
        assert_eq!(parse(&table.replace("4711", "unlimited")), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_gateway_below_another_takes_lower_numbers_until_there_are_none() {
        let outer = top_below(None, 3).unwrap();
        assert_eq!(outer, limits::BRAND_MOST_US - 4 * SPAN);
        let leader = outer - 4711;
        let inner = top_below(Some(leader), 0).unwrap();
        assert!(
            inner <= outer - SPAN,
            "the outer would take the inner's for its own"
        );
        assert!(top_below(None, SPANS - 1).is_some());
        assert_eq!(top_below(Some(1_000_000), 0), None);
        assert_eq!(top_below(Some(limits::BRAND_LEAST_US + SPAN), 0), None);
    }
}
