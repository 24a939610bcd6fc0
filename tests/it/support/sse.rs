//! A client of HTTP+SSE: one stream, and posts to the endpoint that the stream names.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::http::{Connection, Reply, Request, Stream};
use crate::support::session::{initialize, request, text_of};

pub(crate) struct Client {
    port: u16,
    connection: Connection,
    pub(crate) stream: Stream,
    /// Where to post, as the stream said it.
    pub(crate) endpoint: String,
    /// The result of `initialize`.
    pub(crate) welcome: Value,
    /// Came while something else was waited for.
    aside: VecDeque<Value>,
    next_id: u64,
}

impl Client {
    /// Opens a stream and nothing more.
    #[track_caller]
    pub(crate) fn connect(port: u16, request: &Request) -> Client {
        let mut stream = Connection::open(port).stream(request);
        assert_eq!(stream.head.status, 200);
        let event = stream.event(PATIENCE).expect("an event");
        assert_eq!(event.name.as_deref(), Some("endpoint"));
        Client {
            port,
            connection: Connection::open(port),
            stream,
            endpoint: event.data.unwrap(),
            welcome: Value::Null,
            aside: VecDeque::new(),
            next_id: 100,
        }
    }

    /// Opens a stream and a session on it.
    #[track_caller]
    pub(crate) fn open(port: u16, target: &str, revision: &str, capabilities: Value) -> Client {
        let mut client = Client::connect(port, &Request::listen(target));
        client.post(initialize(revision, &capabilities));
        let answer = client.answer(&json!(1));
        client.welcome = answer["result"].clone();
        assert!(client.welcome.is_object(), "{answer}");
        client.notify("notifications/initialized", json!({}));
        client
    }

    /// Posts any body and gives what HTTP says.
    pub(crate) fn exchange(&mut self, body: impl Into<Vec<u8>>) -> Reply {
        self.connection
            .exchange(&Request::post(&self.endpoint, body))
    }

    /// The same on a connection of its own.
    pub(crate) fn elsewhere(&self, body: impl Into<Vec<u8>>) -> Reply {
        Connection::open(self.port).exchange(&Request::post(&self.endpoint, body))
    }

    /// Posts a message that must be taken.
    #[track_caller]
    pub(crate) fn post(&mut self, body: impl Into<Vec<u8>>) {
        let reply = self.exchange(body);
        assert_eq!(
            (reply.status(), reply.text.as_str()),
            (202, ""),
            "{reply:?}"
        );
    }

    /// The same with a header.
    #[track_caller]
    pub(crate) fn post_with(&mut self, body: &str, (name, value): (&str, &str)) {
        let request = Request::post(&self.endpoint, body).with(name, value);
        let reply = self.connection.exchange(&request);
        assert_eq!(reply.status(), 202, "{reply:?}");
    }

    #[track_caller]
    pub(crate) fn notify(&mut self, method: &str, params: Value) {
        let body = json!({"jsonrpc": "2.0", "method": method, "params": params});
        self.post(body.to_string());
    }

    #[track_caller]
    pub(crate) fn reply(&mut self, id: &Value, result: Value) {
        self.post(json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
    }

    /// The next message on the stream that `fits`; others wait for their turn.
    #[track_caller]
    pub(crate) fn find(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.aside.iter().position(&fits) {
            return self.aside.remove(at).unwrap();
        }
        loop {
            let message = self.stream.message();
            if fits(&message) {
                return message;
            }
            self.aside.push_back(message);
        }
    }

    /// The next message, whatever it is.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Value {
        self.find(|_| true)
    }

    #[track_caller]
    pub(crate) fn answer(&mut self, id: &Value) -> Value {
        self.find(|message| message.get("method").is_none() && message["id"] == *id)
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, method: &str) -> Value {
        self.find(|message| message["method"] == method)
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = json!(self.next_id);
        self.post(request(&id, method, &params));
        self.answer(&id)
    }

    #[track_caller]
    pub(crate) fn get(&mut self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, params);
        assert!(answer["result"].is_object(), "{method}: {answer}");
        answer["result"].clone()
    }

    #[track_caller]
    pub(crate) fn text(&mut self, tool: &str, arguments: Value) -> String {
        text_of(&self.get("tools/call", json!({"name": tool, "arguments": arguments})))
    }
}
