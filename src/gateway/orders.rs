//! What can be asked on the control socket, and how each order is carried out. Long ones tell
//! what happens meanwhile and look whether the client is still there.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;

use crate::base::exit::{EXIT_FALSE, EXIT_TIMEOUT, EXIT_UNREACHABLE, EXIT_USAGE};
use crate::base::{limits, time};
use crate::gateway::access::{AuthVerb, auth};
use crate::gateway::control::Desk;
use crate::gateway::conversation::Conversation;
use crate::gateway::logins::LoginOrder;
use crate::gateway::operator::{GatewayLine, Readiness, Refused, ServerLine};
use crate::gateway::pin_orders;
use crate::gateway::reload::Report;
use crate::upstream::server::Server;
use crate::upstream::stderr::Tail;
use crate::wire::json::{elements, string_value};
use crate::wire::members::Members;
use crate::wire::message::FROM_CLIENT;

#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    Status {},
    /// `status`, and what changes from then on.
    Watch {},
    Wait {
        server: Option<String>,
        timeout_ms: Option<u64>,
    },
    Logs {
        server: String,
        follow: bool,
    },
    Restart {
        server: String,
    },
    Enable {
        server: String,
    },
    Disable {
        server: String,
    },
    Reload {},
    Drain {},
    Auth {
        verb: AuthVerb,
        word: Option<String>,
    },
    /// Of logins at servers.
    Login(LoginOrder),
    /// How tools differ from their pins.
    Pins {
        server: Option<String>,
    },
    /// `None`: of every server, and what was lost no longer matters.
    Approve {
        server: Option<String>,
        tools: Vec<String>,
    },
}

/// Why an order did not come to its end.
pub enum Stop {
    Refused(Refused),
    /// The client has gone, or does not read.
    Client(io::Error),
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Stop {
        Stop::Refused(refused)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Client(error)
    }
}

/// What the last line says beside `ok`.
pub type Done = Result<serde_json::Value, Stop>;

impl Order {
    /// # Errors
    /// When it is not an order of ours.
    pub fn parse(line: &[u8]) -> Result<Order, Refused> {
        let order = std::str::from_utf8(line).map_err(|error| error.to_string());
        let order = order.and_then(read);
        order.map_err(|error| Refused::new(EXIT_USAGE, format!("not an order: {error}")))
    }

    pub fn word(&self) -> &'static str {
        match self {
            Order::Status {} => "status",
            Order::Watch {} => "watch",
            Order::Wait { .. } => "wait",
            Order::Logs { .. } => "logs",
            Order::Restart { .. } => "restart",
            Order::Enable { .. } => "enable",
            Order::Disable { .. } => "disable",
            Order::Reload {} => "reload",
            Order::Drain {} => "drain",
            Order::Auth { verb, .. } => verb.command(),
            Order::Login(order) => order.word(),
            Order::Pins { .. } => "pins",
            Order::Approve { .. } => "approve",
        }
    }

    /// The one that it is about.
    pub fn server(&self) -> Option<&str> {
        match self {
            Order::Wait { server, .. } | Order::Pins { server } | Order::Approve { server, .. } => {
                server.as_deref()
            }
            Order::Login(order) => order.server.as_deref(),
            Order::Logs { server, .. }
            | Order::Restart { server }
            | Order::Enable { server }
            | Order::Disable { server } => Some(server),
            _ => None,
        }
    }

    /// Its connection stays until something has happened.
    pub fn stays(&self) -> bool {
        match self {
            Order::Watch {} | Order::Wait { .. } | Order::Drain {} => true,
            Order::Logs { follow, .. } => *follow,
            _ => false,
        }
    }

    /// It changes something.
    pub fn steers(&self) -> bool {
        match self {
            Order::Status {}
            | Order::Watch {}
            | Order::Wait { .. }
            | Order::Logs { .. }
            | Order::Pins { .. } => false,
            Order::Auth { verb, word } => verb.steers(word.as_deref()),
            Order::Login(order) => order.steers(),
            _ => true,
        }
    }
}

