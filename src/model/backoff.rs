//! Whether and when a server that died is started again.
//!
//! A state machine without a clock or chance of its own: the thread that owns the server holds
//! it and passes in the time and the jitter. Deliberately absent: starting, stopping and any
//! look at why the server died.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::base::limits;

/// What the entry of a server says about that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    pub on_exit: bool,
    /// Restarts in a row. `None`: as the breaker allows; `Some(0)`: without end.
    pub max: Option<u32>,
    /// `None`: a delay that grows from half a second to a minute.
    pub delay: Option<Duration>,
}

impl Default for RestartPolicy {
    fn default() -> RestartPolicy {
        RestartPolicy {
            on_exit: true,
            max: None,
            delay: None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Supervision {
    policy: RestartPolicy,
    /// Deaths in a row, each without a long enough time up before it.
    deaths_in_a_row: u32,
    /// Those inside the breaker's window, oldest first.
    recent_deaths: VecDeque<Instant>,
    breaker_open: bool,
}

/// What follows a death.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    Start {
        delay: Duration,
        /// So many deaths that only one try per interval is made from now on.
        breaker_open: bool,
    },
    /// `restartOnExit` is false.
    StayDown,
    /// There were as many restarts as `maxRestarts` allows.
    GiveUp(u32),
}

impl Supervision {
    pub fn new(policy: RestartPolicy) -> Supervision {
        Supervision {
            policy,
            deaths_in_a_row: 0,
            recent_deaths: VecDeque::new(),
            breaker_open: false,
        }
    }

    /// Somebody asked for a start: what was before does not count.
    pub fn forget(&mut self) {
        *self = Supervision::new(self.policy);
    }

    /// The server died, or its start failed (`up_for` is zero then): what comes next. `jitter` is
    /// a random number from 0.0 to 1.0.
    pub fn died(&mut self, up_for: Duration, now: Instant, jitter: f64) -> Next {
        if !self.policy.on_exit {
            return Next::StayDown;
        }
        if up_for >= limits::RESTART_RESET {
            self.forget();
        }
        let before = self.deaths_in_a_row;
        self.deaths_in_a_row = before.saturating_add(1);
        match self.policy.max {
            Some(most) if most > 0 && before >= most => return Next::GiveUp(most),
            Some(_) => {}
            None => self.trip(now),
        }
        let delay = match self.breaker_open {
            true => self.pause(before).max(limits::BREAKER_INTERVAL),
            false => self.pause(before),
        };
        Next::Start {
            delay: delay.mul_f64(factor(jitter)),
            breaker_open: self.breaker_open,
        }
    }

    /// Once open the breaker stays so over tries that fail soon, until one has been up long
    /// enough.
    fn trip(&mut self, now: Instant) {
        if self.recent_deaths.len() == limits::BREAKER_DEATHS {
            self.recent_deaths.pop_front();
        }
        self.recent_deaths.push_back(now);
        self.recent_deaths
            .retain(|death| now.saturating_duration_since(*death) < limits::BREAKER_WINDOW);
        self.breaker_open |= self.recent_deaths.len() >= limits::BREAKER_DEATHS;
    }

    /// Starts since the server was last up long enough.
    pub fn deaths_in_a_row(&self) -> u32 {
        self.deaths_in_a_row
    }

    fn pause(&self, deaths: u32) -> Duration {
        match self.policy.delay {
            Some(delay) => delay.saturating_mul(1 << deaths.min(limits::RESTART_DOUBLINGS)),
            None => limits::RESTART_FIRST
                .saturating_mul(2_u32.saturating_pow(deaths))
                .min(limits::RESTART_CEILING),
        }
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

    fn supervision() -> Supervision {
        Supervision::new(RestartPolicy::default())
    }

    fn start(delay_ms: u64, breaker_open: bool) -> Next {
        let delay = Duration::from_millis(delay_ms);
        Next::Start {
            delay,
            breaker_open,
        }
    }

    #[test]
    fn waits_as_documented() {
        for (name, steps) in CASES {
            let mut supervision = supervision();
            let mut now = Instant::now();
            for (step, (up_ms, wait_ms, breaker_open)) in steps.iter().enumerate() {
                let up = Duration::from_millis(*up_ms);
                now += up;
                let found = supervision.died(up, now, MIDDLE);
                assert_eq!(found, start(*wait_ms, *breaker_open), "{name}, step {step}");
                now += Duration::from_millis(*wait_ms);
            }
        }
    }

    #[test]
    fn follows_the_policy_of_the_entry() {
        let policy = |max: Option<u32>, delay_ms: Option<u64>| RestartPolicy {
            on_exit: true,
            max,
            delay: delay_ms.map(Duration::from_millis),
        };
        let open = start(300_000, true);
        let down = Next::StayDown;
        let never = RestartPolicy {
            on_exit: false,
            ..policy(Some(7), Some(10))
        };
        let no_end: Vec<Next> = [10, 20, 40, 80, 160, 160, 160, 160]
            .map(|ms| start(ms, false))
            .into();
        for (name, policy, expect) in [
            ("never", never, vec![down, down]),
            ("without end", policy(Some(0), Some(10)), no_end),
            (
                "twice",
                policy(Some(2), Some(1000)),
                vec![start(1000, false), start(2000, false), Next::GiveUp(2)],
            ),
            (
                "once, with our delays",
                policy(Some(1), None),
                vec![start(500, false), Next::GiveUp(1), Next::GiveUp(1)],
            ),
            (
                "own delays, our breaker",
                policy(None, Some(10)),
                vec![
                    start(10, false),
                    start(20, false),
                    start(40, false),
                    start(80, false),
                    open,
                    open,
                ],
            ),
            (
                "a delay beyond the breaker's interval",
                policy(None, Some(600_000)),
                vec![start(600_000, false), start(1_200_000, false)],
            ),
        ] {
            let mut supervision = Supervision::new(policy);
            let now = Instant::now();
            for (step, next) in expect.iter().enumerate() {
                let found = supervision.died(Duration::ZERO, now, MIDDLE);
                assert_eq!(found, *next, "{name}, step {step}");
            }
            // Whoever asks for a start begins anew, and so does a long time up.
            let first = expect[0];
            supervision.forget();
            assert_eq!(supervision.died(Duration::ZERO, now, MIDDLE), first);
            let long = limits::RESTART_RESET;
            assert_eq!(supervision.died(long, now + long, MIDDLE), first, "{name}");
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
            let next = supervision().died(Duration::ZERO, Instant::now(), jitter);
            assert_eq!(next, start(wait_ms, false), "{jitter}");
        }
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
        let mut supervision = supervision();
        let mut now = Instant::now();
        let mut starts = VecDeque::new();
        for _ in 0..100_000 {
            let up = Duration::from_millis(random(400_000) * random(2) * random(2));
            now += up;
            let next = supervision.died(up, now, random(1001) as f64 / 1000.0);
            let Next::Start { delay, .. } = next else {
                panic!("{next:?}");
            };
            assert!(delay <= limits::BREAKER_INTERVAL.mul_f64(1.2));
            assert!(delay >= limits::RESTART_FIRST.mul_f64(0.8));
            assert!(supervision.recent_deaths.len() <= limits::BREAKER_DEATHS);
            now += delay;
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
