//! A client of the stateless revision: each request says all that it needs, in its body and in
//! headers that repeat it.

use serde_json::{Value, json};

use crate::support::http::{Connection, Reply, Request, Stream};
use crate::support::session::text_of;

pub(crate) const REVISION: &str = "2026-07-28";
const PREFIX: &str = "io.modelcontextprotocol/";

#[derive(Clone)]
pub(crate) struct Client {
    port: u16,
    target: String,
    /// Members of `_meta`, with their whole names.
    pub(crate) meta: Value,
}

/// A reserved key of `_meta`.
pub(crate) fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

impl Client {
    pub(crate) fn new(port: u16, target: &str) -> Client {
        let meta = json!({
            key("protocolVersion"): REVISION,
            key("clientCapabilities"): {},
            key("clientInfo"): {"name": "it", "version": "1"},
        });
        Client {
            port,
            target: target.to_owned(),
            meta,
        }
    }

    /// The same client with one more thing to say in `_meta`.
    pub(crate) fn with(&self, name: &str, value: Value) -> Client {
        let mut client = self.clone();
        client.meta[name] = value;
        client
    }

    pub(crate) fn able(&self, capabilities: Value) -> Client {
        self.with(&key("clientCapabilities"), capabilities)
    }

    pub(crate) fn body(&self, id: &Value, method: &str, params: &Value) -> Value {
        let mut params = params.clone();
        params["_meta"] = self.meta.clone();
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    }

    /// A body as it is, with the headers that fit it.
    pub(crate) fn post(&self, body: &Value) -> Request {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let params = &body["params"];
        let name = match body["method"].as_str().unwrap_or_default() {
            "tools/call" | "prompts/get" => text(&params["name"]),
            "resources/read" => text(&params["uri"]),
            "tasks/get" | "tasks/update" | "tasks/cancel" => text(&params["taskId"]),
            _ => String::new(),
        };
        Request::post(&self.target, body.to_string())
            .with("MCP-Protocol-Version", REVISION)
            .with("Mcp-Method", &text(&body["method"]))
            .with("Mcp-Name", &name)
    }

    pub(crate) fn request(&self, id: &Value, method: &str, params: &Value) -> Request {
        self.post(&self.body(id, method, params))
    }

    pub(crate) fn send(&self, request: &Request) -> Reply {
        Connection::open(self.port).exchange(request)
    }

    pub(crate) fn stream(&self, id: &Value, method: &str, params: &Value) -> Stream {
        Connection::open(self.port).stream(&self.request(id, method, params))
    }

    /// Asks and gives the answer message.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, params: &Value) -> Value {
        let reply = self.send(&self.request(&json!("q"), method, params));
        assert_eq!(reply.head.header("Mcp-Session-Id"), None, "{reply:?}");
        let answer = reply.messages().pop().unwrap();
        assert_eq!(answer["id"], "q", "{answer}");
        answer
    }

    /// Asks for something that must be granted.
    #[track_caller]
    pub(crate) fn get(&self, method: &str, params: &Value) -> Value {
        let answer = self.ask(method, params);
        assert!(answer["result"].is_object(), "{method}: {answer}");
        answer["result"].clone()
    }

    #[track_caller]
    pub(crate) fn text(&self, tool: &str, arguments: Value) -> String {
        let params = json!({"name": tool, "arguments": arguments});
        text_of(&self.get("tools/call", &params))
    }

    pub(crate) fn listen(&self, id: &Value, filter: &Value) -> Stream {
        self.stream(
            id,
            "subscriptions/listen",
            &json!({"notifications": filter}),
        )
    }
}
