//! `gateway.alerts` with its variables, secrets and files filled in.

use std::path::Path;

use crate::base::mask;
use crate::base::secret::Secret;
use crate::base::sorted::SortedSet;
use crate::config::alerts::sink::{Shape, Target};
use crate::config::alerts::{AlertSpec, plain, read};
use crate::config::document::{Lines, Node, Notes, Spot, parse};
use crate::config::expand::expand;
use crate::config::lookups::Lookups;
use crate::config::problem::{Problem, Scope};
use crate::config::settings::{Origin, Settings};

/// What the settings say, as it can be carried out now. Its shape was checked with the settings;
/// what cannot be filled in is a warning, and its sink has no target.
pub fn filled(
    settings: &Settings,
    lookups: &Lookups<'_>,
    folder: &Path,
    problems: &mut Vec<Problem>,
) -> AlertSpec {
    let Some(text) = settings
        .alerts
        .as_deref()
        .filter(|_| settings.enable_alerts)
    else {
        return AlertSpec::default();
    };
    let mut notes = Notes::new(Scope::Setting("alerts"));
    let lines = Lines::new("alerts", text);
    let Some(value) = parse(&lines, &mut notes) else {
        return AlertSpec::default();
    };
    let node = Node::root(&lines, &value);
    let mut known = Notes::new(Scope::Setting("alerts"));
    read(&node, &plain, &mut known);
    let fill = |text: &str, spot: &Spot<'_>, notes: &mut Notes| {
        if !settings.enable_env_substitution {
            return Some(Secret::new(text.to_owned()));
        }
        let out = expand(text, &|wanted| lookups.find(wanted));
        for failure in &out.failures {
            spot.warn(notes, failure.message(), failure.remedy());
        }
        let is_whole = out.failures.is_empty() && !out.text.contains('\0');
        is_whole.then(|| Secret::new(out.text))
    };
    let mut spec = read(&node, &fill, &mut notes);
    for sink in &mut spec.sinks {
        sink.target.iter().for_each(learn);
        if let Some(Target::Http(http)) = &mut sink.target
            && let Some(path) = &mut http.ca_file
        {
            *path = folder.join(&*path);
        }
    }
    let known = known.problems.iter();
    let known: SortedSet<(&str, &str)> = known
        .map(|problem| (problem.key_path.as_str(), problem.message.as_str()))
        .collect();
    notes.soften();
    let new = notes.problems.iter();
    let new = new.filter(|one| !known.contains(&(one.key_path.as_str(), one.message.as_str())));
    problems.extend(new.map(|problem| placed(problem, settings)));
    spec
}

/// What opens a sink is masked in the log from now on.
fn learn(target: &Target) {
    let mut secrets: Vec<&Secret> = Vec::new();
    match target {
        Target::Http(http) => {
            secrets.extend(http.headers.iter().map(|(_, value)| value));
            match &http.shape {
                Shape::Webhook { key } => secrets.extend(key),
                Shape::PagerDuty { routing_key } => secrets.push(routing_key),
                Shape::Slack | Shape::Teams => secrets.push(&http.url),
            }
        }
        Target::Command(command) => secrets.extend(command.env.iter().map(|(_, value)| value)),
        Target::Log => {}
    }
    secrets
        .iter()
        .for_each(|secret| mask::learn(secret.expose()));
}

/// The place in the text of the setting, as one that people know.
fn placed(problem: &Problem, settings: &Settings) -> Problem {
    let (base, place) = match settings.origin("alerts") {
        Origin::File(place) => ("gateway.alerts".to_owned(), Some(place.clone())),
        origin => (origin.to_string(), None),
    };
    let key_path = match problem.key_path.as_str() {
        "" => base,
        path if path.starts_with('[') => format!("{base}{path}"),
        path => format!("{base}.{path}"),
    };
    Problem {
        place,
        key_path,
        ..problem.clone()
    }
}
