//! Which arguments of a tool a server wants to see in headers too: `x-mcp-header` in the tool's
//! input schema (server/tools and streamable-http of 2026-07-28). Pure.

use std::collections::HashSet;

use crate::upstream::remote::headers::{is_token, value_of};
use crate::wire::json::{elements, string_value};
use crate::wire::members::Members;
use crate::wire::message::FROM_SERVER;

const MARK: &str = "x-mcp-header";

/// One argument and the header that repeats it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrored {
    /// From the arguments down to the value.
    pub path: Vec<String>,
    /// Behind `Mcp-Param-`.
    pub name: String,
}

/// What a tool wants in headers; nothing for most tools.
///
/// # Errors
/// What is wrong with the schema's marks: such a tool must not be listed.
pub fn mirrored(tool: &str) -> Result<Vec<Mirrored>, String> {
    // Most tools have none, and are not looked at twice.
    if !tool.contains("x-mcp-") && !tool.contains("\\u") {
        return Ok(Vec::new());
    }
    let Some(schema) = object(tool).and_then(|tool| tool.get("inputSchema")) else {
        return Ok(Vec::new());
    };
    let mut found = Found::default();
    found.schema(schema, &mut Vec::new(), true)?;
    Ok(found.mirrored)
}

/// Headers for a call's arguments: name and value of each that is there and is not null.
pub fn headers(mirrored: &[Mirrored], arguments: &str) -> Vec<(String, String)> {
    let header = |wanted: &Mirrored| {
        let raw = at(arguments, &wanted.path)?;
        let text = match string_value(raw) {
            Some(text) => text.into_owned(),
            None if raw == "true" || raw == "false" => raw.to_owned(),
            None => decimal(raw)?,
        };
        let value = value_of(&text).into_owned();
        Some((format!("Mcp-Param-{}", wanted.name), value))
    };
    mirrored.iter().filter_map(header).collect()
}

fn object(raw: &str) -> Option<Members<'_>> {
    Members::parse(raw, 0, FROM_SERVER).ok()
}

fn at<'a>(arguments: &'a str, path: &[String]) -> Option<&'a str> {
    let mut raw = arguments;
    for key in path {
        raw = object(raw)?.get(key)?;
    }
    Some(raw)
}

/// An integer in plain digits: `3` for `3`, `3.0` and `3e0`.
fn decimal(raw: &str) -> Option<String> {
    if raw.parse::<i64>().is_ok() {
        return Some(raw.to_owned());
    }
    let number: f64 = raw.parse().ok()?;
    let is_exact = number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_991.0;
    is_exact.then(|| format!("{number:.0}"))
}

#[derive(Default)]
struct Found {
    mirrored: Vec<Mirrored>,
    names: HashSet<String>,
}

