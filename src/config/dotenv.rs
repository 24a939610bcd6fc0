//! `.env` beside the file: `NAME=value` lines that serve `${NAME}` in entries. Pure.
//!
//! The syntax is 1MCP's: `export ` may stand in front, values may be in single or double quotes
//! (in double ones `\n \r \t \" \\` are escapes), ` #` begins a comment. A value ends with its
//! line, and nothing is expanded in it. No message quotes anything but a name.

use std::collections::BTreeMap;

use crate::base::limits;
use crate::config::document::{Lines, Notes, Spot};

/// The variables; the last one of a name wins. Whatever is no assignment is an error.
pub fn read<'d>(lines: &'d Lines<'d>, text: &str, notes: &mut Notes) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at + (line.len() - line.trim_start().len());
        at += line.len();
        let spot = |offset: usize| Spot::at(lines, start + offset);
        match assignment(line.trim()) {
            Ok(None) => {}
            Ok(Some((name, value))) => {
                if variables.len() >= limits::DOTENV_VARIABLES {
                    let remedy = format!("at most {} are allowed", limits::DOTENV_VARIABLES);
                    spot(0).error(notes, "too many variables", remedy);
                    return variables;
                }
                if variables.insert(name.to_owned(), value).is_some() {
                    let message = format!("{name} is set twice");
                    spot(0).warn(notes, message, "the last one is used; remove the other");
                }
            }
            Err(fault) => spot(fault.offset).error(notes, fault.message, fault.remedy),
        }
    }
    variables
}

struct Fault {
    /// In bytes from the first character of the line.
    offset: usize,
    message: &'static str,
    remedy: &'static str,
}

/// One trimmed line; `None` when it says nothing.
fn assignment(line: &str) -> Result<Option<(&str, String)>, Fault> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let fault = |rest: &str, message, remedy| Fault {
        offset: line.len() - rest.len(),
        message,
        remedy,
    };
    let bare = match line.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        _ => line,
    };
    let Some((name, value)) = bare.split_once('=') else {
        return Err(fault(
            bare,
            "is no assignment",
            "write NAME=value, or # in front",
        ));
    };
    let name = name.trim_end();
    if !is_name(name) {
        let remedy = "use letters, digits and _, with no digit in front";
        return Err(fault(bare, "is not a variable name", remedy));
    }
    let value = value.trim_start();
    if value.contains('\0') {
        return Err(fault(value, "contains a NUL character", "remove it"));
    }
    let (text, rest) = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => match quoted(value, quote) {
            Some(parts) => parts,
            None => {
                return Err(fault(
                    value,
                    "the quote is not closed",
                    "close it on its line",
                ));
            }
        },
        _ => (plain(value), ""),
    };
    let rest = rest.trim_start();
    if !(rest.is_empty() || rest.starts_with('#')) {
        let remedy = "put the whole value into the quotes";
        return Err(fault(rest, "text behind the closing quote", remedy));
    }
    Ok(Some((name, text)))
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Up to a `#` that begins the value or has a blank before it.
fn plain(value: &str) -> String {
    let mut before = ' ';
    for (at, c) in value.char_indices() {
        if c == '#' && before.is_whitespace() {
            return value[..at].trim_end().to_owned();
        }
        before = c;
    }
    value.to_owned()
}

/// What the quotes hold and what follows them.
fn quoted(value: &str, quote: char) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = value.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => return Some((out, &value[at + 1..])),
            '\\' if quote == '"' => match chars.next()?.1 {
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                't' => out.push('\t'),
                escaped @ ('"' | '\\') => out.push(escaped),
                other => out.extend(['\\', other]),
            },
            _ => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::config::document::{Lines, Notes};
    use crate::config::problem::Scope;

    fn outcome(text: &str) -> (String, Vec<String>) {
        let lines = Lines::new(".env", text);
        let mut notes = Notes::new(Scope::File);
        let variables = read(&lines, text, &mut notes);
        let shown: Vec<String> = variables
            .iter()
            .map(|(name, value)| format!("{name}=[{value}]"))
            .collect();
        let problems = notes.problems.iter().map(ToString::to_string).collect();
        (shown.join(" "), problems)
    }

    #[test]
    fn assignments() {
        let check = |text: &str, expect: &str| {
            let (shown, problems) = outcome(text);
            assert_eq!(shown, expect, "{text}");
            assert!(problems.is_empty(), "{text}: {problems:?}");
        };
        check("", "");
        check("\n  \n# A=1\r\n", "");
        check("A=1", "A=[1]");
        check("A=1\nB=2\n", "A=[1] B=[2]");
        check("A=1\r\nB=2\r\n", "A=[1] B=[2]");
        check(" export  A = x y \n", "A=[x y]");
        check("export=1", "export=[1]");
        check("A=", "A=[]");
        check("A= # none", "A=[]");
        check("A=x # why", "A=[x]");
        check("A=x#y", "A=[x#y]");
        check("A='x # \\n $B' # why", "A=[x # \\n $B]");
        check(r#"A="x\ty\n\"z\" \\ \$" "#, "A=[x\ty\n\"z\" \\ \\$]");
        check("A=it's", "A=[it's]");
        check("A=a=b", "A=[a=b]");
        check("A=${B}", "A=[${B}]");
        check("A=\"ü\"", "A=[ü]");
    }

    #[test]
    fn what_is_no_assignment_is_an_error_with_its_place_and_no_value() {
        let check = |text: &str, expect: &str| {
            let (_, problems) = outcome(text);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].starts_with(expect), "{problems:?}");
            assert!(!problems[0].contains("hunter2"), "{problems:?}");
        };
        check("hunter2", ".env:1:1: is no assignment");
        check("A=1\n  hunter2 is it", ".env:2:3: is no assignment");
        check("A-B=hunter2", ".env:1:1: is not a variable name");
        check("export 1A=hunter2", ".env:1:8: is not a variable name");
        check("=hunter2", ".env:1:1: is not a variable name");
        check("A=\"hunter2", ".env:1:3: the quote is not closed");
        check("A='hunter2\nB=1'", ".env:1:3: the quote is not closed");
        check("A=\"hunter2\\\"", ".env:1:3: the quote is not closed");
        check("A='x' hunter2", ".env:1:7: text behind the closing quote");
        check("A=hunt\0er2", ".env:1:3: contains a NUL");
        check("A=hunter2\nA=hunter2", ".env:2:1: A is set twice");
    }
}
