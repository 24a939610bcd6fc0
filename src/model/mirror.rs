//! Arguments of a tool that clients repeat in HTTP headers (`x-mcp-header` in its input schema,
//! revision 2026-07-28), so that what stands between can decide without reading bodies.

use std::sync::Arc;

use crate::wire::json::elements;
use crate::wire::members::Members;
use crate::wire::message::{FROM_CLIENT, FROM_SERVER};

const KEYWORD: &str = "x-mcp-header";
/// What every such header begins with.
const PREFIX: &str = "Mcp-Param-";

/// One argument that has a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Names of properties, from the outermost.
    pub path: Vec<String>,
    /// The whole name of the header.
    pub header: String,
}

impl Mirror {
    /// The raw value in a call's `arguments`; `None` when it is absent or null.
    pub fn value<'a>(&self, arguments: Option<&'a str>) -> Option<&'a str> {
        let mut value = arguments?;
        for (depth, name) in self.path.iter().enumerate() {
            let members = Members::parse(value, depth + 2, FROM_CLIENT).ok()?;
            value = members.get(name)?;
        }
        (value != "null").then_some(value)
    }
}

/// The mirrored arguments of a tool as its server lists it.
///
/// # Errors
/// Why the tool must not be offered to clients on HTTP.
pub fn of_tool(tool: &str) -> Result<Option<Arc<[Mirror]>>, String> {
    let has = |word: &str| memchr::memmem::find(tool.as_bytes(), word.as_bytes()).is_some();
    // An escaped keyword is the same keyword.
    if !has(KEYWORD) && !has("\\u") {
        return Ok(None);
    }
    let members = Members::parse(tool, 0, FROM_SERVER).ok();
    let Some(schema) = members.and_then(|members| members.get("inputSchema")) else {
        return Ok(None);
    };
    let mut walk = Walk {
        path: Vec::new(),
        found: Vec::new(),
    };
    walk.schema(schema, true)?;
    Ok((!walk.found.is_empty()).then(|| walk.found.into()))
}

struct Walk {
    path: Vec<String>,
    found: Vec<Mirror>,
}

impl Walk {
    /// `plain`: only `properties` lie between the root and here.
    fn schema(&mut self, schema: &str, plain: bool) -> Result<(), String> {
        let Ok(members) = Members::parse(schema, 0, FROM_SERVER) else {
            // `true`, `false`, or no schema at all.
            return Ok(());
        };
        if members.get(KEYWORD).is_some() {
            self.note(&members, plain)?;
        }
        for (key, value) in members.iter() {
            match key {
                "properties" => self.named(value, plain)?,
                "$defs" | "definitions" | "patternProperties" | "dependentSchemas" => {
                    self.named(value, false)?;
                }
                "items"
                | "prefixItems"
                | "contains"
                | "additionalProperties"
                | "oneOf"
                | "anyOf"
                | "allOf"
                | "not"
                | "if"
                | "then"
                | "else"
                | "propertyNames"
                | "unevaluatedItems"
                | "unevaluatedProperties" => match elements(value, FROM_SERVER) {
                    Some(several) => several
                        .into_iter()
                        .try_for_each(|one| self.schema(one, false))?,
                    None => self.schema(value, false)?,
                },
                _ => {}
            }
        }
        Ok(())
    }

    /// Schemas by name.
    fn named(&mut self, map: &str, plain: bool) -> Result<(), String> {
        let Ok(members) = Members::parse(map, 0, FROM_SERVER) else {
            return Ok(());
        };
        for (name, schema) in members.iter() {
            self.path.push(name.to_owned());
            let outcome = self.schema(schema, plain);
            self.path.pop();
            outcome?;
        }
        Ok(())
    }

    fn note(&mut self, schema: &Members<'_>, plain: bool) -> Result<(), String> {
        let place = self.path.join(".");
        let bad = |what: &str| Err(format!("{KEYWORD} at {place:?} {what}"));
        let Some(name) = schema.string(KEYWORD).filter(|name| is_token(name)) else {
            return bad("is not the end of a header name");
        };
        if !plain || self.path.is_empty() {
            return bad("is not on a property that \"properties\" alone lead to");
        }
        let kind = schema.string("type");
        if !matches!(kind.as_deref(), Some("string" | "integer" | "boolean")) {
            return bad("is not on a string, integer or boolean");
        }
        let header = format!("{PREFIX}{name}");
        let is_taken = |other: &Mirror| other.header.eq_ignore_ascii_case(&header);
        if self.found.iter().any(is_taken) {
            return bad("names a header that another property has");
        }
        self.found.push(Mirror {
            path: self.path.clone(),
            header,
        });
        Ok(())
    }
}

fn is_token(name: &str) -> bool {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use super::{Mirror, of_tool};

    fn tool(schema: &str) -> String {
        format!(r#"{{"name":"t","inputSchema":{schema}}}"#)
    }

    #[test]
    fn finds_arguments_that_have_a_header() {
        let schema = r#"{"type":"object","properties":{
            "region":{"type":"string","x-mcp-header":"Region"},
            "x-mcp-header":{"type":"string"},
            "in":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}}}}"#;
        let mirrors = of_tool(&tool(schema)).expect("good").expect("some");
        let mirror = |path: &[&str], header: &str| Mirror {
            path: path.iter().map(|name| (*name).to_owned()).collect(),
            header: header.to_owned(),
        };
        let expected = [
            mirror(&["region"], "Mcp-Param-Region"),
            mirror(&["in", "n"], "Mcp-Param-N"),
        ];
        assert_eq!(*mirrors, expected);
        let arguments = Some(r#"{"region":null,"in":{"n":12}}"#);
        assert_eq!(mirrors[0].value(arguments), None);
        assert_eq!(mirrors[1].value(arguments), Some("12"));
        assert_eq!(mirrors[1].value(Some(r#"{"in":7}"#)), None);
        assert_eq!(mirrors[1].value(None), None);
    }

    #[test]
    fn refuses_what_the_revision_forbids() {
        for property in [
            r#"{"type":"number","x-mcp-header":"N"}"#,
            r#"{"x-mcp-header":"N"}"#,
            r#"{"type":"string","x-mcp-header":""}"#,
            r#"{"type":"string","x-mcp-header":"a b"}"#,
            r#"{"type":"string","x-mcp-header":7}"#,
            r#"{"type":"string","\u0078-mcp-header":""}"#,
            r#"{"type":"array","items":{"type":"string","x-mcp-header":"N"}}"#,
            r#"{"oneOf":[{"type":"string","x-mcp-header":"N"}]}"#,
        ] {
            let schema = format!(r#"{{"properties":{{"a":{property}}}}}"#);
            assert!(of_tool(&tool(&schema)).is_err(), "{property}");
        }
        let twice = r#"{"properties":{"a":{"type":"string","x-mcp-header":"N"},
            "b":{"type":"string","x-mcp-header":"n"}}}"#;
        assert!(of_tool(&tool(twice)).is_err());
        let root = r#"{"type":"string","x-mcp-header":"N"}"#;
        assert!(of_tool(&tool(root)).is_err());
        assert_eq!(of_tool(&tool("{}")), Ok(None));
        assert_eq!(of_tool(r#"{"name":"x-mcp-header"}"#), Ok(None));
    }
}
