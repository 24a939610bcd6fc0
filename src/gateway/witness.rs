//! What the router sees of servers, as facts: each turn once, and which tools are other than
//! before. Pure.

use std::collections::BTreeMap;

use crate::base::ordered;
use crate::base::sorted::SortedMap;
use crate::journal::fact::{Fact, Turn};
use crate::model::listing::Item;
use crate::upstream::server::{State, Status};

/// What was told of each server last, by slot.
#[derive(Default)]
pub struct Witness {
    told: SortedMap<usize, (String, Turn)>,
}

/// `None`: too early to say.
fn turn(status: &Status) -> Option<Turn> {
    let why = || status.last_error.clone().unwrap_or_default();
    match status.state {
        State::Pending | State::Loading => None,
        State::Ready => Some(Turn::Ready),
        State::Failed | State::Restarting | State::AwaitingOauth => Some(Turn::Down {
            state: status.state.as_str(),
            why: why(),
        }),
        State::CrashLoop => Some(Turn::CrashLoop { why: why() }),
        State::Stopped | State::Disabled => Some(Turn::Gone),
    }
}

/// Another reason alone is no other turn.
fn is_same(one: &Turn, other: &Turn) -> bool {
    match (one, other) {
        (Turn::Down { state: one, .. }, Turn::Down { state: other, .. }) => one == other,
        _ => std::mem::discriminant(one) == std::mem::discriminant(other),
    }
}

impl Witness {
    /// What is new about the servers in force, each with its slot, name and status.
    pub fn observe<'n>(
        &mut self,
        servers: impl Iterator<Item = (usize, &'n str, Status)>,
    ) -> Vec<Fact> {
        let mut facts = Vec::new();
        let mut gone = std::mem::take(&mut self.told);
        for (slot, name, status) in servers {
            let before = gone.remove(&slot);
            let now = turn(&status).or_else(|| before.clone().map(|(_, turn)| turn));
            let Some(now) = now else { continue };
            let is_told = match &before {
                Some((_, before)) => is_same(before, &now),
                // One that never ran is not missed.
                None => now == Turn::Gone,
            };
            if !is_told {
                facts.push(server(name, now.clone()));
            }
            self.told.insert(slot, (name.to_owned(), now));
        }
        let gone = gone.into_values().filter(|(_, turn)| *turn != Turn::Gone);
        facts.extend(gone.map(|(name, _)| server(&name, Turn::Gone)));
        facts
    }
}

fn server(name: &str, turn: Turn) -> Fact {
    let name = name.to_owned();
    Fact::Server { name, turn }
}

/// How the tools of a server differ from those it listed before.
pub fn tools_changed(server: &str, before: &[Item], now: &[Item]) -> Option<Fact> {
    let by_name = |items: &[Item]| -> BTreeMap<String, String> {
        let pairs = items.iter();
        ordered::map(pairs.map(|item| (item.key.to_string(), item.raw.to_string())))
    };
    let (before, now) = (by_name(before), by_name(now));
    let only = |here: &BTreeMap<String, String>, there: &BTreeMap<String, String>| {
        let names = here.keys().filter(|name| !there.contains_key(*name));
        names.cloned().collect::<Vec<_>>()
    };
    let is_other = |(name, raw): &(&String, &String)| before.get(*name).is_some_and(|b| b != *raw);
    let changed = now.iter().filter(is_other).map(|(name, _)| name.clone());
    let (added, removed) = (only(&now, &before), only(&before, &now));
    let changed: Vec<String> = changed.collect();
    if added.is_empty() && removed.is_empty() && changed.is_empty() {
        return None;
    }
    Some(Fact::ToolsChanged {
        server: server.to_owned(),
        added,
        removed,
        changed,
    })
}

#[cfg(test)]
mod tests {
    use super::{Witness, tools_changed};
    use crate::journal::fact::{Fact, Turn};
    use crate::mcp::list::ListKind;
    use crate::model::listing::Item;
    use crate::upstream::server::{State, Status};

    fn status(state: State) -> Status {
        let mut status = Status::new(state);
        status.last_error = Some("why".into());
        status
    }

    fn told(witness: &mut Witness, servers: &[(usize, State)]) -> Vec<String> {
        let servers = servers.iter().map(|(slot, state)| (*slot, *state));
        let facts = witness.observe(servers.map(|(slot, state)| (slot, "a", status(state))));
        let words = facts.into_iter().map(|fact| match fact {
            Fact::Server { turn, .. } => match turn {
                Turn::Ready => "ready".into(),
                Turn::Down { state, why } => format!("{state} {why}"),
                Turn::CrashLoop { .. } => "loop".into(),
                Turn::Gone => "gone".into(),
            },
            other => format!("{other:?}"),
        });
        words.collect()
    }

    #[test]
    fn each_turn_is_told_once() {
        let mut witness = Witness::default();
        let mut check = |servers: &[(usize, State)], expect: &[&str]| {
            assert_eq!(told(&mut witness, servers), expect, "{servers:?}");
        };
        check(&[(0, State::Pending), (1, State::Disabled)], &[]);
        check(&[(0, State::Loading), (1, State::Disabled)], &[]);
        check(&[(0, State::Ready)], &["ready"]);
        check(&[(0, State::Ready)], &[]);
        check(&[(0, State::Restarting)], &["restarting why"]);
        check(&[(0, State::Loading)], &[]);
        check(&[(0, State::Restarting)], &[]);
        check(&[(0, State::Ready)], &["ready"]);
        check(&[(0, State::CrashLoop)], &["loop"]);
        check(
            &[(0, State::CrashLoop), (2, State::Failed)],
            &["failed why"],
        );
        check(
            &[(2, State::AwaitingOauth)],
            &["awaiting_oauth why", "gone"],
        );
        check(&[(2, State::Stopped)], &["gone"]);
        check(&[], &[]);
    }

    #[test]
    fn tools_are_compared_by_name_and_text() {
        let items = |texts: &[&str]| -> Vec<Item> {
            let tool = |text: &&str| Item::parse(text, ListKind::Tools).unwrap();
            texts.iter().map(tool).collect()
        };
        let before = items(&[r#"{"name":"a"}"#, r#"{"name":"b"}"#, r#"{"name":"c"}"#]);
        assert_eq!(tools_changed("s", &before, &before), None);
        let now = items(&[
            r#"{"name":"d"}"#,
            r#"{"name":"b","title":"B"}"#,
            r#"{"name":"a"}"#,
        ]);
        let expect = Fact::ToolsChanged {
            server: "s".into(),
            added: vec!["d".into()],
            removed: vec!["c".into()],
            changed: vec!["b".into()],
        };
        assert_eq!(tools_changed("s", &before, &now), Some(expect));
    }
}
