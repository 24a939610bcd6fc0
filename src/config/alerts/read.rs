//! The reader: keys, types and ranges, each mistake with its place.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::limits;
use crate::base::ordered;
use crate::base::secret::Secret;
use crate::config::alerts::AlertSpec;
use crate::config::alerts::rule::{Knob, RULES, Rule, RuleSpec, Severity};
use crate::config::alerts::sink::{CommandTarget, HttpTarget, Kind, Shape, SinkSpec, Target};
use crate::config::document::{Member, Node, Notes, Spot};
use crate::config::near::did_you_mean;
use crate::config::remote::header_items;
use crate::net::proxy::ProxyChoice;
use crate::net::url::Url;

/// What a string stands for; `None` when it cannot be filled in, which was noted.
pub type Fill<'f> = dyn Fn(&str, &Spot<'_>, &mut Notes) -> Option<Secret> + 'f;

/// Takes every string as it stands: to check the rest.
pub fn plain(text: &str, _: &Spot<'_>, _: &mut Notes) -> Option<Secret> {
    Some(Secret::new(text.to_owned()))
}

/// For the table of settings: everything but what strings stand for.
pub fn check(node: &Node<'_>, notes: &mut Notes) {
    read(node, &plain, notes);
}

const KEYS: &[&str] = &["sinks", "rules"];
const SINK_KEYS: &[&str] = &[
    "type",
    "url",
    "secret",
    "routingKey",
    "headers",
    "caFile",
    "proxy",
    "command",
    "env",
    "minSeverity",
    "timeout",
];
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

/// Reads the value of `gateway.alerts`.
pub fn read(node: &Node<'_>, fill: &Fill<'_>, notes: &mut Notes) -> AlertSpec {
    let mut spec = AlertSpec::default();
    for member in node.members(notes).unwrap_or_default() {
        match member.name {
            "sinks" => spec.sinks = read_sinks(&member.node, fill, notes),
            "rules" => spec.rules = read_rules(&member.node, notes),
            name => {
                let remedy = did_you_mean(name, KEYS.iter().copied(), "remove it");
                member.spot.error(notes, "unknown key", remedy);
            }
        }
    }
    let names = spec.sinks.iter().map(|sink| sink.name.as_str());
    let names: Vec<&str> = names.collect();
    for (rule, one) in &spec.rules {
        for name in one.sinks.iter().flatten() {
            if !names.contains(&name.as_str()) {
                let message = format!("rule {} names a sink {name:?}", rule.as_str());
                let remedy = did_you_mean(name, names.iter().copied(), "write it under sinks");
                node.spot.error(notes, message, remedy);
            }
        }
    }
    spec
}

fn read_sinks(node: &Node<'_>, fill: &Fill<'_>, notes: &mut Notes) -> Vec<SinkSpec> {
    let members = node.members(notes).unwrap_or_default();
    if members.len() > limits::ALERT_SINKS {
        let remedy = format!("write at most {}", limits::ALERT_SINKS);
        node.spot
            .error(notes, format!("{} sinks", members.len()), remedy);
    }
    let read = members
        .iter()
        .take(limits::ALERT_SINKS)
        .filter_map(|member| read_sink(member, fill, notes));
    read.collect()
}

/// The members of one sink that its kind takes.
struct Parts<'d> {
    kind: Kind,
    members: Vec<Member<'d>>,
}

impl<'d> Parts<'d> {
    fn get(&self, name: &str) -> Option<&Node<'d>> {
        let found = self.members.iter().find(|member| member.name == name)?;
        Some(&found.node)
    }
}

fn takes(kind: Kind, key: &str) -> bool {
    let is_http = !matches!(kind, Kind::Command | Kind::Log);
    match key {
        "type" | "minSeverity" => true,
        "timeout" => kind != Kind::Log,
        "url" | "caFile" | "proxy" => is_http,
        "headers" => kind == Kind::Webhook,
        "secret" => kind == Kind::Webhook,
        "routingKey" => kind == Kind::PagerDuty,
        "command" | "env" => kind == Kind::Command,
        _ => false,
    }
}

