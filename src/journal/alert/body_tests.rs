use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::{Speaker, body, dedup_key, signed_headers, variables};
use crate::base::secret::Secret;
use crate::config::alerts::rule::Severity;
use crate::config::alerts::sink::Shape;
use crate::journal::alert::message::{Alert, State};

fn alert(state: State) -> Alert {
    let began = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    Alert {
        id: "boot-1".into(),
        key: "serverDown/files".into(),
        rule: "serverDown",
        state,
        severity: Severity::Error,
        subject: "files".into(),
        title: "server files is not ready".into(),
        detail: "failed: <!channel> [x](http://evil)".into(),
        count: 3,
        since: began,
        at: began + Duration::from_secs(30),
    }
}

fn rendered(shape: &Shape, alert: &Alert) -> Value {
    let speaker = Speaker {
        host: "edge-1".into(),
        version: "0.1.0",
    };
    serde_json::from_slice(&body(shape, alert, &speaker)).unwrap()
}

#[test]
fn the_generic_webhook_has_its_members() {
    let value = rendered(&Shape::Webhook { key: None }, &alert(State::Triggered));
    let expect = serde_json::json!({
        "schema": "onemcp.alert/1",
        "id": "boot-1",
        "key": "serverDown/files",
        "rule": "serverDown",
        "state": "triggered",
        "severity": "error",
        "server": "files",
        "subject": "files",
        "title": "server files is not ready",
        "detail": "failed: <!channel> [x](http://evil)",
        "count": 3,
        "since": "2027-01-15T08:00:00.000Z",
        "at": "2027-01-15T08:00:30.000Z",
        "gateway": {"host": "edge-1", "version": "0.1.0"},
    });
    assert_eq!(value, expect);
}

/// Incoming webhooks: `text` and `blocks` of plain text within the lengths that are allowed.
#[test]
fn slack_gets_text_and_blocks() {
    let mut alert = alert(State::Triggered);
    alert.title = "a <!channel> & b".into();
    alert.detail = "x".repeat(5000);
    let value = rendered(&Shape::Slack, &alert);
    assert_eq!(value["text"], ":red_circle: a &lt;!channel&gt; &amp; b");
    let blocks = value["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), 3);
    for block in &blocks[..2] {
        assert_eq!(block["type"], "section");
        assert_eq!(block["text"]["type"], "plain_text");
        assert!(block["text"]["text"].as_str().unwrap().len() <= 3000);
    }
    assert_eq!(blocks[2]["type"], "context");
    assert_eq!(blocks[2]["elements"][0]["type"], "plain_text");
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["text", "blocks"]);
    let value = rendered(&Shape::Slack, &self::alert(State::Resolved));
    assert!(
        value["text"]
            .as_str()
            .unwrap()
            .starts_with(":white_check_mark:")
    );
}

/// A message whose only attachment is an adaptive card, version 1.4.
#[test]
fn teams_gets_an_adaptive_card() {
    let value = rendered(&Shape::Teams, &alert(State::Triggered));
    assert_eq!(value["type"], "message");
    let attachments = value["attachments"].as_array().unwrap();
    assert_eq!(attachments.len(), 1);
    let kind = "application/vnd.microsoft.card.adaptive";
    assert_eq!(attachments[0]["contentType"], kind);
    let card = &attachments[0]["content"];
    assert_eq!(
        (&card["type"], &card["version"]),
        (&"AdaptiveCard".into(), &"1.4".into())
    );
    let blocks = card["body"].as_array().unwrap();
    let kinds: Vec<&Value> = blocks.iter().map(|block| &block["type"]).collect();
    assert_eq!(kinds, ["RichTextBlock", "RichTextBlock", "FactSet"]);
    let run = &blocks[0]["inlines"][0];
    assert_eq!(run["type"], "TextRun");
    assert_eq!(run["color"], "attention");
    let facts = blocks[2]["facts"].as_array().unwrap();
    assert!(
        facts
            .iter()
            .all(|fact| fact["title"].is_string() && fact["value"].is_string())
    );
    let value = rendered(&Shape::Teams, &alert(State::Resolved));
    let run = &value["attachments"][0]["content"]["body"][0]["inlines"][0];
    assert_eq!(run["color"], "good");
}

/// Events API v2: what is required, its lengths, and the same key for begin and end.
#[test]
fn pagerduty_gets_an_event_that_its_end_resolves() {
    let shape = Shape::PagerDuty {
        routing_key: Secret::new("R0UT1NG".into()),
    };
    let value = rendered(&shape, &alert(State::Triggered));
    assert_eq!(value["routing_key"], "R0UT1NG");
    assert_eq!(value["event_action"], "trigger");
    assert_eq!(value["dedup_key"], "onemcp/edge-1/serverDown/files");
    let payload = &value["payload"];
    assert_eq!(payload["summary"], "server files is not ready");
    assert_eq!(payload["source"], "edge-1");
    assert_eq!(payload["severity"], "error");
    assert_eq!(payload["timestamp"], "2027-01-15T08:00:30.000Z");
    assert!(payload["custom_details"].is_object());
    let end = rendered(&shape, &alert(State::Resolved));
    assert_eq!(end["event_action"], "resolve");
    assert_eq!(end["dedup_key"], value["dedup_key"]);
    assert_eq!(end["routing_key"], "R0UT1NG");
    let notice = rendered(&shape, &alert(State::Notice));
    assert_eq!(notice["event_action"], "trigger");
}

#[test]
fn long_keys_stay_different() {
    let long = |end: &str| dedup_key(&format!("{}{end}", "x".repeat(400)));
    assert!(long("a").len() <= 255, "{}", long("a").len());
    assert_ne!(long("a"), long("b"));
    assert_eq!(dedup_key("short"), "short");
}

#[test]
fn signatures_cover_time_id_and_body() {
    let headers = |key, id: &str, at, body: &[u8]| {
        let headers = signed_headers(key, id, at, body);
        headers
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let bare = headers(None, "i", 5, b"{}");
    assert_eq!(
        (
            bare["onemcp-id"].as_str(),
            bare["onemcp-timestamp"].as_str()
        ),
        ("i", "5")
    );
    assert!(!bare.contains_key("onemcp-signature"));
    // printf '1700000000.id-1.{"a":1}' | openssl dgst -sha256 -hmac 'key'
    let known = headers(Some("key"), "id-1", 1_700_000_000, b"{\"a\":1}");
    let expect = "v1=ded05edee697e4fd91bc4c0ee895912d2d53b5f87663d3e29673ecd7d0df0b36";
    assert_eq!(known["onemcp-signature"], expect);
    let one = &known["onemcp-signature"];
    for other in [
        headers(Some("kez"), "id-1", 1_700_000_000, b"{\"a\":1}"),
        headers(Some("key"), "id-2", 1_700_000_000, b"{\"a\":1}"),
        headers(Some("key"), "id-1", 1_700_000_001, b"{\"a\":1}"),
        headers(Some("key"), "id-1", 1_700_000_000, b"{\"a\":2}"),
    ] {
        assert_ne!(one, &other["onemcp-signature"]);
    }
}

#[test]
fn commands_get_short_variables() {
    let all = variables(&alert(State::Triggered));
    assert!(all.contains(&("ALERT_RULE", "serverDown".to_owned())));
    assert!(all.contains(&("ALERT_STATE", "triggered".to_owned())));
    assert!(all.iter().all(|(name, _)| name.starts_with("ALERT_")));
}
