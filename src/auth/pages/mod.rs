//! What people see: the pages on which the operator signs in and lets a client in. Plain HTML
//! without scripts (`html`). Every form is sealed for the browser that asked for it (`seal`,
//! `cookie`), and the request that it is about is read anew by the server when it comes back.
//!
//! Any thread may call. Deliberately absent: codes and tokens (`auth::server`), who is signed in
//! (`auth::operator`).

mod consent;
pub mod cookie;
pub mod html;
mod login;
pub mod seal;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::network;
use crate::auth::operator::{Operator, token};
use crate::auth::pace::Pace;
use crate::auth::pages::cookie::{Cookies, Jar};
use crate::auth::pages::html::{Page, escaped, redirect};
use crate::auth::pages::login::{Wrong, name_in, name_of};
use crate::auth::pages::seal::Forms;
use crate::auth::server::authorize::Refused;
use crate::auth::server::{Asked, Server};
use crate::auth::store::{Space, Store};
use crate::base::limits;
use crate::http::{Authority, Client, Head, Reply};
use crate::journal::audit::rejects::reject;
use crate::journal::audit::{Event, Reason, Record};
use crate::model::scope::Scopes;
use crate::wire::form::Form;

/// The form with which an operator goes.
const LEAVE: &str = "leave";

/// What a client was last allowed, so that a page can say what is new.
const ALLOWED: Space = Space {
    name: "consents",
    limit: limits::CONSENTS_KEPT,
};

pub struct Pages {
    pub operator: Arc<Operator>,
    forms: Forms,
    cookies: Cookies,
    /// How people know this gateway: its host.
    gateway: String,
    /// `scheme://host[:port]`, which is the issuer: it has no path.
    origin: String,
    store: Arc<Store>,
    /// Tries of one address, and of the account.
    addresses: Pace,
    account: Pace,
}

/// One request of a browser, and what is needed to answer it.
pub struct Visit<'r> {
    pub head: &'r Head<'r>,
    pub from: &'r Client,
    pub body: &'r [u8],
    pub now: Instant,
    /// The servers with their tags; asked only for somebody who is signed in.
    pub servers: &'r dyn Fn() -> Vec<(String, Vec<String>)>,
    /// The authorization request, when it comes out of a form.
    query: Option<String>,
}

impl<'r> Visit<'r> {
    pub fn new(
        head: &'r Head<'r>,
        from: &'r Client,
        body: &'r [u8],
        servers: &'r dyn Fn() -> Vec<(String, Vec<String>)>,
    ) -> Visit<'r> {
        Visit {
            head,
            from,
            body,
            now: Instant::now(),
            servers,
            query: None,
        }
    }

    fn query(&self) -> &str {
        self.query
            .as_deref()
            .or(self.head.query)
            .unwrap_or_default()
    }
}

impl Pages {
    /// `issuer` is the URL that people and clients know the gateway by.
    pub fn new(issuer: &str, operator: Arc<Operator>, store: Arc<Store>) -> Pages {
        let (_, gateway) = issuer.split_once("//").unwrap_or_default();
        let minute = Duration::from_secs(60);
        let (of_one, of_all) = (limits::LOGIN_TRIES, limits::LOGIN_TRIES_OF_ALL);
        Pages {
            operator,
            forms: Forms::new(&store, Instant::now()),
            cookies: Cookies::of(issuer),
            gateway: gateway.to_owned(),
            origin: issuer.to_owned(),
            addresses: Pace::new(of_one, minute, of_one).sharing(&store, "tries"),
            account: Pace::new(of_all, minute, of_all).sharing(&store, "tries-of-all"),
            store,
        }
    }