fn read_sink(member: &Member<'_>, fill: &Fill<'_>, notes: &mut Notes) -> Option<SinkSpec> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name = member.name;
    if name.is_empty() || name.len() > limits::ALERT_SINK_NAME_BYTES || !name.chars().all(fits) {
        let most = limits::ALERT_SINK_NAME_BYTES;
        let remedy = format!("write 1 to {most} characters of A-Z a-z 0-9 - _ .");
        member.spot.error(notes, "is not a name for a sink", remedy);
        return None;
    }
    let members = member.node.members(notes)?;
    let kind = read_kind(member, &members, notes)?;
    for part in &members {
        if SINK_KEYS.contains(&part.name) && !takes(kind, part.name) {
            let message = format!("means nothing for a sink of type {}", kind.as_str());
            part.spot.error(notes, message, "remove it");
        } else if !SINK_KEYS.contains(&part.name) {
            let keys = SINK_KEYS.iter().copied().filter(|key| takes(kind, key));
            let remedy = did_you_mean(part.name, keys, "remove it");
            part.spot.error(notes, "unknown key", remedy);
        }
    }
    let parts = Parts { kind, members };
    let least = parts.get("minSeverity");
    let least = least.and_then(|node| read_severity(node, notes));
    let timeout = parts.get("timeout");
    let timeout = timeout.and_then(|node| node.count(notes, 100, limits::ALERT_TIMEOUT_MS_MAX));
    let timeout = timeout.map_or(limits::ALERT_TIMEOUT, Duration::from_millis);
    let target = match kind {
        Kind::Log => Some(Target::Log),
        Kind::Command => read_command(member, &parts, fill, notes).map(Target::Command),
        _ => read_http(member, &parts, fill, notes).map(Target::Http),
    };
    Some(SinkSpec {
        name: name.to_owned(),
        kind,
        min_severity: least.unwrap_or(Severity::Info),
        timeout,
        target,
    })
}

fn read_kind(sink: &Member<'_>, members: &[Member<'_>], notes: &mut Notes) -> Option<Kind> {
    let words = Kind::ALL.map(Kind::as_str);
    let Some(member) = members.iter().find(|member| member.name == "type") else {
        let remedy = format!("write one of {}", words.join(", "));
        sink.spot.error(notes, "has no \"type\"", remedy);
        return None;
    };
    let word = member.node.text(notes)?;
    let kind = Kind::parse(word);
    if kind.is_none() {
        let otherwise = format!("write one of {}", words.join(", "));
        let remedy = did_you_mean(word, words, &otherwise);
        let message = format!("{word:?} is no type of a sink");
        member.node.spot.error(notes, message, remedy);
    }
    kind
}

fn missing(sink: &Member<'_>, key: &str, notes: &mut Notes) {
    let message = format!("has no \"{key}\"");
    sink.spot.error(notes, message, "write it");
}

/// `None` when it is away, no text, empty, or cannot be filled in.
fn filled(node: &Node<'_>, fill: &Fill<'_>, notes: &mut Notes) -> Option<Secret> {
    let text = node.text(notes)?;
    let filled = fill(text, &node.spot, notes)?;
    if filled.expose().trim().is_empty() {
        node.spot.error(notes, "is empty", "write a value");
        return None;
    }
    Some(Secret::new(filled.expose().trim().to_owned()))
}

fn read_http(
    sink: &Member<'_>,
    parts: &Parts<'_>,
    fill: &Fill<'_>,
    notes: &mut Notes,
) -> Option<HttpTarget> {
    let url = match (parts.get("url"), parts.kind) {
        (Some(node), _) => read_url(node, fill, notes),
        (None, Kind::PagerDuty) => Some(Secret::new(PAGERDUTY.to_owned())),
        (None, _) => {
            missing(sink, "url", notes);
            None
        }
    };
    let shape = match parts.kind {
        Kind::Slack => Some(Shape::Slack),
        Kind::Teams => Some(Shape::Teams),
        Kind::PagerDuty => match parts.get("routingKey") {
            Some(node) => {
                filled(node, fill, notes).map(|routing_key| Shape::PagerDuty { routing_key })
            }
            None => {
                missing(sink, "routingKey", notes);
                None
            }
        },
        _ => match parts.get("secret") {
            // Unsigned must never be what comes of a key that is away.
            Some(node) => filled(node, fill, notes).map(|key| Shape::Webhook { key: Some(key) }),
            None => Some(Shape::Webhook { key: None }),
        },
    };
    let headers = parts.get("headers");
    let headers = headers.map_or(Some(Vec::new()), |node| read_headers(node, fill, notes));
    let ca_file = parts.get("caFile");
    let ca_file = ca_file.map_or(Some(None), |node| {
        let path = filled(node, fill, notes)?;
        Some(Some(PathBuf::from(path.expose())))
    });
    let proxy = parts.get("proxy");
    let proxy = proxy.map_or(Some(ProxyChoice::None), |node| {
        read_proxy(node, fill, notes)
    });
    Some(HttpTarget {
        url: url?,
        shape: shape?,
        headers: headers?,
        ca_file: ca_file?,
        proxy: proxy?,
    })
}

