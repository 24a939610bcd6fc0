#![no_main]
//! Whole configurations (`mcp.json`, `config.toml`, `.env`), with what their templates name. What
//! is judged twice is judged the same; every complaint has a place that exists and a remedy; what
//! is no JSON with comments makes no server; and no secret is told.
//!
//! Parts are separated by a line `---`. Only the usual providers of secrets are asked: a fuzzer
//! must start no command and reach no network.

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use onemcp::config::check::{Checked, Given, check, decode, written};
use onemcp::config::secret_sources::SecretSettings;
use onemcp::config::settings::Flags;
use onemcp::config::sources::{Source, Sources};
use onemcp::config::{Environment, preset};
use onemcp::secrets::store::Store;
use onemcp_fuzz::bounded;

/// Long and odd enough that no mutation makes it.
const SECRET: &str = "Xq7-secret-value-of-a-token-Zk2";
const SEPARATOR: &str = "\n---\n";

fuzz_target!(|data: &[u8]| bounded(|| {
    let Ok(text) = decode("mcp.json", data) else {
        return;
    };
    let mut parts = text.splitn(4, SEPARATOR);
    let mut source = |file: &str| {
        parts.next().map(|text| Source {
            file: file.to_owned(),
            text: text.to_owned(),
        })
    };
    let sources = Sources {
        base: source("mcp.json"),
        toml: source("config.toml"),
        dotenv: source(".env"),
        fragments: source("conf.d/a.json").into_iter().collect(),
        ..Sources::default()
    };
    if let Some(base) = &sources.base {
        let _ = preset::read("presets.json", &base.text, &mut Vec::new());
    }
    let settings = judged(&sources, None).settings;
    if settings.secrets != SecretSettings::default() || text.contains("FILE") {
        return;
    }
    let checked = judged(&sources, Some(&Store::default()));
    let again = judged(&sources, Some(&Store::default()));
    assert_eq!(told(&checked), told(&again));
    places(&sources, &checked);
    let names: Vec<&str> = checked
        .servers
        .iter()
        .map(|server| server.name.as_str())
        .collect();
    let known = written(&sources);
    for name in names {
        assert!(
            known.iter().any(|server| server.name == name),
            "{name} is written nowhere"
        );
    }
}));

fn judged(sources: &Sources, secrets: Option<&Store>) -> Checked {
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let environment: Environment = [("A", "a"), ("HOME", "/home/me"), ("API_TOKEN", SECRET)]
        .map(pair)
        .into();
    let given = Given {
        flags: &Flags::default(),
        environment: &environment,
        folder: Path::new("/nonexistent"),
        secrets,
    };
    check(sources, &given)
}

fn told(checked: &Checked) -> Vec<String> {
    let mut told: Vec<String> = checked.problems.iter().map(|one| one.json_line()).collect();
    told.extend(checked.servers.iter().map(|server| server.name.clone()));
    told
}

fn places(sources: &Sources, checked: &Checked) {
    let single = [&sources.base, &sources.toml, &sources.dotenv];
    let all: Vec<&Source> = single
        .into_iter()
        .flatten()
        .chain(&sources.fragments)
        .collect();
    for problem in &checked.problems {
        let line = problem.json_line();
        assert!(
            !problem.message.is_empty() && !problem.remedy.is_empty(),
            "{line}"
        );
        assert!(!line.contains(SECRET) && !line.contains('\n'), "{line}");
        let Some(place) = &problem.place else {
            continue;
        };
        if let Some(source) = all.iter().find(|source| source.file == place.file) {
            let lines = source.text.split('\n').count();
            assert!((1..=lines).contains(&place.line), "{line}");
            let text = source
                .text
                .split('\n')
                .nth(place.line - 1)
                .expect("such a line");
            assert!(
                (1..=text.chars().count() + 1).contains(&place.column),
                "{line}"
            );
        }
    }
}
