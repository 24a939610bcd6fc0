//! Whether a child that says nothing is still there. Plain data of the owner thread, which
//! looks about once a second; it reads no clock and sends nothing itself.
//!
//! Whatever the child says shows that it lives. One that is silent for a while, or that let a
//! call run out of time, is asked something small. One that does not answer that, twice, and has
//! no older call to work on, is taken for dead: stopped, or stuck for good. One that works all
//! the same, at whatever, is left to it for some minutes.

use std::time::{Duration, Instant};

use crate::base::limits;
use crate::upstream::call::CallId;

/// What it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// `ping`, or `server/discover` of a stateless server.
    Ping,
    /// One of the lists that it gave at its start: there are servers that ignore a ping.
    List,
}

/// What the owner sees at its link.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Lines so far.
    pub lines: u64,
    /// The oldest call of a client that it has not answered.
    pub oldest_call: Option<CallId>,
    /// How much it has worked so far; only of one in doubt.
    pub ticks: u64,
    /// A call ran out of time since the last look.
    pub timed_out: bool,
    /// The last question was answered.
    pub answered: bool,
}

/// What the owner does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Nothing,
    Ask(Question),
    /// It did not answer: it is shown so, and asked once more.
    Doubt,
    /// It says something again.
    Well,
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ping {
    Unknown,
    Answered,
    /// It has a list, and a ping got no answer in half of its time.
    Ignored,
}

#[derive(Debug)]
pub struct Liveness {
    /// How long it may take for an answer.
    answer: Duration,
    ping: Ping,
    /// Whether it has a list that could be asked for.
    has_list: bool,
    lines: u64,
    heard: Instant,
    /// And by when it should have answered.
    asked: Option<(Question, Instant)>,
    /// Questions in a row without an answer.
    unanswered: u32,
    /// Since when there are such, and how much it had worked when it was asked last.
    doubted: Instant,
    ticks: u64,
    /// Calls before this one were made before the first of them.
    border: CallId,
    must_ask: bool,
}

impl Liveness {
    /// `request_timeout`: of its entry; what answers calls soon answers this soon.
    pub fn new(request_timeout: Duration, now: Instant) -> Liveness {
        let (least, most) = (limits::LIVENESS_ANSWER_LEAST, limits::LIVENESS_ANSWER);
        Liveness {
            answer: request_timeout.clamp(least, most),
            ping: Ping::Unknown,
            has_list: false,
            lines: 0,
            heard: now,
            asked: None,
            unanswered: 0,
            doubted: now,
            ticks: 0,
            border: 0,
            must_ask: false,
        }
    }

    /// It was greeted. `is_stateless`: it has answered the very question already.
    pub fn greeted(&mut self, is_stateless: bool, has_list: bool) {
        self.has_list = has_list;
        if is_stateless {
            self.ping = Ping::Answered;
        }
    }

    pub fn answer(&self) -> Duration {
        self.answer
    }

    pub fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    pub fn is_doubtful(&self) -> bool {
        self.unanswered > 0
    }

    /// A request of the owner got no answer.
    pub fn doubt(&mut self) {
        self.must_ask = true;
    }

    /// `next_call`: every call made from now on has this number or a higher one.
    pub fn look(&mut self, seen: Seen, next_call: CallId, now: Instant) -> Step {
        self.must_ask |= seen.timed_out;
        if seen.answered && matches!(self.asked, Some((Question::Ping, _))) {
            self.ping = Ping::Answered;
        }
        if seen.lines != self.lines {
            self.lines = seen.lines;
            self.heard = now;
            self.asked = None;
            return match std::mem::take(&mut self.unanswered) {
                0 => Step::Nothing,
                _ => Step::Well,
            };
        }
        match self.asked {
            Some((Question::Ping, until))
                if self.ping == Ping::Unknown
                    && self.has_list
                    && now + self.answer / 2 >= until =>
            {
                // Perhaps it ignores pings. Its lists it has given: the other half is for one.
                self.ping = Ping::Ignored;
                self.ask(Question::List, self.answer / 2, now)
            }
            Some((_, until)) if now < until => Step::Nothing,
            Some(_) => self.ran_out(seen, now),
            None => self.ask_if_due(seen, next_call, now),
        }
    }

