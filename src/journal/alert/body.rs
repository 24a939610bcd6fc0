//! What a sink gets: the body of a request for each kind of service. Pure.
//!
//! Where a service reads marks in a text (links, mentions), what others wrote goes into a field
//! that it shows as it is.

use serde_json::Value;

use crate::base::limits;
use crate::base::template::filled;
use crate::base::time::rfc3339;
use crate::config::alerts::rule::Severity;
use crate::config::alerts::sink::Shape;
use crate::journal::alert::message::{Alert, State, one_line};
use crate::wire::{base64, hex};

/// Which gateway speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    pub host: String,
    pub version: &'static str,
}

/// Of the service that is asked.
pub fn body(shape: &Shape, alert: &Alert, speaker: &Speaker) -> Vec<u8> {
    let value = match shape {
        Shape::Webhook { .. } => webhook(alert, speaker),
        Shape::Slack => slack(alert, speaker),
        Shape::Teams => teams(alert, speaker),
        Shape::PagerDuty { routing_key } => pagerduty(alert, speaker, routing_key.expose()),
    };
    value.to_string().into_bytes()
}

/// Our own: also what a command reads from its stdin.
pub fn webhook(alert: &Alert, speaker: &Speaker) -> Value {
    of_alert(
        r#"{
            "schema": "onemcp.alert/1",
            "id": "$id",
            "key": "$key",
            "rule": "$rule",
            "state": "$state",
            "severity": "$severity",
            "server": "$server",
            "subject": "$subject",
            "title": "$title",
            "detail": "$detail",
            "count": "$count",
            "since": "$since",
            "at": "$at",
            "gateway": {"host": "$host", "version": "$version"}
        }"#,
        alert,
        speaker,
        &[],
    )
}

/// The text with what is known of the alert and its gateway filled in, and `also`.
fn of_alert(text: &str, alert: &Alert, speaker: &Speaker, also: &[(&str, Value)]) -> Value {
    let words = [
        ("id", alert.id.as_str()),
        ("key", &alert.key),
        ("rule", alert.rule),
        ("state", alert.state.as_str()),
        ("severity", alert.severity.as_str()),
        ("subject", &alert.subject),
        ("title", &alert.title),
        ("detail", &alert.detail),
        ("since", &rfc3339(alert.since)),
        ("at", &rfc3339(alert.at)),
        ("host", &speaker.host),
        ("version", speaker.version),
    ];
    let mut holes: Vec<(&str, Value)> = also.to_vec();
    holes.extend(words.map(|(name, word)| (name, word.into())));
    holes.push(("server", alert.server().into()));
    holes.push(("count", alert.count.into()));
    filled(text, &holes)
}

/// What stands behind the title, in words.
fn circumstances(alert: &Alert, speaker: &Speaker) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("rule", alert.rule.to_owned()),
        ("severity", alert.severity.to_string()),
        ("state", alert.state.as_str().to_owned()),
        ("gateway", speaker.host.clone()),
        ("since", rfc3339(alert.since)),
    ];
    if alert.count > 1 {
        facts.push(("times", alert.count.to_string()));
    }
    facts
}

/// An incoming webhook: blocks, and `text` for notifications, in which `<`, `>` and `&` are marks.
fn slack(alert: &Alert, speaker: &Speaker) -> Value {
    let sign = match (alert.state, alert.severity) {
        (State::Resolved, _) => ":white_check_mark:",
        (_, Severity::Critical) => ":rotating_light:",
        (_, Severity::Error) => ":red_circle:",
        (_, Severity::Warning) => ":warning:",
        (_, Severity::Info) => ":information_source:",
    };
    let plain = |text: &str, most: usize| {
        let text = one_line(text, most);
        filled(
            r#"{"type": "plain_text", "text": "$text", "emoji": false}"#,
            &[("text", text.into())],
        )
    };
    let facts = circumstances(alert, speaker);
    let facts = facts.iter().map(|(name, value)| format!("{name}: {value}"));
    let facts = facts.collect::<Vec<_>>().join("  |  ");
    let section = |text: &str| {
        filled(
            r#"{"type": "section", "text": "$text"}"#,
            &[("text", plain(text, SLACK_TEXT))],
        )
    };
    let mut blocks = vec![section(&alert.title)];
    if !alert.detail.is_empty() {
        blocks.push(section(&alert.detail));
    }
    blocks.push(filled(
        r#"{"type": "context", "elements": ["$facts"]}"#,
        &[("facts", plain(&facts, SLACK_TEXT))],
    ));
    let escaped = one_line(&alert.title, SLACK_TEXT / 5);
    let escaped = escaped
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    filled(
        r#"{"text": "$text", "blocks": "$blocks"}"#,
        &[
            ("text", format!("{sign} {escaped}").into()),
            ("blocks", blocks.into()),
        ],
    )
}

