//! The request log: one line at `debug` for each request of a client, when it has been answered.
//! While nobody wants these lines, a request has no entry.

use std::borrow::Cow;
use std::time::Duration;

use log::Level;

use crate::journal::arguments::{cut, shown};
use crate::journal::log::has_arguments;
use crate::journal::metrics::outcome::Outcome;
use crate::wire::json::string_value;
use crate::wire::members::Members;
use crate::wire::message::FROM_CLIENT;

/// Where these lines are logged, for `--log-modules`.
pub const TARGET: &str = "request";

/// What its line will say of a request.
pub struct Entry {
    method: String,
    params: Option<String>,
    /// What it is about: a name or URI as the client wrote it.
    name: Option<String>,
    server: Option<String>,
}

/// Whether anybody wants these lines.
#[inline]
pub fn is_on() -> bool {
    log::log_enabled!(target: TARGET, Level::Debug)
}

impl Entry {
    #[inline]
    pub fn begin(method: &str) -> Option<Box<Entry>> {
        is_on().then(|| {
            Box::new(Entry {
                method: cut(method),
                params: None,
                name: None,
                server: None,
            })
        })
    }

    /// What it says is shown only where that was asked for, but what it is about always, though
    /// nobody may have it.
    pub fn says(&mut self, params: Option<&str>) {
        self.params = params.filter(|_| has_arguments()).map(shown);
        self.name = params.and_then(subject).map(|name| cut(&name));
    }

    pub fn goes_to(&mut self, server: &str, name: &str) {
        self.server = Some(server.to_owned());
        self.name = Some(cut(name));
    }

    pub fn log(&self, spent: Duration, outcome: Outcome) {
        log::debug!(target: TARGET, "{}", self.line(spent, outcome));
    }

    fn line(&self, spent: Duration, outcome: Outcome) -> String {
        let mut line = format!("request done method={:?}", self.method);
        if let Some(name) = &self.name {
            line.push_str(&format!(" name={name:?}"));
        }
        if let Some(server) = &self.server {
            line.push_str(&format!(" server={server:?}"));
        }
        let ms = spent.as_secs_f64() * 1e3;
        match outcome {
            Outcome::Error(code) => {
                line.push_str(&format!(" ms={ms:.3} outcome=error code={code}"));
            }
            other => {
                let word = other.error_type().unwrap_or("ok");
                line.push_str(&format!(" ms={ms:.3} outcome={word}"));
            }
        }
        if let Some(params) = &self.params {
            line.push_str(&format!(" params={params:?}"));
        }
        line
    }
}

/// The name or URI that parameters are about.
fn subject(params: &str) -> Option<Cow<'_, str>> {
    let members = Members::parse(params, 1, FROM_CLIENT).ok()?;
    let completed = || Members::parse(members.get("ref")?, 2, FROM_CLIENT).ok();
    let raw = name_in(&members).or_else(|| name_in(&completed()?));
    string_value(raw?)
}

fn name_in<'a>(members: &Members<'a>) -> Option<&'a str> {
    members.get("name").or_else(|| members.get("uri"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Entry, subject};
    use crate::journal::metrics::outcome::Outcome;

    #[test]
    fn nothing_is_kept_while_nobody_wants_it() {
        assert!(Entry::begin("ping").is_none());
    }

    #[test]
    fn says_what_it_was_and_how_it_ended() {
        let mut entry = Entry {
            method: "tools/call".to_owned(),
            params: None,
            name: None,
            server: None,
        };
        entry.says(Some("{\"x\":1}"));
        entry.goes_to("s", "a\"b");
        let spent = Duration::from_micros(1500);
        assert_eq!(
            entry.line(spent, Outcome::Error(-32602)),
            "request done method=\"tools/call\" name=\"a\\\"b\" server=\"s\" ms=1.500 \
             outcome=error code=-32602"
        );
        entry.params = Some("{\"x\":1}".to_owned());
        let line = entry.line(spent, Outcome::Success);
        assert!(
            line.ends_with(" outcome=ok params=\"{\\\"x\\\":1}\""),
            "{line}"
        );
    }

    #[test]
    fn says_what_it_was_about_though_nobody_offers_that() {
        for (params, name) in [
            (
                r#"{"name":"no\u0073uch","arguments":{"uri":"x"}}"#,
                Some("nosuch"),
            ),
            (r#"{"uri":"a:b"}"#, Some("a:b")),
            (r#"{"ref":{"type":"ref/prompt","name":"p"}}"#, Some("p")),
            (
                r#"{"ref":{"uri":"a:{b}"},"argument":{"name":"b"}}"#,
                Some("a:{b}"),
            ),
            (r#"{"name":7}"#, None),
            (r#"{"cursor":"x"}"#, None),
            ("[]", None),
        ] {
            assert_eq!(subject(params).as_deref(), name, "{params}");
        }
    }
}
