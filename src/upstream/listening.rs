//! The gateway's own subscription at a stateless server (`subscriptions/listen`), as far as all
//! threads share it: the owner opens it (`subscriber`), the reader thread hears that it holds
//! and what comes on it, connection threads wait for a resource to be part of it.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::base::ordered;
use crate::mcp::task::has_extension;
use crate::upstream::call::CallId;
use crate::upstream::link::Hello;
use crate::wire::json::{elements, quoted, string_value};
use crate::wire::members::Members;
use crate::wire::message::FROM_SERVER;

const URIS: &str = "resourceSubscriptions";
const TASKS: &str = "taskIds";

/// What is asked for, or honoured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub tools: bool,
    pub prompts: bool,
    pub resources: bool,
    pub uris: BTreeSet<String>,
    /// As the server knows them.
    pub tasks: BTreeSet<String>,
}

impl Filter {
    /// All that a server offers of what is wanted. `lists`: whether its lists are.
    pub fn of(hello: &Hello, lists: bool, uris: Vec<String>) -> Filter {
        let changes = |kind: &str| lists && hello.declares_that(kind, "listChanged");
        let uris = match hello.declares_that("resources", "subscribe") {
            true => ordered::set(uris),
            false => BTreeSet::new(),
        };
        Filter {
            tools: changes("tools"),
            prompts: changes("prompts"),
            resources: changes("resources"),
            uris,
            tasks: BTreeSet::new(),
        }
    }

    /// The same and tasks, if the server has tasks.
    pub fn with_tasks(self, hello: &Hello, tasks: Vec<String>) -> Filter {
        let tasks = match has_extension(&hello.capabilities) {
            true => ordered::set(tasks),
            false => BTreeSet::new(),
        };
        Filter { tasks, ..self }
    }

    pub fn is_empty(&self) -> bool {
        *self == Filter::default()
    }

    /// As parameters of the request.
    pub fn params(&self) -> String {
        let lists = [
            ("toolsListChanged", self.tools),
            ("promptsListChanged", self.prompts),
            ("resourcesListChanged", self.resources),
        ];
        let wanted = lists.iter().filter(|(_, wanted)| *wanted);
        let mut members: Vec<String> = wanted.map(|(key, _)| format!("\"{key}\":true")).collect();
        let named = [(URIS, &self.uris), (TASKS, &self.tasks)];
        for (key, wanted) in named.iter().filter(|(_, wanted)| !wanted.is_empty()) {
            let all: Vec<String> = wanted.iter().map(|one| quoted(one)).collect();
            members.push(format!("\"{key}\":[{}]", all.join(",")));
        }
        format!("{{\"notifications\":{{{}}}}}", members.join(","))
    }

    /// What an acknowledgement says is honoured.
    pub fn read(notifications: &str) -> Filter {
        let Ok(members) = Members::parse(notifications, 2, FROM_SERVER) else {
            return Filter::default();
        };
        let is = |key: &str| members.get(key) == Some("true");
        let strings = |key: &str| {
            let listed = members.get(key).and_then(|raw| elements(raw, FROM_SERVER));
            let listed = listed.unwrap_or_default().into_iter();
            let strings = listed.filter_map(|raw| Some(string_value(raw)?.into_owned()));
            ordered::set(strings)
        };
        Filter {
            tools: is("toolsListChanged"),
            prompts: is("promptsListChanged"),
            resources: is("resourcesListChanged"),
            uris: strings(URIS),
            tasks: strings(TASKS),
        }
    }
}

/// Whether the server tells of changes of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    Yes,
    No,
    /// It has not said so in time.
    NotYet,
}

#[derive(Default)]
pub struct Listening {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Acknowledged: what comes under its id is for us.
    current: Option<Open>,
    /// Asked for, in the place of `current`.
    opening: Option<Open>,
    /// Was `current`; the server is yet to be told.
    superseded: Option<CallId>,
    acknowledged: bool,
    /// There will be none on this link.
    is_off: bool,
}

struct Open {
    call: CallId,
    asked: Filter,
    honoured: Filter,
}

impl Listening {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner is about to ask for `asked` under `call`.
    pub fn opens(&self, call: CallId, asked: Filter) {
        let honoured = Filter::default();
        self.lock().opening = Some(Open {
            call,
            asked,
            honoured,
        });
    }

    /// The server has begun to serve `call`. False when nobody asked for that.
    pub fn acknowledge(&self, call: CallId, honoured: Filter) -> bool {
        let mut state = self.lock();
        let Some(opening) = state.opening.take_if(|opening| opening.call == call) else {
            return false;
        };
        let old = state.current.replace(Open {
            honoured,
            ..opening
        });
        state.superseded = old.map(|old| old.call);
        state.acknowledged = true;
        self.changed.notify_all();
        true
    }

    /// True once after the server acknowledged, with the call that it replaced.
    pub fn take_acknowledged(&self) -> (bool, Option<CallId>) {
        let mut state = self.lock();
        let acknowledged = std::mem::take(&mut state.acknowledged);
        (acknowledged, state.superseded.take())
    }

