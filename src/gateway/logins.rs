//! Logins at servers, as an operator sees and steers them, and the two paths of the listener that
//! belong to them: where a browser comes back to, and the document that describes this gateway as
//! a client. Who begins a login has the control socket; a browser alone can begin none.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

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
use crate::http::Reply;
use crate::relay::world::World;
use crate::upstream::oauth::Logins;
use crate::upstream::oauth::login::Login;
use crate::upstream::oauth::store::Store;
use crate::upstream::server::Server;

/// What was kept of them, and what is to be kept. `external`: the URL of this gateway.
pub fn open(settings: &Settings, external: Option<String>) -> Arc<Logins> {
    let environment = process_environment();
    let file = state_folder(settings, &environment).map(|folder| folder.join("logins.sealed"));
    let sealed = secret_sources::sealed(settings, &environment);
    let place = file.zip(sealed.map(|(_, key)| key));
    Arc::new(Logins::new(Store::open(place), external))
}

/// Begins a login; the last line says where a person allows it.
pub fn begin(desk: &Desk, server: &str, principal: Option<&str>, caught: (&str, bool)) -> Done {
    let server = desk.operator.server(server)?;
    let begun = server.begin_login(principal, caught);
    let begun = begun.map_err(|why| refused(&server, &why))?;
    Ok(json!({"url": begun.url, "redirect": begun.redirect, "number": begun.number}))
}

/// What a browser came back with, as the command caught it.
pub fn finish(desk: &Desk, server: &str, query: &str) -> Done {
    let server = desk.operator.server(server)?;
    let finished = server.finish_login(query);
    finished.map_err(|why| refused(&server, &why))?;
    Ok(json!({"server": server.name()}))
}

pub fn log_out(desk: &Desk, server: &str, principal: Option<&str>) -> Done {
    let server = desk.operator.server(server)?;
    let was_in = server.log_out(principal);
    let was_in = was_in.map_err(|why| refused(&server, &why))?;
    Ok(json!({"server": server.name(), "was": was_in}))
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
    let at = |at_s: u64| time::rfc3339(UNIX_EPOCH + Duration::from_secs(at_s));
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

fn refused(server: &Server, why: &str) -> Refused {
    let error = format!("failed to log in: server {:?} {why}", server.name());
    Refused::new(EXIT_FALSE, error)
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
