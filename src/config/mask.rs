//! What of a configuration may be shown to whoever looks over a shoulder: every text as it is
//! written, with what could be a secret covered. Pure. What a text is follows from where it
//! stands; where that does not say it, from how it looks. In doubt it is covered.
//!
//! A text that only names where a value comes from (`${TOKEN}`) tells nothing and is shown.

use jsonc_parser::ast::Value as Ast;
use jsonc_parser::common::Ranged;
use serde_json::{Map, Value};

use crate::config::settings::{Kind, SETTINGS, Setting};

pub const MASK: &str = "********";

/// Stands for any place in an array.
const ELEMENT: &str = "[]";

/// Before a value in a header, and no secret themselves.
const SCHEMES: &[&str] = &["Bearer ", "bearer ", "Basic ", "basic ", "Token ", "token "];

/// A name with one of these in it names a secret, and so does one that ends in `key`.
const SECRET_WORDS: &[&str] = &[
    "token",
    "secret",
    "passw",
    "passphrase",
    "pwd",
    "apikey",
    "api-key",
    "api_key",
    "credential",
    "authorization",
    "bearer",
    "cookie",
    "connection-string",
    "connection_string",
    "dsn",
];

/// How tokens of well-known services begin.
const TOKEN_BEGINNINGS: &[&str] = &[
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "xox",
    "AKIA",
    "ASIA",
    "eyJ",
    "hf_",
    "npm_",
    "pypi-",
    "ntn_",
    "secret_",
    "figd_",
    "AIza",
    "hvs.",
    "dop_v1_",
];

/// Parts of a path or words of this length that mix letters and digits are taken for keys.
const KEY_LENGTH: usize = 20;

/// Keys of tables (alerts, providers of secrets) whose texts are words of ours, names or paths.
const TABLE_WORDS: &[&str] = &[
    "type",
    "minSeverity",
    "severity",
    "sinks",
    "servers",
    "providers",
    "directory",
    "sealed",
    "keyFile",
    "mount",
    "path",
    "field",
    "namespace",
    "tokenFile",
    "role",
    "caFile",
    "tags",
    "allow",
    "srv",
    "scheme",
    "nameserver",
];

/// What a text is, by where it stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Open,
    Secret,
    /// `NAME=value`
    Assignment,
    /// A word of a command line.
    Word,
    Url,
}

