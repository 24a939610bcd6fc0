//! Which lists of one process are to be read again and when, and what is wrong with those that
//! were read. Plain data of the owner thread; it reads no clock and no list itself.

use std::time::{Duration, Instant};

use crate::base::limits;
use crate::mcp::list::ListKind;

#[derive(Debug)]
pub struct Agenda {
    /// Between two readings of one list, however often it changes.
    window: Duration,
    lists: [Entry; 4],
}

#[derive(Debug, Default)]
struct Entry {
    due: Option<Instant>,
    last_read: Option<Instant>,
    /// In a row.
    failures: u32,
    flaw: Option<String>,
    bytes: usize,
}

impl Agenda {
    pub fn new(window: Duration) -> Agenda {
        Agenda {
            window,
            lists: Default::default(),
        }
    }

    /// Between two readings, from now on.
    pub fn set_window(&mut self, window: Duration) {
        self.window = window;
    }

    /// The server said that a list changed.
    pub fn changed(&mut self, kind: ListKind, now: Instant) {
        let entry = &mut self.lists[kind as usize];
        let pause = match entry.failures {
            0 => self.window,
            _ => limits::RELIST_FIRST,
        };
        let at = entry.last_read.map_or(now, |read| now.max(read + pause));
        entry.due = Some(entry.due.map_or(at, |due| due.min(at)));
    }

    /// A list was read. `flaw` says what had to be left out.
    pub fn read(&mut self, kind: ListKind, bytes: usize, flaw: Option<String>, now: Instant) {
        self.lists[kind as usize] = Entry {
            due: None,
            last_read: Some(now),
            failures: 0,
            flaw,
            bytes,
        };
    }

    /// A list that was read is to be read again although nothing announces that.
    pub fn expires(&mut self, kind: ListKind, at: Instant) {
        let entry = &mut self.lists[kind as usize];
        entry.due = Some(entry.due.map_or(at, |due| due.min(at)));
    }

    /// A list could not be read. Gives the time until the next try, and whether this failure is
    /// worth a log line.
    pub fn failed(&mut self, kind: ListKind, why: String, now: Instant) -> (Duration, bool) {
        let entry = &mut self.lists[kind as usize];
        let doublings = entry.failures.min(16);
        let delay = (limits::RELIST_FIRST * (1 << doublings)).min(limits::RELIST_CEILING);
        entry.failures += 1;
        entry.last_read = Some(now);
        entry.due = Some(now + delay);
        entry.flaw = Some(why);
        (
            delay,
            entry.failures < 5 || entry.failures.is_power_of_two(),
        )
    }

    /// Whether at least one list is as the server has it.
    pub fn is_any_read(&self) -> bool {
        let is_read = |entry: &Entry| entry.last_read.is_some() && entry.failures == 0;
        self.lists.iter().any(is_read)
    }

    pub fn due(&self, now: Instant) -> Option<ListKind> {
        let is_due = |kind: &ListKind| self.lists[*kind as usize].due.is_some_and(|at| at <= now);
        // The longest overdue first, so that one busy list keeps no other waiting.
        let kinds = ListKind::ALL.into_iter().filter(is_due);
        kinds.min_by_key(|kind| self.lists[*kind as usize].due)
    }

    pub fn next(&self) -> Option<Instant> {
        self.lists.iter().filter_map(|entry| entry.due).min()
    }

    /// Bytes that this list may have beside the others.
    pub fn room(&self, kind: ListKind) -> usize {
        let others = ListKind::ALL.into_iter().filter(|other| *other != kind);
        let taken: usize = others.map(|other| self.lists[other as usize].bytes).sum();
        limits::LISTING_BYTES_PER_SERVER.saturating_sub(taken)
    }

    /// What is wrong with the lists, for health.
    pub fn note(&self) -> Option<String> {
        let flaw = |kind: ListKind| {
            let flaw = self.lists[kind as usize].flaw.as_ref()?;
            Some(format!("{} {flaw}", kind.method()))
        };
        let flaws: Vec<String> = ListKind::ALL.into_iter().filter_map(flaw).collect();
        (!flaws.is_empty()).then(|| format!("incomplete: {}", flaws.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::Agenda;
    use crate::base::limits;
    use crate::mcp::list::ListKind::{Prompts, Tools};
    use std::time::{Duration, Instant};

    const WINDOW: Duration = Duration::from_secs(1);

    /// Ten seconds of ten thousand changes each.
    #[test]
    fn a_flood_costs_one_reading_per_window() {
        let (mut agenda, start) = (Agenda::new(WINDOW), Instant::now());
        let mut readings = 0;
        for change in 0..100_000 {
            let now = start + Duration::from_micros(100) * change;
            agenda.changed(Tools, now);
            if agenda.due(now) == Some(Tools) {
                agenda.read(Tools, 10, None, now);
                readings += 1;
            }
        }
        assert_eq!(readings, 10);
        // The last change is not lost.
        assert!(agenda.next().is_some());
    }

    #[test]
    fn reads_a_chatty_list_once_in_a_window() {
        let (mut agenda, now) = (Agenda::new(WINDOW), Instant::now());
        agenda.changed(Tools, now);
        assert_eq!(agenda.due(now), Some(Tools));
        agenda.read(Tools, 10, None, now);
        assert_eq!((agenda.due(now), agenda.next()), (None, None));
        agenda.changed(Tools, now);
        agenda.changed(Tools, now);
        assert_eq!(agenda.due(now), None);
        assert_eq!(agenda.next(), Some(now + WINDOW));
    }

    #[test]
    fn tries_a_failed_list_again_ever_later_and_says_so() {
        let (mut agenda, now) = (Agenda::new(WINDOW), Instant::now());
        agenda.read(Prompts, 10, None, now);
        assert_eq!(agenda.note(), None);
        let mut last = std::time::Duration::ZERO;
        for _ in 0..40 {
            let (delay, _) = agenda.failed(Tools, "was refused".to_owned(), now);
            assert!(delay >= last && delay <= limits::RELIST_CEILING);
            assert_eq!(agenda.due(now + delay), Some(Tools));
            last = delay;
        }
        assert_eq!(last, limits::RELIST_CEILING);
        let note = agenda.note().expect("a note");
        assert_eq!(note, "incomplete: tools/list was refused");
        // News are a reason to look sooner, but not at once.
        agenda.changed(Tools, now);
        assert_eq!(agenda.next(), Some(now + limits::RELIST_FIRST));
        agenda.read(Tools, 10, None, now);
        assert_eq!((agenda.note(), agenda.next()), (None, None));
    }

    #[test]
    fn reads_a_list_again_when_it_expires() {
        let (mut agenda, now) = (Agenda::new(WINDOW), Instant::now());
        agenda.read(Tools, 10, None, now);
        agenda.expires(Tools, now + limits::RELIST_STALE_MIN);
        assert_eq!(agenda.due(now), None);
        assert_eq!(agenda.due(now + limits::RELIST_STALE_MIN), Some(Tools));
        agenda.read(Tools, 10, None, now);
        assert_eq!(agenda.next(), None);
    }

    #[test]
    fn the_lists_of_a_server_share_their_room() {
        let (mut agenda, now) = (Agenda::new(WINDOW), Instant::now());
        agenda.read(Tools, 1000, None, now);
        assert_eq!(agenda.room(Tools), limits::LISTING_BYTES_PER_SERVER);
        assert_eq!(
            agenda.room(Prompts),
            limits::LISTING_BYTES_PER_SERVER - 1000
        );
    }
}
