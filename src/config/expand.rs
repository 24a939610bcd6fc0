//! Substitution of variables, secrets and files in one string of the configuration. Pure: values
//! come from a lookup closure, are inserted as they are, and are never expanded again.
//!
//! `${VAR}`, `${env:VAR}`, `${SECRET:name}`, `${FILE:path}`, each perhaps with `:-default` (unset
//! or empty; the default may hold further expressions) or `:?message` (then it is an error that
//! says so); `$VAR`; and `$${` for a literal `${`. Nothing ever reaches a shell.

use std::fmt;

use crate::base::secret::is_secret_name;

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
    /// What the name of a secret is; that which is none may be the secret.
    BadSecretName(String),
    /// `${input:token}`: VS Code asks its user.
    Input(String),
    /// Any other form that only an editor can fill in.
    Editor(String),
    /// `${VAR:?message}`: what is not there and perhaps why, the message, and what to do.
    Required {
        what: String,
        message: String,
        remedy: String,
        /// It is about a secret or a file.
        may_come: bool,
    },
    /// `${SECRET:name}`, and why nobody has it.
    Secret(String, String),
    /// Somebody may have it, and cannot say.
    Unsure(String, String),
    /// `${FILE:path}` as it is written, and why it cannot be read.
    File(String, String),
    TooDeep,
}

/// What a lookup is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted<'n> {
    Variable(&'n str),
    Secret(&'n str),
    File(&'n str),
}

/// Why a lookup gives no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// There is none: a default takes its place.
    Absent(String),
    /// There may be one that cannot be read now. No default may hide that.
    Unsure(String),
    /// This cannot be the name of one, and what would be. It may be the value.
    BadName(String),
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lack::Absent(why) | Lack::Unsure(why) | Lack::BadName(why) => f.write_str(why),
        }
    }
}

