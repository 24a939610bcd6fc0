//! An error text for the eyes of whoever asks for health: without credentials, URLs, paths of
//! files, addresses and local hosts. Pure; the log has the whole text.
//!
//! The placeholders are those that users of 1MCP know. Where a text could be either, it is hidden.

use std::cmp::Reverse;
use std::net::Ipv6Addr;

use crate::base::ordered;
pub use crate::base::secret::is_secret_name;

const CREDENTIAL: &str = "[REDACTED_CREDENTIAL]";
const URL: &str = "[REDACTED_URL]";
const PATH: &str = "[REDACTED_PATH]";
const ADDRESS: &str = "[REDACTED_IP]";
const HOST: &str = "[REDACTED_HOST]";

/// Characters that are shown of one text.
const SHOWN: usize = 300;
/// Characters that are looked at: what is hidden may be longer than what stands for it.
const READ: usize = 4 * SHOWN;

/// After which a credential follows without a name.
const SCHEMES: [&str; 2] = ["bearer", "basic"];
/// How well-known kinds of tokens begin.
const TOKENS: [&str; 9] = [
    "sk-",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "eyJ",
];
const FILE_ENDINGS: [&str; 10] = [
    "json", "js", "ts", "py", "yml", "yaml", "conf", "ini", "toml", "env",
];

/// `text` without what is nobody's business, nor any of the `known` secrets.
pub fn redacted<'s>(text: &str, known: impl IntoIterator<Item = &'s str>) -> String {
    let mut text = text.to_owned();
    let known = known.into_iter();
    let mut known: Vec<&str> = known.filter(|one| one.len() >= KNOWN_BYTES).collect();
    // The longest first, so that nothing is left of one that begins like another.
    ordered::sort_by_key(&mut known, |secret| Reverse(secret.len()));
    for secret in known {
        if text.contains(secret) {
            text = text.replace(secret, CREDENTIAL);
        }
    }
    let mut rest = text.as_str();
    if let Some((at, _)) = rest.char_indices().nth(READ) {
        rest = &rest[..at];
    }
    let mut out = String::with_capacity(rest.len());
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let found = if is_word(before) {
            None
        } else {
            piece(rest, before)
        };
        let found = found.or_else(|| path(rest, before));
        let length = match found {
            Some((length, placeholder)) => {
                out.push_str(placeholder);
                length
            }
            None => {
                out.push(first);
                first.len_utf8()
            }
        };
        before = rest[..length].chars().next_back().unwrap_or(' ');
        rest = &rest[length..];
    }
    out.chars().take(SHOWN).collect()
}

/// Shorter values would blot out ordinary words.
const KNOWN_BYTES: usize = 6;

