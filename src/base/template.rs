//! JSON of our own, written as text with holes. For values of many literals: the macro of
//! serde_json makes ten times as many bytes of code of them. Pure. Deliberately absent: texts of
//! others, which are data and may fill a hole only.

use serde_json::Value;

/// The value of `text`, in which every string `"$name"` gives way to the hole of that name.
/// What fills a hole stays as it is, whatever stands in it.
pub fn filled(text: &str, holes: &[(&str, Value)]) -> Value {
    let mut value = fixed(text);
    fill(&mut value, holes);
    value
}

/// The value of a text without holes.
pub fn fixed(text: &str) -> Value {
    let value = serde_json::from_str(text);
    // Not JSON is a mistake in our source: tests read every text there is.
    debug_assert!(value.is_ok(), "not JSON: {text}");
    value.unwrap_or_default()
}

fn fill(value: &mut Value, holes: &[(&str, Value)]) {
    match value {
        Value::String(text) => {
            let name = text.strip_prefix('$');
            let hole = holes.iter().find(|(hole, _)| Some(*hole) == name);
            debug_assert!(hole.is_some() || name.is_none(), "nothing fills {text}");
            if let Some((_, hole)) = hole {
                *value = hole.clone();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, holes)),
        Value::Object(members) => members.values_mut().for_each(|member| fill(member, holes)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::filled;

    #[test]
    fn holes_are_filled_once_and_in_order() {
        let text = r##"{"b": "$one", "$ref": "#/$x", "a": [{"c": "$two"}, 1, "$one"]}"##;
        let found = filled(
            text,
            &[("one", "$two".into()), ("two", json!({"d": "$one"}))],
        );
        let expect = r##"{"b":"$two","$ref":"#/$x","a":[{"c":{"d":"$one"}},1,"$two"]}"##;
        assert_eq!(found.to_string(), expect);
    }
}