fn read(line: &str) -> Result<Order, String> {
    let members = Members::parse(line, 0, FROM_CLIENT).map_err(|error| error.to_string())?;
    let server = || match members.get("server").map(string_value) {
        Some(Some(name)) => Ok(name.into_owned()),
        _ => Err("\"server\" is no name".to_owned()),
    };
    let some_server = || match members.get("server") {
        None | Some("null") => Ok(None),
        Some(_) => server().map(Some),
    };
    let command = members.string("command").unwrap_or_default();
    let (order, known): (Order, &[&str]) = match &*command {
        "status" => (Order::Status {}, &[]),
        "watch" => (Order::Watch {}, &[]),
        "wait" => {
            let timeout_ms = match members.get("timeoutMs") {
                None | Some("null") => None,
                Some(raw) => Some(raw.parse().map_err(|_| "\"timeoutMs\" is no number")?),
            };
            let server = some_server()?;
            (Order::Wait { server, timeout_ms }, &["server", "timeoutMs"])
        }
        "logs" => {
            let follow = match members.get("follow") {
                None | Some("false") => false,
                Some("true") => true,
                Some(_) => return Err("\"follow\" is neither true nor false".into()),
            };
            let server = server()?;
            (Order::Logs { server, follow }, &["server", "follow"])
        }
        "restart" => (Order::Restart { server: server()? }, &["server"]),
        "enable" => (Order::Enable { server: server()? }, &["server"]),
        "disable" => (Order::Disable { server: server()? }, &["server"]),
        "reload" => (Order::Reload {}, &[]),
        "drain" => (Order::Drain {}, &[]),
        "auth" => {
            let verb = AuthVerb::parse(&members.string("verb").unwrap_or_default());
            let verb = verb.ok_or("\"verb\" is none of ours")?;
            let word = match members.get("word") {
                None | Some("null") => None,
                Some(raw) => Some(string_value(raw).ok_or("\"word\" is no text")?.into_owned()),
            };
            (Order::Auth { verb, word }, &["verb", "word"])
        }
        "pins" => {
            let server = some_server()?;
            (Order::Pins { server }, &["server"])
        }
        "approve" => {
            // Nothing that is not a list may pass for the empty one, which approves all.
            let tools = elements(members.get("tools").unwrap_or("[]"), FROM_CLIENT);
            let name = |raw| string_value(raw).map(Cow::into_owned);
            let tools = tools.and_then(|tools| tools.into_iter().map(name).collect());
            let tools: Vec<String> = tools.ok_or("\"tools\" are no names")?;
            let server = some_server()?;
            (Order::Approve { server, tools }, &["server", "tools"])
        }
        other => match LoginOrder::read(other, &members) {
            Some(order) => (Order::Login(order), LoginOrder::KNOWN),
            None => return Err(format!("unknown command {other:?}")),
        },
    };
    let mut keys = members.iter().map(|(key, _)| key);
    match keys.find(|key| *key != "command" && !known.contains(key)) {
        Some(key) => Err(format!("unknown member {key:?}")),
        None => Ok(order),
    }
}

/// Carries out `order` and gives what the last line says.
///
/// # Errors
/// See [`Stop`].
pub fn carry_out(order: &Order, desk: &Desk, talk: &Conversation<'_>) -> Done {
    match order {
        Order::Status {} => status(desk, talk),
        Order::Watch {} => watch(desk, talk),
        Order::Wait { server, timeout_ms } => {
            let most = Duration::from_millis(limits::SETTING_MS);
            let timeout = timeout_ms.map_or(limits::WAIT, Duration::from_millis);
            wait(desk, talk, server.as_deref(), timeout.min(most))
        }
        Order::Logs { server, follow } => logs(desk, talk, server, *follow),
        Order::Restart { server } => restart(desk, talk, server),
        Order::Enable { server } => changed(desk.operator.set_enabled(server, true)),
        Order::Disable { server } => changed(desk.operator.set_enabled(server, false)),
        Order::Reload {} => changed(desk.operator.reload()),
        Order::Drain {} => drain(desk, talk),
        Order::Auth { verb, word } => auth(desk, talk, *verb, word.as_deref()),
        Order::Login(order) => order.carry_out(desk, talk),
        Order::Pins { server } => pin_orders::tell(desk, talk, server.as_deref()),
        Order::Approve { server, tools } => {
            pin_orders::approve(desk, talk, server.as_deref(), tools)
        }
    }
}

fn changed(outcome: Result<Report, Refused>) -> Done {
    // A report of plain fields always serialises.
    Ok(json!({"report": outcome?}))
}

fn status(desk: &Desk, talk: &Conversation<'_>) -> Done {
    let servers = desk.operator.servers();
    for server in &servers {
        talk.say(server)?;
    }
    talk.say(&desk.operator.gateway(&servers))?;
    Ok(json!({}))
}