    fn ran_out(&mut self, seen: Seen, now: Instant) -> Step {
        self.asked = None;
        self.unanswered = self.unanswered.saturating_add(1);
        if self.unanswered == 1 {
            self.doubted = now;
            return Step::Doubt;
        }
        let has_call = seen.oldest_call.is_some_and(|call| call < self.border);
        let is_busy = seen.ticks >= self.ticks + limits::LIVENESS_WORK_TICKS;
        let is_patient = now < self.doubted + limits::LIVENESS_WORK;
        // Without a list and without an answer ever it may just ignore pings: that is shown, but
        // to end it time and again would help nobody.
        let is_proven = self.ping != Ping::Unknown;
        match has_call || is_busy && is_patient || !is_proven {
            true => Step::Nothing,
            false => Step::Dead,
        }
    }

    fn ask_if_due(&mut self, seen: Seen, next_call: CallId, now: Instant) -> Step {
        let is_quiet = now.saturating_duration_since(self.heard) >= limits::LIVENESS_QUIET;
        // One that does one thing at a time cannot answer while it works.
        let is_idle = seen.oldest_call.is_none();
        if !(self.must_ask || self.unanswered > 0 || is_quiet && is_idle) {
            return Step::Nothing;
        }
        self.must_ask = false;
        let question = match self.ping {
            Ping::Unknown | Ping::Answered => Question::Ping,
            Ping::Ignored => Question::List,
        };
        if self.unanswered == 0 {
            self.border = next_call;
        }
        self.ticks = seen.ticks;
        self.ask(question, self.answer, now)
    }

    fn ask(&mut self, question: Question, patience: Duration, now: Instant) -> Step {
        self.asked = Some((question, now + patience));
        Step::Ask(question)
    }
}

#[cfg(test)]
mod tests {
    use super::{Liveness, Question, Seen, Step};
    use crate::base::limits;
    use std::time::{Duration, Instant};

    const QUIET: u64 = limits::LIVENESS_QUIET.as_secs();
    const ANSWER: u64 = limits::LIVENESS_ANSWER.as_secs();

    /// Seconds since the look before, what is seen, and what follows.
    type Look = (u64, Seen, Step);

    fn seen(lines: u64) -> Seen {
        Seen {
            lines,
            ..Seen::default()
        }
    }

    fn answered(lines: u64) -> Seen {
        Seen {
            answered: true,
            ..seen(lines)
        }
    }

    fn with_call(call: u64) -> Seen {
        Seen {
            oldest_call: Some(call),
            ..seen(0)
        }
    }

    fn timed_out() -> Seen {
        Seen {
            timed_out: true,
            ..with_call(5)
        }
    }

    #[track_caller]
    fn run(name: &str, is_stateless: bool, has_list: bool, looks: &[Look]) {
        let mut now = Instant::now();
        let mut liveness = Liveness::new(Duration::from_secs(60), now);
        liveness.greeted(is_stateless, has_list);
        for (number, (seconds, seen, step)) in looks.iter().enumerate() {
            now += Duration::from_secs(*seconds);
            let found = liveness.look(*seen, 100, now);
            assert_eq!(found, *step, "{name}, look {number}");
        }
    }

    #[test]
    fn a_silent_server_is_asked_and_what_is_stuck_is_dead() {
        let ping = Step::Ask(Question::Ping);
        run(
            "it answers",
            false,
            true,
            &[
                (QUIET - 1, seen(0), Step::Nothing),
                (1, seen(0), ping),
                (1, answered(1), Step::Nothing),
                (QUIET, seen(1), ping),
                (1, answered(2), Step::Nothing),
                // From now on silence is a sign.
                (QUIET, seen(2), ping),
                (ANSWER - 1, seen(2), Step::Nothing),
                (1, seen(2), Step::Doubt),
                (1, seen(2), ping),
                (ANSWER, seen(2), Step::Dead),
            ],
        );
        run(
            "it comes back",
            true,
            false,
            &[
                (QUIET, seen(0), ping),
                (ANSWER, seen(0), Step::Doubt),
                (1, seen(0), ping),
                (1, seen(1), Step::Well),
                (QUIET - 1, seen(1), Step::Nothing),
                (1, seen(1), ping),
            ],
        );
    }

