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
        ordered::sort_by(&mut found, |one, other| one.name.cmp(&other.name));
        found.truncate(limits::DISCOVERY_FOUND);
        let (mut state, name) = (self.state(), &self.specs[index].name);
        let kept = &mut state[index];
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

    /// Adds what was found to `config`, which nothing was added to yet.
    pub fn merge_into(&self, config: &mut Config) {
        let mut state = self.state();
        let named = config.servers.iter();
        let mut names: SortedMap<String, &str> = named
            .map(|server| (server.name.clone(), "the configuration"))
            .collect();
        for (kept, spec) in state.iter_mut().zip(&self.specs) {
            kept.give_up_in_time(spec);
            let (mut taken, mut refused) = (0, kept.odd.clone());
            let is_over = kept.failing.as_ref().is_some_and(|failing| failing.is_over);
            for found in kept.found.iter().filter(|_| !is_over) {
                match judged(found, spec, &names) {
                    Ok(_) if names.len() >= limits::CONFIG_SERVERS => {
                        let most = limits::CONFIG_SERVERS;
                        refused.push(told(found, &format!("there are {most} servers already")));
                    }
                    Ok(server) => {
                        names.insert(found.name.clone(), &spec.name);
                        config.servers.push(server);
                        taken += 1;
                    }
                    Err(why) => refused.push(told(found, &why)),
                }
            }
            kept.standing.taken = taken;
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
    entry::server(&found.name, &found.entry, spec)
}

fn told(found: &Found, why: &str) -> String {
    format!("{:?} at {}: {why}", found.name, found.place)
}
