//! Tasks of 2025-11-25 that one process has, and whose they are: one map for each link, written by
//! the reader thread before anybody else hears of a task, so that what the server says of it right
//! afterwards finds its session. It ends with the link, as the tasks do.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::{limits, ordered};
use crate::mcp::task::{Part, created};
use crate::upstream::call::{Answer, CallId};
use crate::wire::json::string_value;
use crate::wire::members::Members;
use crate::wire::message::FROM_SERVER;

/// What a call of a session has to do with tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Errand {
    None,
    /// It may be answered with one, which then belongs to this session.
    Makes {
        session: String,
    },
    /// It asks for the state of one.
    Looks {
        task: String,
    },
    /// It waits for the end of one: what is asked on behalf of that meanwhile belongs to it.
    Awaits {
        task: String,
    },
}

/// Whose a task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub session: String,
    /// The call that made it, whose progress goes on.
    pub call: CallId,
    /// Of that call: the client's own, raw.
    pub token: Option<String>,
}

struct Task {
    owner: Owner,
    /// Counts up.
    number: u64,
    /// Not known to be over until then.
    open_until: Option<Instant>,
}

#[derive(Default)]
pub struct Tasks(Mutex<State>);

#[derive(Default)]
struct State {
    map: HashMap<String, Task>,
    next: u64,
}

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the reader thread: what an answer says about tasks. `call`: the one that it answers.
    pub fn learn(&self, errand: &Errand, call: CallId, token: Option<&str>, answer: &Answer) {
        let text = str::from_utf8(&answer.line[answer.payload.clone()]);
        let (false, Ok(result)) = (answer.is_error, text) else {
            return;
        };
        match errand {
            Errand::None => {}
            Errand::Makes { session } => {
                if let Some(task) = created(result) {
                    let owner = Owner {
                        session: session.clone(),
                        call,
                        token: token.map(str::to_owned),
                    };
                    self.add(task, owner, lifetime(result), Instant::now());
                }
            }
            Errand::Looks { task } => self.heard(task, result),
            Errand::Awaits { task } => self.is_over(task),
        }
    }

    /// Beyond a session's share its oldest task is forgotten, beyond the process's the oldest of
    /// all: what the server says of that on its own accord is then nobody's.
    fn add(&self, task: String, owner: Owner, lifetime: Duration, now: Instant) {
        let mut state = self.lock();
        let is_ours = |(_, known): &(&String, &Task)| known.owner.session == owner.session;
        let own = state.map.iter().filter(is_ours).count();
        let oldest = match own >= limits::SESSION_TASKS {
            true => oldest(state.map.iter().filter(is_ours)),
            false if state.map.len() >= limits::TASKS_PER_SERVER => oldest(state.map.iter()),
            false => None,
        };
        if let Some(oldest) = oldest {
            state.map.remove(&oldest);
        }
        state.next += 1;
        let number = state.next;
        let entry = Task {
            owner,
            number,
            open_until: Some(now + lifetime),
        };
        state.map.insert(task, entry);
    }

    /// A state of a task, as results and notifications tell it.
    pub fn heard(&self, task: &str, told: &str) {
        let status = Members::parse(told, 1, FROM_SERVER).ok();
        let status = status.and_then(|members| members.string("status"));
        if matches!(
            status.as_deref(),
            Some("completed" | "failed" | "cancelled")
        ) {
            self.is_over(task);
        }
    }

    fn is_over(&self, task: &str) {
        if let Some(task) = self.lock().map.get_mut(task) {
            task.open_until = None;
        }
    }

    pub fn owner(&self, task: &str) -> Option<Owner> {
        self.lock().map.get(task).map(|task| task.owner.clone())
    }

    /// The task that a call has made, if its progress is wanted.
    pub fn made_by(&self, call: CallId) -> Option<Owner> {
        let state = self.lock();
        let mut owners = state.map.values().map(|task| &task.owner);
        owners.find(|owner| owner.call == call).cloned()
    }

    /// The tasks of one session, oldest first.
    pub fn of_session(&self, session: &str) -> Vec<String> {
        let state = self.lock();
        let own = state.map.iter().filter(|(_, t)| t.owner.session == session);
        let mut own: Vec<(u64, &String)> = own.map(|(id, task)| (task.number, id)).collect();
        ordered::sort(&mut own);
        own.into_iter().map(|(_, id)| id.clone()).collect()
    }

    /// A session has ended: gives those of its tasks that may still be at work.
    pub fn forget(&self, session: &str) -> Vec<String> {
        let now = Instant::now();
        let mut open = Vec::new();
        self.lock().map.retain(|id, task| {
            let is_own = task.owner.session == session;
            if is_own && task.is_open(now) {
                open.push(id.clone());
            }
            !is_own
        });
        open
    }

    /// Whether some task may still be at work.
    pub fn are_open(&self, now: Instant) -> bool {
        self.lock().map.values().any(|task| task.is_open(now))
    }
}

