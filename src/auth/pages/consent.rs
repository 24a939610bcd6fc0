//! The page on which the operator lets a client in, and what comes back from it. What is granted
//! is what was asked for, is there, and was ticked; nothing is ticked that nobody asked for.

use crate::auth::operator::SUBJECT;
use crate::auth::pages::html::{Page, foreign, redirect};
use crate::auth::pages::login::name_of;
use crate::auth::pages::{Pages, Visit};
use crate::auth::server::client::Origin;
use crate::auth::server::{Asked, Server};
use crate::base::{limits, ordered};
use crate::http::Reply;
use crate::journal::audit::scope_operation;
use crate::journal::audit::{self, Event, Operation, Outcome, Reason, Record, Scoped};
use crate::model::scope::{self, Reach, Scopes};
use crate::wire::form::Form;

pub(super) const PURPOSE: &str = "consent";
/// Names of the boxes: each scope has its own, so that none is sent twice.
const BOX: &str = "scope:";
const SHOWN_SERVERS: usize = 8;

/// A scope that may be ticked.
struct Choice {
    word: String,
    /// What it opens here.
    opens: Vec<String>,
    /// The client does not have it yet, though it has others.
    is_new: bool,
    is_ticked: bool,
}

/// What may be granted, and the words that open nothing here.
struct Offer {
    choices: Vec<Choice>,
    missing: Vec<String>,
    reads_only: bool,
}

impl Offer {
    /// `ticked`: what stood in the form before, if there was one.
    fn of(pages: &Pages, visit: &Visit<'_>, asked: &Asked, ticked: Option<&Scopes>) -> Offer {
        let servers = (visit.servers)();
        let words: Vec<String> = match asked.scopes.is_empty() {
            false => asked.scopes.words().map(str::to_owned).collect(),
            true => {
                let tags = servers.iter().flat_map(|(_, tags)| tags);
                let words = tags.filter_map(|tag| scope::of_tag(tag));
                ordered::set(words)
                    .into_iter()
                    .take(limits::SCOPES)
                    .collect()
            }
        };
        let was_asked = name_scope(visit.query());
        let before = pages.allowed(&asked.client_id);
        let mut offer = Offer {
            choices: Vec::new(),
            missing: Vec::new(),
            reads_only: asked.scopes.reads_only(),
        };
        for word in words.into_iter().filter(|word| word != scope::READ) {
            let opens = opened(&word, &servers);
            if opens.is_empty() {
                offer.missing.push(word);
                continue;
            }
            offer.choices.push(Choice {
                is_new: before.as_ref().is_some_and(|before| !before.has(&word)),
                is_ticked: ticked.map_or(was_asked, |ticked| ticked.has(&word)),
                word,
                opens,
            });
        }
        offer
    }

    /// What was ticked of what is offered; `read` is not to be chosen away.
    fn ticked(&self, form: &Form) -> Scopes {
        let is_ticked = |choice: &&Choice| form.get(&format!("{BOX}{}", choice.word)).is_some();
        let mut words: Vec<&str> = Vec::new();
        for choice in self.choices.iter().filter(is_ticked) {
            words.push(&choice.word);
        }
        if self.reads_only && !words.is_empty() {
            words.push(scope::READ);
        }
        Scopes::parse(&words.join(" ")).unwrap_or_default()
    }
}

/// Whether the request named scopes.
fn name_scope(query: &str) -> bool {
    let form = Form::parse(query.as_bytes()).unwrap_or_default();
    form.get("scope")
        .is_some_and(|text| !text.trim().is_empty())
}

/// The servers that one word opens.
fn opened(word: &str, servers: &[(String, Vec<String>)]) -> Vec<String> {
    let Ok(one) = Scopes::parse(word) else {
        return Vec::new();
    };
    let reached = servers
        .iter()
        .filter(|(name, tags)| one.reach(name, tags) != Reach::Nothing);
    reached.map(|(name, _)| name.clone()).collect()
}