    /// GET `/authorize`.
    pub fn authorize(&self, server: &Server, visit: &Visit<'_>) -> Reply {
        let session = self.session(visit);
        let browser = match self.cookies.read(Jar::Form, visit.head) {
            Some(browser) => browser.to_owned(),
            None => token(),
        };
        let query = visit.query();
        let sign_in = |name: &str| login::page(self, visit, &browser, query, name, Wrong::Nothing);
        let reply = match (server.read_authorize(query, session.is_some()), session) {
            (Ok(asked), Some(session)) => {
                consent::page(self, visit, [&browser, session], &asked, None)
            }
            (Ok(asked), None) => sign_in(name_of(&asked)),
            (Err(Refused::LoginFirst), None) => sign_in(&name_in(query)),
            (Err(refused), _) => {
                refused.note(query);
                return self.refused(refused);
            }
        };
        let life = limits::OPERATOR_SESSION;
        reply.with("Set-Cookie", self.cookies.set(Jar::Form, &browser, life))
    }

    /// POST `/oauth/login`.
    pub fn login(&self, server: &Server, visit: &Visit<'_>) -> Reply {
        let form = match self.form(visit, Event::LoginFail) {
            Ok(form) => form,
            Err(reply) => return reply,
        };
        let sealed = form.get("request").unwrap_or_default();
        if form.get("do") == Some("leave") {
            return self.leave(visit, sealed);
        }
        if let Err(wait) = self.addresses.take(&network(visit.from.address), visit.now) {
            reject(Record::denied(Event::LoginFail, Reason::TooOften));
            return self.waits(wait);
        }
        let browser = self.cookies.read(Jar::Form, visit.head);
        let opened = browser.and_then(|browser| {
            let opened = self
                .forms
                .open(login::PURPOSE, &[browser], sealed, visit.now)?;
            Some((browser, opened.query))
        });
        match opened {
            Some((browser, query)) => {
                let name = match server.read_authorize(&query, false) {
                    Ok(asked) => name_of(&asked).to_owned(),
                    Err(_) => name_in(&query),
                };
                self.take_login(visit, browser, &name, &form, &query)
            }
            None => self.lost(Event::LoginFail),
        }
    }

    /// POST `/oauth/consent`.
    pub fn consent(&self, server: &Server, visit: Visit<'_>) -> Reply {
        let form = match self.form(&visit, Event::ConsentDeny) {
            Ok(form) => form,
            Err(reply) => return reply,
        };
        let browser = self.cookies.read(Jar::Form, visit.head);
        let (Some(browser), Some(session)) = (browser, self.session(&visit)) else {
            return self.lost(Event::ConsentDeny);
        };
        let cookies = [browser, session];
        let sealed = form.get("request").unwrap_or_default();
        let opened = self
            .forms
            .open(consent::PURPOSE, &cookies, sealed, visit.now);
        let Some(opened) = opened.filter(|opened| self.forms.spend(opened, visit.now)) else {
            return self.lost(Event::ConsentDeny);
        };
        let visit = Visit {
            query: Some(opened.query),
            ..visit
        };
        match server.read_authorize(visit.query(), true) {
            Ok(asked) => self.take_consent(server, &visit, cookies, &asked, &form),
            Err(refused) => self.refused(refused),
        }
    }

    fn leave(&self, visit: &Visit<'_>, sealed: &str) -> Reply {
        let browser = self.cookies.read(Jar::Form, visit.head).unwrap_or_default();
        let Some(session) = self.session(visit) else {
            return self.lost(Event::LoginFail);
        };
        let opened = self
            .forms
            .open(LEAVE, &[browser, session], sealed, visit.now);
        let Some(opened) = opened else {
            return self.lost(Event::LoginFail);
        };
        self.operator.sign_out(session, visit.now);
        let gone = self.cookies.set(Jar::Operator, "", Duration::ZERO);
        redirect(&again(&opened.query)).with("Set-Cookie", gone)
    }

