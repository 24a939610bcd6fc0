//! JSON-RPC errors that the gateway itself gives. Errors of servers pass unchanged.

use crate::wire::json::quoted;

pub const PARSE_ERROR: i32 = -32700;
pub const INVALID_REQUEST: i32 = -32600;
pub const METHOD_NOT_FOUND: i32 = -32601;
pub const INVALID_PARAMS: i32 = -32602;
pub const INTERNAL_ERROR: i32 = -32603;
/// Session era only (server/resources).
pub const RESOURCE_NOT_FOUND: i32 = -32002;
/// Session era, 2025-11-25 only: URLs must be visited first; they stand in `data.elicitations`.
pub const URL_ELICITATION_REQUIRED: i32 = -32042;
/// Stateless era: a header is missing, malformed, or says something else than the body.
pub const HEADER_MISMATCH: i32 = -32020;
/// Stateless era: the request needs what its `clientCapabilities` do not declare.
pub const MISSING_CLIENT_CAPABILITY: i32 = -32021;
/// Stateless era: `data.supported` and `data.requested` say what would be understood.
pub const UNSUPPORTED_VERSION: i32 = -32022;
/// What the official SDKs answer for an unknown session, beside HTTP 404.
pub const SESSION_NOT_FOUND: i32 = -32001;

/// Why the gateway could not get an answer from a server: `data.onemcp.reason`, a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Busy,
    Starting,
    Restarting,
    Timeout,
    TooLarge,
    Crashed,
    Draining,
    BadUpstream,
}

impl Reason {
    pub const ALL: [Reason; 8] = [
        Reason::Busy,
        Reason::Starting,
        Reason::Restarting,
        Reason::Timeout,
        Reason::TooLarge,
        Reason::Crashed,
        Reason::Draining,
        Reason::BadUpstream,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Busy => "busy",
            Reason::Starting => "starting",
            Reason::Restarting => "restarting",
            Reason::Timeout => "timeout",
            Reason::TooLarge => "too_large",
            Reason::Crashed => "crashed",
            Reason::Draining => "draining",
            Reason::BadUpstream => "bad_upstream",
        }
    }

    /// Whether the same request may succeed if it is sent again later. After a crash or a
    /// timeout the server may have done the work, so only the caller can know.
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Reason::Busy | Reason::Starting | Reason::Restarting | Reason::Draining
        )
    }
}

/// How the data of such an error begins.
const REASON: &str = "{\"onemcp\":{\"reason\":\"";

/// An error object's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcError {
    pub code: i32,
    pub message: String,
    /// Raw JSON.
    pub data: Option<String>,
}

impl RpcError {
    pub fn new(code: i32, message: impl Into<String>) -> RpcError {
        RpcError {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// Why, if it is an error of the gateway about a server.
    pub fn reason(&self) -> Option<Reason> {
        let rest = self.data.as_deref()?.strip_prefix(REASON)?;
        let (word, _) = rest.split_once('"')?;
        let mut all = Reason::ALL.into_iter();
        all.find(|reason| reason.as_str() == word)
    }

    /// An error of the gateway about `server`, which cannot be mistaken for one of its own.
    pub fn gateway(reason: Reason, server: &str, detail: &str) -> RpcError {
        let data = format!(
            "{REASON}{}\",\"server\":{},\"retryable\":{}}}}}",
            reason.as_str(),
            quoted(server),
            reason.retryable()
        );
        let message = format!("server {server:?}: {detail}");
        RpcError {
            code: INTERNAL_ERROR,
            message,
            data: Some(data),
        }
    }

    /// In the words of the session era.
    pub fn resource_not_found(uri: &str) -> RpcError {
        let data = format!("{{\"uri\":{}}}", quoted(uri));
        let message = format!("resource not found: {uri}");
        RpcError {
            code: RESOURCE_NOT_FOUND,
            message,
            data: Some(data),
        }
    }

    /// The error object alone, as a response carries it.
    pub fn object(&self) -> String {
        let data = self
            .data
            .as_ref()
            .map(|raw| format!(",\"data\":{raw}"))
            .unwrap_or_default();
        format!(
            "{{\"code\":{},\"message\":{}{data}}}",
            self.code,
            quoted(&self.message)
        )
    }

    /// A whole response; `id` is raw JSON, absent when the request's id could not be read: the
    /// schemas of MCP know no null there.
    pub fn response(&self, id: Option<&str>) -> Vec<u8> {
        let id = id.map(|id| format!("\"id\":{id},")).unwrap_or_default();
        format!("{{\"jsonrpc\":\"2.0\",{id}\"error\":{}}}", self.object()).into_bytes()
    }
}

/// A whole response with `result`, which is raw JSON.
pub fn result_response(id: &str, result: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(result.len() + id.len() + 40);
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(b",\"result\":");
    out.extend_from_slice(result.as_bytes());
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::{Reason, RpcError, result_response};

    #[test]
    fn the_reason_of_an_error_is_found_again() {
        for reason in Reason::ALL {
            let error = RpcError::gateway(reason, "a", "b");
            assert_eq!(error.reason(), Some(reason));
        }
        assert_eq!(RpcError::new(1, "x").reason(), None);
    }

    #[test]
    fn errors_are_valid_json_and_name_the_server() {
        let error = RpcError::gateway(Reason::Crashed, "a\"b", "exited with code 3");
        let text = error.response(Some("\"x\""));
        let value: serde_json::Value = serde_json::from_slice(&text).expect("valid JSON");
        assert_eq!(value["id"], "x");
        assert_eq!(value["error"]["data"]["onemcp"]["server"], "a\"b");
        assert_eq!(value["error"]["data"]["onemcp"]["reason"], "crashed");
        assert_eq!(value["error"]["data"]["onemcp"]["retryable"], false);
        let text = error.response(None);
        let value: serde_json::Value = serde_json::from_slice(&text).expect("valid JSON");
        assert!(value.get("id").is_none(), "{value}");
        assert_eq!(
            result_response("1", "{}"),
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}"
        );
    }
}
