//! Substitution of variables in one string of the configuration. Pure: values come from a
//! lookup closure, are inserted as they are, and are never expanded again.
//!
//! `${VAR}`, `${env:VAR}`, `${VAR:-default}` (unset or empty; the default may hold further
//! expressions), `$VAR`, and `$${` for a literal `${`. Nothing ever reaches a shell.

/// Expressions inside the defaults of expressions.
const DEPTH: usize = 8;

/// Names that VS Code fills in and a gateway cannot.
const EDITOR_NAMES: &[&str] = &[
    "defaultBuildTask",
    "execPath",
    "extensionInstallFolder",
    "file",
    "fileBasename",
    "fileBasenameNoExtension",
    "fileDirname",
    "fileDirnameBasename",
    "fileExtname",
    "fileWorkspaceFolder",
    "lineNumber",
    "pathSeparator",
    "relativeFile",
    "relativeFileDirname",
    "selectedText",
    "userHome",
    "workspaceFolder",
    "workspaceFolderBasename",
    "workspaceRoot",
];

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    pub text: String,
    /// Bare `$NAME` that are not set and stay as they are.
    pub kept: Vec<String>,
    /// Every expression that could not be carried out.
    pub failures: Vec<Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    Unset(String),
    /// `${` without its `}`.
    Unclosed,
    /// Not the name of a variable. The text is kept back: it may be part of a secret.
    BadName,
    /// `${input:token}`: VS Code asks its user.
    Input(String),
    /// Any other form that only an editor can fill in.
    Editor(String),
    /// `${SECRET:name}`.
    Secret(String),
    TooDeep,
}

impl Failure {
    pub fn message(&self) -> String {
        match self {
            Failure::Unset(name) => format!("environment variable {name} is not set"),
            Failure::Unclosed => "\"${\" without \"}\"".into(),
            Failure::BadName => "\"${...}\" does not hold a variable name".into(),
            Failure::Input(name) => format!("${{input:{name}}} asks the user of an editor"),
            Failure::Editor(form) => format!("${{{form}}} is known to editors only"),
            Failure::Secret(name) => format!("${{SECRET:{name}}} needs a secret store"),
            Failure::TooDeep => format!("more than {DEPTH} expressions inside each other"),
        }
    }

    pub fn remedy(&self) -> String {
        match self {
            Failure::Unset(name) => format!("set it, or write ${{{name}:-default}}"),
            Failure::Unclosed => "close it, or write \"$${\" for a literal \"${\"".into(),
            Failure::BadName => "write ${NAME}, or \"$${\" for a literal \"${\"".into(),
            Failure::Input(name) => {
                let variable = variable_for(name);
                format!("set a variable such as {variable} and write ${{{variable}}}")
            }
            Failure::Editor(form) if form == "userHome" => "write ${HOME}".into(),
            Failure::Editor(form) if form == "pathSeparator" || form == "/" => "write /".into(),
            Failure::Editor(_) => "write the value itself or an environment variable".into(),
            Failure::Secret(name) => {
                let variable = variable_for(name);
                format!(
                    "secret stores arrive with a later release; until then set a variable \
                     such as {variable} and write ${{{variable}}}"
                )
            }
            Failure::TooDeep => "write it flatter".into(),
        }
    }
}

/// `api-key` as the name of an environment variable: `API_KEY`.
pub fn variable_for(name: &str) -> String {
    let upper = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    upper.collect::<String>().to_ascii_uppercase()
}

pub fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Expanded {
    let mut out = Expanded::default();
    expand_into(&mut out, text, lookup, 0);
    out
}

fn expand_into(
    out: &mut Expanded,
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    depth: usize,
) {
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.text.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$${") {
            out.text.push_str("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let Some(end) = closing_brace(after) else {
                out.failures.push(Failure::Unclosed);
                return;
            };
            braced(out, &after[..end], lookup, depth);
            rest = &after[end + 1..];
        } else {
            rest = bare(out, rest, lookup);
        }
    }
    out.text.push_str(rest);
}

/// Offset of the `}` that belongs to a `${` just before `text`.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if at > 0 && bytes[at - 1] == b'$' => open += 1,
            b'}' if open == 0 => return Some(at),
            b'}' => open -= 1,
            _ => {}
        }
    }
    None
}

fn braced(out: &mut Expanded, inside: &str, lookup: &dyn Fn(&str) -> Option<String>, depth: usize) {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name.trim(), Some(default)),
        None => (inside.trim(), None),
    };
    let name = match name.split_once(':') {
        None => name,
        Some(("env", variable)) => variable.trim(),
        Some((prefix, argument)) => {
            out.failures.push(foreign(prefix, argument));
            return;
        }
    };
    if name == "/" {
        out.failures.push(Failure::Editor(name.to_owned()));
        return;
    }
    if !is_name(name) {
        out.failures.push(Failure::BadName);
        return;
    }
    match (lookup(name), default) {
        (Some(value), None) => out.text.push_str(&value),
        (Some(value), Some(_)) if !value.is_empty() => out.text.push_str(&value),
        (_, Some(_)) if depth + 1 >= DEPTH => out.failures.push(Failure::TooDeep),
        (_, Some(default)) => expand_into(out, default, lookup, depth + 1),
        (None, None) if EDITOR_NAMES.contains(&name) => {
            out.failures.push(Failure::Editor(name.to_owned()));
        }
        (None, None) => out.failures.push(Failure::Unset(name.to_owned())),
    }
}