    /// The fields that one of our own pages sent.
    fn form(&self, visit: &Visit<'_>, event: Event) -> Result<Form, Reply> {
        if !self.is_our_page(visit.head) {
            return Err(self.lost(event));
        }
        let kind = visit.head.header("Content-Type").unwrap_or_default();
        let is_form = kind.split(';').next().is_some_and(|kind| {
            kind.trim()
                .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
        if !is_form || visit.body.len() > limits::PAGE_FORM_BYTES {
            return Err(self.told(400, "This is no form of ours", "Go back and try again."));
        }
        let form = Form::parse(visit.body)
            .ok()
            .filter(|form| form.repeated().is_none());
        form.ok_or_else(|| self.told(400, "This form cannot be read", "Go back and try again."))
    }

    /// Browsers say where a form was sent from. Where only this machine can reach us, every name
    /// of it is ours.
    fn is_our_page(&self, head: &Head<'_>) -> bool {
        let mut origins = head.header_values("Origin");
        let (Some(origin), None) = (origins.next(), origins.next()) else {
            return false;
        };
        if origin.eq_ignore_ascii_case(&self.origin) {
            return true;
        }
        let from = origin.strip_prefix("http://").and_then(Authority::parse);
        head.host.is_loopback()
            && self.origin.starts_with("http://")
            && from.is_some_and(|from| from.same_as(&head.host, Some(80)))
    }

    /// The session of the operator that this browser has.
    fn session<'v>(&self, visit: &Visit<'v>) -> Option<&'v str> {
        let cookie = self.cookies.read(Jar::Operator, visit.head)?;
        let is_good = self.operator.is_signed_in(cookie, visit.now);
        is_good.then_some(cookie)
    }

    /// What a client was allowed before, as far as that is known.
    pub fn allowed(&self, client: &str) -> Option<Scopes> {
        let text = self.store.get(ALLOWED, client).ok().flatten()?;
        Scopes::parse(&text).ok()
    }

    /// Next time nothing is known of it.
    pub fn forget(&self, client: &str) {
        // Kept, it would mark scopes of the next consent as known, no more.
        let _ = self.store.take(ALLOWED, client);
    }

    /// Full, or a disk that says no: then nothing is marked as new later.
    fn remember(&self, asked: &Asked, granted: &Scopes) {
        let before = self.allowed(&asked.client_id).unwrap_or_default();
        let text = before.or(granted).to_string();
        let life = limits::CONSENT_KEPT;
        if let Err(error) = self.store.put(ALLOWED, &asked.client_id, &text, life) {
            log::debug!("event=consent_not_kept error=\"{error}\"");
        }
    }

    fn refused(&self, refused: Refused) -> Reply {
        match refused {
            Refused::Redirect { to, .. } => redirect(&to),
            Refused::Page { status, text, .. } => {
                let help = format!("{text}. Nothing has happened.");
                self.told(status, "This request cannot be answered", &help)
            }
            Refused::LoginFirst => self.lost(Event::ConsentDeny),
        }
    }

    /// A form that was not made for this browser, or too long ago, or was used.
    fn lost(&self, event: Event) -> Reply {
        reject(Record::denied(event, Reason::BadState));
        let help = "It was open for too long, was used already, or cookies are off. Go back to \
                    the program that sent you here, and start again.";
        self.told(403, "This page is not good any more", help)
    }

    /// Forms and sessions are in a store that is away.
    pub fn is_away(&self) -> Option<Reply> {
        let seconds = limits::SHARED_RETRY.as_secs();
        let help =
            format!("What it must remember is out of reach. Try again in {seconds} seconds.");
        self.store.is_away().then(|| {
            let page = self.told(503, "Not now", &help);
            page.with("Retry-After", seconds.to_string())
        })
    }

    /// Too many tries.
    pub fn waits(&self, wait: Duration) -> Reply {
        let seconds = wait.as_secs() + 1;
        let help = format!("Wait {seconds} seconds, then try again.");
        let page = self.told(429, "Too many tries", &help);
        page.with("Retry-After", seconds.to_string())
    }

    fn told(&self, status: u16, what: &'static str, help: &str) -> Reply {
        let main = format!("<h1>{what}</h1>\n<p>{}</p>\n", escaped(help));
        let page = Page {
            status,
            title: what,
            gateway: self.gateway.clone(),
            main,
            foot: String::new(),
            leads_to: None,
        };
        page.reply()
    }
}

/// The authorization request once more.
fn again(query: &str) -> String {
    format!("/authorize?{query}")
}
