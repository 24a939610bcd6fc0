//! `onemcp list [SERVER]`: what servers offer, one JSON object per line. Each begins with its
//! `kind`: `server`, `tool`, `prompt`, `resource` or `template`. What a server said about an
//! entry follows as it said it.

use std::collections::HashMap;
use std::io::Write;

use serde_json::Value;

use crate::base::exit::EXIT_UNREACHABLE;
use crate::base::fields::{text, texts};
use crate::base::sys;
use crate::cli::args::ClientFlags;
use crate::cli::client::{Client, Session, with_client};
use crate::cli::deadline::Deadline;
use crate::cli::local::{
    Local, Started, configuration, entries_of, find_server, unknown_server, with_servers,
};
use crate::cli::outcome::{Failure, finish, write_line};
use crate::config::server::ServerConfig;
use crate::config::settings::Flags;
use crate::mcp::error::{INVALID_PARAMS, RpcError};
use crate::mcp::list::ListKind;
use crate::model::listing::Item;
use crate::model::naming::{Naming, public_name};
use crate::upstream::server::State;
use crate::wire::json::quoted;
use crate::wire::members::Members;
use crate::wire::message::FROM_SERVER;

/// Gives the exit code.
pub fn run(server: Option<&str>, client: &ClientFlags, flags: &Flags, out: &mut dyn Write) -> u8 {
    let result = match &client.url {
        None => local(server, client, flags, out),
        Some(url) => remote(server, url, client, flags, out),
    };
    finish(result, out)
}

/// All lists of one server, the tools alone when there are several servers.
fn kinds(server: Option<&str>) -> &'static [ListKind] {
    match server {
        Some(_) => &ListKind::ALL,
        None => &[ListKind::Tools],
    }
}

fn local(
    server: Option<&str>,
    client: &ClientFlags,
    flags: &Flags,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    sys::prepare_process();
    let config = configuration(flags)?;
    let servers: Vec<&ServerConfig> = match server {
        None => config.servers.iter().collect(),
        Some(name) => {
            vec![find_server(&config, name).ok_or_else(|| unknown_server(&config, name))?]
        }
    };
    let deadline = client.timeout.map(Deadline::after);
    with_servers(&config, &servers, |local| {
        let waited = local.wait_ready(deadline);
        if !matches!(waited, Err(Failure::Signal(_))) {
            print_local(local, kinds(server), out)?;
        }
        waited?;
        let bad = |started: &Started| match state(started) {
            State::Ready => false,
            State::Disabled => server.is_some(),
            _ => true,
        };
        match local.started.iter().any(bad) {
            true => Ok(EXIT_UNREACHABLE),
            false => Ok(0),
        }
    })
}

fn state(started: &Started) -> State {
    match (&started.failed, &started.listing) {
        (Some(status), _) => status.state,
        (None, Some(_)) => State::Ready,
        (None, None) => started.server.status().state,
    }
}

fn print_local(local: &Local, kinds: &[ListKind], out: &mut dyn Write) -> Result<(), Failure> {
    let catalog = local.catalog();
    for started in &local.started {
        let server = &started.server;
        let lists = ListKind::ALL.map(|kind| entries_of(&catalog, kind, server.id.slot));
        let failed = started.failed.as_ref();
        let hello = server.hello();
        let line = ServerLine {
            name: server.name(),
            status: state(started).as_str(),
            error: failed.and_then(|status| status.last_error.as_deref()),
            tags: &server.config.tags,
            counts: lists.each_ref().map(Vec::len),
            info: hello.as_ref().map(|hello| hello.server_info.as_str()),
        };
        write_line(out, &line.json())?;
        for kind in kinds {
            for entry in &lists[*kind as usize] {
                let line = entry_line(*kind, Some(server.name()), Some(&entry.public), &entry.item);
                write_line(out, &line)?;
            }
        }
    }
    Ok(())
}

fn remote(
    server: Option<&str>,
    url: &str,
    flags: &ClientFlags,
    settings: &Flags,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    with_client(url, flags, settings, |client| {
        let aggregate = lists(&mut client.open(client.url.endpoint())?)?;
        let known = health(client);
        let names = PublicNames::of(&aggregate);
        if let Some(name) = server {
            let found = known.into_iter().find(|detail| detail.name == name);
            let detail = found.unwrap_or_else(|| Detail::unknown(name));
            return print_remote(client, &detail, &names, kinds(server), out)?
                .ok_or_else(|| unknown_remote(name));
        }
        if known.is_empty() {
            // It does not tell strangers about its servers; the tools it tells everybody.
            for item in &aggregate[ListKind::Tools as usize] {
                write_line(out, &entry_line(ListKind::Tools, None, None, item))?;
            }
        }
        let mut code = 0;
        for detail in &known {
            let printed = print_remote(client, detail, &names, kinds(server), out)?;
            if detail.status != State::Disabled.as_str() {
                code = code.max(printed.unwrap_or_default());
            }
        }
        Ok(code)
    })
}

