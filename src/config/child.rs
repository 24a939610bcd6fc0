//! What a child process inherits: little, unless its entry asks for more, and never a
//! variable of the gateway itself unless the entry names it.

use std::collections::BTreeMap;

use crate::base::notify;
use crate::base::ordered;
use crate::config::Environment;

/// What nearly every program needs to run and that tells nothing about its neighbours.
const SAFE: &[&str] = &[
    "HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER",
];

/// The base environment of a child, before the `env` of its entry.
pub fn inherited(
    environment: &Environment,
    everything: bool,
    filter: &[String],
) -> BTreeMap<String, String> {
    let passing = environment
        .iter()
        .filter(|(name, _)| !is_ours(name))
        .filter(|(name, _)| everything || SAFE.contains(&name.as_str()))
        // Functions that a shell exported: code, not a value.
        .filter(|(_, value)| !value.starts_with("()"))
        .filter(|(name, _)| passes(filter, name))
        .map(|(name, value)| (name.clone(), value.clone()));
    ordered::map(passing)
}

/// Meant for the gateway itself.
fn is_ours(name: &str) -> bool {
    name.starts_with("ONE_MCP_") || notify::VARIABLES.contains(&name)
}

/// `!` denies and wins; a list of denials only lets everything else pass.
fn passes(filter: &[String], name: &str) -> bool {
    let denies = filter
        .iter()
        .filter_map(|pattern| pattern.strip_prefix('!'));
    if denies.clone().any(|pattern| matches(pattern, name)) {
        return false;
    }
    let mut allows = filter
        .iter()
        .filter(|pattern| !pattern.starts_with('!'))
        .peekable();
    allows.peek().is_none() || allows.any(|pattern| matches(pattern, name))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

/// A variable name, perhaps with one `*` at its end, perhaps denied by `!`.
pub fn is_filter_pattern(pattern: &str) -> bool {
    let name = pattern.strip_prefix('!').unwrap_or(pattern);
    let beginning = name.strip_suffix('*').unwrap_or(name);
    !name.is_empty() && !beginning.contains(['*', '!', '='])
}

#[cfg(test)]
mod tests {
    use super::{inherited, is_filter_pattern};
    use crate::config::Environment;

    fn parent() -> Environment {
        let names = [
            "PATH",
            "HOME",
            "AWS_KEY",
            "AWS_REGION",
            "NODE_ENV",
            "ONE_MCP_PORT",
            "NOTIFY_SOCKET",
            "WATCHDOG_PID",
            "WATCHDOG_USEC",
        ];
        let mut parent: Environment = names
            .iter()
            .map(|name| ((*name).to_owned(), "v".to_owned()))
            .collect();
        parent.insert("TERM".into(), "() { evil; }".into());
        parent
    }

    #[test]
    fn base_environment() {
        let check = |everything: bool, filter: &[&str], expect: &str| {
            let filter: Vec<String> = filter.iter().map(|text| (*text).to_owned()).collect();
            let names: Vec<String> = inherited(&parent(), everything, &filter)
                .into_keys()
                .collect();
            assert_eq!(names.join(" "), expect, "{everything} {filter:?}");
        };
        check(false, &[], "HOME PATH");
        check(true, &[], "AWS_KEY AWS_REGION HOME NODE_ENV PATH");
        check(true, &["AWS_*"], "AWS_KEY AWS_REGION");
        check(true, &["AWS_*", "PATH", "!AWS_KEY"], "AWS_REGION PATH");
        check(true, &["!AWS_*"], "HOME NODE_ENV PATH");
        check(false, &["PATH"], "PATH");
        check(false, &["!HOME"], "PATH");
        check(true, &["*"], "AWS_KEY AWS_REGION HOME NODE_ENV PATH");
        check(true, &["ONE_MCP_PORT"], "");
        check(true, &["NOTIFY_SOCKET", "WATCHDOG_*"], "");
        check(true, &["!*"], "");
    }

    #[test]
    fn patterns() {
        let check = |pattern: &str, good: bool| {
            assert_eq!(is_filter_pattern(pattern), good, "{pattern}");
        };
        check("PATH", true);
        check("AWS_*", true);
        check("!AWS_*", true);
        check("*", true);
        check("A*B", false);
        check("**", false);
        check("!", false);
        check("!!A", false);
        check("", false);
    }
}