    #[test]
    fn one_that_ignores_pings_is_asked_for_a_list() {
        let (ping, list) = (Step::Ask(Question::Ping), Step::Ask(Question::List));
        run(
            "it has a list",
            false,
            true,
            &[
                (QUIET, seen(0), ping),
                (ANSWER / 2, seen(0), list),
                (1, answered(1), Step::Nothing),
                (QUIET, seen(1), list),
                (ANSWER, seen(1), Step::Doubt),
                (1, seen(1), list),
                (ANSWER, seen(1), Step::Dead),
            ],
        );
        run(
            "it has a list, and stops before it was ever asked",
            false,
            true,
            &[
                (QUIET, seen(0), ping),
                (ANSWER / 2, seen(0), list),
                (ANSWER - ANSWER / 2, seen(0), Step::Doubt),
                (1, seen(0), list),
                (ANSWER, seen(0), Step::Dead),
            ],
        );
        run(
            "it has none",
            false,
            false,
            &[
                (QUIET, seen(0), ping),
                (ANSWER, seen(0), Step::Doubt),
                (1, seen(0), ping),
                (ANSWER, seen(0), Step::Nothing),
                (1, seen(0), ping),
                (1, answered(1), Step::Well),
                // From now on silence is a sign.
                (QUIET, seen(1), ping),
                (ANSWER, seen(1), Step::Doubt),
                (1, seen(1), ping),
                (ANSWER, seen(1), Step::Dead),
            ],
        );
    }

    #[test]
    fn one_at_work_is_left_alone_until_a_call_runs_out_of_time() {
        let ping = Step::Ask(Question::Ping);
        run(
            "at work",
            true,
            true,
            &[
                (QUIET * 10, with_call(5), Step::Nothing),
                (1, timed_out(), ping),
                (ANSWER, with_call(7), Step::Doubt),
                (1, with_call(7), ping),
                // That call was made before it was asked.
                (ANSWER, with_call(7), Step::Nothing),
                (1, with_call(7), ping),
                // This one came later.
                (ANSWER, with_call(101), Step::Dead),
            ],
        );
        run(
            "slow",
            true,
            true,
            &[
                (1, timed_out(), ping),
                (1, seen(1), Step::Nothing),
                (1, seen(1), Step::Nothing),
            ],
        );
    }

    #[test]
    fn one_that_works_at_something_is_left_to_it_for_a_while() {
        let (ping, work) = (Step::Ask(Question::Ping), limits::LIVENESS_WORK_TICKS);
        let worked = |ticks: u64| Seen { ticks, ..seen(0) };
        let mut looks = vec![
            (QUIET, worked(0), ping),
            (ANSWER, worked(0), Step::Doubt),
            (1, worked(50), ping),
        ];
        let rounds = limits::LIVENESS_WORK.as_secs() / (ANSWER + 1);
        for round in 1..=rounds {
            let worked = worked(50 + round * work);
            looks.extend([(ANSWER, worked, Step::Nothing), (1, worked, ping)]);
        }
        looks.push((ANSWER, worked(50 + (rounds + 1) * work), Step::Dead));
        run("works for ever", true, true, &looks);
        let idles = worked(50 + work - 1);
        looks.truncate(3);
        looks.push((ANSWER, idles, Step::Dead));
        run("does next to nothing", true, true, &looks);
    }

    #[test]
    fn the_patience_follows_the_entry_within_bounds() {
        for (request_ms, answer) in [
            (1, limits::LIVENESS_ANSWER_LEAST),
            (3_000, Duration::from_secs(3)),
            (600_000, limits::LIVENESS_ANSWER),
        ] {
            let liveness = Liveness::new(Duration::from_millis(request_ms), Instant::now());
            assert_eq!(liveness.answer, answer, "{request_ms}");
        }
    }
}
