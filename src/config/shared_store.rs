//! Where the store is that several gateways share, its templates filled in.

use crate::config::expand::expand;
use crate::config::lookups::Lookups;
use crate::config::problem::{Problem, Scope, Severity};
use crate::config::settings::{Origin, Settings};
use crate::net::redis::spec::Spec;

const KEY: &str = "store";

/// `None`: none is wanted, or it cannot be used, which stops a start.
pub fn filled(
    settings: &Settings,
    lookups: &Lookups<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Spec> {
    let text = settings.replicas.store.as_deref()?;
    let expanded = expand(text, &|wanted| lookups.find(wanted));
    let (message, remedy) = match expanded.failures.first() {
        Some(failure) => (failure.message(), failure.remedy()),
        None => match Spec::parse(expanded.text.trim()) {
            Ok(spec) => return Some(spec),
            Err(remedy) => ("names no store".to_owned(), remedy.to_owned()),
        },
    };
    problems.push(Problem {
        severity: Severity::Error,
        scope: Scope::Setting(KEY),
        place: match settings.origin(KEY) {
            Origin::File(place) => Some(place.clone()),
            _ => None,
        },
        key_path: KEY.to_owned(),
        message,
        remedy,
    });
    None
}