/// The page. `cookies` are those that its form is good for.
pub(super) fn page(
    pages: &Pages,
    visit: &Visit<'_>,
    cookies: [&str; 2],
    asked: &Asked,
    ticked: Option<&Scopes>,
) -> Reply {
    let offer = Offer::of(pages, visit, asked, ticked);
    let hidden = pages
        .forms
        .seal(PURPOSE, &cookies, visit.query(), visit.now);
    let name = foreign(name_of(asked), limits::CLIENT_NAME_CHARS);
    let wrong = match ticked {
        Some(_) => {
            "<div class=\"bad\" role=\"alert\"><p>Tick at least one line, or deny the request.\
             </p></div>\n"
        }
        None => "",
    };
    let main = format!(
        "<h1>Allow <bdi>{name}</bdi> to use this gateway?</h1>\n{wrong}{}{}\
         <form method=\"post\" action=\"/oauth/consent\">\
         <input type=\"hidden\" name=\"request\" value=\"{hidden}\">\n{}\
         <div class=\"row\"><button name=\"do\" value=\"deny\">Deny</button>{}</div></form>\n",
        facts(asked),
        warning(asked),
        boxes(&offer),
        match offer.choices.is_empty() {
            true => "",
            false => "<button class=\"go\" name=\"do\" value=\"allow\">Allow</button>",
        },
    );
    let page = Page {
        status: if ticked.is_some() { 400 } else { 200 },
        title: "Allow access",
        gateway: pages.gateway.clone(),
        main,
        foot: foot(pages, visit, cookies),
        leads_to: leads_to(&asked.redirect_uri),
    };
    page.reply()
}

/// What is known of the client, and what it only says.
fn facts(asked: &Asked) -> String {
    let known = match asked.client_origin {
        Origin::Configured => "Set up in the configuration of this gateway".to_owned(),
        Origin::Registered => "It registered itself; nobody has checked its name".to_owned(),
        Origin::Document => {
            let id = foreign(&asked.client_id, 200);
            format!("As it describes itself at <span class=\"mono\">{id}</span>")
        }
    };
    format!(
        "<dl><dt>Sends you to</dt><dd><strong class=\"mono\">{}</strong></dd>\
         <dt>Who it is</dt><dd>{known}</dd></dl>\n",
        foreign(&asked.redirect_host(), 200),
    )
}

fn warning(asked: &Asked) -> &'static str {
    match asked.is_local() {
        true => {
            "<div class=\"note\" role=\"note\"><p><strong>The answer goes to a program on the \
             computer in front of you.</strong> Any program there can call itself like this one. \
             Allow it only if you have just started it yourself.</p></div>\n"
        }
        false => "",
    }
}

fn boxes(offer: &Offer) -> String {
    let mut out = String::new();
    if !offer.choices.is_empty() {
        out.push_str("<fieldset><legend>What it may use</legend>\n");
    }
    for (at, choice) in offer.choices.iter().enumerate() {
        let word = foreign(&choice.word, 200);
        let ticked = if choice.is_ticked { " checked" } else { "" };
        let new = match choice.is_new {
            true => " <span class=\"new\">new</span>",
            false => "",
        };
        out.push_str(&format!(
            "<label class=\"scope\" for=\"s{at}\"><input type=\"checkbox\" id=\"s{at}\" \
             name=\"{BOX}{word}\"{ticked}><span><span><code>{word}</code>{new}</span>\
             <span class=\"soft\">{}</span></span></label>\n",
            meaning(choice)
        ));
    }
    if !offer.choices.is_empty() {
        out.push_str("</fieldset>\n");
    }
    if offer.reads_only {
        out.push_str("<p>Of these, only tools that say that they change nothing.</p>\n");
    }
    if !offer.missing.is_empty() {
        let words = foreign(&offer.missing.join(", "), 300);
        out.push_str(&format!(
            "<p class=\"soft\">It asked for more that is not here: <code>{words}</code></p>\n"
        ));
    }
    if offer.choices.is_empty() {
        out.push_str("<p>Nothing that it could use is here.</p>\n");
    }
    out
}

