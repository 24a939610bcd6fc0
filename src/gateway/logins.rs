//! Logins at servers, as an operator sees and steers them, and the two paths of the listener that
//! belong to them: where a browser comes back to, and the document that describes this gateway as
//! a client. Who begins a login has the control socket; a browser alone can begin none.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::auth::pages::html::{Page, foreign};
use crate::base::exit::EXIT_FALSE;
use crate::base::time;
use crate::config::secret_sources::state_folder;
use crate::config::settings::Settings;
use crate::config::{process_environment, secret_sources};
use crate::gateway::control::Desk;
use crate::gateway::conversation::Conversation;
use crate::gateway::operator::Refused;
use crate::gateway::orders::Done;
use crate::gateway::site;
use crate::http::Reply;
use crate::relay::world::World;
use crate::upstream::oauth::Logins;
use crate::upstream::oauth::login::Login;
use crate::upstream::oauth::store::Store;
use crate::upstream::server::Server;
use crate::wire::members::Members;

/// What was kept of them, and what is to be kept. `address`: where this gateway listens.
pub fn open(settings: &Settings, address: Option<SocketAddr>) -> Arc<Logins> {
    let external = address.and_then(|address| site::issuer(settings, address).ok());
    let environment = process_environment();
    let file = state_folder(settings, &environment).map(|folder| folder.join("logins.sealed"));
    let sealed = secret_sources::sealed(settings, &environment);
    let place = file.zip(sealed.map(|(_, key)| key));
    Arc::new(Logins::new(Store::open(place), external))
}

/// What an operator wants of a login.
#[derive(Debug, PartialEq, Eq)]
pub struct LoginOrder {
    verb: Verb,
    /// `None`: all of them, to be shown.
    pub server: Option<String>,
    principal: Option<String>,
    /// What the browser came back with, as the command caught it.
    query: String,
    /// Where the command catches the browser, if need be or (`force`) in any case.
    caught_at: String,
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Begin,
    Finish,
    LogOut,
    Show,
}

const VERBS: &[(&str, Verb)] = &[
    ("login", Verb::Begin),
    ("finish", Verb::Finish),
    ("logout", Verb::LogOut),
    ("logins", Verb::Show),
];

impl LoginOrder {
    pub const KNOWN: &[&str] = &["server", "principal", "query", "caughtAt", "force"];

    /// `None` when it is no order of logins, or names no server where it must.
    pub fn read(command: &str, members: &Members<'_>) -> Option<LoginOrder> {
        let (_, verb) = VERBS.iter().find(|(word, _)| *word == command)?;
        let text = |name: &str| members.string(name).map(|text| text.into_owned());
        let server = text("server");
        (server.is_some() || *verb == Verb::Show).then(|| LoginOrder {
            verb: *verb,
            server,
            principal: text("principal"),
            query: text("query").unwrap_or_default(),
            caught_at: text("caughtAt").unwrap_or_default(),
            force: members.get("force") == Some("true"),
        })
    }

    pub fn word(&self) -> &'static str {
        let row = VERBS.iter().find(|(_, verb)| *verb == self.verb);
        row.map_or("login", |(word, _)| word)
    }

    pub fn steers(&self) -> bool {
        self.verb != Verb::Show
    }

    pub fn carry_out(&self, desk: &Desk, talk: &Conversation<'_>) -> Done {
        if self.verb == Verb::Show {
            return list(desk, talk, self.server.as_deref());
        }
        let name = self.server.as_deref().unwrap_or_default();
        let server = desk.operator.server(name)?;
        let principal = self.principal.as_deref();
        let caught = (self.caught_at.as_str(), self.force);
        let done = match self.verb {
            Verb::Finish => server.finish_login(&self.query).map(|()| json!({})),
            Verb::LogOut => server.log_out(principal).map(|was| json!({"was": was})),
            _ => server.begin_login(principal, caught).map(|begun| {
                json!({"url": begun.url, "redirect": begun.redirect, "number": begun.number})
            }),
        };
        done.map_err(|why| {
            let error = format!("failed to log in: server {name:?} {why}");
            Refused::new(EXIT_FALSE, error).into()
        })
    }
}

/// A line for each login, of one server or of all.
pub fn list(desk: &Desk, talk: &Conversation<'_>, name: Option<&str>) -> Done {
    let world = desk.operator.hub.world();
    let servers = match name {
        Some(name) => vec![desk.operator.server(name)?],
        None => world.servers().to_vec(),
    };
    for server in &servers {
        for (principal, login) in server.logins() {
            talk.say(&line(server, principal, &login))?;
        }
    }
    Ok(json!({}))
}

fn line(server: &Server, principal: Option<String>, login: &Login) -> Value {
    let view = login.view();
    let at = time::rfc3339_of_s;
    json!({
        "kind": "login",
        "server": server.name(),
        "principal": principal,
        "in": view.issuer.is_some(),
        "issuer": view.issuer,
        "scope": view.scope,
        "expiresAt": view.expires_s.map(at),
        "refresh": view.is_lasting,
        "wanted": view.wanted,
        "number": login.number(),
        "failure": view.failure,
    })
}

/// A browser comes back from an authorization server.
pub fn came_back(world: &World, name: &str, query: Option<&str>) -> Reply {
    let server = world.servers().iter().find(|server| server.name() == name);
    let outcome = match server {
        // Who guesses names learns nothing: there is no login without a state of ours.
        None => Err("no login waits for this answer".to_owned()),
        Some(server) => server.finish_login(query.unwrap_or_default()),
    };
    let (status, title, text) = match outcome {
        Ok(()) => (200, "Logged in", "You can close this window.".to_owned()),
        Err(why) => {
            log::warn!("login at a server failed server={name:?}: {why}");
            (400, "Not logged in", format!("{}.", foreign(&why, 300)))
        }
    };
    let page = Page {
        status,
        title,
        gateway: foreign(name, 80),
        main: format!("<h1>{title}</h1>\n<p>{text}</p>\n"),
        foot: String::new(),
        leads_to: None,
    };
    page.reply()
}

/// This gateway as a client of one server, for its authorization server to read.
pub fn document(world: &World, name: &str) -> Reply {
    let mut servers = world.servers().iter();
    let server = servers.find(|server| server.name() == name);
    match server.and_then(|server| server.client_document()) {
        Some(text) => Reply::json(200, text).with("Cache-Control", "public, max-age=300"),
        None => Reply::json(404, "{\"error\":\"Not found\"}"),
    }
}
