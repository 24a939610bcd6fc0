//! What a token opens: scopes as words. `tag:NAME` opens the servers with that tag, `tag:*` all
//! of them, `tool:SERVER/NAME` one tool; `read` narrows all of these to tools that only read
//! (`readOnlyHint`). There is no hierarchy: `tag:a` never implies `tag:b`. Pure.

use std::fmt;
use std::sync::Arc;

use crate::base::limits;
use crate::wire::percent;

pub const ALL: &str = "tag:*";
pub const READ: &str = "read";
const TAG: &str = "tag:";
const TOOL: &str = "tool:";

/// A set of scopes: words in their plain form, sorted, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Scopes(Vec<String>);

/// Which word is no scope, and why. Fits behind "failed to ...".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadScope(pub String);

impl fmt::Display for BadScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much of one server a set of scopes opens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reach {
    Nothing,
    Whole,
    /// Everything but tools that may change something.
    ReadOnly,
    /// These tools alone, by the server's own names; with `read`, those of them that only read.
    Tools {
        names: Arc<[String]>,
        read_only: bool,
    },
}

/// Whether a tag can stand in a scope: `[A-Za-z0-9_-]{1,64}`.
pub fn is_tag(tag: &str) -> bool {
    (1..=limits::SCOPE_TAG_BYTES).contains(&tag.len())
        && tag
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// The scope of one tag, if it can be one.
pub fn of_tag(tag: &str) -> Option<String> {
    is_tag(tag).then(|| format!("{TAG}{}", tag.to_ascii_lowercase()))
}

/// The scope of one tool of a server.
pub fn of_tool(server: &str, tool: &str) -> String {
    format!(
        "{TOOL}{}/{}",
        percent::encode(server),
        percent::encode(tool)
    )
}

/// A word in its plain form: tags in lower case, names of tools with as few escapes as can be.
fn plain(word: &str) -> Option<String> {
    if word == READ || word == ALL {
        return Some(word.to_owned());
    }
    if let Some(tag) = word.strip_prefix(TAG) {
        return of_tag(tag);
    }
    let (server, tool) = word.strip_prefix(TOOL)?.split_once('/')?;
    let named = |text: &str| percent::decode(text).filter(|text| !text.is_empty());
    let word = of_tool(&named(server)?, &named(tool)?);
    (word.len() <= limits::SCOPE_BYTES && !tool.contains('/')).then_some(word)
}

impl Scopes {
    /// Reads words between spaces. No words are no scopes.
    pub fn parse(text: &str) -> Result<Scopes, BadScope> {
        let mut words = Vec::new();
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            if words.len() >= limits::SCOPES {
                let what = format!("at most {} scopes are taken", limits::SCOPES);
                return Err(BadScope(what));
            }
            let word = plain(word).ok_or_else(|| {
                let shown: String = word.chars().take(limits::SCOPE_TAG_BYTES).collect();
                BadScope(format!(
                    "{shown:?} is no scope; use tag:NAME, tag:*, tool:SERVER/NAME or read"
                ))
            })?;
            words.push(word);
        }
        Ok(Scopes::of(words))
    }

    /// The scopes among the words of others, who may use words that mean nothing here.
    pub fn known_of(text: &str) -> Scopes {
        let words = text.split(' ').take(limits::SCOPES * 4).filter_map(plain);
        Scopes::of(words.take(limits::SCOPES).collect())
    }

    fn of(mut words: Vec<String>) -> Scopes {
        words.sort_unstable();
        words.dedup();
        Scopes(words)
    }

    pub fn everything() -> Scopes {
        Scopes(vec![ALL.to_owned()])
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In their order.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub fn has(&self, word: &str) -> bool {
        self.0.iter().any(|known| known == word)
    }

    pub fn reads_only(&self) -> bool {
        self.has(READ)
    }

    /// Whether the word opens nothing that these do not open.
    fn opens(&self, word: &str) -> bool {
        word == READ || self.has(word) || self.has(ALL)
    }

    /// Whether all of `other` may be had from these. `read` narrows, so it must not get lost.
    pub fn includes(&self, other: &Scopes) -> bool {
        (other.reads_only() || !self.reads_only() || other.is_empty())
            && other.words().all(|word| self.opens(word))
    }

    /// What both open.
    pub fn and(&self, other: &Scopes) -> Scopes {
        let mine = self.words().filter(|word| other.opens(word));
        let theirs = other.words().filter(|word| self.opens(word));
        let mut words: Vec<String> = mine.chain(theirs).map(str::to_owned).collect();
        if !self.reads_only() && !other.reads_only() {
            words.retain(|word| word != READ);
        }
        Scopes::of(words)
    }

    /// What either opens, and never more: where one of the two reads only and neither opens all of
    /// the other, both read only.
    pub fn or(&self, other: &Scopes) -> Scopes {
        if self.includes(other) || other.is_empty() {
            return self.clone();
        }
        if other.includes(self) || self.is_empty() {
            return other.clone();
        }
        let words = self.words().chain(other.words());
        Scopes::of(words.map(str::to_owned).collect())
    }

    /// These words in a set that narrows as `other` does: to ask whether that opens them.
    #[must_use]
    pub fn narrowed_like(mut self, other: &Scopes) -> Scopes {
        if other.reads_only() && !self.is_empty() {
            self.0.push(READ.to_owned());
        }
        Scopes::of(self.0)
    }

    /// The words that `other` does not have.
    pub fn without(&self, other: &Scopes) -> Scopes {
        let words = self.words().filter(|word| !other.has(word));
        Scopes(words.map(str::to_owned).collect())
    }

    /// Whether anything stays closed.
    pub fn narrows(&self) -> bool {
        !self.has(ALL) || self.reads_only()
    }

    /// How much of a server they open. `tags` as in the configuration.
    pub fn reach(&self, server: &str, tags: &[String]) -> Reach {
        let read_only = self.reads_only();
        let has_tag = |tag: &String| of_tag(tag).is_some_and(|word| self.has(&word));
        if self.has(ALL) || tags.iter().any(has_tag) {
            return if read_only {
                Reach::ReadOnly
            } else {
                Reach::Whole
            };
        }
        let names: Vec<String> = self
            .words()
            .filter_map(|word| tool_of(word, server))
            .collect();
        if names.is_empty() {
            return Reach::Nothing;
        }
        Reach::Tools {
            names: names.into(),
            read_only,
        }
    }
}

/// The name of the tool, if the word is that of a tool of this server.
fn tool_of(word: &str, server: &str) -> Option<String> {
    let (of, tool) = word.strip_prefix(TOOL)?.split_once('/')?;
    (percent::decode(of)? == server).then(|| percent::decode(tool))?
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, word) in self.words().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{word}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "scope_properties.rs"]
mod properties;

