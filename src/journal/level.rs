//! What is logged: one level for everything, others for targets whose names begin in a certain
//! way, the longest beginning first. env_logger judges; this says what to ask it. No IO.

use env_logger::{Builder, Logger};
use log::{LevelFilter, Log, Metadata};

/// Our own targets begin so; in rules and lines that is left out.
const OWN: &str = "onemcp";
/// Targets that we name ourselves and that are no paths of modules.
const NAMED: [&str; 3] = ["server", "request", "scope"];

pub struct Levels(Logger);

impl Levels {
    pub fn new(base: LevelFilter, modules: &[(String, LevelFilter)]) -> Levels {
        let mut builder = Builder::new();
        // What libraries have to say is for their authors.
        builder.filter_level(base.min(LevelFilter::Warn));
        for own in NAMED.into_iter().chain([OWN]) {
            builder.filter_module(own, base);
        }
        for (name, level) in modules {
            let name = short(name);
            builder.filter_module(name, *level);
            builder.filter_module(&format!("{OWN}::{name}"), *level);
        }
        Levels(builder.build())
    }

    /// Lines above it are wanted by nobody.
    pub fn highest(&self) -> LevelFilter {
        self.0.filter()
    }

    pub fn wants(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }
}

/// A target as people see it.
pub fn short(target: &str) -> &str {
    let rest = target.strip_prefix(OWN);
    rest.and_then(|rest| rest.strip_prefix("::"))
        .unwrap_or(target)
}

#[cfg(test)]
mod tests {
    use log::Level;
    use log::LevelFilter::{Debug, Error, Info, Off, Trace, Warn};

    use super::Levels;

    #[test]
    fn the_longest_name_decides() {
        let rules = [
            ("upstream".to_owned(), Debug),
            ("onemcp::upstream::owner".to_owned(), Error),
            ("server.noisy".to_owned(), Off),
            ("ureq".to_owned(), Trace),
        ];
        let levels = Levels::new(Info, &rules);
        let of = |levels: &Levels, target: &str| {
            let wants = |level: &Level| {
                let metadata = log::Metadata::builder()
                    .level(*level)
                    .target(target)
                    .build();
                levels.wants(&metadata)
            };
            Level::iter()
                .filter(wants)
                .last()
                .map_or(Off, |level| level.to_level_filter())
        };
        for (target, level) in [
            ("onemcp::upstream", Debug),
            ("onemcp::upstream::link", Debug),
            ("onemcp::upstream::owner", Error),
            ("onemcp::http::server", Info),
            ("server.noisy", Off),
            ("server.other", Info),
            ("request", Info),
            ("ureq::unit", Trace),
            ("rustls::client", Warn),
        ] {
            assert_eq!(of(&levels, target), level, "{target}");
        }
        assert_eq!(levels.highest(), Trace);
        assert_eq!(of(&Levels::new(Error, &[]), "rustls"), Error);
    }
}
