//! What annotations of a Service or labels of a container say about a server, and findings made
//! of that. Pure: each word of it is a stranger's.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use crate::base::{limits, ordered};
use crate::gateway::discovery::Found;
use crate::gateway::discovery::board::left_out;

/// One object that was found, whether it is of use or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Sorts as the time at which it was made.
    pub made: String,
    /// Of all that there is at one time, one only has it.
    pub key: String,
    /// `Err`: why it cannot be a server, with its place.
    pub outcome: Result<Found, String>,
}

/// Texts by key, each of which begins with one word of ours.
#[derive(Clone, Copy)]
pub struct Hints<'h> {
    pub texts: &'h Value,
    pub prefix: &'static str,
}

impl<'h> Hints<'h> {
    /// Without the blanks around it; none when nothing is left.
    pub fn get(&self, key: &str) -> Option<&'h str> {
        let text = self.texts.get(format!("{}{key}", self.prefix))?;
        text.as_str().map(str::trim).filter(|text| !text.is_empty())
    }

    pub fn is_https(&self, usual: bool) -> Result<bool, String> {
        match self.get("scheme") {
            None => Ok(usual),
            Some("http") => Ok(false),
            Some("https") => Ok(true),
            Some(_) => Err(self.bad("scheme", "is neither http nor https")),
        }
    }

    /// The entry of the server at `host`, which is fit for a URL.
    pub fn entry(
        &self,
        host: &str,
        port: u16,
        is_https: bool,
    ) -> Result<Map<String, Value>, String> {
        let path = self.get("path").unwrap_or("/mcp");
        let fits = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>?\\^`{|}".contains(&byte);
        if !path.starts_with('/') || path.starts_with("//") || !path.bytes().all(fits) {
            return Err(self.bad("path", "is no path of a URL, such as /mcp"));
        }
        let scheme = if is_https { "https" } else { "http" };
        let mut entry = Map::new();
        let url = format!("{scheme}://{host}:{port}{path}");
        entry.insert("url".into(), url.into());
        if let Some(kind) = self.get("type") {
            entry.insert("type".into(), kind.into());
        }
        let tags = self.get("tags").unwrap_or_default().split(',');
        let tags = tags.map(str::trim).filter(|tag| !tag.is_empty());
        let tags: Vec<Value> = tags.map(Value::from).collect();
        if !tags.is_empty() {
            entry.insert("tags".into(), tags.into());
        }
        Ok(entry)
    }

    pub fn bad(&self, key: &str, why: &str) -> String {
        format!("{}{key} {why}", self.prefix)
    }
}

impl Record {
    /// Who stands further back goes first where there are too many: whatever can be no server,
    /// and who came late. Else newcomers would push out what is served.
    pub fn cmp_standing(&self, other: &Record) -> Ordering {
        let standing = |one: &Record| one.outcome.is_err();
        let by_age = (&self.made, &self.key).cmp(&(&other.made, &other.key));
        standing(self).cmp(&standing(other)).then(by_age)
    }
}

/// All that can be servers, and what is wrong with the others, up to the bound. Of two with one
/// name the older stays: who comes later takes nothing over.
pub fn findings<'r>(records: impl Iterator<Item = &'r Record>) -> (Vec<Found>, Vec<String>) {
    let mut records: Vec<&Record> = records.collect();
    ordered::sort_by(&mut records, |one, other| one.cmp_standing(other));
    let over = records.len().saturating_sub(limits::DISCOVERY_FOUND);
    records.truncate(limits::DISCOVERY_FOUND);
    let (mut found, mut odd): (Vec<Found>, Vec<String>) = Default::default();
    let mut taken = std::collections::BTreeMap::new();
    for record in records {
        match &record.outcome {
            Err(why) => odd.push(why.clone()),
            Ok(one) => match taken.get(&one.name) {
                Some(place) => {
                    let (at, name) = (&one.place, &one.name);
                    odd.push(format!("{at}: {place} has the name {name:?} already"));
                }
                None => {
                    taken.insert(&one.name, &one.place);
                    found.push(one.clone());
                }
            },
        }
    }
    if over > 0 {
        odd.insert(0, left_out(over));
    }
    (found, odd)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Hints, Record, findings};
    use crate::base::limits;
    use crate::gateway::discovery::Found;

    fn url(path: &str) -> Result<String, String> {
        let texts = json!({"x.path": path});
        let hints = Hints {
            texts: &texts,
            prefix: "x.",
        };
        let entry = hints.entry("h", 1, false)?;
        Ok(entry["url"].as_str().unwrap_or_default().to_owned())
    }

    #[test]
    fn a_path_stays_a_path() {
        assert_eq!(url("/mcp/v1;a=b%20c").unwrap(), "http://h:1/mcp/v1;a=b%20c");
        assert_eq!(url("  ").unwrap(), "http://h:1/mcp");
        for bad in [
            "mcp",
            "@evil.example/",
            "//evil.example",
            "/a b",
            "/a?key=b",
            "/a#b",
            "/a\r\nHost: b",
            "/a\\b",
            "/\u{e9}",
            ".evil.example/",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_but_harmless_keys_is_made() {
        let texts = json!({
            "x.command": "sh", "x.env": "A=b", "x.headers": "a: b", "x.url": "http://evil/",
            "x.type": "sse", "x.tags": " a, ,b,", "x.path": "/sse"
        });
        let hints = Hints {
            texts: &texts,
            prefix: "x.",
        };
        let entry = Value::Object(hints.entry("h", 8, true).unwrap());
        let expect = json!({"url": "https://h:8/sse", "type": "sse", "tags": ["a", "b"]});
        assert_eq!(entry, expect);
    }

    fn record(made: &str, key: &str, name: &str) -> Record {
        Record {
            made: made.into(),
            key: key.into(),
            outcome: Ok(Found {
                name: name.into(),
                entry: serde_json::Map::new(),
                place: key.into(),
            }),
        }
    }

    #[test]
    fn where_there_are_too_many_the_last_to_come_is_left_out() {
        let most = limits::DISCOVERY_FOUND;
        let made = |at: usize| format!("{at:05}");
        let mut all: Vec<Record> = (1..=most)
            .map(|at| record(&made(at), &made(at), &made(at)))
            .collect();
        // Older than all, and of no use.
        all.insert(0, record("0", "0", "0"));
        all[0].outcome = Err("no port".to_owned());
        // Younger than all, and first by its name.
        all.insert(0, record("z", "a", "a"));
        let (found, odd) = findings(all.iter());
        assert_eq!(found.len(), most);
        assert!(found.iter().all(|one| one.name != "a"));
        assert!(odd.len() == 1 && odd[0].starts_with("2 more"), "{odd:?}");
    }

    #[test]
    fn the_older_keeps_its_name() {
        let all = [
            record("2", "a", "one"),
            record("1", "c", "one"),
            record("1", "b", "two"),
            record("1", "d", "one"),
        ];
        let (found, odd) = findings(all.iter());
        let places: Vec<&str> = found.iter().map(|found| found.place.as_str()).collect();
        assert_eq!(places, ["b", "c"]);
        assert_eq!(odd.len(), 2);
        assert!(odd[1].starts_with("a: c has the name"), "{odd:?}");
    }
}
