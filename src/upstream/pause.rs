//! What an owner does while it has no process: it waits for the servers that its own depends on,
//! and after a death until the next start is due, or until somebody asks for one.

use std::time::Instant;

use crate::base::{limits, sys};
use crate::model::backoff::{Next, Supervision};
use crate::upstream::dependency::Turn;
use crate::upstream::owner::{Death, Owner, Stage};
use crate::upstream::server::{State, Status};
use crate::upstream::signals::Told;

impl Owner {
    /// Waits until all that this server needs are ready; false when it must stop. No permit to
    /// start is held meanwhile. What cannot be had soon is shown as a failure, so that nobody
    /// waits for this server, and waited for all the same.
    pub(super) fn await_dependencies(&self) -> bool {
        let began = Instant::now();
        let patience = self.server.config.connection_timeout;
        let mut shown = None;
        loop {
            let turn = self.server.turn();
            if turn == Turn::Go {
                break;
            }
            let is_late = began.elapsed() >= patience;
            let wait = (turn, is_late);
            if shown.as_ref() != Some(&wait) {
                self.show_waiting(&wait.0, is_late);
                shown = Some(wait);
            }
            let look = match is_late {
                true => limits::OWNER_LOOK,
                false => limits::DEPENDENCY_LOOK,
            };
            match self.signals().wait(Some(Instant::now() + look)) {
                Told::Stop => return false,
                // It waits again: what it needs is not there.
                Told::Restart => drop(self.signals().take_restart()),
                Told::Time => {}
            }
        }
        if shown.is_some() {
            self.update(|status, _| {
                status.waiting_for = None;
                // That it waited was its only fault.
                if status.state == State::Failed {
                    status.begin();
                }
            });
        }
        true
    }

    fn show_waiting(&self, turn: &Turn, is_late: bool) {
        let name = self.server.name();
        let (on, why) = match turn {
            Turn::Go => return,
            Turn::Wait { on } if is_late => (
                on,
                Some(format!("waits for {on:?}, which is not ready yet")),
            ),
            Turn::Wait { on } => (on, None),
            Turn::Blocked { on, why } => (on, Some(why.clone())),
        };
        match &why {
            Some(why) => log::warn!("server not started server={name:?}: {why}"),
            None => log::info!("server waits server={name:?} for={on:?}"),
        }
        self.update(|status, _| {
            status.waiting_for = Some(on.clone());
            let is_fresh = matches!(
                status.state,
                State::Pending | State::Loading | State::Failed
            );
            if let (true, Some(why)) = (is_fresh, why) {
                status.state = State::Failed;
                status.last_error = Some(why);
            }
        });
    }

    /// After the end of the shared process: shows it, and waits for the next start.
    pub(super) fn pause(&self, supervision: &mut Supervision, death: Death) -> Told {
        let Death { why, last, up_for } = death;
        let name = self.server.name();
        let next = supervision.died(up_for, Instant::now(), random_fraction());
        let (delay, is_broken) = match next {
            Next::Start {
                delay,
                breaker_open,
            } if self.server.config.remote.is_some() => {
                // A try costs a connection, not a process.
                (Some(delay.min(limits::REMOTE_DOWN)), breaker_open)
            }
            Next::Start {
                delay,
                breaker_open,
            } => (Some(delay), breaker_open),
            Next::StayDown => (None, false),
            Next::GiveUp(_) => (None, true),
        };
        let why = match next {
            Next::Start { .. } => why,
            Next::StayDown => {
                format!("{why}; \"restartOnExit\" is false: {}", by_hand(name))
            }
            Next::GiveUp(most) => {
                format!("{why}; \"maxRestarts\" is {most}: {}", by_hand(name))
            }
        };
        match delay {
            Some(delay) => {
                let delay_s = delay.as_secs_f64();
                log::warn!("server down server={name:?} next_try_s={delay_s:.2}: {why}");
            }
            None => log::error!("server down for good server={name:?}: {why}"),
        }
        let retry_at = delay.map(|delay| Instant::now() + delay);
        self.update(|status, link| {
            *link = None;
            status.state = match (is_broken, delay) {
                (true, _) => State::CrashLoop,
                (false, Some(_)) if last == Stage::Ready || status.last_connected.is_some() => {
                    State::Restarting
                }
                // A program that runs may need something that is about to be there: the second
                // try, a moment later, belongs to the start.
                (false, Some(delay))
                    if last == Stage::Started
                        && status.restarts == 0
                        && delay <= limits::SECOND_TRY =>
                {
                    State::Loading
                }
                (false, _) => State::Failed,
            };
            show_down(status, why, retry_at);
            status.restarts += u32::from(delay.is_some());
        });
        self.signals().wait(retry_at)
    }

    /// The server wants a login. It is asked again now and then: somebody may have set a header
    /// at its other end, or the login may be wanted no longer.
    pub(super) fn pause_for_login(&self, why: String) -> Told {
        let name = self.server.name();
        log::warn!("server wants a login server={name:?}: {why}");
        let wait = limits::LOGIN_RETRY.mul_f64(1.0 + limits::RESTART_JITTER * random_fraction());
        let retry_at = Some(Instant::now() + wait);
        self.update(|status, link| {
            *link = None;
            status.state = State::AwaitingOauth;
            show_down(status, why, retry_at);
        });
        self.signals().wait(retry_at)
    }
}

fn show_down(status: &mut Status, why: String, retry_at: Option<Instant>) {
    status.last_error = Some(why);
    status.retry_at = retry_at;
    status.is_given_up = retry_at.is_none();
    status.pid = None;
    status.lists = None;
}

fn by_hand(name: &str) -> String {
    format!("start it again with `onemcp restart {name}`")
}

/// From 0.0 to 1.0.
fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    sys::random_bytes(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}