/// The text of a document, with what could be secret covered; everything else stays as it is.
pub fn document(text: &str, root: &Ast<'_>) -> String {
    let mut covers = Vec::new();
    walk_ast(&mut Vec::new(), root, None, &mut covers);
    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
    for (start, end, shown) in covers {
        out.push_str(text.get(done..start).unwrap_or_default());
        out.push_str(&Value::String(shown).to_string());
        done = end;
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

/// One entry of `mcpServers`.
pub fn entry(entry: &Value) -> Value {
    let mut shown = entry.clone();
    walk_json(&mut vec!["mcpServers", ""], &mut shown, None);
    shown
}

/// The value of a setting, in the form of a file.
pub fn setting(row: &Setting, value: &Value) -> Value {
    let mut shown = value.clone();
    match (row.kind, &mut shown) {
        (Kind::Table(_), table) => {
            let mut path = vec!["gateway"];
            path.extend(row.key.split('.'));
            walk_json(&mut path, table, None);
        }
        (Kind::Headers, Value::Array(items)) => {
            for item in items {
                let text = item.as_str().unwrap_or_default();
                if let Some(text) = covered(Role::Assignment, text, None) {
                    *item = Value::String(text);
                }
            }
        }
        (Kind::Url, Value::String(text)) => *text = covered_url(text).unwrap_or(text.clone()),
        (_, Value::Null) => {}
        (_, other) if row.secret => *other = Value::from(MASK),
        _ => {}
    }
    shown
}

fn walk_ast<'v>(
    path: &mut Vec<&'v str>,
    value: &'v Ast<'_>,
    before: Option<&str>,
    covers: &mut Vec<(usize, usize, String)>,
) {
    match value {
        Ast::Object(object) => {
            for property in &object.properties {
                path.push(property.name.as_str());
                walk_ast(path, &property.value, None, covers);
                path.pop();
            }
        }
        Ast::Array(array) => {
            let mut before = None;
            path.push(ELEMENT);
            for element in &array.elements {
                walk_ast(path, element, before, covers);
                before = element
                    .as_string_lit()
                    .map(|literal| literal.value.as_ref());
            }
            path.pop();
        }
        Ast::StringLit(literal) => {
            if let Some(shown) = covered(role(path), &literal.value, before) {
                covers.push((value.start(), value.end(), shown));
            }
        }
        Ast::NumberLit(_) | Ast::BooleanLit(_) | Ast::NullKeyword(_) => {}
    }
}

fn walk_json<'v>(path: &mut Vec<&'v str>, value: &'v mut Value, before: Option<&str>) {
    match value {
        Value::Object(object) => walk_members(path, object),
        Value::Array(elements) => {
            let mut before: Option<String> = None;
            path.push(ELEMENT);
            for element in elements {
                let next = element.as_str().map(str::to_owned);
                walk_json(path, element, before.as_deref());
                before = next;
            }
            path.pop();
        }
        Value::String(text) => {
            if let Some(shown) = covered(role(path), text, before) {
                *text = shown;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn walk_members<'v>(path: &mut Vec<&'v str>, object: &'v mut Map<String, Value>) {
    for (name, value) in object.iter_mut() {
        path.push(name.as_str());
        walk_json(path, value, None);
        path.pop();
    }
}

fn role(path: &[&str]) -> Role {
    match path {
        ["mcpServers" | "mcpTemplates" | "servers", _, rest @ ..] => role_in_entry(rest),
        ["serverDefaults", rest @ ..] => role_in_entry(rest),
        ["gateway", rest @ ..] => role_of_setting(rest),
        _ => Role::Open,
    }
}

fn role_in_entry(path: &[&str]) -> Role {
    match path {
        ["env", ELEMENT] => Role::Assignment,
        ["env" | "headers" | "oauth", ..] => Role::Secret,
        ["url" | "proxy"] => Role::Url,
        [
            "type"
            | "tags"
            | "cwd"
            | "caFile"
            | "instances"
            | "dependsOn"
            | "envFilter"
            | "disabledTools"
            | "instructionOverride"
            | "toolDescriptionOverrides"
            | "toolPins"
            | "stripInvisible",
            ..,
        ] => Role::Open,
        _ => Role::Word,
    }
}

/// Under a key that is a setting stand its own values; in a table, those of its members.
fn role_of_setting(path: &[&str]) -> Role {
    let names: Vec<&str> = path
        .iter()
        .copied()
        .filter(|name| *name != ELEMENT)
        .collect();
    let full = names.join(".");
    let row = SETTINGS.iter().find(|row| {
        let under = |key: &str| {
            full.strip_prefix(key)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        full == row.key || row.aliases.contains(&full.as_str()) || under(row.key)
    });
    match (row, names.last()) {
        (Some(row), Some(last)) if matches!(row.kind, Kind::Table(_)) => {
            role_in_table(&names, last)
        }
        (Some(row), _) if row.secret => Role::Secret,
        (Some(row), _) if matches!(row.kind, Kind::Url) => Role::Url,
        (Some(_), _) => Role::Open,
        (None, _) => Role::Word,
    }
}

fn role_in_table(path: &[&str], key: &str) -> Role {
    match key {
        _ if path.contains(&"env") || path.contains(&"headers") => Role::Secret,
        "command" => Role::Word,
        "vault" | "proxy" => Role::Url,
        _ if TABLE_WORDS.contains(&key) => Role::Open,
        _ => Role::Secret,
    }
}

/// `None` when the text may be shown as it is.
fn covered(role: Role, text: &str, before: Option<&str>) -> Option<String> {
    match role {
        Role::Open => None,
        Role::Secret if tells_nothing(text) => None,
        Role::Secret => Some(MASK.to_owned()),
        Role::Assignment => {
            let (name, value) = text.split_once('=')?;
            (!tells_nothing(value)).then(|| format!("{name}={MASK}"))
        }
        Role::Word | Role::Url => {
            let plain = covered_defaults(text);
            let text = plain.as_deref().unwrap_or(text);
            let shown = match role {
                Role::Url => covered_url(text),
                _ => covered_word(text, before),
            };
            shown.or(plain)
        }
    }
}

/// Templates with what stands behind `:-` covered: a default is a value.
fn covered_defaults(text: &str) -> Option<String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("${") {
        let (before, template) = rest.split_at(at);
        out.push_str(before);
        let (inside, after) = template.split_at(template_end(template));
        match inside.split_once(":-") {
            Some((name, default))
                if !tells_nothing(default.strip_suffix('}').unwrap_or(default)) =>
            {
                out.push_str(&format!("{name}:-{MASK}}}"));
            }
            _ => out.push_str(inside),
        }
        rest = after;
    }
    out.push_str(rest);
    (out != text).then_some(out)
}

/// Behind the brace that closes what begins here, or the end.
fn template_end(text: &str) -> usize {
    let mut open = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' if text[..at].ends_with('$') => open += 1,
            '}' if open <= 1 => return at + 1,
            '}' => open -= 1,
            _ => {}
        }
    }
    text.len()
}

/// True for a text of `${NAME}` (without a default, which is a value), and what stands around.
fn tells_nothing(text: &str) -> bool {
    let mut rest = text;
    if let Some(scheme) = SCHEMES.iter().find(|scheme| rest.starts_with(**scheme)) {
        rest = &rest[scheme.len()..];
    }
    while let Some(after) = rest.strip_prefix("${") {
        let Some((inside, next)) = after.split_once('}') else {
            return false;
        };
        if inside.contains(":-") || inside.contains("${") {
            return false;
        }
        rest = next.trim_start_matches([':', '/', '@', ' ', ',', ';', '.', '-']);
    }
    rest.trim().is_empty()
}

fn covered_word(text: &str, before: Option<&str>) -> Option<String> {
    if tells_nothing(text) {
        return None;
    }
    let follows_secret_flag = before
        .is_some_and(|flag| flag.starts_with('-') && !flag.contains('=') && names_a_secret(flag));
    if (follows_secret_flag && !text.starts_with('-')) || looks_like_a_key(text) {
        return Some(MASK.to_owned());
    }
    for separator in ['=', ':'] {
        let Some((name, value)) = text.split_once(separator) else {
            continue;
        };
        if value.starts_with("//") || tells_nothing(value.trim()) {
            continue;
        }
        if names_a_secret(name) || looks_like_a_key(value.trim()) {
            return Some(format!("{name}{separator}{MASK}"));
        }
    }
    text.contains("://").then(|| covered_url(text)).flatten()
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // A personal access token; inside of other words it means nothing ("path").
    name.ends_with("key")
        || name.split(['-', '_']).any(|part| part == "pat")
        || SECRET_WORDS.iter().any(|word| name.contains(word))
}

fn looks_like_a_key(text: &str) -> bool {
    let mut known = TOKEN_BEGINNINGS.iter();
    if text.len() > 8 && known.any(|beginning| text.starts_with(beginning)) {
        return true;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+=".contains(c);
    let mixed = text.contains(|c: char| c.is_ascii_digit())
        && text.contains(|c: char| c.is_ascii_alphabetic());
    text.len() >= KEY_LENGTH && mixed && text.chars().all(plain)
}

/// Users with their passwords, values of the query, and what looks like a key in the path.
fn covered_url(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let (rest, fragment) = split_before(rest, '#');
    let (rest, query) = split_before(rest, '?');
    let (authority, path) = split_before(rest, '/');
    let mut out = format!("{scheme}://");
    match authority.rsplit_once('@') {
        Some((user, host)) if !tells_nothing(user) => out.push_str(&format!("{MASK}@{host}")),
        _ => out.push_str(authority),
    }
    let parts: Vec<&str> = path.split('/').collect();
    let shown = parts
        .iter()
        .map(|part| if looks_like_a_key(part) { MASK } else { part });
    out.push_str(&shown.collect::<Vec<_>>().join("/"));
    if let Some(query) = query.strip_prefix('?') {
        let shown = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, value)) if !tells_nothing(value) => format!("{name}={MASK}"),
            None if looks_like_a_key(pair) => MASK.to_owned(),
            _ => pair.to_owned(),
        });
        out.push('?');
        out.push_str(&shown.collect::<Vec<_>>().join("&"));
    }
    if fragment.len() > 1 {
        out.push('#');
        out.push_str(MASK);
    }
    (out != text).then_some(out)
}

