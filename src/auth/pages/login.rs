//! The page on which the operator signs in, and what comes back from it: a password, a wish for
//! a one-time code, the code, or that somebody approved at the gateway's machine.

use crate::auth::network;
use crate::auth::operator::{Entered, SUBJECT, Tried};
use crate::auth::pages::cookie::Jar;
use crate::auth::pages::html::{Page, foreign, redirect};
use crate::auth::pages::{Pages, Visit, again};
use crate::auth::server::Asked;
use crate::base::limits;
use crate::http::Reply;
use crate::journal::audit::rejects::reject;
use crate::journal::audit::{self, Event, Outcome, Reason, Record};
use crate::wire::form::Form;

pub(super) const PURPOSE: &str = "login";

/// What went wrong before, if anything: where it is said, and the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    Nothing,
    Password,
    Code,
    NotApproved,
    CodeGone,
    Busy,
    TooMany,
}

impl Wrong {
    fn words(self) -> &'static str {
        match self {
            Wrong::Nothing => "",
            Wrong::Password => "That password is not right. Try again.",
            Wrong::Code => "That code is not right. Look at the newest line of the log.",
            Wrong::NotApproved => {
                "Nobody has approved this request yet. Enter the code, or \
                                   approve the request and continue."
            }
            Wrong::CodeGone => "That code is not good any more. Ask for another one.",
            Wrong::Busy => "Another password is being checked. Try again in a moment.",
            Wrong::TooMany => "Too many people wait for a code. Try again in a few minutes.",
        }
    }

    fn status(self) -> u16 {
        match self {
            Wrong::Nothing => 200,
            Wrong::Busy | Wrong::TooMany => 429,
            _ => 403,
        }
    }
}

/// The page. `name` is how the client calls itself.
pub(super) fn page(
    pages: &Pages,
    visit: &Visit<'_>,
    browser: &str,
    query: &str,
    name: &str,
    wrong: Wrong,
) -> Reply {
    let hidden = pages.forms.seal(PURPOSE, &[browser], query, visit.now);
    let number = pages.operator.number(browser, visit.now);
    let name = foreign(name, limits::CLIENT_NAME_CHARS);
    let mut main = format!(
        "<h1>Sign in to decide</h1>\n<p><strong><bdi>{name}</bdi></strong> asks for access to \
         this gateway. Sign in as its operator to see what it wants, and to allow or deny it.</p>\n"
    );
    if wrong != Wrong::Nothing {
        main.push_str(&format!(
            "<div class=\"bad\" role=\"alert\" id=\"wrong\"><p>{}</p></div>\n",
            wrong.words()
        ));
    }
    let form = format!(
        "<form method=\"post\" action=\"/oauth/login\">\
         <input type=\"hidden\" name=\"request\" value=\"{hidden}\">"
    );
    let has_password = pages.operator.has_password();
    if has_password {
        main.push_str(&form);
        main.push_str(&password_fields(wrong));
    }
    match (number, pages.operator.has_codes()) {
        (Some(number), _) => main.push_str(&code_part(&form, &number, has_password, wrong)),
        (None, true) => main.push_str(&ask_part(&form, has_password)),
        (None, false) if has_password => {}
        (None, false) => main.push_str(
            "<p>Nobody can sign in here: this gateway has neither an operator password nor \
             one-time codes.</p>\n",
        ),
    }
    let page = Page {
        status: wrong.status(),
        title: "Sign in",
        gateway: pages.gateway.clone(),
        main,
        foot: "<p>If you did not start this, close the page: nothing has happened.</p>".into(),
        leads_to: None,
    };
    match page.status {
        429 => page.reply().with("Retry-After", "5"),
        _ => page.reply(),
    }
}

/// How an input says that it is the one to correct.
fn marked(is_wrong: bool) -> &'static str {
    match is_wrong {
        true => " aria-invalid=\"true\" aria-describedby=\"wrong\" autofocus",
        false => "",
    }
}

fn password_fields(wrong: Wrong) -> String {
    format!(
        "<input type=\"text\" name=\"username\" value=\"{SUBJECT}\" autocomplete=\"username\" \
         hidden>\
         <label class=\"label\" for=\"password\">Operator password</label>\
         <input type=\"password\" id=\"password\" name=\"password\" \
         autocomplete=\"current-password\" required{}>\
         <div class=\"row\"><button class=\"go\" name=\"do\" value=\"password\">Sign in</button>\
         </div></form>\n",
        marked(wrong == Wrong::Password)
    )
}