/// `${prefix:argument}` with a prefix that is not ours.
fn foreign(prefix: &str, argument: &str) -> Failure {
    let argument = argument.trim().to_owned();
    match prefix {
        "input" => Failure::Input(argument),
        "SECRET" => Failure::Secret(argument),
        "config" | "command" | "workspaceFolder" | "workspaceFolderBasename" => {
            Failure::Editor(format!("{prefix}:{argument}"))
        }
        _ => Failure::BadName,
    }
}

/// `$NAME` at the start of `text`; gives what follows it.
fn bare<'t>(out: &mut Expanded, text: &'t str, lookup: &dyn Fn(&str) -> Option<String>) -> &'t str {
    let after = &text[1..];
    let end = after
        .find(|c: char| !is_name_character(c))
        .unwrap_or(after.len());
    let name = &after[..end];
    if !is_name(name) {
        out.text.push('$');
        return after;
    }
    match lookup(name) {
        Some(value) => out.text.push_str(&value),
        None => {
            out.kept.push(name.to_owned());
            out.text.push('$');
            out.text.push_str(name);
        }
    }
    &after[end..]
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_name(text: &str) -> bool {
    let digit_first = text.starts_with(|c: char| c.is_ascii_digit());
    !text.is_empty() && !digit_first && text.chars().all(is_name_character)
}

#[cfg(test)]
mod tests {
    use super::{Failure, expand};

    fn lookup(name: &str) -> Option<String> {
        match name {
            "HOME" => Some("/home/me".into()),
            "EMPTY" => Some(String::new()),
            "A1" => Some("one".into()),
            "DOLLAR" => Some("${HOME} $HOME".into()),
            "_X" => Some("x".into()),
            _ => None,
        }
    }

    #[test]
    fn values_are_inserted() {
        let check = |text: &str, expect: &str| {
            let out = expand(text, &lookup);
            assert_eq!(out.text, expect, "{text}");
            assert!(
                out.failures.is_empty() && out.kept.is_empty(),
                "{text}: {out:?}"
            );
        };
        check("", "");
        check("plain", "plain");
        check("${HOME}", "/home/me");
        check("${HOME}/x/${A1}", "/home/me/x/one");
        check("${ HOME }", "/home/me");
        check("${env:HOME}", "/home/me");
        check("$HOME/x", "/home/me/x");
        check("$A1-$_X", "one-x");
        check("${EMPTY}", "");
        check("${NOPE:-fallback}", "fallback");
        check("${NOPE:-}", "");
        check("${EMPTY:-fallback}", "fallback");
        check("${HOME:-fallback}", "/home/me");
        check("${env:NOPE:-a:-b}", "a:-b");
        check("${NOPE:-${A1}}", "one");
        check("${NOPE:-${ALSO:-$A1}}!", "one!");
        check("${workspaceFolder:-/srv}", "/srv");
        check("$${HOME}", "${HOME}");
        check("a$${b}${A1}", "a${b}one");
        check("${DOLLAR}", "${HOME} $HOME");
        check("$", "$");
        check("100$", "100$");
        check("$1 $- $$ $(id) `id`", "$1 $- $$ $(id) `id`");
        check("$$A1", "$one");
        check("${NOPE:-{\"a\":1}", "{\"a\":1");
        check("ünï${A1}cödé", "ünïonecödé");
    }

    #[test]
    fn unknown_bare_names_stay_and_are_told() {
        let out = expand("pre $NOPE/$HOME $ALSO_NOT", &lookup);
        assert_eq!(out.text, "pre $NOPE//home/me $ALSO_NOT");
        assert_eq!(out.kept, ["NOPE", "ALSO_NOT"]);
        assert!(out.failures.is_empty());
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        let check = |text: &str, expect: &[Failure]| {
            assert_eq!(expand(text, &lookup).failures, expect, "{text}");
        };
        let unset = |name: &str| Failure::Unset(name.into());
        let editor = |form: &str| Failure::Editor(form.into());
        check("${NOPE}", &[unset("NOPE")]);
        check("${env:NOPE}", &[unset("NOPE")]);
        check("${NOPE} ${ALSO}", &[unset("NOPE"), unset("ALSO")]);
        check("${NOPE:-${ALSO}}", &[unset("ALSO")]);
        check("${input:api-key}", &[Failure::Input("api-key".into())]);
        check("${workspaceFolder}/x", &[editor("workspaceFolder")]);
        check("${workspaceFolder:web}", &[editor("workspaceFolder:web")]);
        check("${userHome}", &[editor("userHome")]);
        check("${/}", &[editor("/")]);
        check("${config:a.b}", &[editor("config:a.b")]);
        check("${SECRET:api-key}", &[Failure::Secret("api-key".into())]);
        check("${HOME", &[Failure::Unclosed]);
        check("${}", &[Failure::BadName]);
        check("${a b}", &[Failure::BadName]);
        check("${1A}", &[Failure::BadName]);
        check("${other:x}", &[Failure::BadName]);
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = format!("{}x{}", "${A:-".repeat(50), "}".repeat(50));
        assert_eq!(expand(&deep, &lookup).failures, [Failure::TooDeep]);
    }

    #[test]
    fn remedies_name_a_variable() {
        let remedy = |text: &str| expand(text, &lookup).failures[0].remedy();
        assert!(remedy("${input:api-key}").contains("${API_KEY}"));
        assert!(remedy("${userHome}").contains("${HOME}"));
        assert!(remedy("${SECRET:db.password}").contains("${DB_PASSWORD}"));
        assert!(remedy("${NOPE}").contains("${NOPE:-default}"));
    }
}
