//! Edits of raw JSON: what they come to is what an edit of the read value comes to, and every
//! byte that they do not name is as it was.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use serde_json::{Map, Value};

use super::{Edit, Members, MembersError, edited, span_in, splice};
use crate::base::laws::for_all;
use crate::wire::json::{Rules, quoted};

const RULES: Rules = Rules {
    depth: 128,
    lone_surrogates: false,
};

/// Keys as they may be written, some of them the same when read.
const KEYS: [&str; 8] = [
    r#""a""#,
    r#""\u0061""#,
    r#""b""#,
    r#""x""#,
    r#""x-1""#,
    r#""\"}""#,
    r#""""#,
    r#""é""#,
];

/// Raw JSON, with white space in its own way.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        select(
            &[
                "null",
                "true",
                "-0",
                "1.10",
                "12345678901234567890123",
                "1e400"
            ][..]
        )
        .prop_map(str::to_owned),
        "[a{}\\[\\],:\"\\\\é ]{0,6}".prop_map(|text| quoted(&text)),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            (space(), vec(inner.clone(), 0..3))
                .prop_map(|(space, items)| format!("[{space}{}]", items.join(","))),
            (space(), vec((select(&KEYS[2..]), inner), 0..2)).prop_map(|(space, members)| {
                let mut seen = Vec::new();
                let mut texts = Vec::new();
                for (key, value) in members {
                    if !seen.contains(&key) {
                        seen.push(key);
                        texts.push(format!("{key}{space}:{value}"));
                    }
                }
                format!("{{{}{space}}}", texts.join(","))
            }),
        ]
    })
}

fn space() -> impl Strategy<Value = &'static str> {
    select(&["", "", " ", "\n\t"][..])
}

/// An object as text, whether or not one of its keys stands twice.
fn object() -> impl Strategy<Value = String> {
    let member = (select(&KEYS[..]), space(), space(), value());
    (vec(member, 0..5), space()).prop_map(|(members, end)| {
        let texts = members
            .iter()
            .map(|(key, one, two, value)| format!("{one}{key}{two}:{one}{value}{two}"));
        format!("{{{}{end}}}", texts.collect::<Vec<_>>().join(","))
    })
}

/// In their order, with numbers as they are written.
fn read(text: &str) -> Vec<(String, String)> {
    let pairs: Vec<(String, Box<serde_json::value::RawValue>)> = ordered(text);
    pairs
        .into_iter()
        .map(|(key, value)| (key, value.get().to_owned()))
        .collect()
}

/// serde_json's own reading of one object.
fn ordered(text: &str) -> Vec<(String, Box<serde_json::value::RawValue>)> {
    struct Pairs(Vec<(String, Box<serde_json::value::RawValue>)>);
    impl<'de> serde::Deserialize<'de> for Pairs {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Pairs, D::Error> {
            struct Each;
            impl<'de> serde::de::Visitor<'de> for Each {
                type Value = Pairs;

                fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    to.write_str("an object")
                }

                fn visit_map<A: serde::de::MapAccess<'de>>(
                    self,
                    mut map: A,
                ) -> Result<Pairs, A::Error> {
                    let mut pairs = Vec::new();
                    while let Some(pair) = map.next_entry()? {
                        pairs.push(pair);
                    }
                    Ok(Pairs(pairs))
                }
            }
            from.deserialize_map(Each)
        }
    }
    serde_json::from_str::<Pairs>(text).expect("an object").0
}

fn has_twice(pairs: &[(String, String)]) -> bool {
    let mut seen = std::collections::HashSet::new();
    pairs.iter().any(|(key, _)| !seen.insert(key))
}

#[test]
fn finds_what_the_reference_parser_finds() {
    for_all(object(), |text| {
        let pairs = read(&text);
        match Members::parse(&text, 0, RULES) {
            Ok(members) => {
                let found = members
                    .iter()
                    .map(|(key, raw)| (key.to_owned(), raw.to_owned()));
                assert_eq!(found.collect::<Vec<_>>(), pairs, "{text}");
            }
            Err(error) => {
                assert!(
                    matches!(error, MembersError::Duplicate(_)),
                    "{text}: {error}"
                );
                assert!(has_twice(&pairs), "{text}");
            }
        }
    });
}

#[test]
fn one_member_is_set_and_no_other_byte_changed() {
    let key = select(&["a", "x", "\"}", "new", ""][..]);
    for_all((object(), key, value()), |(text, key, raw)| {
        let Ok(members) = Members::parse(&text, 0, RULES) else {
            return;
        };
        let mut pairs = read(&text);
        match pairs.iter_mut().find(|(known, _)| known == key) {
            Some((_, value)) => value.clone_from(&raw),
            None => pairs.push((key.to_owned(), raw.clone())),
        }
        let new = members.with(key, &raw);
        assert_eq!(read(&new), pairs, "{text} with {key} {raw}");
        if let Some(old) = members.get(key) {
            let span = span_in(&text, old);
            assert_eq!(new[..span.start], text[..span.start]);
            assert!(new.ends_with(&text[span.end..]));
        }
    });
}

