//! The headers of what is pushed to a collector, their templates filled in. A header that cannot
//! be filled in is left out with a warning: who collects must not keep a gateway from serving.

use crate::base::secret::Secret;
use crate::config::expand::expand;
use crate::config::lookups::Lookups;
use crate::config::problem::{Problem, Scope, Severity};
use crate::config::settings::{Origin, Settings};

const KEY: &str = "otlp.headers";

pub fn headers(
    settings: &Settings,
    lookups: &Lookups<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<(String, Secret)> {
    filled(KEY, &settings.otlp_headers, settings, lookups, problems)
}

/// Headers that stand under `key`.
pub fn filled(
    key: &'static str,
    given: &[(String, String)],
    settings: &Settings,
    lookups: &Lookups<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<(String, Secret)> {
    let mut headers = Vec::new();
    for (name, text) in given {
        let expanded = expand(text, &|wanted| lookups.find(wanted));
        let fits = |c: char| c == '\t' || c == ' ' || c.is_ascii_graphic();
        let fault = match expanded.failures.first() {
            Some(failure) => Some((failure.message(), failure.remedy())),
            None if !expanded.text.chars().all(fits) => {
                let message = "holds a control character or one outside ASCII";
                Some((message.to_owned(), "a header cannot carry it".to_owned()))
            }
            None => None,
        };
        match fault {
            None => headers.push((name.clone(), Secret::known(expanded.text))),
            Some((message, remedy)) => problems.push(Problem {
                severity: Severity::Warning,
                scope: Scope::Setting(key),
                place: match settings.origin(key) {
                    Origin::File(place) => Some(place.clone()),
                    _ => None,
                },
                key_path: format!("{key}.{name}"),
                message: format!("is not sent: {message}"),
                remedy,
            }),
        }
    }
    headers
}
