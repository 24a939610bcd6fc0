//! A validator for as much of JSON Schema 2020-12 as the schema of `mcp.json` uses. It fails on
//! a keyword that it does not know, so that nothing is left unjudged.

use serde_json::{Map, Value};

/// What is wrong with `value`, each with its place; nothing when it satisfies the schema.
pub(crate) fn mistakes(root: &Value, value: &Value) -> Vec<String> {
    let mut out = Vec::new();
    judge(root, root, value, "", &mut out);
    out
}

fn judge(root: &Value, schema: &Value, value: &Value, at: &str, out: &mut Vec<String>) {
    for (keyword, rule) in schema.as_object().expect("a schema is an object") {
        let fits = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" | "deprecated" => true,
            "$ref" => {
                let target = rule.as_str().unwrap().strip_prefix('#').unwrap();
                judge(root, root.pointer(target).unwrap(), value, at, out);
                true
            }
            "type" => types(rule).iter().any(|name| is_of_type(name, value)),
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|n| n >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|n| n <= rule.as_f64().unwrap()),
            "anyOf" => rule.as_array().unwrap().iter().any(|one| {
                let mut inner = Vec::new();
                judge(root, one, value, at, &mut inner);
                inner.is_empty()
            }),
            "maxItems" => value.as_array().is_none_or(|a| a.len() <= number(rule)),
            "minItems" => value.as_array().is_none_or(|a| a.len() >= number(rule)),
            "maxProperties" => value.as_object().is_none_or(|o| o.len() <= number(rule)),
            "minLength" => value
                .as_str()
                .is_none_or(|t| t.chars().count() >= number(rule)),
            "maxLength" => value
                .as_str()
                .is_none_or(|t| t.chars().count() <= number(rule)),
            "pattern" => value.as_str().is_none_or(|text| matches(rule, text)),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    judge(root, rule, item, &format!("{at}[{index}]"), out);
                }
                true
            }
            "propertyNames" => {
                for name in value.as_object().into_iter().flat_map(Map::keys) {
                    judge(root, rule, &Value::from(name.as_str()), at, out);
                }
                true
            }
            "properties" | "additionalProperties" => {
                if keyword == "additionalProperties" || !has_rest(schema) {
                    members(root, schema, value, at, out);
                }
                true
            }
            other => panic!("the keyword {other} is not known here"),
        };
        if !fits {
            out.push(format!("{at}: {keyword} {rule}: {value}"));
        }
    }
}

fn has_rest(schema: &Value) -> bool {
    schema.get("additionalProperties").is_some()
}

fn members(root: &Value, schema: &Value, value: &Value, at: &str, out: &mut Vec<String>) {
    for (name, inner) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        let known = schema.get("properties").and_then(|known| known.get(name));
        match known.or(schema.get("additionalProperties")) {
            Some(Value::Bool(false)) => out.push(format!("{at}: is not known")),
            Some(rule) => judge(root, rule, inner, &at, out),
            None => {}
        }
    }
}

fn types(rule: &Value) -> Vec<&str> {
    match rule {
        Value::String(name) => vec![name],
        list => list
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect(),
    }
}

fn is_of_type(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("the type {other} is not known here"),
    }
}

fn number(rule: &Value) -> usize {
    usize::try_from(rule.as_u64().unwrap()).unwrap()
}

/// The patterns that the schema has.
fn matches(rule: &Value, text: &str) -> bool {
    match rule.as_str().unwrap() {
        "\\S" => !text.trim().is_empty(),
        "^\\s*[0-9]+\\s*([kKmMgG][bB]?)?\\s*$" => {
            let digits = text.trim().trim_end_matches(['b', 'B']);
            let digits = digits
                .trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G'])
                .trim_end();
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        }
        other => panic!("the pattern {other} is not known here"),
    }
}
