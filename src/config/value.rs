//! How a setting is written: the kinds of values, and the check of a text against its kind.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::base::limits;
use crate::config::audit;
use crate::config::document::{self, Lines, Node, Notes, parse_switch};
use crate::config::preset::filter_remedy;
use crate::config::problem::Scope;
use crate::config::tls::site;
use crate::model::filter::TagExpression;
use crate::model::password::PasswordHash;
use crate::model::scope::Scopes;
use crate::net::egress::Allowed;
use crate::net::url::Url;

/// How a value is written and checked.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Switch,
    /// A whole number, both ends included.
    Number(u64, u64),
    /// Milliseconds, both ends included.
    Millis(u64, u64),
    Choice(&'static [&'static str]),
    Path,
    /// A path, or one of these words.
    PathOr(&'static [&'static str]),
    Host,
    /// Address and port.
    Address,
    /// A part of a file name.
    Word,
    Filter,
    Preset,
    /// Of tokens, with spaces between them.
    Scopes,
    Separator,
    Hosts,
    Origins,
    Proxies,
    Egress,
    Roots,
    /// Words of `config::audit::SINKS`.
    AuditSinks,
    /// `SERVER/TOOL`.
    Tools,
    /// Bytes, or a number with `k`, `m` or `g`; both ends included.
    Size(u64, u64),
    /// An `http://` or `https://` URL without a user in it.
    Url,
    /// `scheme://host[:port]`, kept in its usual form.
    Site,
    /// `module=level,...`; in a file an object, too.
    Levels,
    /// `name=value,...`; in a file an object, too.
    Headers,
    /// Any text.
    Text,
    /// A whole configuration file as text.
    Document,
    /// What `onemcp auth password` prints.
    PasswordHash,
    /// JSON of any shape, read by its owner.
    Table(TableReader),
}

/// Notes what is wrong with a table; what it holds is read from its text when it is needed.
pub type TableReader = fn(&Node<'_>, &mut Notes);

impl Kind {
    /// What stands for the value in `--help`.
    pub fn placeholder(self) -> String {
        match self {
            Kind::Number(..) => "N".into(),
            Kind::Millis(..) => "MS".into(),
            Kind::Choice(words) => words.join("|"),
            Kind::Path => "PATH".into(),
            Kind::PathOr(words) => format!("PATH|{}", words.join("|")),
            Kind::Host => "ADDRESS".into(),
            Kind::Address => "ADDRESS:PORT".into(),
            Kind::Word => "NAME".into(),
            Kind::Filter => "EXPR".into(),
            Kind::Preset => "NAME".into(),
            Kind::Separator | Kind::Text => "TEXT".into(),
            Kind::Scopes => "SCOPES".into(),
            Kind::Size(..) => "BYTES".into(),
            Kind::Url | Kind::Site => "URL".into(),
            Kind::Levels => "MODULE=LEVEL,..".into(),
            Kind::Headers => "NAME=VALUE,..".into(),
            Kind::PasswordHash => "HASH".into(),
            Kind::Document | Kind::Table(_) => "JSON".into(),
            list if list.is_list() => "LIST".into(),
            _ => String::new(),
        }
    }

    pub(super) fn is_list(self) -> bool {
        matches!(
            self,
            Kind::Hosts
                | Kind::Origins
                | Kind::Proxies
                | Kind::Egress
                | Kind::Roots
                | Kind::AuditSinks
                | Kind::Tools
        )
    }
}

/// A checked value; which variant follows from the `Kind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Switch(bool),
    Number(u64),
    Text(String),
    List(Vec<String>),
}

impl Value {
    pub(super) fn on(&self) -> bool {
        matches!(self, Value::Switch(true))
    }

    pub(super) fn number(&self) -> u64 {
        match self {
            Value::Number(number) => *number,
            _ => 0,
        }
    }

    pub(super) fn size(&self) -> usize {
        usize::try_from(self.number()).unwrap_or(usize::MAX)
    }

    pub(super) fn millis(&self) -> Duration {
        Duration::from_millis(self.number())
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Value::Text(text) => text,
            _ => "",
        }
    }

    /// `name=value` items taken apart.
    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        let items = self.list();
        let pairs = items.iter().filter_map(|item| item.split_once('='));
        pairs
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect()
    }

    pub(super) fn list(&self) -> Vec<String> {
        match self {
            Value::List(list) => list.clone(),
            _ => Vec::new(),
        }
    }
}

const SITE_REMEDY: &str =
    "write scheme and host alone, such as https://mcp.example.com; a port may follow";
const LEVELS_REMEDY: &str =
    "write modules with debug, info, warn, error or off, such as upstream=debug,http=warn";

