#![no_main]
//! Edits of one object, against the same edits of a tree: one member set, members taken out with
//! their commas, others put in front. What was not named stays byte for byte.

use libfuzzer_sys::fuzz_target;
use onemcp::wire::json::{elements, quoted, string_value};
use onemcp::wire::members::{Members, MembersError, edited, span_in};
use onemcp::wire::message::FROM_CLIENT;
use onemcp_fuzz::bounded;
use serde_json::{Map, Value, json};

fuzz_target!(|data: &[u8]| bounded(|| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let tree = serde_json::from_str::<Value>(text);
    array(text, tree.as_ref().ok());
    let members = match Members::parse(text, 0, FROM_CLIENT) {
        Ok(members) => members,
        Err(MembersError::NotAnObject) => {
            return assert!(tree.is_ok_and(|tree| !tree.is_object()));
        }
        Err(MembersError::Duplicate(key)) => {
            return assert!(tree.is_ok_and(|tree| tree.get(&key).is_some()));
        }
        Err(MembersError::Json(_)) => return,
    };
    let tree = tree.expect("the reference takes what we take");
    let tree = tree.as_object().expect("an object");
    assert_eq!(members.iter().count(), tree.len());
    assert_eq!(members.is_empty(), tree.is_empty());
    for (key, raw) in members.iter() {
        assert_eq!(parsed(raw), tree[key]);
        assert_eq!(&text[span_in(text, raw)], raw);
        if let Some(value) = string_value(raw) {
            assert_eq!(parsed(&quoted(&value)), tree[key]);
        }
    }
    set(&members, tree);
    take_out(text, &members, tree);
}));

fn parsed(raw: &str) -> Value {
    serde_json::from_str(raw).expect("a part of JSON is JSON")
}

fn set(members: &Members<'_>, tree: &Map<String, Value>) {
    let first = tree.keys().next().map(String::as_str);
    for key in ["id", "new \"key\"\n", first.unwrap_or("a")] {
        let mut expected = tree.clone();
        expected.insert(key.to_owned(), json!([1, "}"]));
        assert_eq!(
            parsed(&members.with(key, "[1,\"}\"]")),
            Value::Object(expected)
        );
    }
}

fn take_out(text: &str, members: &Members<'_>, tree: &Map<String, Value>) {
    // Every second one, those with a short name, all, none.
    let is_odd = |key: &str| tree.keys().position(|other| other == key).unwrap_or(0) % 2 == 1;
    let rules: [&dyn Fn(&str) -> bool; 4] = [&is_odd, &|key| key.len() < 3, &|_| true, &|_| false];
    for unwanted in rules {
        for first in ["", "\"\\u0000x\":{},\"\\u0000y\":[]"] {
            let bytes = edited(text, members.rewritten(text, unwanted, first));
            let mut expected = Map::new();
            if !first.is_empty() {
                expected.insert("\0x".into(), json!({}));
                expected.insert("\0y".into(), json!([]));
            }
            let kept = tree.iter().filter(|(key, _)| !unwanted(key));
            expected.extend(kept.map(|(key, value)| (key.clone(), value.clone())));
            let whole = String::from_utf8(bytes).expect("text");
            // Ours may stand there already: then it stands there twice.
            if first.is_empty() || !tree.contains_key("\0x") && !tree.contains_key("\0y") {
                let edited = Members::parse(&whole, 0, FROM_CLIENT).expect("still an object");
                assert_eq!(edited.iter().count(), expected.len(), "{text} -> {whole}");
                assert_eq!(parsed(&whole), Value::Object(expected), "{text} -> {whole}");
                for (key, raw) in members.iter().filter(|(key, _)| !unwanted(key)) {
                    assert_eq!(edited.get(key), Some(raw), "not as it came");
                }
            }
        }
    }
}

fn array(text: &str, tree: Option<&Value>) {
    if let Some(found) = elements(text, FROM_CLIENT) {
        let tree = tree.and_then(Value::as_array).expect("an array");
        let found: Vec<Value> = found.into_iter().map(parsed).collect();
        assert_eq!(&found, tree);
    }
}
