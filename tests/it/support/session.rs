//! A client in a session: it initializes, asks, listens, answers, and says good-bye.

use serde_json::{Value, json};

use crate::support::http::{Connection, Reply, Request, Stream};

pub(crate) struct Session {
    port: u16,
    connection: Connection,
    pub(crate) target: String,
    pub(crate) id: String,
    pub(crate) revision: String,
    /// The result of `initialize`.
    pub(crate) welcome: Value,
    next_id: u64,
}

impl Session {
    /// Opens one and says that it is initialized.
    #[track_caller]
    pub(crate) fn open(port: u16, target: &str, revision: &str, capabilities: Value) -> Session {
        let mut connection = Connection::open(port);
        let body = initialize(revision, &capabilities);
        let reply = connection.exchange(&Request::post(target, body));
        assert_eq!(reply.status(), 200, "{reply:?}");
        let id = reply.head.header("Mcp-Session-Id").unwrap().to_owned();
        let messages = reply.messages();
        let welcome = messages[0]["result"].clone();
        assert!(welcome.is_object(), "{reply:?}");
        let mut session = Session {
            port,
            connection,
            target: target.to_owned(),
            id,
            revision: welcome["protocolVersion"].as_str().unwrap().to_owned(),
            welcome,
            next_id: 1,
        };
        session.notify("notifications/initialized", json!({}));
        session
    }

    /// The same session, asked for at another gateway.
    pub(crate) fn moved(mut self, port: u16) -> Session {
        (self.port, self.connection) = (port, Connection::open(port));
        self
    }

    /// The same beside this one.
    pub(crate) fn moved_to(&self, port: u16) -> Session {
        Session {
            port,
            connection: Connection::open(port),
            target: self.target.clone(),
            id: self.id.clone(),
            revision: self.revision.clone(),
            welcome: self.welcome.clone(),
            next_id: self.next_id,
        }
    }

    /// Gives a request what a member of this session sends along.
    pub(crate) fn sign(&self, request: Request) -> Request {
        let request = request.with("Mcp-Session-Id", &self.id);
        match self.revision.as_str() {
            "2024-11-05" | "2025-03-26" => request,
            revision => request.with("MCP-Protocol-Version", revision),
        }
    }

    /// Posts any body and reads the whole answer.
    pub(crate) fn post(&mut self, body: impl Into<Vec<u8>>) -> Reply {
        let request = self.sign(Request::post(&self.target, body));
        self.connection.exchange(&request)
    }

    /// The same with further headers.
    pub(crate) fn post_with(&mut self, body: &str, headers: &[(&str, &str)]) -> Reply {
        let request = self.sign(Request::post(&self.target, body));
        let headers = headers.iter();
        let request = headers.fold(request, |all, (name, value)| all.with(name, value));
        self.connection.exchange(&request)
    }

    /// Posts any body on a connection of its own.
    pub(crate) fn stream(&self, body: impl Into<Vec<u8>>) -> Stream {
        let request = self.sign(Request::post(&self.target, body));
        Connection::open(self.port).stream(&request)
    }

    /// Posts and does not read the answer.
    pub(crate) fn send(&self, body: impl Into<Vec<u8>>) -> Connection {
        let mut connection = Connection::open(self.port);
        connection.send_only(&self.sign(Request::post(&self.target, body)));
        connection
    }

    pub(crate) fn listen(&self) -> Stream {
        let stream = self.listen_after("");
        assert_eq!(stream.head.status, 200);
        stream
    }

    /// Opens a GET stream that resumes after an event.
    pub(crate) fn listen_after(&self, event: &str) -> Stream {
        let request = self.sign(Request::listen(&self.target).with("Last-Event-ID", event));
        Connection::open(self.port).stream(&request)
    }

    pub(crate) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Asks and gives the whole answer message.
    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.fresh_id();
        let reply = self.post(request(&json!(id), method, &params));
        assert_eq!(reply.status(), 200, "{reply:?}");
        let answer = reply.messages().pop().unwrap();
        assert_eq!(answer["id"], id, "{answer}");
        assert_eq!(answer["jsonrpc"], "2.0");
        answer
    }

    /// Asks for something that must be granted.
    #[track_caller]
    pub(crate) fn get(&mut self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, params);
        assert!(answer["result"].is_object(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Asks for something that must be refused; gives the error.
    #[track_caller]
    pub(crate) fn refused(&mut self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, params);
        assert!(answer["error"]["code"].is_i64(), "{method}: {answer}");
        answer["error"].clone()
    }

    #[track_caller]
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.get("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// Calls a tool and gives the text of its answer.
    #[track_caller]
    pub(crate) fn text(&mut self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments);
        text_of(&result)
    }

    #[track_caller]
    pub(crate) fn notify(&mut self, method: &str, params: Value) {
        let body = json!({"jsonrpc": "2.0", "method": method, "params": params});
        let reply = self.post(body.to_string());
        assert_eq!(
            (reply.status(), reply.text.as_str()),
            (202, ""),
            "{reply:?}"
        );
    }

    /// Answers a question of a server.
    #[track_caller]
    pub(crate) fn answer(&mut self, id: &Value, result: Value) {
        let body = json!({"jsonrpc": "2.0", "id": id, "result": result});
        let reply = self.post(body.to_string());
        assert_eq!(reply.status(), 202, "{reply:?}");
    }

    /// All names of a list, through all its pages.
    #[track_caller]
    pub(crate) fn names(&mut self, kind: &str) -> Vec<String> {
        let member = if kind == "resources" { "uri" } else { "name" };
        let mut params = json!({});
        let mut names = Vec::new();
        loop {
            let page = self.get(&format!("{kind}/list"), params);
            let entries = page[kind].as_array().unwrap();
            let name = |entry: &Value| entry[member].as_str().unwrap().to_owned();
            names.extend(entries.iter().map(name));
            match page.get("nextCursor") {
                Some(cursor) => params = json!({"cursor": cursor}),
                None => return names,
            }
        }
    }

    pub(crate) fn delete(&mut self) -> Reply {
        let request = self.sign(Request::new("DELETE", &self.target));
        self.connection.exchange(&request)
    }
}

pub(crate) fn initialize(revision: &str, capabilities: &Value) -> String {
    let params = json!({
        "protocolVersion": revision,
        "capabilities": capabilities,
        "clientInfo": {"name": "it", "version": "1"},
    });
    request(&json!(1), "initialize", &params)
}

pub(crate) fn request(id: &Value, method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

pub(crate) fn tool_call(id: &Value, tool: &str, arguments: &Value) -> String {
    request(
        id,
        "tools/call",
        &json!({"name": tool, "arguments": arguments}),
    )
}

/// A call that wants reports of progress under this token.
pub(crate) fn reporting_call(id: &Value, tool: &str, arguments: &Value, token: &Value) -> String {
    let params = json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": token}});
    request(id, "tools/call", &params)
}

#[track_caller]
pub(crate) fn text_of(result: &Value) -> String {
    let text = result["content"][0]["text"].as_str();
    text.unwrap_or_else(|| panic!("no text in {result}"))
        .to_owned()
}
