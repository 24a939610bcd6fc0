//! A browser as far as our pages need one: cookies, forms, and where it is led to.

use serde_json::{Value, json};

use crate::support::http::{Connection, Reply, Request};

pub(crate) struct Browser {
    connection: Connection,
    /// What it says that a form was sent from.
    pub(crate) origin: String,
    pub(crate) cookies: Vec<(String, String)>,
}

impl Browser {
    pub(crate) fn new(port: u16) -> Browser {
        Browser {
            connection: Connection::open(port),
            origin: format!("http://127.0.0.1:{port}"),
            cookies: Vec::new(),
        }
    }

    pub(crate) fn get(&mut self, target: &str) -> Reply {
        self.send(Request::new("GET", target))
    }

    /// Sends a form with these fields.
    pub(crate) fn post(&mut self, target: &str, fields: &[(&str, &str)]) -> Reply {
        let origin = self.origin.clone();
        let request = Request::post(target, encoded(fields))
            .with("Content-Type", "application/x-www-form-urlencoded")
            .with("Accept", "text/html")
            .with("Origin", &origin);
        self.send(request)
    }

    pub(crate) fn send(&mut self, request: Request) -> Reply {
        let pairs = self.cookies.iter();
        let cookies: Vec<String> = pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let reply = self
            .connection
            .exchange(&request.with("Cookie", &cookies.join("; ")));
        for cookie in reply.head.values("Set-Cookie") {
            let (name, value) = cookie.split_once('=').expect("a name and a value");
            let value = value.split(';').next().unwrap_or_default();
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        reply
    }
}

/// The hidden field of the form that posts to `action`.
#[track_caller]
pub(crate) fn hidden(page: &Reply, action: &str) -> String {
    let start = format!("action=\"{action}\"><input type=\"hidden\" name=\"request\" value=\"");
    let at = page.text.find(&start);
    let at = at.unwrap_or_else(|| panic!("no form for {action}: {}", page.text)) + start.len();
    let end = page.text[at..].find('"').expect("the end of the value");
    page.text[at..at + end].to_owned()
}

pub(crate) fn encoded(fields: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{}={}", escaped(name), escaped(value));
    fields.iter().map(pair).collect::<Vec<_>>().join("&")
}

fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// The value of a parameter of a URL, as it stands there.
pub(crate) fn parameter<'u>(url: &'u str, name: &str) -> Option<&'u str> {
    let (_, query) = url.split_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

/// Registers a public client that may refresh: its id.
pub(crate) fn register(port: u16, name: &str, redirect_uri: &str) -> String {
    let body = json!({
        "client_name": name,
        "redirect_uris": [redirect_uri],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
        "grant_types": ["authorization_code", "refresh_token"],
    });
    let request = Request::post("/register", body.to_string());
    let reply = Connection::open(port).exchange(&request);
    assert_eq!(reply.status(), 201, "{}", reply.text);
    match &reply.json()["client_id"] {
        Value::String(id) => id.clone(),
        other => panic!("no id: {other}"),
    }
}
