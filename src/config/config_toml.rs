//! `config.toml` of 1MCP: its tables are those of `gateway` in `mcp.json`, one to one. It becomes
//! the same tree as a JSON file, with the places of its own text, so that one reader serves both.

use std::borrow::Cow;
use std::ops::Range;

use jsonc_parser::ast::{
    Array, BooleanLit, NumberLit, Object, ObjectProp, ObjectPropName, StringLit, Value,
};
use jsonc_parser::common::Range as Span;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::base::sorted::SortedMap;
use crate::config::document::{Lines, Node, Notes, Spot};
use crate::config::problem::{Problem, Scope};
use crate::config::settings::{FileValues, read_file};

/// What the file says. A file that is no TOML says nothing, which is an error.
pub fn read(lines: &Lines<'_>, text: &str, problems: &mut Vec<Problem>) -> FileValues {
    let mut values = FileValues::default();
    match DeTable::parse(text) {
        Ok(table) => {
            let decimals = decimals(table.get_ref());
            let root = Value::Object(object(&decimals, table.get_ref(), &table.span()));
            read_file(&Node::root(lines, &root), &mut values, problems);
        }
        Err(error) => {
            let mut notes = Notes::new(Scope::File);
            let at = error.span().map_or(0, |span| span.start);
            let message = format!("not valid TOML: {}", error.message());
            let remedy = "correct it, or move its settings under \"gateway\" in mcp.json";
            Spot::at(lines, at).error(&mut notes, message, remedy);
            problems.append(&mut notes.problems);
        }
    }
    values
}

/// The same as plain JSON, for who carries it over.
///
/// # Errors
/// That it is no TOML.
pub fn plain(lines: &Lines<'_>, text: &str) -> Result<serde_json::Value, String> {
    let table = DeTable::parse(text).map_err(|error| error.message().to_owned())?;
    let decimals = decimals(table.get_ref());
    let root = Value::Object(object(&decimals, table.get_ref(), &table.span()));
    Ok(Node::root(lines, &root).plain(&mut Notes::new(Scope::File)))
}

/// Integers that are written in another base, by where they begin.
type Decimals = SortedMap<usize, String>;

fn decimals(table: &DeTable<'_>) -> Decimals {
    let mut decimals = Decimals::new();
    table
        .iter()
        .for_each(|(_, value)| gather(value, &mut decimals));
    decimals
}

fn gather(value: &Spanned<DeValue<'_>>, decimals: &mut Decimals) {
    match value.get_ref() {
        DeValue::Integer(digits) if digits.radix() != 10 => {
            // One that is too large stays as it is written, and the reader refuses it.
            let number = i128::from_str_radix(digits.as_str(), digits.radix());
            let text = number.map_or_else(|_| digits.to_string(), |number| number.to_string());
            decimals.insert(value.span().start, text);
        }
        DeValue::Array(items) => items.iter().for_each(|item| gather(item, decimals)),
        DeValue::Table(table) => table.iter().for_each(|(_, value)| gather(value, decimals)),
        _ => {}
    }
}

fn object<'d>(decimals: &'d Decimals, table: &'d DeTable<'_>, span: &Range<usize>) -> Object<'d> {
    let properties = table.iter().map(|(name, value)| ObjectProp {
        range: range(&name.span()),
        name: ObjectPropName::String(string(name.get_ref(), &name.span())),
        value: tree(decimals, value),
    });
    Object {
        properties: properties.collect(),
        range: range(span),
    }
}

/// Numbers are borrowed without their underscores.
fn tree<'d>(decimals: &'d Decimals, value: &'d Spanned<DeValue<'_>>) -> Value<'d> {
    let span = value.span();
    let number = |text: &'d str| {
        Value::NumberLit(NumberLit {
            range: range(&span),
            value: text,
        })
    };
    match value.get_ref() {
        DeValue::String(value) => Value::StringLit(string(value, &span)),
        DeValue::Integer(digits) if digits.radix() == 10 => number(digits.as_str()),
        DeValue::Integer(_) => number(decimals.get(&span.start).map_or("", String::as_str)),
        DeValue::Float(digits) => number(digits.as_str()),
        DeValue::Boolean(on) => Value::BooleanLit(BooleanLit {
            range: range(&span),
            value: *on,
        }),
        DeValue::Datetime(time) => Value::StringLit(StringLit {
            range: range(&span),
            value: Cow::Owned(time.to_string()),
        }),
        DeValue::Array(items) => Value::Array(Array {
            range: range(&span),
            elements: items.iter().map(|item| tree(decimals, item)).collect(),
        }),
        DeValue::Table(table) => Value::Object(object(decimals, table, &span)),
    }
}