/// Checks a value in the form of a flag; the error says what would be right.
pub(super) fn parse(kind: Kind, text: &str) -> Result<Value, String> {
    let text = text.trim();
    match kind {
        Kind::Switch => match parse_switch(text) {
            Some(on) => Ok(Value::Switch(on)),
            None => Err("write true or false".into()),
        },
        Kind::Number(least, most) => parse_number(text, least, most, ""),
        Kind::Millis(least, most) => parse_number(text, least, most, " milliseconds"),
        Kind::Choice(words) => {
            let known = words.iter().find(|word| word.eq_ignore_ascii_case(text));
            known
                .map(|word| Value::Text((*word).to_owned()))
                .ok_or_else(|| format!("write one of {}", words.join(", ")))
        }
        Kind::Path | Kind::PathOr(_) if text.is_empty() => Err("write a path".into()),
        Kind::Path | Kind::PathOr(_) => Ok(Value::Text(text.to_owned())),
        Kind::Host => parse_host(text),
        Kind::Address => match text.parse::<SocketAddr>() {
            Ok(_) => Ok(Value::Text(text.to_owned())),
            Err(_) => Err("write an address and a port such as 0.0.0.0:9090".into()),
        },
        Kind::Word => parse_word(text),
        Kind::Filter => match TagExpression::parse(text) {
            Ok(_) => Ok(Value::Text(text.to_owned())),
            Err(error) => Err(filter_remedy(&error)),
        },
        Kind::Preset if text.is_empty() => Err("write the name of a preset".into()),
        Kind::Text if text.is_empty() => Err("write a text".into()),
        Kind::Preset | Kind::Text | Kind::Document => Ok(Value::Text(text.to_owned())),
        Kind::Scopes => parse_scopes(text),
        Kind::Separator => parse_separator(text),
        Kind::Hosts => parse_list(text, is_host_item, "write host names separated by commas"),
        Kind::Origins => parse_list(
            text,
            is_origin,
            "write origins such as https://app.example.com",
        ),
        Kind::Proxies => parse_proxies(text),
        Kind::Egress => parse_list(
            text,
            |item| Allowed::parse(item).is_some(),
            "write networks (10.0.0.0/8), addresses and host names separated by commas",
        ),
        Kind::Roots => parse_list(
            text,
            is_root,
            "write URIs such as file:///srv/data separated by commas; a comma inside is %2C",
        ),
        Kind::AuditSinks => parse_list(text, audit::is_sink, audit::SINKS_REMEDY),
        Kind::Tools => parse_list(text, audit::is_tool, audit::TOOLS_REMEDY),
        Kind::Size(least, most) => parse_size(text, least, most),
        Kind::Url => match Url::parse(text) {
            Ok(_) => Ok(Value::Text(text.to_owned())),
            Err(error) => Err(error.remedy().to_owned()),
        },
        Kind::Site => site(text)
            .map(Value::Text)
            .ok_or_else(|| SITE_REMEDY.into()),
        Kind::Levels => parse_list(text, is_level_item, LEVELS_REMEDY),
        Kind::Headers => parse_headers(text),
        Kind::PasswordHash => match PasswordHash::parse(text) {
            Some(_) => Ok(Value::Text(text.to_owned())),
            None => Err("write the hash that onemcp auth password prints".into()),
        },
        Kind::Table(reader) => parse_table(text, reader),
    }
}

fn parse_number(text: &str, least: u64, most: u64, unit: &str) -> Result<Value, String> {
    match text.parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(Value::Number(number)),
        _ => Err(format!("write a whole number from {least} to {most}{unit}")),
    }
}

/// `10m`, `512k`, `1g` or bytes.
fn parse_size(text: &str, least: u64, most: u64) -> Result<Value, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => Some(0),
        "k" | "kb" => Some(10),
        "m" | "mb" => Some(20),
        "g" | "gb" => Some(30),
        _ => None,
    };
    let number = digits.trim_end().parse::<u64>().ok();
    let size = number
        .zip(shift)
        .and_then(|(number, shift)| number.checked_mul(1 << shift));
    match size {
        Some(size) if (least..=most).contains(&size) => Ok(Value::Number(size)),
        _ => Err(format!(
            "write bytes, or a number with k, m or g, from {least} to {most} bytes"
        )),
    }
}

fn is_level_item(item: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_:.-".contains(c);
    let Some((module, level)) = item.split_once('=') else {
        return false;
    };
    let levels = ["off", "error", "warn", "info", "debug"];
    let known = levels
        .iter()
        .any(|word| level.trim().eq_ignore_ascii_case(word));
    !module.is_empty() && module.chars().all(fits) && known
}