    /// A subscription is over.
    pub fn closes(&self, call: CallId) {
        let mut state = self.lock();
        state.opening.take_if(|open| open.call == call);
        state.current.take_if(|open| open.call == call);
        self.changed.notify_all();
    }

    /// No subscription any more, whatever is wanted.
    pub fn turn_off(&self) {
        self.lock().is_off = true;
        self.changed.notify_all();
    }

    /// Whether news under `call` are for us.
    pub fn is_current(&self, call: CallId) -> bool {
        let state = self.lock();
        state.current.as_ref().is_some_and(|open| open.call == call)
    }

    pub fn current(&self) -> Option<CallId> {
        self.lock().current.as_ref().map(|open| open.call)
    }

    /// Calls that stay open for as long as the server serves them.
    pub fn calls(&self) -> Vec<CallId> {
        let state = self.lock();
        let open = state.current.iter().chain(&state.opening);
        open.map(|open| open.call).collect()
    }

    /// What the subscription that holds was asked for.
    pub fn asked(&self) -> Filter {
        let state = self.lock();
        let current = state.current.as_ref();
        current.map(|open| open.asked.clone()).unwrap_or_default()
    }

    /// Waits until the server has heard that `uri` is wanted.
    pub fn wait_for(&self, uri: &str, deadline: Instant) -> Watched {
        self.wait(deadline, |filter| filter.uris.contains(uri))
    }

    /// The same of a task.
    pub fn wait_for_task(&self, id: &str, deadline: Instant) -> Watched {
        self.wait(deadline, |filter| filter.tasks.contains(id))
    }

    fn wait(&self, deadline: Instant, has: impl Fn(&Filter) -> bool) -> Watched {
        let mut state = self.lock();
        loop {
            if let Some(open) = &state.current
                && has(&open.asked)
            {
                return match has(&open.honoured) {
                    true => Watched::Yes,
                    false => Watched::No,
                };
            }
            if state.is_off {
                return Watched::No;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Watched::NotYet;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Filter, Listening, Watched};
    use crate::mcp::era::Era;
    use crate::upstream::link::Hello;
    use std::time::Instant;

    fn hello(capabilities: &str) -> Hello {
        Hello {
            era: Era::Stateless,
            capabilities: capabilities.to_owned(),
            instructions: None,
            server_info: "{}".to_owned(),
        }
    }

    fn of_uri(uri: &str) -> Filter {
        Filter {
            uris: [uri.to_owned()].into(),
            ..Filter::default()
        }
    }

    #[test]
    fn asks_for_what_is_declared_and_wanted() {
        let all = r#"{"tools":{"listChanged":true},"prompts":{},"resources":{"subscribe":true}}"#;
        let uris = || vec!["a:\"".to_owned()];
        let filter = Filter::of(&hello(all), true, uris());
        let none = filter.clone().with_tasks(&hello(all), uris());
        assert_eq!(none, filter, "no server without tasks is asked for one");
        let able = hello(r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#);
        let filter = filter.with_tasks(&able, vec!["t".to_owned()]);
        assert!(filter.tools && !filter.prompts && !filter.resources);
        let params = filter.params();
        let value: serde_json::Value = serde_json::from_str(&params).expect("valid JSON");
        let asked = &value["notifications"];
        assert_eq!(asked["resourceSubscriptions"], serde_json::json!(["a:\""]));
        assert_eq!(asked["taskIds"], serde_json::json!(["t"]));
        assert_eq!(Filter::read(&asked.to_string()), filter);
        assert!(!Filter::of(&hello(all), false, uris()).tools);
        assert!(Filter::of(&hello(r#"{"tools":{}}"#), true, uris()).is_empty());
        assert!(Filter::read("7").is_empty());
    }

    #[test]
    fn one_holds_until_the_next_is_acknowledged() {
        let listening = Listening::default();
        listening.opens(1, of_uri("a"));
        assert!(!listening.is_current(1) && listening.calls() == [1]);
        assert!(!listening.acknowledge(7, Filter::default()));
        assert!(listening.acknowledge(1, of_uri("a")));
        assert!(!listening.acknowledge(1, of_uri("a")), "once");
        assert_eq!(listening.take_acknowledged(), (true, None));
        assert_eq!(listening.take_acknowledged(), (false, None));
        listening.opens(2, of_uri("b"));
        assert!(listening.is_current(1));
        assert!(listening.acknowledge(2, Filter::default()));
        assert!(!listening.is_current(1) && listening.is_current(2));
        assert_eq!(listening.take_acknowledged(), (true, Some(1)));
        assert_eq!(listening.wait_for("b", Instant::now()), Watched::No);
        assert_eq!(listening.wait_for("a", Instant::now()), Watched::NotYet);
        listening.closes(2);
        assert_eq!(listening.current(), None);
        listening.turn_off();
        assert_eq!(listening.wait_for("a", Instant::now()), Watched::No);
    }
}