/// The service refuses longer ones.
const SLACK_TEXT: usize = 2900;

/// A message with an adaptive card, as the trigger "When a Teams webhook request is received"
/// takes it. Rich text blocks know no marks.
fn teams(alert: &Alert, speaker: &Speaker) -> Value {
    let colour = match (alert.state, alert.severity) {
        (State::Resolved, _) => "good",
        (_, Severity::Critical | Severity::Error) => "attention",
        (_, Severity::Warning) => "warning",
        (_, Severity::Info) => "accent",
    };
    let title = r#"{
        "type": "RichTextBlock",
        "inlines": [{
            "type": "TextRun",
            "text": "$title",
            "size": "medium",
            "weight": "bolder",
            "color": "$colour"
        }]
    }"#;
    let title_holes = [
        ("title", alert.title.as_str().into()),
        ("colour", colour.into()),
    ];
    let mut blocks = vec![filled(title, &title_holes)];
    if !alert.detail.is_empty() {
        blocks.push(filled(
            r#"{"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": "$detail"}]}"#,
            &[("detail", alert.detail.as_str().into())],
        ));
    }
    let fact = |(title, value): (&str, String)| {
        filled(
            r#"{"title": "$title", "value": "$value"}"#,
            &[("title", title.into()), ("value", value.into())],
        )
    };
    let facts = circumstances(alert, speaker).into_iter().map(fact);
    blocks.push(filled(
        r#"{"type": "FactSet", "facts": "$facts"}"#,
        &[("facts", Value::Array(facts.collect()))],
    ));
    let message = r#"{
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": "$blocks"
            }
        }]
    }"#;
    filled(message, &[("blocks", blocks.into())])
}

/// Events API v2. An incident is the key of the trouble at this host.
fn pagerduty(alert: &Alert, speaker: &Speaker, routing_key: &str) -> Value {
    let dedup_key = dedup_key(&format!("onemcp/{}/{}", speaker.host, alert.key));
    let also = [
        ("routing_key", routing_key.into()),
        ("dedup_key", dedup_key.into()),
        ("summary", one_line(&alert.title, PAGERDUTY_SUMMARY).into()),
    ];
    let text = match alert.state {
        State::Resolved => PAGERDUTY_RESOLVE,
        _ => PAGERDUTY_TRIGGER,
    };
    of_alert(text, alert, speaker, &also)
}

const PAGERDUTY_RESOLVE: &str = r#"{
    "routing_key": "$routing_key",
    "event_action": "resolve",
    "dedup_key": "$dedup_key"
}"#;

const PAGERDUTY_TRIGGER: &str = r#"{
    "routing_key": "$routing_key",
    "event_action": "trigger",
    "dedup_key": "$dedup_key",
    "client": "onemcp",
    "payload": {
        "summary": "$summary",
        "source": "$host",
        "severity": "$severity",
        "timestamp": "$at",
        "component": "$subject",
        "class": "$rule",
        "custom_details": {
            "detail": "$detail",
            "count": "$count",
            "since": "$since",
            "version": "$version"
        }
    }
}"#;

const PAGERDUTY_SUMMARY: usize = 1024;
const PAGERDUTY_KEY: usize = 255;

/// A longer one becomes its beginning and a digest of the whole.
fn dedup_key(text: &str) -> String {
    if text.len() <= PAGERDUTY_KEY {
        return text.to_owned();
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let digest = base64::encode_url(digest.as_ref());
    let begin = one_line(text, PAGERDUTY_KEY - digest.len() - 1);
    format!("{begin}-{digest}")
}

/// Headers of the generic webhook. The signature covers what a receiver must check: when it was
/// sent, which message it is, and every byte of the body.
pub fn signed_headers(
    key: Option<&str>,
    id: &str,
    timestamp: u64,
    body: &[u8],
) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("onemcp-id", id.to_owned()),
        ("onemcp-timestamp", timestamp.to_string()),
    ];
    if let Some(key) = key {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
        let mut signer = ring::hmac::Context::with_key(&key);
        signer.update(format!("{timestamp}.{id}.").as_bytes());
        signer.update(body);
        let tag = signer.sign();
        let signature = format!("v1={}", hex::encode(tag.as_ref()));
        headers.push(("onemcp-signature", signature));
    }
    headers
}

/// What a command finds in its environment, so that a short script needs no JSON.
pub fn variables(alert: &Alert) -> Vec<(&'static str, String)> {
    let most = limits::ALERT_TEXT_BYTES;
    vec![
        ("ALERT_RULE", alert.rule.to_owned()),
        ("ALERT_STATE", alert.state.as_str().to_owned()),
        ("ALERT_SEVERITY", alert.severity.to_string()),
        ("ALERT_KEY", one_line(&alert.key, most)),
        ("ALERT_TITLE", one_line(&alert.title, most)),
    ]
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
