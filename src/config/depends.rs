//! `dependsOn` of all servers together: each name must exist, and none may wait for itself.
//! Whoever asks for what cannot be is `Invalid`; the servers it names are not touched.

use crate::base::sorted::{SortedMap, SortedSet};
use crate::config::document::Notes;
use crate::config::entry::Written;
use crate::config::near::did_you_mean;
use crate::config::problem::{Problem, Scope};
use crate::config::server::{Read, ServerState};

/// Notes what is wrong, in the order of the servers.
pub fn check(read: &mut [Read<'_>], problems: &mut Vec<Problem>) {
    let names: Vec<String> = read.iter().map(|one| one.server.name.clone()).collect();
    let numbers = names.iter().enumerate();
    let numbers: SortedMap<&str, usize> = numbers
        .map(|(number, name)| (name.as_str(), number))
        .collect();
    let edges: Vec<Vec<usize>> = read
        .iter()
        .map(|one| {
            let known = one.depends_on.iter().filter_map(|to| numbers.get(to.text));
            known.copied().collect()
        })
        .collect();
    for (number, one) in read.iter_mut().enumerate() {
        let mut notes = Notes::new(Scope::Server(one.server.name.clone()));
        for to in &one.depends_on {
            match numbers.get(to.text) {
                None => note_unknown(to, &one.server.name, &names, &mut notes),
                Some(next) if reaches(*next, number, &edges) => {
                    let remedy = "a server cannot wait for itself; remove one of the names";
                    to.spot
                        .error(&mut notes, "leads back to this server", remedy);
                }
                Some(_) => {}
            }
        }
        spoil(one, &mut notes);
        problems.append(&mut notes.problems);
    }
}

fn note_unknown(to: &Written<'_>, own: &str, names: &[String], notes: &mut Notes) {
    let others = names.iter().map(String::as_str).filter(|name| *name != own);
    let remedy = did_you_mean(to.text, others, "name a server of this configuration");
    to.spot.error(notes, "no server has this name", remedy);
}

fn reaches(from: usize, goal: usize, edges: &[Vec<usize>]) -> bool {
    let (mut seen, mut open) = (SortedSet::new(), vec![from]);
    while let Some(number) = open.pop() {
        if number == goal {
            return true;
        }
        if seen.insert(number) {
            open.extend(edges.get(number).into_iter().flatten());
        }
    }
    false
}

/// As any other error of its entry; a disabled server only hears of it.
fn spoil(one: &mut Read<'_>, notes: &mut Notes) {
    let Some(problem) = notes.first_error() else {
        return;
    };
    match one.server.state {
        ServerState::Disabled => notes.soften(),
        ServerState::Invalid(_) => {}
        ServerState::Enabled => {
            one.server.state = ServerState::Invalid(problem.reason());
            one.server.process = None;
            one.server.remote = None;
        }
    }
}