/// What begins here and is to be hidden: its length and what stands for it.
fn piece(text: &str, before: char) -> Option<(usize, &'static str)> {
    credential(text, before)
        .or_else(|| user(text))
        .map(|length| (length, CREDENTIAL))
        .or_else(|| url(text).map(|length| (length, URL)))
        .or_else(|| address(text).map(|length| (length, ADDRESS)))
        .or_else(|| local_host(text).map(|length| (length, HOST)))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn length_of(text: &str, fits: impl Fn(char) -> bool) -> usize {
    text.find(|c: char| !fits(c)).unwrap_or(text.len())
}

/// `token=x`, `"api_key": "x y"`, `Authorization: Bearer x`, `Bearer x`, `sk-x`.
fn credential(text: &str, before: char) -> Option<usize> {
    let name = length_of(text, |c| is_word(c) || c == '-' || c == '.');
    if SCHEMES
        .iter()
        .any(|scheme| text[..name].eq_ignore_ascii_case(scheme))
    {
        let gap = length_of(&text[name..], |c| c == ' ');
        let value = value(&text[name + gap..]);
        // "basic check" is prose; a credential is long or has something odd.
        let is_long = value >= KNOWN_BYTES && gap > 0;
        return is_long.then_some(name + gap + value);
    }
    if TOKENS.iter().any(|start| text.starts_with(start)) {
        return (name > KNOWN_BYTES).then_some(name);
    }
    if !is_secret_name(&text[..name]) {
        return None;
    }
    let mut at = name + length_of(&text[name..], |c| "\"'\\".contains(c));
    let space = length_of(&text[at..], |c| c == ' ');
    let rest = text[at + space..]
        .strip_prefix([':', '='])
        .unwrap_or_default();
    // `mcpServers.a.env.API_KEY: is not set` is the place of a setting.
    let is_place = before == '.' || text[..name].contains('.');
    if rest.is_empty() || is_place && rest.starts_with(' ') {
        return None;
    }
    at += space + 1;
    at += length_of(&text[at..], |c| c == ' ');
    let scheme = length_of(&text[at..], |c| c.is_ascii_alphabetic());
    if SCHEMES
        .iter()
        .any(|word| text[at..at + scheme].eq_ignore_ascii_case(word))
    {
        at += scheme;
        at += length_of(&text[at..], |c| c == ' ');
    }
    let value = value(&text[at..]);
    (value > 0).then_some(at + value)
}

/// To the closing quote, or to the next space.
fn value(text: &str) -> usize {
    let quote = text.chars().next().filter(|c| "\"'".contains(*c));
    match quote {
        Some(quote) => text[1..].find(quote).map_or(text.len(), |at| at + 2),
        None => length_of(text, |c| !c.is_whitespace()),
    }
}

/// `user:password@`.
fn user(text: &str) -> Option<usize> {
    let length = length_of(text, |c| !c.is_whitespace() && !"/@\"'".contains(c));
    let (name, password) = text[..length].split_once(':')?;
    let fits = text[length..].starts_with('@') && !name.is_empty() && !password.is_empty();
    fits.then_some(length + 1)
}

/// `scheme://` and all that follows without a space.
fn url(text: &str) -> Option<usize> {
    let scheme = length_of(text, |c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    if scheme == 0 || !text[scheme..].starts_with("://") {
        return None;
    }
    let length = length_of(text, |c| !c.is_whitespace() && !"\"'<>".contains(c));
    Some(
        text[..length]
            .trim_end_matches(['.', ',', ';', ':', ')'])
            .len(),
    )
}

/// `10.0.0.1`, `fe80::1`.
fn address(text: &str) -> Option<usize> {
    let v4 = length_of(text, |c| c.is_ascii_digit() || c == '.');
    let trimmed = text[..v4].trim_end_matches('.');
    let parts: Vec<&str> = trimmed.split('.').collect();
    let is_part = |part: &&str| (1..=3).contains(&part.len());
    if parts.len() == 4 && parts.iter().all(is_part) && !text[v4..].starts_with(is_word) {
        return Some(trimmed.len());
    }
    let v6 = length_of(text, |c| c.is_ascii_hexdigit() || c == ':' || c == '.');
    let trimmed = text[..v6].trim_end_matches('.');
    let is_v6 = trimmed.matches(':').count() >= 2 && trimmed.parse::<Ipv6Addr>().is_ok();
    is_v6.then_some(trimmed.len())
}

/// `localhost`, with its port.
fn local_host(text: &str) -> Option<usize> {
    let name = length_of(text, is_word);
    if !text[..name].eq_ignore_ascii_case("localhost") {
        return None;
    }
    let port = text[name..].strip_prefix(':');
    let digits = port.map_or(0, |port| length_of(port, |c| c.is_ascii_digit()));
    Some(name + if digits > 0 { 1 + digits } else { 0 })
}

/// An absolute path of a file that holds settings or a program's text.
fn path(text: &str, before: char) -> Option<(usize, &'static str)> {
    let begins = text.starts_with(['/', '\\']) && !is_word(before) && before != '.';
    let drive = text
        .get(1..3)
        .is_some_and(|sign| sign == ":\\" || sign == ":/");
    let drive = drive && text.starts_with(|c: char| c.is_ascii_alphabetic()) && !is_word(before);
    if !begins && !drive {
        return None;
    }
    let skipped = if drive { 2 } else { 0 };
    let fits = |c: char| is_word(c) || "/\\.-@+~".contains(c);
    let length = skipped + length_of(&text[skipped..], fits);
    let length = text[..length].trim_end_matches('.').len();
    let (_, ending) = text[..length].rsplit_once('.')?;
    FILE_ENDINGS.contains(&ending).then_some((length, PATH))
}

#[cfg(test)]
#[path = "redacted_properties.rs"]
mod properties;

#[cfg(test)]
mod tests {
    use super::{is_secret_name, redacted};

    #[test]
    fn what_is_nobodys_business_is_hidden() {
        for (text, shown) in [
            ("bad API_KEY=abc here", "bad [REDACTED_CREDENTIAL] here"),
            ("password: hunter2", "[REDACTED_CREDENTIAL]"),
            ("password = hunter2 x", "[REDACTED_CREDENTIAL] x"),
            (
                "{\"token\":\"a b\",\"n\":1}",
                "{\"[REDACTED_CREDENTIAL],\"n\":1}",
            ),
            ("\"client_secret\": \"a b\" c", "\"[REDACTED_CREDENTIAL] c"),
            ("Authorization: Bearer abc.def x", "[REDACTED_CREDENTIAL] x"),
            (
                "sent Bearer abcdef12 twice",
                "sent [REDACTED_CREDENTIAL] twice",
            ),
            (
                "env.V: secret \"api-key\" is not there (environment: neither API_KEY nor \
                 API_KEY_FILE is set): ask Ann; run onemcp secret set api-key, or set API_KEY",
                "env.V: secret \"api-key\" is not there (environment: neither API_KEY nor \
                 API_KEY_FILE is set): ask Ann; run onemcp secret set api-key, or set API_KEY",
            ),
            ("invalid sk-1234567890", "invalid [REDACTED_CREDENTIAL]"),
            ("accessToken=1", "[REDACTED_CREDENTIAL]"),
            ("mcpServers.a.env.TOKEN=abc", "[REDACTED_CREDENTIAL]"),
            ("root:pw@db", "[REDACTED_CREDENTIAL]db"),
            ("at http://u:p@host/x?token=1", "at [REDACTED_URL]"),
            (
                "GET https://a.example:8443/x: refused",
                "GET [REDACTED_URL]: refused",
            ),
            ("postgres://u:p@db/x failed", "[REDACTED_URL] failed"),
            ("see (http://a/b).", "see ([REDACTED_URL])."),
            (
                "failed to read /etc/app/mcp.json: no",
                "failed to read [REDACTED_PATH]: no",
            ),
            ("C:\\app\\x.ini", "[REDACTED_PATH]"),
            ("at /srv/index.js:10:3", "at [REDACTED_PATH]:10:3"),
            (
                "connect 10.0.0.1:80 refused",
                "connect [REDACTED_IP]:80 refused",
            ),
            ("host 192.168.1.77.", "host [REDACTED_IP]."),
            (
                "connect fe80::1 and [::1]:80",
                "connect [REDACTED_IP] and [[REDACTED_IP]]:80",
            ),
            (
                "localhost:3000 and LOCALHOST",
                "[REDACTED_HOST] and [REDACTED_HOST]",
            ),
        ] {
            assert_eq!(redacted(text, []), shown, "{text}");
        }
    }

    #[test]
    fn what_we_say_stays_readable() {
        for text in [
            "exited with code 3",
            "killed by signal 9 (SIGKILL)",
            "no answer to initialize within 60 s",
            "program \"mcp-server\" not found in PATH; install it or write its full path",
            "failed to start /usr/local/bin/server: permission denied",
            "mcpServers.a.env.API_KEY: variable API_KEY is not set",
            "answered 401: the server wants authorization",
            "the tokens are used up, keyboard missing",
            "version 1.2.3 is too old",
            "10:30:59 at 100%",
            "std::io is no name",
            "localhosting is no host",
            "basic check failed",
            "ä ö ü: größer",
        ] {
            assert_eq!(redacted(text, []), text);
        }
    }

    #[test]
    fn known_secrets_are_hidden_wherever_they_stand() {
        assert_eq!(
            redacted("got s3cretvalue!", ["s3cretvalue"]),
            "got [REDACTED_CREDENTIAL]!"
        );
        assert_eq!(redacted("one on one", ["on"]), "one on one");
        assert!(is_secret_name("GITHUB_TOKEN") && is_secret_name("apiKey"));
        assert!(!is_secret_name("KEYBOARD") && !is_secret_name("MODE"));
    }

    #[test]
    fn a_secret_that_begins_like_another_is_hidden_whole() {
        for known in [["abcdef", "abcdef-123456"], ["abcdef-123456", "abcdef"]] {
            assert_eq!(
                redacted("x abcdef-123456", known),
                "x [REDACTED_CREDENTIAL]"
            );
        }
    }

    #[test]
    fn nothing_is_too_long_or_cut_within_a_character() {
        assert_eq!(
            redacted(&"ü".repeat(1000), []).chars().count(),
            super::SHOWN
        );
        for text in [
            "token",
            "token=",
            "key:",
            "a:@",
            "\"key\"",
            "http://",
            "/",
            "é=/.json",
            "Bearer ",
            "key é",
            "token: \"é",
        ] {
            redacted(text, []);
        }
    }
}
