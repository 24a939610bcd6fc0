#![no_main]
//! Lists of a server: entries keep every byte that need not change, under another name too; what
//! is cleaned holds nothing that people do not see; templates of URIs fit what they were made of.

use libfuzzer_sys::fuzz_target;
use onemcp::mcp::era::Era;
use onemcp::mcp::list::ListKind;
use onemcp::mcp::revision::Revision;
use onemcp::model::listing::{Item, parse_page};
use onemcp::model::uri_template::{matches, matches_loosely};
use onemcp::model::visible_text;
use onemcp_fuzz::bounded;
use serde_json::Value;

fuzz_target!(|data: &[u8]| bounded(|| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    templates(text);
    for kind in ListKind::ALL {
        if let Some(item) = Item::parse(text, kind) {
            entry(text, &item, kind);
        }
        let Some(page) = parse_page(text, kind) else {
            continue;
        };
        // A lone half of a pair is passed on; the reference knows none.
        if let Ok(value) = serde_json::from_str::<Value>(text) {
            let entries = value[kind.member()].as_array().expect("a list");
            assert_eq!(page.items.len() + page.dropped, entries.len());
            assert_eq!(page.next_cursor.as_deref(), value["nextCursor"].as_str());
        }
        for item in &page.items {
            assert!(text.contains(&*item.raw));
        }
    }
}));

fn entry(text: &str, item: &Item, kind: ListKind) {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return;
    };
    assert_eq!(value[kind.key()].as_str(), Some(&*item.key));
    for era in [Era::Session(Revision::NEWEST), Era::Stateless] {
        let mut same = String::new();
        item.write(era, &item.key, &mut same);
        let mut other = String::new();
        item.write(era, "other \"name\"", &mut other);
        let mut expected: Value = serde_json::from_str(&same).expect("JSON");
        assert_eq!(expected[kind.key()], value[kind.key()]);
        for (key, member) in expected.as_object().expect("an object") {
            assert!(value.get(key).is_some() && (member == &value[key] || key == "execution"));
        }
        expected[kind.key()] = "other \"name\"".into();
        let renamed: Value = serde_json::from_str(&other).expect("JSON");
        assert_eq!(renamed, expected);
    }
    let described = item.with_description("a \"b\"\n", kind);
    let described: Value = serde_json::from_str(&described.raw).expect("JSON");
    if kind.key() != "description" && described != value {
        assert_eq!(described["description"], "a \"b\"\n");
    }
    if let Some(cleaned) = item.cleaned(kind) {
        assert!(
            !visible_text::json_hides(&cleaned.raw),
            "{text} -> {}",
            cleaned.raw
        );
        assert!(serde_json::from_str::<Value>(&cleaned.raw).is_ok());
    }
}

fn templates(text: &str) {
    let (template, uri) = text.split_once('\n').unwrap_or((text, text));
    if matches(template, uri) {
        assert!(matches_loosely(template, uri), "{text}");
    }
    if !template.contains(['{', '}']) {
        assert_eq!(matches(template, uri), template == uri);
    }
    let plain = |text: &str| -> String {
        text.chars()
            .filter(|c| c.is_alphanumeric())
            .take(200)
            .collect()
    };
    let (one, other) = (plain(template), plain(uri));
    let made = format!("x://{one}/{{a}}{{?q,r}}");
    assert_eq!(
        matches(&made, &format!("x://{one}/{other}")),
        !other.is_empty()
    );
    assert!(matches(&made, &format!("x://{one}/a{other}?r={other}")));
    assert!(!matches(&made, &format!("y://{one}/{other}")));
}