impl Task {
    fn is_open(&self, now: Instant) -> bool {
        self.open_until.is_some_and(|until| now < until)
    }
}

fn oldest<'t>(tasks: impl Iterator<Item = (&'t String, &'t Task)>) -> Option<String> {
    let oldest = tasks.min_by_key(|(_, task)| task.number);
    oldest.map(|(id, _)| id.clone())
}

/// For how long a task may be taken to be at work if nothing else is heard of it.
fn lifetime(result: &str) -> Duration {
    let members = Members::parse(result, 1, FROM_SERVER).ok();
    let task = members.and_then(|members| members.get("task"));
    let task = task.and_then(|raw| Members::parse(raw, 2, FROM_SERVER).ok());
    let ttl = task.and_then(|task| task.get("ttl")?.parse().ok());
    ttl.map_or(limits::TASK_OPEN, |ms| {
        Duration::from_millis(ms).min(limits::TASK_OPEN)
    })
}

/// The task that a notification about its state names.
pub fn named(params: &str) -> Option<String> {
    let ids = Part::Params.ids(params);
    ids.first()
        .and_then(|id| string_value(id))
        .map(|id| id.into_owned())
}

#[cfg(test)]
mod tests {
    use super::{Errand, Tasks};
    use crate::base::limits;
    use crate::journal::metrics::outcome::Outcome;
    use crate::upstream::call::{Answer, CallId};
    use std::time::Instant;

    fn answer(result: &str) -> Answer {
        Answer {
            line: result.as_bytes().to_vec(),
            id: 0..0,
            payload: 0..result.len(),
            is_error: false,
            outcome: Outcome::Success,
        }
    }

    fn make(tasks: &Tasks, session: &str, call: CallId, result: &str) {
        let session = session.to_owned();
        tasks.learn(&Errand::Makes { session }, call, Some("7"), &answer(result));
    }

    fn created(id: &str) -> String {
        format!("{{\"task\":{{\"taskId\":\"{id}\",\"ttl\":60000}}}}")
    }

    #[test]
    fn knows_whose_a_task_is_until_the_session_ends() {
        let tasks = Tasks::default();
        make(&tasks, "s", 1, &created("a"));
        make(&tasks, "s", 2, &created("b"));
        make(&tasks, "t", 3, &created("c"));
        make(&tasks, "t", 4, "{\"content\":[]}");
        assert_eq!(tasks.of_session("s"), ["a", "b"]);
        let owner = tasks.owner("b").expect("known");
        assert_eq!(
            (owner.session.as_str(), owner.token.as_deref()),
            ("s", Some("7"))
        );
        assert_eq!(tasks.made_by(2), Some(owner));
        assert_eq!(tasks.made_by(4), None);
        let looks = Errand::Looks { task: "a".into() };
        tasks.learn(&looks, 5, None, &answer("{\"status\":\"working\"}"));
        assert_eq!(tasks.of_session("s").len(), 2);
        tasks.learn(&looks, 6, None, &answer("{\"status\":\"failed\"}"));
        assert_eq!(tasks.forget("s"), ["b"], "what is over needs no word");
        assert!(tasks.owner("a").is_none() && tasks.owner("c").is_some());
    }

    #[test]
    fn is_open_until_the_end_is_heard_or_its_time_is_over() {
        let (tasks, now) = (Tasks::default(), Instant::now());
        make(&tasks, "s", 1, &created("a"));
        assert!(tasks.are_open(now));
        assert!(!tasks.are_open(now + limits::TASK_OPEN));
        let awaits = Errand::Awaits { task: "a".into() };
        tasks.learn(&awaits, 2, None, &answer("{}"));
        assert!(!tasks.are_open(now));
    }

    #[test]
    fn forgets_the_oldest_of_whoever_has_too_many() {
        let tasks = Tasks::default();
        make(&tasks, "t", 0, &created("first"));
        for at in 0..=limits::SESSION_TASKS {
            make(&tasks, "s", 1, &created(&format!("{at}")));
        }
        assert_eq!(tasks.of_session("s").len(), limits::SESSION_TASKS);
        assert!(tasks.owner("0").is_none() && tasks.owner("first").is_some());
    }
}