#[test]
fn members_leave_and_come_first_within_a_whole() {
    let around = (
        space(),
        select(&["", r#""id":1, "#][..]),
        select(&["", r#" ,"x":[7]"#][..]),
    );
    let first = select(&["", r#""n":0"#, r#""n":0,"m":{}"#][..]);
    for_all(
        (object(), around, first),
        |(object, (space, before, after), first)| {
            if Members::parse(&object, 1, RULES).is_err() {
                return;
            }
            let whole = format!("{{{before}\"p\"{space}:{space}{object}{after}}}");
            let start = whole.find(&object).expect("the object");
            let part = &whole[start..start + object.len()];
            let members = Members::parse(part, 1, RULES).expect("the same");
            let unwanted = |key: &str| key.starts_with('x') || key.is_empty();
            let new = edited(&whole, members.rewritten(&whole, unwanted, first));
            let new = String::from_utf8(new).expect("text");
            let mut pairs = read(&format!("{{{first}}}"));
            pairs.extend(read(&object).into_iter().filter(|(key, _)| !unwanted(key)));
            let outer = read(&new);
            let found = outer
                .iter()
                .find(|(key, _)| key == "p")
                .expect("the object");
            assert_eq!(read(&found.1), pairs, "{whole} became {new}");
            assert!(new.starts_with(&whole[..start]), "{new}");
            assert!(new.ends_with(&whole[start + object.len()..]), "{new}");
        },
    );
}

/// Of one value, anywhere within it.
fn replaced(value: &mut Value, wanted: &str, new: &Value) {
    match value {
        Value::Object(members) => {
            for (key, value) in members.iter_mut() {
                match key == wanted {
                    true => value.clone_from(new),
                    false => replaced(value, wanted, new),
                }
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| replaced(item, wanted, new)),
        _ => {}
    }
}

#[test]
fn several_spans_are_replaced_as_in_the_read_value() {
    let keys = vec(select(&["id", "name", "other"][..]), 1..4);
    for_all(
        (keys, value(), any::<bool>()),
        |(keys, raw, is_reversed)| {
            let keys: Vec<&str> = keys.into_iter().collect();
            let (mut text, mut spans) = (String::from("["), Vec::new());
            for (at, key) in keys.iter().enumerate() {
                let comma = if at == 0 { "" } else { " ,\n" };
                text.push_str(&format!("{comma}{{\"{key}\" : "));
                let start = text.len();
                text.push_str("\"old\"");
                spans.push((*key, start..text.len()));
                text.push_str(" }");
            }
            text.push(']');
            let wanted = keys[0];
            let chosen = spans.iter().filter(|(key, _)| *key == wanted);
            let mut edits: Vec<_> = chosen
                .map(|(_, span)| (span.clone(), raw.clone()))
                .collect();
            let slices: Vec<Edit<'_>> = edits
                .iter()
                .map(|(span, text)| Edit {
                    span: span.clone(),
                    text,
                })
                .collect();
            let mut spliced = Vec::new();
            splice(&text, &slices, &mut spliced);
            if is_reversed {
                edits.reverse();
            }
            assert_eq!(edited(&text, edits), spliced);
            let Ok(new) = serde_json::from_str::<Value>(&raw) else {
                return;
            };
            let mut expected: Value = serde_json::from_str(&text).expect("text");
            replaced(&mut expected, wanted, &new);
            let found: Value = serde_json::from_slice(&spliced).expect("spliced");
            assert_eq!(found, expected);
        },
    );
}

#[test]
fn any_text_is_refused_or_read_as_the_reference_does() {
    let piece = prop_oneof![
        8 => select(&["{", "}", "\"a\"", ":", ",", "1", " ", "[", "]", "\"\\u0061\"", "{}"][..])
            .prop_map(str::to_owned),
        1 => ".{0,3}",
        1 => Just("{\"b\":1}".to_owned()),
    ];
    for_all(vec(piece, 0..9), |pieces| {
        let text = pieces.concat();
        let ours = Members::parse(&text, 0, RULES);
        let theirs = serde_json::from_str::<Map<String, Value>>(&text);
        match ours {
            Ok(members) => {
                let keys: Vec<String> = members.iter().map(|(key, _)| key.to_owned()).collect();
                let theirs = theirs.expect("good for both");
                assert_eq!(theirs.keys().cloned().collect::<Vec<_>>(), keys);
            }
            // serde_json takes the last of two.
            Err(MembersError::Duplicate(_)) => assert!(theirs.is_ok(), "{text}"),
            Err(_) => assert!(theirs.is_err(), "{text}"),
        }
    });
}
