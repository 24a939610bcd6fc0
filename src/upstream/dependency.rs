//! Which server may start when: `dependsOn` orders starts. A server waits, without a permit to
//! start, until all that it names are ready. Deliberately absent: what happens later. One whose
//! dependency dies goes on; only its next start waits again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::upstream::server::{Server, State};

/// The servers of one gateway by name. The newest handle of a name that does not leave
/// stands for it.
#[derive(Default)]
pub struct Neighbours(Mutex<Known>);

#[derive(Default)]
struct Known {
    expected: HashSet<String>,
    /// Of each name, the newest last.
    servers: HashMap<String, Vec<Weak<Server>>>,
}

/// One server that another one needs.
#[derive(Debug, Clone)]
pub struct Need {
    pub name: String,
    pub standing: Standing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Not one of those that are started here: nobody can wait for it.
    Stranger,
    /// Its turn has not come.
    Expected,
    Is {
        state: State,
        error: Option<String>,
    },
}

/// What a server may do that needs others.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    Go,
    /// The one it needs is about to be ready, or to fail.
    Wait {
        on: String,
    },
    /// The one it needs is down. It may come back.
    Blocked {
        on: String,
        why: String,
    },
}

impl Turn {
    /// The one that is down says more than one that is on its way.
    pub fn of(needs: &[Need]) -> Turn {
        let mut turn = Turn::Go;
        for Need { name, standing } in needs {
            let on = name.clone();
            match standing {
                Standing::Stranger => {}
                Standing::Is {
                    state: State::Ready,
                    ..
                } => {}
                Standing::Is { state, error } if state.is_settled() => {
                    let why = why(name, *state, error.as_deref());
                    return Turn::Blocked { on, why };
                }
                Standing::Expected | Standing::Is { .. } if turn == Turn::Go => {
                    turn = Turn::Wait { on };
                }
                Standing::Expected | Standing::Is { .. } => {}
            }
        }
        turn
    }
}

fn why(name: &str, state: State, error: Option<&str>) -> String {
    let cause = error.map_or_else(String::new, |error| format!(": {error}"));
    format!("waits for {name:?}, which is {}{cause}", state.as_str())
}

impl Neighbours {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The servers of the configuration that is about to be started: whoever needs one of them
    /// waits until it is there.
    pub fn expect<'n>(&self, names: impl Iterator<Item = &'n str>) {
        self.lock().expected = names.map(str::to_owned).collect();
    }

    pub(crate) fn enter(&self, server: &Arc<Server>) {
        let mut known = self.lock();
        let handles = known.servers.entry(server.name().to_owned()).or_default();
        handles.retain(|handle| handle.strong_count() > 0);
        handles.push(Arc::downgrade(server));
    }

    pub(crate) fn needs(&self, names: &[String]) -> Vec<Need> {
        let need = |name: &String| {
            let name = name.clone();
            let standing = self.standing(&name);
            Need { name, standing }
        };
        names.iter().map(need).collect()
    }

    fn standing(&self, name: &str) -> Standing {
        let (handles, is_expected) = {
            let known = self.lock();
            let handles = known.servers.get(name).cloned().unwrap_or_default();
            (handles, known.expected.contains(name))
        };
        // One that leaves stands for nothing any more.
        let newest_first = handles.iter().rev().filter_map(Weak::upgrade);
        let mut statuses = newest_first.map(|server| server.status());
        match statuses.find(|status| status.state != State::Stopped) {
            Some(status) => Standing::Is {
                state: status.state,
                error: status.last_error,
            },
            None if is_expected => Standing::Expected,
            None => Standing::Stranger,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Need, Standing, Turn};
    use crate::upstream::server::State;

    #[test]
    fn starts_when_all_it_needs_are_ready() {
        let is = |state: State| Standing::Is { state, error: None };
        let ready = || is(State::Ready);
        let wait = |on: &str| Turn::Wait { on: on.to_owned() };
        let blocked = |on: &str, why: &str| Turn::Blocked {
            on: on.to_owned(),
            why: why.to_owned(),
        };
        let died = Standing::Is {
            state: State::CrashLoop,
            error: Some("exited with code 3".to_owned()),
        };
        let cases = [
            (vec![], Turn::Go),
            (vec![ready(), ready()], Turn::Go),
            (vec![Standing::Stranger, ready()], Turn::Go),
            (vec![ready(), is(State::Loading)], wait("b")),
            (vec![Standing::Expected, is(State::Pending)], wait("a")),
            (
                vec![is(State::Loading), is(State::Disabled)],
                blocked("b", "waits for \"b\", which is disabled"),
            ),
            (
                vec![died, ready()],
                blocked(
                    "a",
                    "waits for \"a\", which is crash_loop: exited with code 3",
                ),
            ),
        ];
        for (standings, turn) in cases {
            let needs: Vec<Need> = standings
                .into_iter()
                .zip(["a", "b"])
                .map(|(standing, name)| Need {
                    name: name.to_owned(),
                    standing,
                })
                .collect();
            assert_eq!(Turn::of(&needs), turn, "{needs:?}");
        }
    }
}
