//! What all sources have found, and what became of it. Sources write, the thread `config` reads.
//! A source that fails keeps its findings for a while; nothing that is found takes the name of a
//! server that somebody wrote down.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::sorted::SortedMap;
use crate::base::{limits, ordered, time};
use crate::config::Config;
use crate::config::discovery::{SourceSpec, entry};
use crate::config::server::ServerConfig;
use crate::front::standing::{Configured, SourceStanding};
use crate::gateway::discovery::Found;

pub struct Board {
    pub specs: Vec<SourceSpec>,
    state: Mutex<Vec<Kept>>,
    change: (Sender<()>, Receiver<()>),
    /// Where everybody reads how the sources stand.
    configured: Arc<Configured>,
}

/// Of one source.
#[derive(Default)]
struct Kept {
    /// By name.
    found: Vec<Found>,
    /// The names of those that were taken at the last look, in their order.
    taken: Vec<String>,
    /// What it could not understand.
    odd: Vec<String>,
    failing: Option<Failing>,
    standing: SourceStanding,
}

struct Failing {
    since: Instant,
    /// What was found is given up.
    is_over: bool,
}

impl Board {
    pub fn new(specs: Vec<SourceSpec>, configured: Arc<Configured>) -> Board {
        let kept = specs.iter().map(|spec| Kept {
            standing: SourceStanding {
                name: spec.name.clone(),
                kind: spec.source.word(),
                ..SourceStanding::default()
            },
            ..Kept::default()
        });
        let board = Board {
            state: Mutex::new(kept.collect()),
            specs,
            change: bounded(1),
            configured,
        };
        board.tell(&board.state());
        board
    }

    /// Something comes here after each change.
    pub fn changes(&self) -> Receiver<()> {
        self.change.1.clone()
    }

    pub(super) fn publish(&self, index: usize, mut found: Vec<Found>, mut odd: Vec<String>) {
        let (mut state, name) = (self.state(), &self.specs[index].name);
        let kept = &mut state[index];
        // Who is served stays before who is not.
        let place = |one: &Found| (!kept.is_taken(&one.name), one.name.clone());
        ordered::sort_by(&mut found, |one, other| place(one).cmp(&place(other)));
        let over = found.len().saturating_sub(limits::DISCOVERY_FOUND);
        found.truncate(limits::DISCOVERY_FOUND);
        ordered::sort_by(&mut found, |one, other| one.name.cmp(&other.name));
        if over > 0 {
            odd.insert(0, left_out(over));
        }
        let was_failing = kept.failing.take();
        if was_failing.is_some() {
            log::info!("discovery goes on source={name:?}");
        }
        let is_back = was_failing.is_some_and(|failing| failing.is_over);
        odd.truncate(limits::DISCOVERY_FOUND);
        let is_other = is_back || kept.found != found || kept.odd != odd;
        let standing = &mut kept.standing;
        let is_first = !standing.is_ok && standing.error.is_none();
        standing.is_ok = true;
        standing.error = None;
        standing.seen = Some(time::now_rfc3339());
        standing.found = found.len();
        if is_other || is_first {
            log::info!("discovery found={} source={name:?}", found.len());
        }
        kept.found = found;
        kept.odd = odd;
        self.tell(&state);
        drop(state);
        if is_other {
            self.ring();
        }
    }

    pub(super) fn fail(&self, index: usize, mut error: String) {
        let (mut state, name) = (self.state(), &self.specs[index].name);
        while error.len() > limits::DISCOVERY_ERROR_BYTES {
            error.pop();
        }
        let kept = &mut state[index];
        if kept.standing.error.as_ref() != Some(&error) {
            log::warn!("discovery source={name:?}: failed to {error}");
        }
        if kept.failing.is_none() {
            kept.failing = Some(Failing {
                since: Instant::now(),
                is_over: false,
            });
        }
        kept.standing.is_ok = false;
        kept.standing.failures += 1;
        kept.standing.error = Some(error);
        self.tell(&state);
        drop(state);
        // Who waits has to know when this comes to its end.
        self.ring();
    }

    /// When the findings of a failing source must go, if one fails.
    pub fn due(&self) -> Option<Instant> {
        let state = self.state();
        let ends = state.iter().zip(&self.specs).filter_map(|(kept, spec)| {
            let failing = kept.failing.as_ref().filter(|failing| !failing.is_over)?;
            (!kept.found.is_empty()).then(|| failing.since + spec.keep_for)
        });
        ends.min()
    }

    /// Adds what was found to `config`, which nothing was added to yet. Whoever is served already
    /// comes first: a newcomer takes neither its name nor its place.
    pub fn merge_into(&self, config: &mut Config) {
        let mut state = self.state();
        let named = config.servers.iter();
        let mut names: SortedMap<String, &str> = named
            .map(|server| (server.name.clone(), "the configuration"))
            .collect();
        let mut servers: SortedMap<(usize, &str), ServerConfig> = SortedMap::new();
        let mut refused: Vec<Vec<String>> = Vec::new();
        for (kept, spec) in state.iter_mut().zip(&self.specs) {
            kept.give_up_in_time(spec);
            refused.push(kept.odd.clone());
        }
        for is_taken in [true, false] {
            for (at, (kept, spec)) in state.iter().zip(&self.specs).enumerate() {
                for found in kept.standing_as(is_taken) {
                    match judged(found, spec, &names) {
                        Ok(server) => {
                            names.insert(found.name.clone(), &spec.name);
                            servers.insert((at, &found.name), server);
                        }
                        Err(why) => refused[at].push(told(found, &why)),
                    }
                }
            }
        }
        let mut taken: Vec<Vec<String>> = vec![Vec::new(); refused.len()];
        for (at, name) in servers.keys() {
            taken[*at].push((*name).to_owned());
        }
        config.servers.extend(servers.into_values());
        let told = taken.into_iter().zip(refused);
        for ((kept, spec), (taken, refused)) in state.iter_mut().zip(&self.specs).zip(told) {
            kept.standing.taken = taken.len();
            kept.taken = taken;
            let known = std::mem::replace(&mut kept.standing.refused, refused);
            let standing = &kept.standing;
            for one in standing.refused.iter().filter(|one| !known.contains(one)) {
                log::warn!("found server not taken source={:?}: {one}", spec.name);
            }
        }
        self.tell(&state);
    }