/// What stands below the password is a part of its own.
fn heading(has_password: bool, words: &str) -> String {
    match has_password {
        true => format!("<h2>{words}</h2>\n"),
        false => String::new(),
    }
}

fn ask_part(form: &str, has_password: bool) -> String {
    let class = if has_password { "" } else { " class=\"go\"" };
    format!(
        "{}<p>The gateway can write a one-time code to its log, where only its operator reads \
         it.</p>\n{form}<div class=\"row\"><button{class} name=\"do\" value=\"ask\">Write a code \
         to the log</button></div></form>\n",
        heading(has_password, "Without the password")
    )
}

fn code_part(form: &str, number: &str, has_password: bool, wrong: Wrong) -> String {
    let class = if has_password { "" } else { " class=\"go\"" };
    format!(
        "{}<p>A one-time code for request <strong class=\"mono\">{number}</strong> stands in the \
         gateway's log. It is good for 10 minutes.</p>\n{form}\
         <label class=\"label\" for=\"code\">One-time code</label>\
         <input type=\"text\" class=\"code mono\" id=\"code\" name=\"code\" \
         autocomplete=\"one-time-code\" autocapitalize=\"characters\" spellcheck=\"false\" \
         maxlength=\"20\"{}>\
         <p class=\"soft\">Or run <code>onemcp auth approve {number}</code> on the gateway's \
         machine, leave the field empty and continue.</p>\
         <div class=\"row\"><button{class} name=\"do\" value=\"code\">Continue</button>\
         </div></form>\n",
        heading(has_password, "With a one-time code"),
        marked(matches!(wrong, Wrong::Code | Wrong::NotApproved)),
    )
}

impl Pages {
    /// What the form of the page sent, once it is known to be that form.
    pub(super) fn take_login(
        &self,
        visit: &Visit<'_>,
        browser: &str,
        name: &str,
        form: &Form,
        query: &str,
    ) -> Reply {
        let address = network(visit.from.address);
        let anew = |wrong| page(self, visit, browser, query, name, wrong);
        match form.get("do") {
            Some("ask") => match self.operator.ask(browser, name, &address, visit.now) {
                true => redirect(&again(query)),
                false => anew(Wrong::TooMany),
            },
            Some("password") => {
                if let Err(wait) = self.account.take(SUBJECT, visit.now) {
                    reject(Record::denied(Event::LoginFail, Reason::TooOften));
                    return self.waits(wait);
                }
                let password = form.get("password").unwrap_or_default();
                match self.operator.try_password(password) {
                    Tried::Right => self.signed_in(visit, query, "password"),
                    Tried::Busy => anew(Wrong::Busy),
                    Tried::Wrong => {
                        note_wrong("password");
                        anew(Wrong::Password)
                    }
                }
            }
            _ => {
                let code = form.get("code").unwrap_or_default();
                match self.operator.enter(browser, code, visit.now) {
                    Entered::Right => self.signed_in(visit, query, "code"),
                    Entered::Wrong if code.is_empty() => anew(Wrong::NotApproved),
                    Entered::Wrong => {
                        note_wrong("code");
                        anew(Wrong::Code)
                    }
                    Entered::Gone => anew(Wrong::CodeGone),
                }
            }
        }
    }

    /// A new session, never one that the browser brought.
    fn signed_in(&self, visit: &Visit<'_>, query: &str, by: &str) -> Reply {
        let cookie = self.operator.sign_in(visit.now);
        audit::note(Record {
            subject: SUBJECT,
            method: by,
            ..Record::new(Event::LoginOk, Outcome::Allow)
        });
        let cookie = self
            .cookies
            .set(Jar::Operator, &cookie, limits::OPERATOR_SESSION);
        redirect(&again(query)).with("Set-Cookie", cookie)
    }
}

fn note_wrong(by: &str) {
    audit::note(Record {
        subject: SUBJECT,
        method: by,
        ..Record::denied(Event::LoginFail, Reason::BadPassword)
    });
}

/// How a client is called.
pub(super) fn name_of(asked: &Asked) -> &str {
    match asked.client_name.is_empty() {
        true => &asked.client_id,
        false => &asked.client_name,
    }
}

/// Of a client that must be asked for first: its id says at least who speaks for it.
pub(super) fn name_in(query: &str) -> String {
    let form = Form::parse(query.as_bytes()).unwrap_or_default();
    form.get("client_id").unwrap_or("A program").to_owned()
}