/// The second part begins with `at`, or is empty.
fn split_before(text: &str, at: char) -> (&str, &str) {
    text.split_at(text.find(at).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{SETTINGS, covered_url, covered_word, document, entry, setting, tells_nothing};
    use crate::config::document::{Lines, Notes, parse};
    use crate::config::problem::Scope;

    #[test]
    fn names_of_values_tell_nothing() {
        for text in [
            "",
            "${TOKEN}",
            "${env:TOKEN}",
            "${SECRET:api-key}",
            "Bearer ${TOKEN}",
            "${USER}:${PASSWORD}",
            "${TOKEN:?say which}",
        ] {
            assert!(tells_nothing(text), "{text}");
        }
        for text in [
            "abc",
            "Bearer abc",
            "${TOKEN:-abc}",
            "x${TOKEN}",
            "${TOKEN}x",
            "${TOKEN",
        ] {
            assert!(!tells_nothing(text), "{text}");
        }
    }

    #[test]
    fn words_of_a_command_line() {
        let check = |before: Option<&str>, text: &str, expect: Option<&str>| {
            let shown = covered_word(text, before);
            assert_eq!(shown.as_deref(), expect, "{before:?} {text}");
        };
        check(None, "-y", None);
        check(
            None,
            "@modelcontextprotocol/server-filesystem@2025.8.21",
            None,
        );
        check(None, "/home/me/data", None);
        check(Some("--api-key"), "abc", Some("********"));
        check(Some("--api-key"), "${KEY}", None);
        check(Some("--token"), "--next", None);
        check(Some("--pat"), "abc", Some("********"));
        check(Some("--path"), "abc", None);
        check(None, "--api-key=abc", Some("--api-key=********"));
        check(None, "--api-key=${KEY}", None);
        check(
            Some("-e"),
            "GITHUB_TOKEN=abc",
            Some("GITHUB_TOKEN=********"),
        );
        check(Some("-e"), "GITHUB_TOKEN", None);
        check(
            Some("--header"),
            "Authorization: Bearer abc",
            Some("Authorization:********"),
        );
        check(Some("--header"), "Authorization: Bearer ${T}", None);
        check(None, "ghp_0123456789abcdef", Some("********"));
        check(None, "0123456789abcdef01234567", Some("********"));
        check(
            None,
            "postgresql://me:secret@db:5432/x",
            Some("postgresql://********@db:5432/x"),
        );
        check(None, "https://mcp.example.com/mcp", None);
        check(None, "--transport=stdio", None);
    }

    #[test]
    fn urls() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(covered_url(text).as_deref(), expect, "{text}");
        };
        check("https://mcp.example.com/mcp", None);
        check("https://${HOST}/mcp?key=${KEY}", None);
        check(
            "https://u:p@h/x?key=abc&plain#frag",
            Some("https://********@h/x?key=********&plain#********"),
        );
        check(
            "https://mcp.example.com/api/mcp/s/NDg5YzQ1YjAtNjE3Yi00/mcp",
            Some("https://mcp.example.com/api/mcp/s/********/mcp"),
        );
    }

    #[test]
    fn entries_and_documents() {
        let given = json!({
            "command": "docker",
            "args": ["run", "-e", "API_KEY=k", "--token", "t", "${V:-x}", "--dir=${V:-${W:-x}}/a",
                "${V:-${W}}", "${V:-}", "${V:-x", "${V:?say so}"],
            "cwd": "${V:-.}",
            "env": {"A": "plain", "B": "${B}"},
            "headers": {"Authorization": "Bearer x"},
            "unknown": "sk-0123456789",
        });
        let expect = json!({
            "command": "docker",
            "args": ["run", "-e", "API_KEY=********", "--token", "********", "${V:-********}",
                "--dir=${V:-********}/a", "${V:-${W}}", "${V:-}", "${V:-********}",
                "${V:?say so}"],
            "cwd": "${V:-.}",
            "env": {"A": "********", "B": "${B}"},
            "headers": {"Authorization": "********"},
            "unknown": "********",
        });
        assert_eq!(entry(&given), expect);
        let url = json!({"url": "https://${H}/${V:-x}/mcp"});
        assert_eq!(entry(&url)["url"], json!("https://${H}/${V:-********}/mcp"));
        let list = json!({"env": ["A=plain", "B", "C=${C}"]});
        assert_eq!(entry(&list)["env"], json!(["A=********", "B", "C=${C}"]));

        let text = "{ // kept\n \"mcpServers\": {\"a\": {\"env\": {\"K\": \"v\\n\"},},},\n}";
        let lines = Lines::new("f", text);
        let root = parse(&lines, &mut Notes::new(Scope::File)).unwrap();
        assert_eq!(document(text, &root), text.replace("v\\n", "********"));
    }

    #[test]
    fn tables_of_settings() {
        let row = |key: &str| SETTINGS.iter().find(|row| row.key == key).unwrap();
        let given = json!({"sinks": {
            "chat": {"type": "slack", "url": "https://hooks/x", "minSeverity": "error"},
            "page": {"type": "pagerduty", "routingKey": "${SECRET:page}"},
            "run": {"command": ["tell", "--token", "x"], "env": {"path": "x"}},
        }});
        let expect = json!({"sinks": {
            "chat": {"type": "slack", "url": "********", "minSeverity": "error"},
            "page": {"type": "pagerduty", "routingKey": "${SECRET:page}"},
            "run": {"command": ["tell", "--token", "********"], "env": {"path": "********"}},
        }});
        assert_eq!(setting(row("alerts"), &given), expect);
        let given = json!([
            "environment",
            {"command": ["op", "read", "op://vault/{name}"], "timeout": 5000},
            {"vault": "https://user:pass@vault:8200", "mount": "kv", "tokenFile": "/run/token"},
        ]);
        let expect = json!([
            "environment",
            {"command": ["op", "read", "op://vault/{name}"], "timeout": 5000},
            {"vault": "https://********@vault:8200", "mount": "kv", "tokenFile": "/run/token"},
        ]);
        assert_eq!(setting(row("secrets.providers"), &given), expect);
        let headers = json!(["a=b", "c=${C}"]);
        assert_eq!(
            setting(row("otlp.headers"), &headers),
            json!(["a=********", "c=${C}"])
        );
        assert_eq!(setting(row("port"), &json!(1)), json!(1));
    }
}