/// Gives the value, or why there is none.
type Lookup<'l> = &'l dyn Fn(Wanted<'_>) -> Result<String, Lack>;

impl Failure {
    /// What is written is right, and may be filled in at another time.
    pub fn is_lack(&self) -> bool {
        match self {
            Failure::Secret(..) | Failure::Unsure(..) | Failure::File(..) => true,
            Failure::Required { may_come, .. } => *may_come,
            _ => false,
        }
    }

    pub fn message(&self) -> String {
        match self {
            Failure::Unset(name) => format!("environment variable {name} is not set"),
            Failure::Unclosed => "\"${\" without \"}\"".into(),
            Failure::BadName => "\"${...}\" does not hold a variable name".into(),
            Failure::BadSecretName(_) => {
                "\"${SECRET:...}\" does not hold the name of a secret".into()
            }
            Failure::Input(name) => format!("${{input:{name}}} asks the user of an editor"),
            Failure::Editor(form) => format!("${{{form}}} is known to editors only"),
            Failure::Required { what, message, .. } => format!("{what}: {message}"),
            Failure::Secret(name, why) => format!("secret {name:?} is not there ({why})"),
            Failure::Unsure(name, why) => format!("secret {name:?} cannot be read now ({why})"),
            Failure::File(path, why) => format!("${{FILE:{path}}} cannot be read: {why}"),
            Failure::TooDeep => format!("more than {DEPTH} expressions inside each other"),
        }
    }

    /// Nothing is there; anything else is a mistake in the expression.
    fn is_absence(&self) -> bool {
        matches!(
            self,
            Failure::Unset(_) | Failure::Editor(_) | Failure::Secret(..) | Failure::File(..)
        )
    }

    pub fn remedy(&self) -> String {
        match self {
            Failure::Unset(name) => format!("set it, or write ${{{name}:-default}}"),
            Failure::Unclosed => "close it, or write \"$${\" for a literal \"${\"".into(),
            Failure::BadName => "write ${NAME}, or \"$${\" for a literal \"${\"".into(),
            Failure::BadSecretName(right) => format!("write a name: {right}"),
            Failure::Input(name) => {
                let variable = variable_for(name);
                format!("set a variable such as {variable} and write ${{{variable}}}")
            }
            Failure::Editor(form) if form == "userHome" => "write ${HOME}".into(),
            Failure::Editor(form) if form == "pathSeparator" || form == "/" => "write /".into(),
            Failure::Editor(_) => "write the value itself or an environment variable".into(),
            Failure::Required { remedy, .. } => remedy.clone(),
            Failure::Secret(name, _) => {
                // Not in its braces: health takes what follows "SECRET:" for a credential.
                let variable = variable_for(name);
                format!(
                    "run onemcp secret set {name}, set {variable}, or write a default behind \
                     the name and :-"
                )
            }
            Failure::Unsure(..) => "repair the last of those that were asked".into(),
            Failure::File(..) => "write a readable file, or correct the path".into(),
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

/// What a message behind `:?` is told with; `failure` is none when the value is empty.
fn required(name: &str, failure: Option<&Failure>, message: &str) -> Failure {
    let (what, remedy) = match failure {
        Some(found @ Failure::Secret(secret, _)) => {
            let variable = variable_for(secret);
            let remedy = format!("run onemcp secret set {secret}, or set {variable}");
            (found.message(), remedy)
        }
        Some(found @ Failure::File(..)) => (found.message(), found.remedy()),
        _ => (format!("{name} is not there"), "set it".to_owned()),
    };
    Failure::Required {
        what,
        message: message.trim().to_owned(),
        remedy,
        may_come: failure.is_some_and(Failure::is_lack),
    }
}

pub fn expand(text: &str, lookup: Lookup<'_>) -> Expanded {
    let mut out = Expanded::default();
    expand_into(&mut out, text, lookup, 0);
    out
}

fn expand_into(out: &mut Expanded, text: &str, lookup: Lookup<'_>, depth: usize) {
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.text.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$${") {
            out.text.push_str("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let Some(end) = outside(after, |rest| rest.starts_with('}')) else {
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

/// Offset of the first place that fits and is in no `${...}` of its own.
fn outside(text: &str, fits: fn(&str) -> bool) -> Option<usize> {
    let mut open = 0_usize;
    let bytes = text.as_bytes();
    for (at, _) in text.char_indices() {
        if open == 0 && fits(&text[at..]) {
            return Some(at);
        }
        match bytes[at] {
            b'{' if at > 0 && bytes[at - 1] == b'$' => open += 1,
            b'}' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// What stands behind the name.
enum Otherwise<'t> {
    Fail,
    Default(&'t str),
    Message(&'t str),
}

fn braced(out: &mut Expanded, inside: &str, lookup: Lookup<'_>, depth: usize) {
    let is_mark = |rest: &str| rest.starts_with(":-") || rest.starts_with(":?");
    let (name, otherwise) = match outside(inside, is_mark) {
        None => (inside.trim(), Otherwise::Fail),
        Some(at) => {
            let (name, rest) = (inside[..at].trim(), &inside[at + 2..]);
            match inside[at..].starts_with(":-") {
                true => (name, Otherwise::Default(rest)),
                false => (name, Otherwise::Message(rest)),
            }
        }
    };
    let found = match value(name, lookup, depth) {
        // Empty is as good as unset to who has something instead.
        Ok(text) if text.is_empty() && !matches!(otherwise, Otherwise::Fail) => None,
        Ok(text) => return out.text.push_str(&text),
        Err(failure) if failure.is_absence() => Some(failure),
        Err(failure) => return out.failures.push(failure),
    };
    match (otherwise, found) {
        (Otherwise::Default(_), _) if depth + 1 >= DEPTH => out.failures.push(Failure::TooDeep),
        (Otherwise::Default(default), _) => expand_into(out, default, lookup, depth + 1),
        (Otherwise::Message(message), failure) => {
            out.failures.push(required(name, failure.as_ref(), message));
        }
        (Otherwise::Fail, failure) => out.failures.extend(failure),
    }
}

/// The value behind `VAR`, `env:VAR`, `SECRET:name` or `FILE:path`.
fn value(name: &str, lookup: Lookup<'_>, depth: usize) -> Result<String, Failure> {
    let variable = match name.split_once(':') {
        None => name,
        Some(("env", variable)) => variable.trim(),
        Some(("SECRET", written)) => {
            let written = written.trim();
            let inner = argument(written, lookup, depth)?;
            let found = lookup(Wanted::Secret(&inner));
            let told = |why: String| match holds_secret(written) {
                true => (written.to_owned(), "its name is kept back".to_owned()),
                false => (inner, why),
            };
            return found.map_err(|lack| match lack {
                Lack::BadName(right) => Failure::BadSecretName(right),
                Lack::Absent(why) => {
                    let (name, why) = told(why);
                    Failure::Secret(name, why)
                }
                Lack::Unsure(why) => {
                    let (name, why) = told(why);
                    Failure::Unsure(name, why)
                }
            });
        }
        Some(("FILE", written)) => {
            let inner = argument(written.trim(), lookup, depth)?;
            let found = lookup(Wanted::File(&inner));
            let written = written.trim().to_owned();
            return found.map_err(|lack| match lack {
                Lack::Absent(why) | Lack::Unsure(why) | Lack::BadName(why) => {
                    Failure::File(written, why)
                }
            });
        }
        Some((prefix, argument)) => return Err(foreign(prefix, argument)),
    };
    if variable == "/" {
        return Err(Failure::Editor(variable.to_owned()));
    }
    if !is_name(variable) {
        return Err(Failure::BadName);
    }
    lookup(Wanted::Variable(variable)).map_err(|_| match EDITOR_NAMES.contains(&variable) {
        true => Failure::Editor(variable.to_owned()),
        false => Failure::Unset(variable.to_owned()),
    })
}

/// The name of a secret or a file, which may hold expressions.
fn argument(written: &str, lookup: Lookup<'_>, depth: usize) -> Result<String, Failure> {
    if depth + 1 >= DEPTH {
        return Err(Failure::TooDeep);
    }
    let mut inner = Expanded::default();
    expand_into(&mut inner, written, lookup, depth + 1);
    match inner.failures.into_iter().next() {
        Some(failure) => Err(failure),
        None if inner.text.is_empty() => Err(Failure::BadName),
        None => Ok(inner.text),
    }
}

/// Whether a secret becomes part of a name that is written so: then the name is not told, and
/// neither is where it was looked for.
fn holds_secret(written: &str) -> bool {
    let mut words = written.split(|c| !is_name_character(c));
    written.contains('$') && words.any(|word| word == "FILE" || is_secret_name(word))
}

/// `${prefix:argument}` with a prefix that is not ours.
fn foreign(prefix: &str, argument: &str) -> Failure {
    let argument = argument.trim().to_owned();
    match prefix {
        "input" => Failure::Input(argument),
        "config" | "command" | "workspaceFolder" | "workspaceFolderBasename" => {
            Failure::Editor(format!("{prefix}:{argument}"))
        }
        _ => Failure::BadName,
    }
}

/// `$NAME` at the start of `text`; gives what follows it.
fn bare<'t>(out: &mut Expanded, text: &'t str, lookup: Lookup<'_>) -> &'t str {
    let after = &text[1..];
    let end = after
        .find(|c: char| !is_name_character(c))
        .unwrap_or(after.len());
    let name = &after[..end];
    if !is_name(name) {
        out.text.push('$');
        return after;
    }
    match lookup(Wanted::Variable(name)) {
        Ok(value) => out.text.push_str(&value),
        Err(_) => {
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
    use super::{Failure, Lack, Wanted, expand};

    fn lookup(wanted: Wanted<'_>) -> Result<String, Lack> {
        let value = match wanted {
            Wanted::Variable("HOME") => "/home/me",
            Wanted::Variable("EMPTY") | Wanted::Secret("empty") => "",
            Wanted::Variable("A1") => "one",
            Wanted::Variable("DOLLAR") => "${HOME} $HOME",
            Wanted::Variable("_X") => "x",
            Wanted::Secret("db.password") | Wanted::Secret("one-key") => "s3cret}${HOME}",
            Wanted::File("/home/me/a") => "text",
            Wanted::Variable("API_TOKEN") | Wanted::Secret("taken-for-a-name") => "T0ken",
            Wanted::Secret("away") => return Err(Lack::Unsure("why".into())),
            _ => return Err(Lack::Absent("why".into())),
        };
        Ok(value.to_owned())
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
        check("a${SECRET:db.password}b", "as3cret}${HOME}b");
        check("${ SECRET: one-key }", "s3cret}${HOME}");
        check("${SECRET:$A1-key}", "s3cret}${HOME}");
        check("${SECRET:nope:-${A1}}", "one");
        check("${SECRET:empty:-x}", "x");
        check("${SECRET:empty}", "");
        check("${FILE:${HOME}/a}", "text");
        check("${FILE:${NOPE:-/home/me}/a:-x}", "text");
        check("${FILE:/nope:-x}", "x");
        check("${HOME:?must be set}", "/home/me");
        check("${A1:?a:-b}", "one");
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
        let secret = |name: &str| Failure::Secret(name.into(), "why".into());
        check("${SECRET:api-key}", &[secret("api-key")]);
        check(
            "${SECRET:api-key} ${SECRET:b}",
            &[secret("api-key"), secret("b")],
        );
        let unsure = Failure::Unsure("away".into(), "why".into());
        check("${SECRET:away}", std::slice::from_ref(&unsure));
        check("${SECRET:away:-default}", &[unsure]);
        let required = |what: &str, why: &str, remedy: &str| Failure::Required {
            what: what.into(),
            message: why.into(),
            remedy: remedy.into(),
            may_come: !remedy.starts_with("set it"),
        };
        check(
            "${NOPE:? ask ${HOME} :-) }",
            &[required("NOPE is not there", "ask ${HOME} :-)", "set it")],
        );
        check(
            "${EMPTY:?x}",
            &[required("EMPTY is not there", "x", "set it")],
        );
        let asked = "secret \"s\" is not there (why)";
        let remedy = "run onemcp secret set s, or set S";
        check("${SECRET:s:?x}", &[required(asked, "x", remedy)]);
        check("${SECRET:$A1}", &[secret("one")]);
        check("${FILE:$A1}", &[Failure::File("$A1".into(), "why".into())]);
        check("${FILE:${NOPE}/a:-x}", &[]);
        check("${SECRET:}", &[Failure::BadName]);
        check("${FILE: }", &[Failure::BadName]);
        check("${secret:x}", &[Failure::BadName]);
        check("${1A:-x}", &[Failure::BadName]);
        check("${HOME", &[Failure::Unclosed]);
        check("${}", &[Failure::BadName]);
        check("${a b}", &[Failure::BadName]);
        check("${1A}", &[Failure::BadName]);
        check("${other:x}", &[Failure::BadName]);
    }

    #[test]
    fn a_secret_that_is_taken_for_a_name_is_not_told() {
        let told_by = |wanted: Wanted<'_>| match wanted {
            Wanted::Secret("T0ken") => Err(Lack::Absent("no T0KEN and no T0ken".into())),
            Wanted::Secret("unsure-T0ken") => Err(Lack::Unsure("no T0ken".into())),
            other => lookup(other),
        };
        for written in [
            "${SECRET:${API_TOKEN}}",
            "${SECRET:$API_TOKEN:?why}",
            "${SECRET:unsure-${env:API_TOKEN}}",
            "${SECRET:${NOPE:-${API_TOKEN}}}",
            "${SECRET:${SECRET:taken-for-a-name}}",
        ] {
            let failures = expand(written, &told_by).failures;
            assert_eq!(failures.len(), 1, "{written}");
            let told = format!("{} {}", failures[0].message(), failures[0].remedy());
            assert!(!told.to_lowercase().contains("t0ken"), "{told}");
            assert!(failures[0].is_lack(), "{told}");
        }
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
        assert!(remedy("${SECRET:db}").contains("secret set db, set DB, or write a default"));
        assert!(remedy("${SECRET:${A1}}").contains("secret set one, set ONE,"));
        assert!(remedy("${NOPE}").contains("${NOPE:-default}"));
    }
}