fn unknown_remote(name: &str) -> Failure {
    let hint = "onemcp list --url shows those that there are";
    RpcError::new(INVALID_PARAMS, format!("unknown server {name:?}; {hint}")).into()
}

fn lists(session: &mut Session<'_>) -> Result<[Vec<Item>; 4], Failure> {
    let mut lists: [Vec<Item>; 4] = Default::default();
    for kind in ListKind::ALL {
        lists[kind as usize] = session.list(kind)?;
    }
    Ok(lists)
}

/// Prints one server of a gateway and gives its exit code; `None` when it has no such server.
fn print_remote(
    client: &Client,
    detail: &Detail,
    names: &PublicNames,
    kinds: &[ListKind],
    out: &mut dyn Write,
) -> Result<Option<u8>, Failure> {
    let lists = match client.open(client.url.of_server(&detail.name)) {
        Ok(mut session) => lists(&mut session)?,
        Err(Failure::NoEndpoint(_)) => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let line = ServerLine {
        name: &detail.name,
        status: &detail.status,
        error: detail.last_error.as_deref(),
        tags: &detail.tags,
        counts: lists.each_ref().map(Vec::len),
        info: None,
    };
    write_line(out, &line.json())?;
    for kind in kinds {
        for item in &lists[*kind as usize] {
            let public = names.find(&detail.name, item);
            let line = entry_line(*kind, Some(&detail.name), public, item);
            write_line(out, &line)?;
        }
    }
    let good = [State::Ready.as_str(), UNKNOWN].contains(&detail.status.as_str());
    Ok(Some(if good { 0 } else { EXIT_UNREACHABLE }))
}

/// The state of a server that the gateway does not tell.
const UNKNOWN: &str = "unknown";

/// What `/health` tells about one server.
struct Detail {
    name: String,
    status: String,
    last_error: Option<String>,
    tags: Vec<String>,
}

impl Detail {
    fn of(told: &Value) -> Option<Detail> {
        Some(Detail {
            name: text(told, "name")?,
            status: text(told, "status")?,
            last_error: text(told, "lastError"),
            tags: texts(told, "tags"),
        })
    }

    fn unknown(name: &str) -> Detail {
        Detail {
            name: name.to_owned(),
            status: UNKNOWN.to_owned(),
            last_error: None,
            tags: Vec::new(),
        }
    }
}

/// Empty when the gateway tells nothing, or is not one of ours.
fn health(client: &Client) -> Vec<Detail> {
    let body = client.get(&client.url.health()).unwrap_or_default();
    let health: Value = serde_json::from_str(&body).unwrap_or_default();
    let told = health["servers"]["details"].as_array();
    let details: Option<Vec<Detail>> = told.into_iter().flatten().map(Detail::of).collect();
    let mut details = details.unwrap_or_default();
    for detail in &mut details {
        // The words of health are those that users of 1MCP know.
        let state = match detail.status.as_str() {
            "connected" => State::Ready,
            "error" => State::Failed,
            "crash-loop" => State::CrashLoop,
            // Stopped is a server only while its gateway ends.
            "disconnected" => State::Disabled,
            _ => continue,
        };
        state.as_str().clone_into(&mut detail.status);
    }
    details
}

/// The names of the aggregate, by everything else that is said about an entry: how a gateway
/// forms its names is its own affair.
struct PublicNames {
    by_rest: HashMap<(String, String), Vec<String>>,
}

impl PublicNames {
    fn of(aggregate: &[Vec<Item>; 4]) -> PublicNames {
        let mut by_rest: HashMap<_, Vec<String>> = HashMap::new();
        for item in aggregate.iter().flatten() {
            let names = by_rest.entry(rest(item)).or_default();
            names.push(item.key.to_string());
        }
        PublicNames { by_rest }
    }

    /// `None` when several entries could be meant.
    fn find(&self, server: &str, item: &Item) -> Option<&str> {
        let names = self.by_rest.get(&rest(item))?;
        let usual = public_name(&Naming::default(), server, &item.key);
        let found = names.iter().find(|name| **name == usual);
        let only = (names.len() == 1).then(|| &names[0]);
        found.or(only).map(String::as_str)
    }
}

/// An entry without its name: what stands before it and after it.
fn rest(item: &Item) -> (String, String) {
    let span = &item.key_span;
    (
        item.raw[..span.start].to_owned(),
        item.raw[span.end..].to_owned(),
    )
}

struct ServerLine<'a> {
    name: &'a str,
    status: &'a str,
    error: Option<&'a str>,
    tags: &'a [String],
    counts: [usize; 4],
    /// Raw JSON.
    info: Option<&'a str>,
}