impl Found {
    /// `plain`: reached by `properties` alone, so that the value has one place.
    fn schema(&mut self, raw: &str, path: &mut Vec<String>, plain: bool) -> Result<(), String> {
        let Some(members) = object(raw) else {
            // A boolean schema, or a list of schemas.
            let inner = elements(raw, FROM_SERVER).unwrap_or_default();
            return inner
                .into_iter()
                .try_for_each(|schema| self.schema(schema, path, false));
        };
        if let Some(mark) = members.get(MARK) {
            self.mark(mark, &members, path, plain)?;
        }
        for (keyword, value) in members.iter() {
            match keyword {
                MARK | "default" | "const" | "enum" | "examples" | "required" | "type" => {}
                "properties" => self.properties(value, path, plain)?,
                "$defs" | "definitions" | "patternProperties" | "dependentSchemas" => {
                    self.properties(value, path, false)?;
                }
                _ if value.starts_with(['{', '[']) => self.schema(value, path, false)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn properties(&mut self, raw: &str, path: &mut Vec<String>, plain: bool) -> Result<(), String> {
        let Some(members) = object(raw) else {
            return Ok(());
        };
        for (name, schema) in members.iter() {
            path.push(name.to_owned());
            let outcome = self.schema(schema, path, plain);
            path.pop();
            outcome?;
        }
        Ok(())
    }

    fn mark(
        &mut self,
        mark: &str,
        schema: &Members<'_>,
        path: &[String],
        plain: bool,
    ) -> Result<(), String> {
        let name = string_value(mark).unwrap_or_default();
        let shown: String = name.chars().take(40).collect();
        if !is_token(&name) {
            return Err(format!("{MARK} {shown:?} is no header name"));
        }
        if !plain || path.is_empty() {
            return Err(format!(
                "{MARK} {shown:?} stands where it names no one argument"
            ));
        }
        let kind = schema.string("type").unwrap_or_default();
        if !matches!(&*kind, "string" | "integer" | "boolean") {
            return Err(format!(
                "{MARK} {shown:?} is at an argument that is no string, integer or boolean"
            ));
        }
        if !self.names.insert(name.to_ascii_lowercase()) {
            return Err(format!("{MARK} {shown:?} is there twice"));
        }
        let (path, name) = (path.to_vec(), name.into_owned());
        self.mirrored.push(Mirrored { path, name });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{headers, mirrored};

    fn tool(schema: &str) -> String {
        format!("{{\"name\":\"t\",\"inputSchema\":{schema}}}")
    }

    #[test]
    fn finds_marks_at_any_depth_of_properties() {
        let schema = r#"{"type":"object","properties":{
            "region":{"type":"string","x-mcp-header":"Region"},
            "deep":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}},
            "on":{"type":"boolean","x-mcp-header":"On"},
            "x-mcp-header":{"type":"string","default":{"x-mcp-header":" "}}}}"#;
        let marks = mirrored(&tool(schema)).expect("marks");
        let seen: Vec<String> = marks
            .iter()
            .map(|m| format!("{}={}", m.name, m.path.join("/")))
            .collect();
        assert_eq!(seen, ["Region=region", "N=deep/n", "On=on"]);
        let sent = |arguments: &str| {
            let headers = headers(&marks, arguments);
            let lines = headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}"));
            lines.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(
            sent(r#"{"region":"eu\u0020west","deep":{"n":-7.0},"on":false}"#),
            "Mcp-Param-Region: eu west, Mcp-Param-N: -7, Mcp-Param-On: false"
        );
        assert_eq!(
            sent(r#"{"region":null,"deep":7,"on":"é"}"#),
            "Mcp-Param-On: =?base64?w6k=?="
        );
        assert_eq!(sent("{}"), "");
    }

    #[test]
    fn refuses_what_the_protocol_forbids() {
        let one = |property: &str| format!("{{\"properties\":{{\"a\":{property}}}}}");
        for schema in [
            one(r#"{"type":"string","x-mcp-header":""}"#),
            one(r#"{"type":"string","x-mcp-header":"a b"}"#),
            one(r#"{"type":"string","x-mcp-header":"a:b"}"#),
            one(r#"{"type":"string","x-mcp-header":"é"}"#),
            one(r#"{"type":"string","x-mcp-header":7}"#),
            one(r#"{"type":"number","x-mcp-header":"A"}"#),
            one(r#"{"type":"object","x-mcp-header":"A"}"#),
            one(r#"{"x-mcp-header":"A"}"#),
            one(r#"{"type":"array","items":{"type":"string","x-mcp-header":"A"}}"#),
            one(r#"{"anyOf":[{"type":"string","x-mcp-header":"A"}]}"#),
            one(r#"{"type":"string","\u0078-mcp-header":""}"#),
            r#"{"type":"string","x-mcp-header":"A"}"#.to_owned(),
            r#"{"$defs":{"d":{"type":"string","x-mcp-header":"A"}}}"#.to_owned(),
            r#"{"if":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}"#.to_owned(),
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},
                "b":{"type":"string","x-mcp-header":"a"}}}"#
                .to_owned(),
        ] {
            assert!(mirrored(&tool(&schema)).is_err(), "{schema}");
        }
    }

    #[test]
    fn most_tools_want_nothing() {
        for tool in [
            r#"{"name":"t"}"#,
            r#"{"name":"x-mcp-","inputSchema":true}"#,
            r#"{"name":"t","inputSchema":{"properties":{"a":{"default":"x-mcp-header"}}}}"#,
        ] {
            assert_eq!(mirrored(tool), Ok(Vec::new()), "{tool}");
        }
    }
}
