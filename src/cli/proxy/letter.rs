//! What HTTP wants beside a message: the headers of a session, or those that repeat what a
//! stateless request says. Values only.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::cli::proxy::flight::Flight;
use crate::cli::proxy::session::Session;
use crate::front::streamable::SESSION_HEADER;
use crate::mcp::meta;
use crate::model::mirror::Mirror;
use crate::wire::base64::encode_standard;
use crate::wire::json::string_value;
use crate::wire::members::Members;
use crate::wire::message::{Envelope, FROM_SERVER};

pub(super) type Headers = Vec<(String, String)>;

const VERSION: &str = "MCP-Protocol-Version";
const SENTINEL: (&str, &str) = ("=?base64?", "?=");

pub(super) fn of_session(session: Option<&Session>) -> Headers {
    let Some(session) = session else {
        return Vec::new();
    };
    let header = |name: &str, value: &Option<String>| {
        value.as_ref().map(|value| (name.to_owned(), value.clone()))
    };
    let id = header(SESSION_HEADER, &session.id);
    let version = header(VERSION, &session.version);
    id.into_iter().chain(version).collect()
}

/// Of a stateless request. `mirrored`: the arguments of tools that have a header, as far as they
/// are known.
pub(super) fn of_request(
    line: &str,
    flight: &Flight,
    mirrored: &HashMap<String, Arc<[Mirror]>>,
) -> Headers {
    let mut headers = vec![("Mcp-Method".to_owned(), flight.method.clone())];
    let envelope = Envelope::parse(line, FROM_SERVER).ok();
    let params =
        envelope.and_then(|envelope| Members::parse(envelope.params?, 1, FROM_SERVER).ok());
    let Some(params) = params else {
        return headers;
    };
    let mut add = |name: &str, value: &str| {
        headers.push((name.to_owned(), value_of(value).into_owned()));
    };
    let meta = params
        .get("_meta")
        .and_then(|raw| Members::parse(raw, 2, FROM_SERVER).ok());
    if let Some(version) = meta.and_then(|meta| meta.string(meta::PROTOCOL_VERSION)) {
        add(VERSION, &version);
    }
    let Some(name) = key_of(&flight.method).and_then(|key| params.string(key)) else {
        return headers;
    };
    add("Mcp-Name", &name);
    let mirrors = mirrored
        .get(&*name)
        .filter(|_| flight.method == "tools/call");
    for mirror in mirrors.into_iter().flat_map(|mirrors| mirrors.iter()) {
        if let Some(raw) = mirror.value(params.get("arguments")) {
            let text = string_value(raw).unwrap_or(Cow::Borrowed(raw));
            add(&mirror.header, &text);
        }
    }
    headers
}

/// The parameter that says what a request is about.
fn key_of(method: &str) -> Option<&'static str> {
    Some(match method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
        _ => return None,
    })
}

/// A text as a header value: as it is, or in Base64 between the marks that say so.
fn value_of(text: &str) -> Cow<'_, str> {
    let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let has_edges = text.starts_with(' ') || text.ends_with(' ');
    let looks_encoded = text.starts_with(SENTINEL.0) && text.ends_with(SENTINEL.1);
    if is_plain && !has_edges && !looks_encoded {
        return Cow::Borrowed(text);
    }
    Cow::Owned([SENTINEL.0, &encode_standard(text.as_bytes()), SENTINEL.1].concat())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{of_request, value_of};
    use crate::cli::proxy::flight::Flight;
    use crate::model::mirror::of_tool;

    #[test]
    fn stateless_requests_are_repeated_in_headers() {
        let tool = r#"{"name":"t","inputSchema":{"type":"object","properties":
            {"region":{"type":"string","x-mcp-header":"Region"}}}}"#;
        let mirrors = of_tool(tool).expect("allowed").expect("one");
        let mirrored = HashMap::from([("t\u{e9}".to_owned(), mirrors)]);
        let line = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t\u00e9",
            "arguments":{"region":" eu"},
            "_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
        let flight = Flight::new("tools/call".to_owned(), Vec::new(), true);
        let headers = of_request(line, &flight, &mirrored);
        let shown: Vec<String> = headers.iter().map(|(n, v)| format!("{n}: {v}")).collect();
        let expected = [
            "Mcp-Method: tools/call",
            "MCP-Protocol-Version: 2026-07-28",
            "Mcp-Name: =?base64?dMOp?=",
            "Mcp-Param-Region: =?base64?IGV1?=",
        ];
        assert_eq!(shown, expected);
        assert_eq!(
            value_of("=?base64?QQ==?="),
            "=?base64?PT9iYXNlNjQ/UVE9PT89?="
        );
        assert_eq!(value_of("plain text"), "plain text");
    }
}
