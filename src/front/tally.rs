//! The servers of a world by their state, and what follows from the numbers: the verdict of
//! health, and which servers `/health/ready` waits for. Pure; the table is in docs/operations.md.

use crate::config::settings::ReadyPolicy;
use crate::upstream::server::State;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub pending: usize,
    pub loading: usize,
    pub ready: usize,
    pub failed: usize,
    pub restarting: usize,
    pub crash_loop: usize,
    pub awaiting_oauth: usize,
    pub stopped: usize,
    pub disabled: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Healthy,
    Degraded,
    Unhealthy,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Healthy => "healthy",
            Verdict::Degraded => "degraded",
            Verdict::Unhealthy => "unhealthy",
        }
    }

    /// The status code of `/health`.
    pub fn code(self) -> u16 {
        match self {
            Verdict::Healthy | Verdict::Degraded => 200,
            Verdict::Unhealthy => 503,
        }
    }
}

impl Tally {
    pub fn of(states: impl IntoIterator<Item = State>) -> Tally {
        let mut tally = Tally::default();
        for state in states {
            *match state {
                State::Pending => &mut tally.pending,
                State::Loading => &mut tally.loading,
                State::Ready => &mut tally.ready,
                State::Failed => &mut tally.failed,
                State::Restarting => &mut tally.restarting,
                State::CrashLoop => &mut tally.crash_loop,
                State::AwaitingOauth => &mut tally.awaiting_oauth,
                State::Stopped => &mut tally.stopped,
                State::Disabled => &mut tally.disabled,
            } += 1;
        }
        tally
    }

    /// Enabled servers.
    pub fn total(&self) -> usize {
        self.coming() + self.ready + self.broken() + self.awaiting_oauth
    }

    /// Those whose first start is not over.
    pub fn coming(&self) -> usize {
        self.pending + self.loading
    }

    /// Those that should serve and do not.
    pub fn broken(&self) -> usize {
        self.failed + self.restarting + self.crash_loop + self.stopped
    }

    /// `in_service`: a configuration is loaded, and the gateway is not shutting down.
    pub fn verdict(&self, in_service: bool) -> Verdict {
        let (total, broken) = (self.total(), self.broken());
        let settled = total - self.coming();
        match () {
            () if !in_service => Verdict::Unhealthy,
            () if total == 0 => Verdict::Degraded,
            () if settled > 0 && broken == settled => Verdict::Unhealthy,
            () if broken * 2 > total => Verdict::Unhealthy,
            () if broken > 0 || self.awaiting_oauth > 0 => Verdict::Degraded,
            () => Verdict::Healthy,
        }
    }
}

/// Which servers, by their place in `servers`, are waited for before the gateway is ready. Each
/// is given with whether it is required.
pub fn missing(policy: ReadyPolicy, servers: &[(bool, State)]) -> Vec<usize> {
    let enabled = servers.iter().enumerate();
    let enabled = enabled.filter(|(_, (_, state))| *state != State::Disabled);
    let waiting = enabled.filter(|(_, (_, state))| *state != State::Ready);
    let one_is_ready = servers.iter().any(|(_, state)| *state == State::Ready);
    match policy {
        ReadyPolicy::None => Vec::new(),
        ReadyPolicy::Any if one_is_ready => Vec::new(),
        ReadyPolicy::All | ReadyPolicy::Any => waiting.map(|(at, _)| at).collect(),
        ReadyPolicy::Required => {
            let required = waiting.filter(|(_, (required, _))| *required);
            required.map(|(at, _)| at).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Tally, missing};
    use crate::config::settings::ReadyPolicy;
    use crate::upstream::server::State;

    /// One letter for each server, as in the table of docs/operations.md.
    fn state(letter: char) -> State {
        match letter {
            'p' => State::Pending,
            'l' => State::Loading,
            'r' => State::Ready,
            'f' => State::Failed,
            'd' => State::Restarting,
            'c' => State::CrashLoop,
            's' => State::Stopped,
            'o' => State::AwaitingOauth,
            'x' => State::Disabled,
            other => panic!("{other}"),
        }
    }

    fn verdict(servers: &str, in_service: bool) -> &'static str {
        Tally::of(servers.chars().map(state))
            .verdict(in_service)
            .as_str()
    }

    /// The table of the documentation is the one that holds.
    #[test]
    fn verdicts_are_those_of_the_documented_table() {
        let page = include_str!("../../docs/operations.md");
        let rows = page.lines().filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let verdict = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
            let is_row = ["healthy", "degraded", "unhealthy"].contains(&verdict);
            is_row.then(|| (cells[0].to_owned(), verdict.to_owned()))
        });
        let mut count = 0;
        for (servers, expected) in rows {
            count += 1;
            let letters = servers.trim_matches('`').replace(['-', ' '], "");
            assert_eq!(verdict(&letters, true), expected, "{servers}");
            assert_eq!(verdict(&letters, false), "unhealthy", "{servers}");
        }
        assert!(count >= 22, "{count} rows");
    }

    #[test]
    fn ready_waits_for_what_the_policy_says() {
        use ReadyPolicy::{All, Any, None, Required};
        // Capitals are required.
        for (servers, required, all, any, none) in [
            ("", "", "", "", ""),
            ("rr", "", "", "", ""),
            ("rf", "", "1", "", ""),
            ("Rl", "", "1", "", ""),
            ("rL", "1", "1", "", ""),
            ("Fd", "0", "01", "01", ""),
            ("lp", "", "01", "01", ""),
            ("Xr", "", "", "", ""),
            ("Xx", "", "", "", ""),
            ("CSR", "01", "01", "", ""),
            ("Or", "0", "0", "", ""),
        ] {
            let list: Vec<(bool, State)> = servers
                .chars()
                .map(|c| (c.is_ascii_uppercase(), state(c.to_ascii_lowercase())))
                .collect();
            for (policy, expected) in [(Required, required), (All, all), (Any, any), (None, none)] {
                let found: String = missing(policy, &list)
                    .iter()
                    .map(usize::to_string)
                    .collect();
                assert_eq!(found, expected, "{servers} {policy:?}");
            }
        }
    }
}