/// Until the gateway ends, or the client has gone.
fn watch(desk: &Desk, talk: &Conversation<'_>) -> Done {
    let hub = &desk.operator.hub;
    let mut picture = Picture::default();
    let mut seen = hub.wait_beat(0, Instant::now());
    loop {
        let drawn = Instant::now();
        let servers = desk.operator.servers();
        let gateway = desk.operator.gateway(&servers);
        picture.tell(talk, servers, gateway)?;
        if desk.stopping.load(Ordering::Acquire) {
            return Ok(json!({"ended": true}));
        }
        seen = hub.wait_beat(seen, Instant::now() + limits::CONTROL_LOOK);
        talk.pause(drawn + limits::CONTROL_FRAME)?;
    }
}

/// What one client has been told.
#[derive(Default)]
struct Picture {
    servers: HashMap<String, ServerLine>,
    gateway: Option<GatewayLine>,
}

impl Picture {
    /// Tells what is new; the line of the gateway is the last of each picture.
    fn tell(
        &mut self,
        talk: &Conversation<'_>,
        servers: Vec<ServerLine>,
        gateway: GatewayLine,
    ) -> io::Result<()> {
        let mut before = std::mem::take(&mut self.servers);
        let mut is_new = self.gateway.as_ref() != Some(&gateway);
        for server in servers {
            if before.remove(&server.name).as_ref() != Some(&server) {
                is_new = true;
                talk.say(&server)?;
            }
            self.servers.insert(server.name.clone(), server);
        }
        for name in before.into_keys() {
            is_new = true;
            talk.say(&json!({"kind": "removed", "name": name}))?;
        }
        if is_new {
            talk.say(&gateway)?;
        }
        self.gateway = Some(gateway);
        Ok(())
    }
}

fn wait(desk: &Desk, talk: &Conversation<'_>, name: Option<&str>, timeout: Duration) -> Done {
    let hub = &desk.operator.hub;
    let deadline = Instant::now() + timeout;
    let mut told = None;
    let mut seen = hub.wait_beat(0, Instant::now());
    loop {
        let (total, waiting) = match desk.operator.readiness(name)? {
            Readiness::Ready(count) => return Ok(json!({"ready": count})),
            Readiness::Failed(causes) => {
                return Err(Refused::new(EXIT_FALSE, causes.join("; ")).into());
            }
            Readiness::Waiting(total, waiting) => (total, waiting),
        };
        desk.refuse_at_end()?;
        let names = waiting
            .iter()
            .map(|(name, state)| json!({"name": name, "state": state}));
        let progress = json!({
            "kind": "progress",
            "total": total,
            "ready": total - waiting.len(),
            "waiting": names.collect::<Vec<_>>(),
        });
        if told.as_ref() != Some(&progress) {
            talk.say(&progress)?;
            told = Some(progress);
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(not_in_time(timeout, &waiting).into());
        }
        seen = hub.wait_beat(seen, deadline.min(now + limits::CONTROL_LOOK));
        talk.pause(Instant::now())?;
    }
}