/// As a list, or as a JSON object whose values may hold commas. Nothing is quoted in the error:
/// the values are credentials, as a rule.
fn parse_headers(text: &str) -> Result<Value, String> {
    let remedy = "write name=value pairs separated by commas, or an object of texts as JSON";
    if !text.starts_with('{') {
        return parse_list(text, is_header_item, remedy);
    }
    let object: BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|_| remedy.to_owned())?;
    let items: Vec<String> = object
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if items.len() > limits::SETTING_ITEMS || !items.iter().all(|item| is_header_item(item)) {
        return Err(remedy.to_owned());
    }
    Ok(Value::List(items))
}

/// A name as HTTP knows them, and a value on one line.
fn is_header_item(item: &str) -> bool {
    let Some((name, value)) = item.split_once('=') else {
        return false;
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let name = name.trim();
    !name.is_empty() && name.chars().all(fits) && !value.chars().any(char::is_control)
}

/// The places count in the text of the flag or variable. No value is quoted: there may be keys
/// in it.
fn parse_table(text: &str, reader: TableReader) -> Result<Value, String> {
    let lines = Lines::new("", text);
    let mut notes = Notes::new(Scope::File);
    let mut plain = None;
    if let Some(value) = document::parse(&lines, &mut notes) {
        let node = Node::root(&lines, &value);
        plain = Some(node.plain(&mut notes));
        reader(&node, &mut notes);
    }
    let Some(first) = notes.first_error() else {
        return Ok(Value::Text(plain.unwrap_or_default().to_string()));
    };
    let place = first.place.as_ref();
    let at = place.map_or_else(String::new, |at| format!("{}:{}: ", at.line, at.column));
    Err(format!("{at}{}", first.reason()))
}

fn parse_host(text: &str) -> Result<Value, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() || is_host_name(bare) {
        return Ok(Value::Text(bare.to_owned()));
    }
    Err("write an address such as 127.0.0.1, without a port".into())
}

fn is_host_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    !text.is_empty() && text.chars().all(fits)
}

fn parse_word(text: &str) -> Result<Value, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if !text.is_empty() && text.len() <= limits::ENVIRONMENT_BYTES && text.chars().all(fits) {
        return Ok(Value::Text(text.to_owned()));
    }
    Err(format!(
        "write 1 to {} characters of A-Z a-z 0-9 _ -",
        limits::ENVIRONMENT_BYTES
    ))
}

fn parse_scopes(text: &str) -> Result<Value, String> {
    match Scopes::parse(text) {
        Ok(scopes) => Ok(Value::Text(scopes.to_string())),
        Err(_) => Err("write scopes such as tag:web or read with spaces between them".into()),
    }
}

fn parse_separator(text: &str) -> Result<Value, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if !text.is_empty() && text.len() <= limits::SEPARATOR_BYTES && text.chars().all(fits) {
        return Ok(Value::Text(text.to_owned()));
    }
    Err(format!(
        "write 1 to {} characters of A-Z a-z 0-9 _ - .",
        limits::SEPARATOR_BYTES
    ))
}

fn parse_list(text: &str, fits: fn(&str) -> bool, remedy: &str) -> Result<Value, String> {
    let items: Vec<&str> = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect();
    if items.len() > limits::SETTING_ITEMS {
        return Err(format!("write at most {} items", limits::SETTING_ITEMS));
    }
    match items.iter().find(|item| !fits(item)) {
        Some(_) => Err(remedy.to_owned()),
        None => Ok(Value::List(items.into_iter().map(str::to_owned).collect())),
    }
}

/// A host name or address, perhaps with a port, never a URL.
fn is_host_item(item: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._:[]*".contains(c);
    item.chars().all(fits)
}

/// `scheme://host[:port]` and nothing behind it.
fn is_origin(item: &str) -> bool {
    let Some((scheme, host)) = item.split_once("://") else {
        return false;
    };
    let scheme_fits = scheme
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    !scheme.is_empty() && scheme_fits && !host.is_empty() && is_host_item(host)
}

fn is_root(item: &str) -> bool {
    item.len() <= limits::URI_BYTES
        && item.starts_with("file:///")
        && item.bytes().all(|byte| byte.is_ascii_graphic())
}

fn parse_proxies(text: &str) -> Result<Value, String> {
    if text.is_empty() || text == "false" {
        return Ok(Value::List(Vec::new()));
    }
    parse_list(
        text,
        is_proxy,
        "write loopback, false, or addresses and networks (10.0.0.0/8)",
    )
}

fn is_proxy(item: &str) -> bool {
    if ["loopback", "linklocal", "uniquelocal", "true"].contains(&item) {
        return true;
    }
    let (address, bits) = item
        .split_once('/')
        .map_or((item, None), |(a, b)| (a, Some(b)));
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| bits.parse::<u32>().is_ok_and(|bits| bits <= most))
}