#[cfg(test)]
mod tests {
    use super::{Reach, Scopes, of_tool};

    fn scopes(text: &str) -> Scopes {
        Scopes::parse(text).expect("scopes")
    }

    #[test]
    fn words_have_one_plain_form() {
        for (text, plain) in [
            ("", ""),
            ("tag:Web  tag:web tag:db", "tag:db tag:web"),
            ("tag:*", "tag:*"),
            ("read tag:a_b-C9", "read tag:a_b-c9"),
            ("tool:fs/read%5ffile", "tool:fs/read_file"),
            ("tool:github.com%2Fx%2fy/a.b", "tool:github.com%2Fx%2Fy/a.b"),
        ] {
            assert_eq!(scopes(text).to_string(), plain, "{text:?}");
        }
        let long = format!("tag:{}", "a".repeat(65));
        for bad in [
            "tag:",
            "tag:a.b",
            "tag:ä",
            "tag:a b!",
            "TAG:a",
            "write",
            "openid",
            "tool:fs",
            "tool:/a",
            "tool:fs/",
            "tool:fs/a/b",
            "tool:fs/%zz",
            "tag:**",
            &long,
            "tag:a\ttag:b",
            "Read",
        ] {
            assert!(Scopes::parse(bad).is_err(), "{bad:?}");
        }
        let many: Vec<String> = (0..51).map(|n| format!("tag:t{n}")).collect();
        assert!(Scopes::parse(&many.join(" ")).is_err());
        assert_eq!(Scopes::known_of("openid tag:a email").to_string(), "tag:a");
    }

    #[test]
    fn narrowing_never_widens() {
        for (have, want, may) in [
            ("tag:a tag:b", "tag:a", true),
            ("tag:a", "tag:a tag:b", false),
            ("tag:*", "tag:a tool:s/t", true),
            ("tag:*", "tag:* read", true),
            ("tag:a read", "tag:a", false),
            ("tag:a read", "tag:a read", true),
            ("tag:a", "tag:*", false),
            ("tag:a", "", true),
            ("tag:a read", "", true),
            ("", "tag:a", false),
            ("", "read", true),
            ("tool:s/t", "tool:s/u", false),
        ] {
            assert_eq!(
                scopes(have).includes(&scopes(want)),
                may,
                "{have:?} {want:?}"
            );
        }
    }

    #[test]
    fn sets_meet_and_join() {
        for (a, b, both, either) in [
            ("tag:a tag:b", "tag:b tag:c", "tag:b", "tag:a tag:b tag:c"),
            ("tag:*", "tag:b", "tag:b", "tag:*"),
            ("tag:a read", "tag:a", "read tag:a", "tag:a"),
            ("tag:a read", "tag:b read", "read", "read tag:a tag:b"),
            ("tag:a read", "", "read", "read tag:a"),
            ("tag:*", "tool:s/t read", "read tool:s/t", "tag:*"),
            ("tag:a read", "tag:b", "read", "read tag:a tag:b"),
        ] {
            assert_eq!(scopes(a).and(&scopes(b)).to_string(), both, "{a:?} {b:?}");
            assert_eq!(scopes(b).and(&scopes(a)).to_string(), both, "{b:?} {a:?}");
            assert_eq!(scopes(a).or(&scopes(b)).to_string(), either, "{a:?} {b:?}");
        }
    }

    #[test]
    fn servers_are_reached_by_tags_or_tool_by_tool() {
        let tags = |words: &[&str]| -> Vec<String> { words.iter().map(|w| (*w).into()).collect() };
        let web = tags(&["Web", "net.work"]);
        let names = |read_only| Reach::Tools {
            names: vec!["t x".to_owned()].into(),
            read_only,
        };
        let tool = of_tool("my/server", "t x");
        for (text, reach) in [
            ("tag:web", Reach::Whole),
            ("tag:WEB read", Reach::ReadOnly),
            ("tag:db", Reach::Nothing),
            ("", Reach::Nothing),
            ("read", Reach::Nothing),
            ("tag:*", Reach::Whole),
            (&tool, names(false)),
            (&format!("read {tool}"), names(true)),
            ("tool:other/t", Reach::Nothing),
        ] {
            assert_eq!(scopes(text).reach("my/server", &web), reach, "{text:?}");
        }
        assert_eq!(scopes("tag:web").reach("x", &[]), Reach::Nothing);
        assert_eq!(scopes("tag:*").reach("x", &[]), Reach::Whole);
    }
}