fn not_in_time(timeout: Duration, waiting: &[(String, &'static str)]) -> Refused {
    const SHOWN: usize = 5;
    let first = waiting.iter().take(SHOWN);
    let mut names: Vec<_> = first
        .map(|(name, state)| format!("{name:?} is {state}"))
        .collect();
    if waiting.len() > SHOWN {
        names.push(format!("{} more", waiting.len() - SHOWN));
    }
    let after = time::rounded(timeout);
    let error = format!("not ready after {after}: {}", names.join(", "));
    Refused::new(EXIT_TIMEOUT, error)
}

#[derive(Serialize)]
struct LogLine<'a> {
    kind: &'static str,
    time: String,
    line: &'a str,
}

fn logs(desk: &Desk, talk: &Conversation<'_>, name: &str, follow: bool) -> Done {
    let mut server = desk.operator.server(name)?;
    let mut seen = tell_lines(talk, &server.tail, 0)?;
    if !follow {
        return Ok(json!({}));
    }
    loop {
        if desk.stopping.load(Ordering::Acquire) {
            return Ok(json!({"ended": true}));
        }
        server
            .tail
            .wait(seen, Instant::now() + limits::CONTROL_FRAME);
        talk.pause(Instant::now())?;
        seen = tell_lines(talk, &server.tail, seen)?;
        let now = desk.operator.server(server.name())?;
        // One that takes the place of another goes on with its lines.
        if now.id.slot != server.id.slot {
            seen = 0;
        }
        server = now;
    }
}

/// Tells the lines after the first `seen`, and gives how many there are.
fn tell_lines(talk: &Conversation<'_>, tail: &Tail, seen: u64) -> io::Result<u64> {
    let news = tail.after(seen);
    if news.lost > 0 {
        talk.say(&json!({"kind": "lost", "lines": news.lost}))?;
    }
    for line in &news.lines {
        talk.say(&LogLine {
            kind: "log",
            time: time::rfc3339(line.at),
            line: &line.text,
        })?;
    }
    Ok(news.next)
}

/// Returns when the old process is no longer in service, so that a `wait` that follows waits for
/// the new one. Where there was none, because the server waits for something, it returns at once.
fn restart(desk: &Desk, talk: &Conversation<'_>, name: &str) -> Done {
    let server = desk.operator.server(name)?;
    let before = life(&server);
    desk.operator.restart(&server)?;
    let hub = &desk.operator.hub;
    let deadline = Instant::now() + limits::CONTROL_RESTART;
    let mut seen = hub.wait_beat(0, Instant::now());
    while before != NO_LIFE && life(&server) == before {
        desk.refuse_at_end()?;
        if Instant::now() >= deadline {
            let error = format!("{name:?} has not ended its old process yet");
            return Err(Refused::new(EXIT_TIMEOUT, error).into());
        }
        seen = hub.wait_beat(seen, deadline.min(Instant::now() + limits::CONTROL_FRAME));
        talk.pause(Instant::now())?;
    }
    Ok(json!({"server": server.name()}))
}

/// What is another thing after a restart: the process, and the link to it by its number.
type Life = (Option<i32>, Option<u64>);

const NO_LIFE: Life = (None, None);

fn life(server: &Server) -> Life {
    let link = server.shared_link().map(|link| link.number());
    (server.status().pid, link)
}

/// Tells how far the end is, until it is there.
fn drain(desk: &Desk, talk: &Conversation<'_>) -> Done {
    desk.operator.drain();
    let hub = &desk.operator.hub;
    let mut told = None;
    let mut seen = hub.wait_beat(0, Instant::now());
    while !desk.stopping.load(Ordering::Acquire) {
        let servers = desk.operator.servers();
        let gateway = desk.operator.gateway(&servers);
        let progress = json!({
            "kind": "draining",
            "calls": gateway.calls,
            "sessions": gateway.sessions,
        });
        if told.as_ref() != Some(&progress) {
            talk.say(&progress)?;
            told = Some(progress);
        }
        seen = hub.wait_beat(seen, Instant::now() + limits::CONTROL_FRAME);
        talk.pause(Instant::now())?;
    }
    Ok(json!({"ended": true}))
}

impl Desk {
    fn refuse_at_end(&self) -> Result<(), Refused> {
        match self.stopping.load(Ordering::Acquire) {
            true => Err(Refused::new(EXIT_UNREACHABLE, "the gateway has ended")),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Order;

    #[test]
    fn orders_are_read_strictly() {
        let order = |text: &str| Order::parse(text.as_bytes());
        assert_eq!(order(r#"{"command":"status"}"#), Ok(Order::Status {}));
        let wait = order(r#"{"command":"wait","timeoutMs":5}"#).unwrap();
        assert!(wait.stays() && !wait.steers());
        let logs = order(r#"{"command":"logs","server":"a"}"#).unwrap();
        assert!(!logs.stays() && !logs.steers());
        assert!(order(r#"{"command":"drain"}"#).unwrap().steers());
        let pins = order(r#"{"command":"pins"}"#).unwrap();
        assert!(!pins.steers() && pins.server().is_none());
        let approve = order(r#"{"command":"approve","server":"a","tools":["t"]}"#).unwrap();
        let server = Some("a".to_owned());
        let tools = vec!["t".to_owned()];
        assert!(approve.steers() && approve == Order::Approve { server, tools });
        for text in [
            "",
            "[]",
            r#"{"command":"stop"}"#,
            r#"{"command":"restart"}"#,
            r#"{"command":"restart","server":"a","force":true}"#,
            r#"{"command":"status","x":1}"#,
            r#"{"command":"approve","tools":[1]}"#,
            r#"{"command":"approve","tools":"t","server":"a"}"#,
            r#"{"command":"status","command":"status"}"#,
            r#"{"command":"wait","timeoutMs":"5"}"#,
            r#"{"command":"logs","server":"a","follow":1}"#,
        ] {
            assert_eq!(order(text).unwrap_err().code, 64, "{text}");
        }
    }
}