/// Never quoted: it may be the key itself.
fn read_url(node: &Node<'_>, fill: &Fill<'_>, notes: &mut Notes) -> Option<Secret> {
    let url = filled(node, fill, notes)?;
    if url.expose().contains("${") {
        // Not filled in yet: what it stands for is judged later.
        return Some(url);
    }
    match Url::parse(url.expose()) {
        Ok(url) => Some(Secret::new(url.whole())),
        Err(error) => {
            node.spot.error(notes, error.to_string(), error.remedy());
            None
        }
    }
}

/// Ours, beside those that `remote` keeps for the gateway.
fn read_headers(
    node: &Node<'_>,
    fill: &Fill<'_>,
    notes: &mut Notes,
) -> Option<Vec<(String, Secret)>> {
    let mut headers = Vec::new();
    let mut whole = true;
    for item in header_items(node, notes)? {
        if item.name.to_ascii_lowercase().starts_with("onemcp-") {
            let remedy = "rename it: the gateway writes such headers itself";
            item.value.spot.error(notes, "is a header of ours", remedy);
            continue;
        }
        let Some(value) = fill(item.value.text, &item.value.spot, notes) else {
            whole = false;
            continue;
        };
        let fits = |byte: u8| byte == b'\t' || byte == b' ' || byte.is_ascii_graphic();
        let value = value.expose().trim();
        if !value.bytes().all(fits) || value.len() > limits::REMOTE_HEADER_BYTES {
            let message = "cannot be sent in a header";
            let remedy = "write ASCII without control characters";
            item.value.spot.error(notes, message, remedy);
            continue;
        }
        headers.push((item.name.to_owned(), Secret::new(value.to_owned())));
    }
    whole.then_some(headers)
}

fn read_proxy(node: &Node<'_>, fill: &Fill<'_>, notes: &mut Notes) -> Option<ProxyChoice> {
    let text = filled(node, fill, notes)?;
    match text.expose() {
        "none" => Some(ProxyChoice::None),
        "environment" => Some(ProxyChoice::Environment),
        url if url.starts_with("http://") || url.contains("${") => Some(ProxyChoice::Url(text)),
        _ => {
            let remedy = "write none, environment, or a URL such as http://proxy:3128";
            node.spot
                .error(notes, "is no proxy that can be used", remedy);
            None
        }
    }
}

fn read_command(
    sink: &Member<'_>,
    parts: &Parts<'_>,
    fill: &Fill<'_>,
    notes: &mut Notes,
) -> Option<CommandTarget> {
    let Some(command) = parts.get("command") else {
        missing(sink, "command", notes);
        return None;
    };
    let words = command.texts(notes)?;
    if words.first().is_none_or(|(word, _)| word.trim().is_empty()) {
        let remedy = "write [\"/path/to/program\", \"argument\"]";
        command.spot.error(notes, "names no program", remedy);
        return None;
    }
    let mut argv = Vec::new();
    for (word, spot) in &words {
        argv.push(fill(word, spot, notes));
    }
    let mut env = Vec::new();
    let members = parts.get("env").map(|node| node.members(notes));
    for member in members.flatten().unwrap_or_default() {
        let Some(text) = member.node.text(notes) else {
            continue;
        };
        if member.name.is_empty() || member.name.contains('=') {
            let remedy = "write the name of a variable";
            member.spot.error(notes, "names no variable", remedy);
            continue;
        }
        let value = fill(text, &member.node.spot, notes);
        env.push(value.map(|value| (member.name.to_owned(), value)));
    }
    Some(CommandTarget {
        argv: argv.into_iter().collect::<Option<_>>()?,
        env: env.into_iter().collect::<Option<_>>()?,
    })
}

