//! When a server that died is started again.
//!
//! A state machine without a clock or chance of its own: the thread that owns the server holds
//! it and passes in the time and the jitter. Deliberately absent: starting, stopping and any
//! look at why the server died.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::base::limits;

#[derive(Clone, Debug, Default)]
pub struct Supervision {
    /// Deaths in a row, each without a long enough time up before it.
    deaths_in_a_row: u32,
    /// Those inside the breaker's window, oldest first.
    recent_deaths: VecDeque<Instant>,
    breaker_open: bool,
    ready_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wait {
    pub delay: Duration,
    /// So many deaths that only one try per interval is made from now on.
    pub breaker_open: bool,
}

impl Supervision {
    /// The server answered its handshake.
    pub fn became_ready(&mut self, now: Instant) {
        self.ready_since = Some(now);
    }

    /// The server died, or its start failed (`up_for` is zero then): how long to wait before the
    /// next start. `jitter` is a random number from 0.0 to 1.0.
    pub fn died(&mut self, up_for: Duration, now: Instant, jitter: f64) -> Wait {
        self.ready_since = None;
        if up_for >= limits::RESTART_RESET {
            *self = Supervision::default();
        }
        if self.recent_deaths.len() == limits::BREAKER_DEATHS {
            self.recent_deaths.pop_front();
        }
        self.recent_deaths.push_back(now);
        self.recent_deaths
            .retain(|death| now.saturating_duration_since(*death) < limits::BREAKER_WINDOW);
        self.breaker_open |= self.recent_deaths.len() >= limits::BREAKER_DEATHS;
        let delay = if self.breaker_open {
            limits::BREAKER_INTERVAL
        } else {
            self.doubled()
        };
        self.deaths_in_a_row = self.deaths_in_a_row.saturating_add(1);
        Wait {
            delay: delay.mul_f64(factor(jitter)),
            breaker_open: self.breaker_open,
        }
    }

    /// Once open it stays so over tries that fail soon, until one has been up long enough.
    pub fn breaker_open(&self, now: Instant) -> bool {
        let settled = self
            .ready_since
            .is_some_and(|since| now.saturating_duration_since(since) >= limits::RESTART_RESET);
        self.breaker_open && !settled
    }

    /// Starts since the server was last up long enough.
    pub fn deaths_in_a_row(&self) -> u32 {
        self.deaths_in_a_row
    }

    fn doubled(&self) -> Duration {
        let times = 2_u32.saturating_pow(self.deaths_in_a_row);
        limits::RESTART_FIRST
            .saturating_mul(times)
            .min(limits::RESTART_CEILING)
    }
}

fn factor(jitter: f64) -> f64 {
    let jitter = if jitter.is_finite() {
        jitter.clamp(0.0, 1.0)
    } else {
        0.5
    };
    1.0 + limits::RESTART_JITTER * (2.0 * jitter - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: f64 = 0.5;

    /// Milliseconds up, then the wait that follows in milliseconds and whether the breaker is open.
    type Step = (u64, u64, bool);

    const CASES: [(&str, &[Step]); 5] = [
        (
            "at once dead: five deaths open the breaker",
            &[
                (0, 500, false),
                (0, 1_000, false),
                (0, 2_000, false),
                (0, 4_000, false),
                (0, 300_000, true),
                (0, 300_000, true),
                (240_000, 300_000, true),
            ],
        ),
        (
            "dead every half minute: doubling up to the ceiling",
            &[
                (30_000, 500, false),
                (30_000, 1_000, false),
                (30_000, 2_000, false),
                (30_000, 4_000, false),
                (30_000, 8_000, false),
                (30_000, 16_000, false),
                (30_000, 32_000, false),
                (30_000, 60_000, false),
                (30_000, 60_000, false),
            ],
        ),
        (
            "five minutes up: from the first delay",
            &[
                (0, 500, false),
                (0, 1_000, false),
                (300_000, 500, false),
                (0, 1_000, false),
            ],
        ),
        (
            "just short of five minutes: no reset",
            &[(0, 500, false), (299_999, 1_000, false)],
        ),
        (
            "a long time up closes the breaker",
            &[
                (0, 500, false),
                (0, 1_000, false),
                (0, 2_000, false),
                (0, 4_000, false),
                (0, 300_000, true),
                (300_000, 500, false),
                (0, 1_000, false),
            ],
        ),
    ];

    #[test]
    fn waits_as_documented() {
        for (name, steps) in CASES {
            let mut supervision = Supervision::default();
            let mut now = Instant::now();
            for (step, (up_ms, wait_ms, breaker_open)) in steps.iter().enumerate() {
                let up = Duration::from_millis(*up_ms);
                supervision.became_ready(now);
                now += up;
                let found = supervision.died(up, now, MIDDLE);
                let delay = Duration::from_millis(*wait_ms);
                let expect = Wait {
                    delay,
                    breaker_open: *breaker_open,
                };
                assert_eq!(found, expect, "{name}, step {step}");
                assert_eq!(
                    supervision.breaker_open(now),
                    *breaker_open,
                    "{name}, step {step}"
                );
                now += found.delay;
            }
        }
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        for (jitter, wait_ms) in [
            (0.0, 400),
            (0.25, 450),
            (1.0, 600),
            (-7.0, 400),
            (7.0, 600),
            (f64::NAN, 500),
            (f64::INFINITY, 500),
        ] {
            let wait = Supervision::default().died(Duration::ZERO, Instant::now(), jitter);
            assert_eq!(wait.delay.as_micros(), wait_ms * 1000, "{jitter}");
        }
    }

    #[test]
    fn an_open_breaker_counts_as_closed_once_the_server_is_settled() {
        let mut supervision = Supervision::default();
        let start = Instant::now();
        for _ in 0..limits::BREAKER_DEATHS {
            supervision.died(Duration::ZERO, start, MIDDLE);
        }
        assert_eq!(supervision.deaths_in_a_row(), limits::BREAKER_DEATHS as u32);
        supervision.became_ready(start);
        assert!(supervision.breaker_open(start));
        assert!(!supervision.breaker_open(start + limits::RESTART_RESET));
    }

    /// However a server behaves: no wait beyond the interval, no growing memory, no storm.
    #[test]
    fn starts_are_rare_and_memory_is_bounded() {
        let mut state = 1_u64;
        let mut random = move |bound: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % bound
        };
        let mut supervision = Supervision::default();
        let mut now = Instant::now();
        let mut starts = VecDeque::new();
        for _ in 0..100_000 {
            let up = Duration::from_millis(random(400_000) * random(2) * random(2));
            now += up;
            let wait = supervision.died(up, now, random(1001) as f64 / 1000.0);
            assert!(wait.delay <= limits::BREAKER_INTERVAL.mul_f64(1.2));
            assert!(wait.delay >= limits::RESTART_FIRST.mul_f64(0.8));
            assert!(supervision.recent_deaths.len() <= limits::BREAKER_DEATHS);
            now += wait.delay;
            starts.push_back(now);
            starts.retain(|start| now.duration_since(*start) < limits::BREAKER_WINDOW);
            assert!(
                starts.len() <= limits::BREAKER_DEATHS + 1,
                "{}",
                starts.len()
            );
        }
    }
}