fn string<'d>(text: &'d str, span: &Range<usize>) -> StringLit<'d> {
    StringLit {
        range: range(span),
        value: Cow::Borrowed(text),
    }
}

fn range(span: &Range<usize>) -> Span {
    Span::new(span.start, span.end)
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::config::Environment;
    use crate::config::document::Lines;
    use crate::config::settings::{Flags, Settings, resolve};

    fn settle(text: &str) -> (Settings, Vec<String>) {
        let lines = Lines::new("config.toml", text);
        let mut problems = Vec::new();
        let file = read(&lines, text, &mut problems);
        let flags = Flags::default();
        let settings = resolve(&file, &flags, &Environment::new(), &mut problems);
        let problems = problems.iter().map(ToString::to_string).collect();
        (settings, problems)
    }

    /// Every key of 1MCP's schema that we carry out.
    #[test]
    fn what_1mcp_writes_is_understood() {
        let (settings, problems) = settle(
            "transport = \"http\"\nport = 3_051\nhost = \"::1\"\n\n[logging]\nlevel = \"debug\"\n\
             file = '/var/log/1mcp.log'\nmaxSize = \"20m\"\nmaxFiles = 3\n\n[auth]\n\
             trustProxy = \"loopback\"\n[asyncLoading]\nenabled = true\nbatchDelay = 7\n\
             batchNotifications = false\n[configReload]\nenabled = false\ndebounce = 9 # ms\n",
        );
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!((settings.port, settings.host.as_str()), (3051, "::1"));
        assert_eq!(settings.log_max_bytes, 20 << 20);
        assert_eq!(settings.log_max_files, 3);
        assert!(settings.enable_async_loading && !settings.enable_config_reload);
        assert_eq!(settings.async_batch_delay.as_millis(), 7);
        assert_eq!(settings.origin("port").to_string(), "config.toml:2:8");
        assert_eq!(
            settings.origin("logging.maxFiles").to_string(),
            "config.toml:9:12"
        );
    }

    #[test]
    fn integers_of_every_base_are_understood() {
        for written in [
            "3054",
            "3_054",
            "0xBEE",
            "0xb_ee",
            "0o5756",
            "0b1011_1110_1110",
        ] {
            let (settings, problems) = settle(&format!("port = {written}"));
            assert!(problems.is_empty(), "{written}: {problems:?}");
            assert_eq!(settings.port, 3054, "{written}");
        }
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        let check = |text: &str, expect: &str| {
            let (_, problems) = settle(text);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].starts_with(expect), "{problems:?}");
        };
        check("port = \"x\"", "config.toml:1:8: port: expected a number");
        check(
            "port = 0x10000",
            "config.toml:1:8: port: 65536 is out of range",
        );
        check(
            "\n[logging]\nlevle = 1",
            "config.toml:3:1: logging.levle: unknown key",
        );
        check(
            "[logging]\nlevel = 1.5",
            "config.toml:2:9: logging.level: expected a string",
        );
        check(
            "[auth]\nenableEnhancedSecurity = true",
            "config.toml:2:1: auth.enableEnhancedSecurity: is known",
        );
        check(
            "[admin]\nenabled = true",
            "config.toml:1:2: admin: is known",
        );
        check("port = 1\nport = 2", "config.toml:2:1: not valid TOML: ");
        check("port = 1 2", "config.toml:1:8: not valid TOML: ");
        check(
            "logLevel = \"loud\"",
            "config.toml:1:12: logLevel: the value cannot be used",
        );
    }
}