fn read_severity(node: &Node<'_>, notes: &mut Notes) -> Option<Severity> {
    let word = node.text(notes)?;
    let severity = Severity::parse(word);
    if severity.is_none() {
        let words = Severity::ALL.map(Severity::as_str);
        let otherwise = format!("write one of {}", words.join(", "));
        let remedy = did_you_mean(word, words, &otherwise);
        let message = format!("{word:?} is no severity");
        node.spot.error(notes, message, remedy);
    }
    severity
}

fn read_rules(node: &Node<'_>, notes: &mut Notes) -> Vec<(Rule, RuleSpec)> {
    let mut rules = Vec::new();
    for member in node.members(notes).unwrap_or_default() {
        match Rule::parse(member.name) {
            Some(rule) => rules.push((rule, read_rule(rule, &member.node, notes))),
            None => {
                let names = RULES.iter().map(|row| row.name);
                let list: Vec<&str> = names.clone().collect();
                let otherwise = format!("write one of {}", list.join(", "));
                let remedy = did_you_mean(member.name, names, &otherwise);
                member.spot.error(notes, "unknown rule", remedy);
            }
        }
    }
    ordered::sort_by_key(&mut rules, |(rule, _)| *rule);
    rules
}

/// `false` alone switches a rule off.
fn read_rule(rule: Rule, node: &Node<'_>, notes: &mut Notes) -> RuleSpec {
    let row = rule.row();
    let mut spec = row.defaults();
    if node.value.as_boolean_lit().is_some() {
        spec.enabled = node.switch(notes).unwrap_or(spec.enabled);
        return spec;
    }
    for member in node.members(notes).unwrap_or_default() {
        let (key, node) = (member.name, &member.node);
        let knob = row.knobs.iter().find(|knob| knob.key() == key);
        match (key, knob) {
            ("enabled", _) => set(&mut spec.enabled, node.switch(notes)),
            ("severity", _) => set(&mut spec.severity, read_severity(node, notes)),
            (_, Some(knob)) => turn(&mut spec, *knob, node, notes),
            (_, None) => {
                let keys = row.knobs.iter().map(|knob| knob.key());
                let keys = keys.chain(["enabled", "severity"]);
                let otherwise = format!("{} does not take it; remove it", row.name);
                let remedy = did_you_mean(key, keys, &otherwise);
                member.spot.error(notes, "unknown key", remedy);
            }
        }
    }
    spec
}

fn set<T>(to: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *to = value;
    }
}

fn turn(spec: &mut RuleSpec, knob: Knob, node: &Node<'_>, notes: &mut Notes) {
    let millis = |least: u64, notes: &mut Notes| {
        let ms = node.count(notes, least, limits::ALERT_RULE_MS_MAX);
        ms.map(Duration::from_millis)
    };
    let names = |notes: &mut Notes| {
        let words = node.words(notes)?;
        let words = words.iter().map(|(word, _)| (*word).to_owned());
        Some(words.take(limits::CONFIG_SERVERS).collect::<Vec<_>>())
    };
    match knob {
        Knob::Cooldown => set(&mut spec.cooldown, millis(0, notes)),
        Knob::After => set(&mut spec.after, millis(0, notes)),
        Knob::Window => set(&mut spec.window, millis(100, notes)),
        Knob::Recovery => set(&mut spec.recovery, node.switch(notes)),
        Knob::Count => set(&mut spec.count, node.count(notes, 1, 1_000_000_000)),
        Knob::Days => set(&mut spec.days, node.count(notes, 1, 3650)),
        Knob::Sinks => {
            if let Some(names) = names(notes) {
                spec.sinks = Some(names);
            }
        }
        Knob::Servers => {
            if let Some(names) = names(notes) {
                spec.servers = Some(names);
            }
        }
    }
}
