//! What is logged: one level for everything, others for single modules. Pure.

use log::LevelFilter;

/// Our own targets begin so; in rules and lines that is left out.
const OWN: &str = "onemcp::";

#[derive(Debug, Clone)]
pub struct Levels {
    base: LevelFilter,
    /// The longest name first.
    modules: Vec<(String, LevelFilter)>,
}

impl Levels {
    pub const fn all(base: LevelFilter) -> Levels {
        Levels {
            base,
            modules: Vec::new(),
        }
    }

    pub fn new(base: LevelFilter, modules: &[(String, LevelFilter)]) -> Levels {
        let mut modules = modules.to_vec();
        modules.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Levels { base, modules }
    }

    /// Lines above it are wanted by nobody.
    pub fn highest(&self) -> LevelFilter {
        let all = self.modules.iter().map(|(_, level)| *level);
        all.fold(self.base, Ord::max)
    }

    pub fn of(&self, target: &str) -> LevelFilter {
        let short = short(target);
        let rule = self.modules.iter().find(|(name, _)| {
            let name = name.strip_prefix(OWN).unwrap_or(name);
            let rest = short.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '.']))
        });
        match rule {
            Some((_, level)) => *level,
            // What libraries have to say is for their authors.
            None if is_foreign(target) => self.base.min(LevelFilter::Warn),
            None => self.base,
        }
    }
}

/// A target as people see it.
pub fn short(target: &str) -> &str {
    target.strip_prefix(OWN).unwrap_or(target)
}

fn is_foreign(target: &str) -> bool {
    // Those that we name ourselves are no paths of modules.
    let crate_name = target.split("::").next().unwrap_or_default();
    crate_name != "onemcp" && !target.starts_with("server.") && target != "request"
}

#[cfg(test)]
mod tests {
    use log::LevelFilter::{Debug, Error, Info, Off, Trace, Warn};

    use super::Levels;

    #[test]
    fn the_longest_name_decides() {
        let rules = [
            ("upstream".to_owned(), Debug),
            ("upstream::owner".to_owned(), Error),
            ("server.noisy".to_owned(), Off),
            ("ureq".to_owned(), Trace),
        ];
        let levels = Levels::new(Info, &rules);
        for (target, level) in [
            ("onemcp::upstream", Debug),
            ("onemcp::upstream::link", Debug),
            ("onemcp::upstream::owner", Error),
            ("onemcp::upstreams", Info),
            ("onemcp::http::server", Info),
            ("server.noisy", Off),
            ("server.noisy2", Info),
            ("request", Info),
            ("ureq::unit", Trace),
            ("rustls::client", Warn),
        ] {
            assert_eq!(levels.of(target), level, "{target}");
        }
        assert_eq!(levels.highest(), Trace);
        assert_eq!(Levels::all(Error).of("rustls"), Error);
    }
}