    fn ring(&self) {
        // Full means that it rings already.
        let _ = self.change.0.try_send(());
    }

    fn tell(&self, state: &[Kept]) {
        let standings = state.iter().map(|kept| kept.standing.clone()).collect();
        self.configured
            .change(|standing| standing.discovery = standings);
    }

    fn state(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn is_taken(&self, name: &str) -> bool {
        let taken = self.taken.binary_search_by(|one| one.as_str().cmp(name));
        taken.is_ok()
    }

    /// Those that were taken at the last look, or the others; none when they are given up.
    fn standing_as(&self, is_taken: bool) -> impl Iterator<Item = &Found> {
        let is_over = self.failing.as_ref().is_some_and(|failing| failing.is_over);
        let found = self.found.iter().filter(move |_| !is_over);
        found.filter(move |one| self.is_taken(&one.name) == is_taken)
    }

    fn give_up_in_time(&mut self, spec: &SourceSpec) {
        let Some(failing) = &mut self.failing else {
            return;
        };
        if !failing.is_over && failing.since.elapsed() >= spec.keep_for {
            failing.is_over = true;
            let (name, count) = (&spec.name, self.found.len());
            log::warn!(
                "discovery fails for too long, what it found goes source={name:?} found={count}"
            );
        }
    }
}

fn judged(
    found: &Found,
    spec: &SourceSpec,
    names: &SortedMap<String, &str>,
) -> Result<ServerConfig, String> {
    if let Some(owner) = names.get(&found.name) {
        return Err(format!("the name is taken, by {owner}"));
    }
    let server = entry::server(&found.name, &found.entry, spec)?;
    if names.len() >= limits::CONFIG_SERVERS {
        let most = limits::CONFIG_SERVERS;
        return Err(format!("there are {most} servers already"));
    }
    Ok(server)
}

/// What is said of as many.
pub(super) fn left_out(over: usize) -> String {
    format!("{over} more than there may be were left out; narrow it")
}

fn told(found: &Found, why: &str) -> String {
    format!("{:?} at {}: {why}", found.name, found.place)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::{Map, Value};

    use super::{Board, Found};
    use crate::base::limits;
    use crate::config::discovery::{Source, SourceSpec, directory};
    use crate::config::settings::Flags;
    use crate::config::{Config, Environment, load_settings};
    use crate::front::standing::Configured;
    use crate::net::egress::Allowed;

    fn board() -> Board {
        let spec = |name: &str| SourceSpec {
            name: name.to_owned(),
            source: Source::Directory(directory::Spec { path: name.into() }),
            tags: Vec::new(),
            allow: vec![Allowed::parse("10.0.0.0/8").expect("a network")],
            keep_for: Duration::from_secs(1),
        };
        Board::new(
            vec![spec("one"), spec("two")],
            Arc::new(Configured::default()),
        )
    }

    fn found(name: &str, place: &str) -> Found {
        let url = Value::from("http://10.0.0.1:80/mcp");
        Found {
            name: name.to_owned(),
            entry: Map::from_iter([("url".to_owned(), url)]),
            place: place.to_owned(),
        }
    }

    fn publish(board: &Board, index: usize, names: &[&str]) {
        let all = names.iter().map(|name| found(name, "here")).collect();
        board.publish(index, all, Vec::new());
    }

    fn merged(board: &Board) -> Vec<String> {
        let (flags, environment) = (Flags::default(), Environment::new());
        let mut config: Config = load_settings(&flags, &environment).expect("settings");
        board.merge_into(&mut config);
        config
            .servers
            .into_iter()
            .map(|server| server.name)
            .collect()
    }

    #[test]
    fn who_is_served_keeps_its_name_and_its_place() {
        let board = board();
        publish(&board, 1, &["x", "y"]);
        assert_eq!(merged(&board), ["x", "y"]);
        publish(&board, 0, &["b", "x"]);
        assert_eq!(merged(&board), ["b", "x", "y"]);
        let standing = |at: usize| board.configured.standing().discovery[at].clone();
        assert_eq!((standing(0).taken, standing(1).taken), (1, 2));
        assert_eq!(standing(0).refused.len(), 1, "{:?}", standing(0).refused);
        // Once it has gone, the name is free.
        publish(&board, 1, &["y"]);
        assert_eq!(merged(&board), ["b", "x", "y"]);
        assert_eq!((standing(0).taken, standing(1).taken), (2, 1));
    }

    #[test]
    fn many_newcomers_push_out_nobody_who_is_served() {
        let board = board();
        publish(&board, 0, &["z"]);
        publish(&board, 1, &["zz"]);
        assert_eq!(merged(&board), ["z", "zz"]);
        let names: Vec<String> = (0..limits::DISCOVERY_FOUND)
            .map(|at| format!("a{at:04}"))
            .collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.push("z");
        publish(&board, 0, &names);
        for _ in 0..2 {
            let all = merged(&board);
            assert_eq!(all.len(), limits::CONFIG_SERVERS);
            assert_eq!(all[all.len() - 2..], ["z", "zz"]);
        }
    }
}