/// What a scope opens, in words.
fn meaning(choice: &Choice) -> String {
    let shown = choice.opens.iter().take(SHOWN_SERVERS);
    let mut names = shown
        .map(|name| foreign(name, 60))
        .collect::<Vec<_>>()
        .join(", ");
    if choice.opens.len() > SHOWN_SERVERS {
        names.push_str(&format!(" and {} more", choice.opens.len() - SHOWN_SERVERS));
    }
    let is_one = choice.opens.len() == 1;
    match choice.word.as_str() {
        word if word == scope::ALL => format!("All servers, also future ones. Now: {names}"),
        word if word.starts_with("tool:") => format!("One tool of {names}"),
        _ if is_one => format!("The server {names}"),
        _ => format!("The servers {names}"),
    }
}

fn foot(pages: &Pages, visit: &Visit<'_>, cookies: [&str; 2]) -> String {
    let hidden = pages
        .forms
        .seal(super::LEAVE, &cookies, visit.query(), visit.now);
    format!(
        "<form method=\"post\" action=\"/oauth/login\">\
         <input type=\"hidden\" name=\"request\" value=\"{hidden}\">You are signed in as \
         {SUBJECT}. <button class=\"quiet\" name=\"do\" value=\"leave\">Sign out</button></form>\
         <p>You can take access back at any time: <code>onemcp auth clients</code> shows who has \
         it.</p>",
    )
}

/// Where the browser may be led after the form, as CSP names it. Addresses of IPv6 have no name
/// there.
pub(super) fn leads_to(uri: &str) -> Option<String> {
    let (scheme, rest) = uri.split_once(':')?;
    let authority = rest.strip_prefix("//").unwrap_or_default();
    let end = authority.find(['/', '?']).unwrap_or(authority.len());
    let authority = &authority[..end];
    let fits = |text: &str, also: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || also.contains(c);
        !text.is_empty() && text.chars().all(fits)
    };
    if !fits(scheme, "+-.") {
        return None;
    }
    match matches!(scheme, "http" | "https") && fits(authority, "-.:") {
        true => Some(format!("{scheme}://{authority}")),
        false => Some(format!("{scheme}:")),
    }
}

impl Pages {
    /// What the form of the page sent, once it is known to be that form and the request is read
    /// again.
    pub(super) fn take_consent(
        &self,
        server: &Server,
        visit: &Visit<'_>,
        cookies: [&str; 2],
        asked: &Asked,
        form: &Form,
    ) -> Reply {
        let requested = asked.scopes.to_string();
        if form.get("do") != Some("allow") {
            audit::note(Record {
                subject: SUBJECT,
                client: &asked.client_id,
                scopes_missing: &requested,
                ..Record::denied(Event::ConsentDeny, Reason::Denied)
            });
            scope_operation(
                Operation::AuthorizationDenied,
                &Scoped {
                    client: &asked.client_id,
                    error: "User denied authorization",
                    ..Scoped::default()
                },
            );
            return redirect(&server.deny(asked));
        }
        let granted = Offer::of(self, visit, asked, None).ticked(form);
        if granted.is_empty() {
            return page(self, visit, cookies, asked, Some(&granted));
        }
        let words = granted.to_string();
        audit::note(Record {
            subject: SUBJECT,
            client: &asked.client_id,
            scopes_used: &words,
            ..Record::new(Event::ConsentAllow, Outcome::Allow)
        });
        scope_operation(
            Operation::AuthorizationGranted,
            &Scoped {
                client: &asked.client_id,
                requested: Some(&requested),
                granted: Some(&words),
                ..Scoped::default()
            },
        );
        self.remember(asked, &granted);
        redirect(&server.grant(asked, SUBJECT, &granted))
    }
}

#[cfg(test)]
mod tests {
    use super::leads_to;

    #[test]
    fn browsers_may_be_led_to_one_place() {
        for (uri, expect) in [
            ("https://app.example/cb?x=1", Some("https://app.example")),
            ("https://app.example:8443", Some("https://app.example:8443")),
            ("http://127.0.0.1:4711/cb", Some("http://127.0.0.1:4711")),
            ("http://[::1]:4711/cb", Some("http:")),
            ("com.example.app:/cb", Some("com.example.app:")),
            ("https://a;script-src *", Some("https:")),
            ("a b:/x", None),
            ("x", None),
        ] {
            assert_eq!(leads_to(uri).as_deref(), expect, "{uri}");
        }
    }
}