impl ServerLine<'_> {
    fn json(&self) -> String {
        let mut line = Line::new("server");
        line.text("server", self.name);
        line.text("status", self.status);
        if let Some(error) = self.error {
            line.text("error", error);
        }
        for kind in ListKind::ALL {
            line.raw(kind.member(), &self.counts[kind as usize].to_string());
        }
        let tags: Vec<String> = self.tags.iter().map(|tag| quoted(tag)).collect();
        line.raw("tags", &format!("[{}]", tags.join(",")));
        if let Some(info) = self.info {
            line.raw("serverInfo", info);
        }
        line.end()
    }
}

/// `public` is the name in the aggregate, if it is known.
fn entry_line(kind: ListKind, server: Option<&str>, public: Option<&str>, item: &Item) -> String {
    let word = match kind {
        ListKind::Tools => "tool",
        ListKind::Prompts => "prompt",
        ListKind::Resources => "resource",
        ListKind::Templates => "template",
    };
    let mut line = Line::new(word);
    if let Some(server) = server {
        line.text("server", server);
    }
    let mut own = vec!["kind", "server"];
    if matches!(kind, ListKind::Tools | ListKind::Prompts) {
        own.extend([word, "name"]);
        // Without a server there is only the public name.
        let public = if server.is_some() {
            public
        } else {
            Some(&*item.key)
        };
        if server.is_some() {
            line.text(word, &item.key);
        }
        if let Some(public) = public {
            line.text("name", public);
        }
    }
    if let Ok(members) = Members::parse(&item.raw, 0, FROM_SERVER) {
        let others = members.iter().filter(|(key, _)| !own.contains(key));
        others.for_each(|(key, raw)| line.raw(key, raw));
    }
    line.end()
}

/// One object, member by member.
struct Line(String);

impl Line {
    fn new(kind: &str) -> Line {
        Line(format!("{{\"kind\":{}", quoted(kind)))
    }

    fn text(&mut self, key: &str, value: &str) {
        self.raw(key, &quoted(value));
    }

    fn raw(&mut self, key: &str, json: &str) {
        self.0.push(',');
        self.0.push_str(&quoted(key));
        self.0.push(':');
        self.0.push_str(json);
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{PublicNames, ServerLine, entry_line};
    use crate::mcp::list::ListKind;
    use crate::model::listing::Item;

    fn tool(raw: &str) -> Item {
        Item::parse(raw, ListKind::Tools).expect(raw)
    }

    #[test]
    fn entries_keep_what_the_server_said() {
        let item = tool(r#"{"x":1.10,"name":"a","kind":"odd","inputSchema":{"b":1,"a":2}}"#);
        assert_eq!(
            entry_line(ListKind::Tools, Some("s"), Some("s_1mcp_a"), &item),
            concat!(
                r#"{"kind":"tool","server":"s","tool":"a","name":"s_1mcp_a","#,
                r#""x":1.10,"inputSchema":{"b":1,"a":2}}"#
            )
        );
        assert_eq!(
            entry_line(ListKind::Tools, None, None, &item),
            r#"{"kind":"tool","name":"a","x":1.10,"inputSchema":{"b":1,"a":2}}"#
        );
        let raw = r#"{"uri":"a://b","name":"n"}"#;
        let item = Item::parse(raw, ListKind::Resources).expect(raw);
        assert_eq!(
            entry_line(ListKind::Resources, Some("s"), None, &item),
            r#"{"kind":"resource","server":"s","uri":"a://b","name":"n"}"#
        );
    }

    #[test]
    fn servers_are_one_object() {
        let line = ServerLine {
            name: "a\"b",
            status: "failed",
            error: Some("why"),
            tags: &["x".to_owned()],
            counts: [1, 2, 3, 4],
            info: None,
        };
        assert_eq!(
            line.json(),
            concat!(
                r#"{"kind":"server","server":"a\"b","status":"failed","error":"why","#,
                r#""tools":1,"prompts":2,"resources":3,"resourceTemplates":4,"tags":["x"]}"#
            )
        );
    }

    #[test]
    fn public_names_are_found_and_not_guessed() {
        let same = r#"{"name":"NAME","description":"d"}"#;
        let named = |name: &str| tool(&same.replace("NAME", name));
        let other = tool(r#"{"name":"b__y","description":"other"}"#);
        let tools = vec![named("a__x"), named("b_1mcp_x"), other];
        let names = PublicNames::of(&[tools, Vec::new(), Vec::new(), Vec::new()]);
        assert_eq!(names.find("b", &named("x")), Some("b_1mcp_x"));
        assert_eq!(names.find("c", &named("x")), None);
        let own = tool(r#"{"name":"y","description":"other"}"#);
        assert_eq!(names.find("b", &own), Some("b__y"));
    }
}
