//! `onemcp auth login|logout|status`: the gateway's own logins at servers. The gateway does the
//! asking; this command shows the URL, opens no browser, and, where the gateway itself cannot be
//! reached by one, catches the browser on a port of this machine or takes what is pasted.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Instant;

use rustix::process::DumpableBehavior;
use serde_json::{Value, json};

use crate::base::exit::EXIT_FALSE;
use crate::base::{family, limits};
use crate::cli::args::{Catch, ControlFlags, LoginFlags, LoginVerb};
use crate::cli::deadline::Deadline;
use crate::cli::dialogue::{Dialogue, Said, Target, reach};
use crate::cli::health;
use crate::cli::outcome::{Failure, finish};
use crate::cli::terminal::safe;
use crate::config::process_environment;
use crate::config::settings::{Flags, Settings};

/// Where the gateway is, and until when.
struct Asker<'a> {
    settings: &'a Settings,
    control: &'a ControlFlags,
    deadline: Deadline,
}

pub fn run(asked: &LoginFlags, control: &ControlFlags, flags: &Flags) -> ExitCode {
    // A server of the same user must not take our connection out of this process.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let done = health::settings(flags, &process_environment()).and_then(|settings| {
        let limit = control.timeout.unwrap_or(limits::OAUTH_FLOW);
        let asker = Asker {
            settings: &settings,
            control,
            deadline: Deadline::after(limit),
        };
        match asked.verb {
            LoginVerb::Login => log_in(&asker, asked),
            LoginVerb::Logout => log_out(&asker, asked),
            LoginVerb::Status => status(&asker, asked),
        }
    });
    ExitCode::from(finish(done, &mut io::stdout()))
}

impl Asker<'_> {
    /// The lines that come for an order; its last one says that it went well.
    fn ask(&self, order: &Value) -> Result<Vec<Value>, Failure> {
        let target = Target::of(self.control.socket.as_deref(), self.settings);
        let stream = reach(&target, self.settings, self.deadline.at())?;
        let mut dialogue = Dialogue::begin(stream, order)?;
        let mut lines = Vec::new();
        loop {
            match dialogue.next(self.deadline.at())? {
                Said::Line(value, _) if value["kind"].is_null() => {
                    if value["ok"] == true {
                        lines.push(value);
                        return Ok(lines);
                    }
                    let error = value["error"].as_str().unwrap_or("no cause is known");
                    return Err(refusal(&safe(error, limits::CONTROL_LINE_BYTES)));
                }
                Said::Line(value, _) => lines.push(value),
                Said::Silence => return Err(self.deadline.passed()),
                Said::End => {
                    let what = "the gateway has closed the connection";
                    return Err(Failure::Unreachable(what.into()));
                }
            }
        }
    }

    fn last(&self, order: &Value) -> Result<Value, Failure> {
        let lines = self.ask(order)?;
        Ok(lines.into_iter().next_back().unwrap_or_default())
    }

    fn is_plain(&self) -> bool {
        !self.control.json && io::stdout().is_terminal()
    }

    fn say(&self, plain: &str, line: &Value) -> Result<(), Failure> {
        let text = match self.is_plain() {
            true => plain.to_owned(),
            false => line.to_string(),
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    }
}

fn refusal(error: &str) -> Failure {
    Failure::Refused(error.to_owned())
}

fn log_in(asker: &Asker<'_>, asked: &LoginFlags) -> Result<u8, Failure> {
    let listener = listener();
    let caught_at = listener.as_ref().map(|(_, url)| url.as_str());
    let order = json!({
        "command": "login",
        "server": asked.server,
        "principal": asked.principal,
        "caughtAt": caught_at.unwrap_or_default(),
        "force": asked.catch == Catch::Loopback,
    });
    let begun = asker.last(&order)?;
    let url = begun["url"].as_str().unwrap_or_default();
    let plain = format!(
        "Open this URL in a browser and allow it:\n\n  {}\n",
        safe(url, usize::MAX)
    );
    asker.say(&plain, &json!({"url": url, "redirect": begun["redirect"]}))?;
    match (asked.catch, listener) {
        (Catch::Paste, _) => {
            let query = pasted()?;
            finish_login(asker, asked, &query)?;
        }
        (_, Some((listener, at))) if begun["redirect"] == at.as_str() => {
            let (query, mut browser) = caught(asker, &listener)?;
            let done = finish_login(asker, asked, &query);
            tell(&mut browser, done.is_ok());
            done?;
        }
        _ => await_login(asker, asked, &begun["number"])?,
    }
    let line = json!({"ok": true, "server": asked.server});
    asker.say("Logged in.", &line)?;
    Ok(0)
}

fn finish_login(asker: &Asker<'_>, asked: &LoginFlags, query: &str) -> Result<(), Failure> {
    let order = json!({"command": "finish", "server": asked.server, "query": query});
    asker.last(&order).map(drop)
}

/// The usual port, so that what was registered for it can be used again, or else any.
fn listener() -> Option<(TcpListener, String)> {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(at(limits::OAUTH_PORT)).or_else(|_| TcpListener::bind(at(0)));
    let listener = listener.ok()?;
    listener.set_nonblocking(true).ok()?;
    let port = listener.local_addr().ok()?.port();
    Some((listener, format!("http://127.0.0.1:{port}/callback")))
}

/// What a browser brings to the port, and the browser.
fn caught(asker: &Asker<'_>, listener: &TcpListener) -> Result<(String, TcpStream), Failure> {
    loop {
        let left = asker
            .deadline
            .at()
            .saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(asker.deadline.passed());
        }
        family::poll_in(listener, left.min(limits::CONTROL_LOOK));
        let Ok((mut browser, _)) = listener.accept() else {
            continue;
        };
        match query_of(&mut browser) {
            Some(query) => return Ok((query, browser)),
            None => reply(&mut browser, "404 Not Found", "Not found."),
        }
    }
}

/// The query of `GET /callback?...`; a browser may ask for other things, too.
fn query_of(browser: &mut TcpStream) -> Option<String> {
    browser.set_nonblocking(false).ok()?;
    browser.set_read_timeout(Some(limits::CONTROL_WRITE)).ok()?;
    browser
        .set_write_timeout(Some(limits::CONTROL_WRITE))
        .ok()?;
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while memchr::memmem::find(&head, b"\r\n\r\n").is_none() {
        let count = browser.read(&mut buffer).ok()?;
        if count == 0 || head.len() > limits::OAUTH_ANSWER_BYTES {
            return None;
        }
        head.extend_from_slice(&buffer[..count]);
    }
    let line = String::from_utf8_lossy(&head);
    let target = line.strip_prefix("GET ")?.split(' ').next()?;
    let query = target.strip_prefix("/callback?")?;
    Some(query.to_owned())
}

fn tell(browser: &mut TcpStream, is_good: bool) {
    match is_good {
        true => reply(browser, "200 OK", "Logged in. You can close this window."),
        false => reply(
            browser,
            "400 Bad Request",
            "Not logged in: see the terminal.",
        ),
    }
}

fn reply(browser: &mut TcpStream, status: &str, text: &str) {
    let bytes = text.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {bytes}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{text}"
    );
    // A browser that has gone has seen enough.
    let _ = browser.write_all(answer.as_bytes());
}

/// The URL at which the browser ended, or its query.
fn pasted() -> Result<String, Failure> {
    let mut err = io::stderr().lock();
    let _ = write!(err, "Paste the URL at which the browser ended: ");
    let _ = err.flush();
    let mut line = String::new();
    let mut input = io::stdin().lock().take(limits::OAUTH_ANSWER_BYTES as u64);
    input.read_line(&mut line)?;
    let line = line.trim();
    let query = line.split_once('?').map_or(line, |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    match query.is_empty() {
        true => Err(Failure::Usage("nothing was pasted".to_owned())),
        false => Ok(query.to_owned()),
    }
}

/// The gateway catches the browser itself.
fn await_login(asker: &Asker<'_>, asked: &LoginFlags, before: &Value) -> Result<(), Failure> {
    let order = json!({"command": "logins", "server": asked.server});
    loop {
        let lines = asker.ask(&order)?;
        let principal = |line: &&Value| line["principal"].as_str() == asked.principal.as_deref();
        let mut logins = lines.iter().filter(|line| line["kind"] == "login");
        if let Some(login) = logins.find(principal) {
            if let Some(why) = login["failure"].as_str() {
                return Err(refusal(&safe(why, limits::CONTROL_LINE_BYTES)));
            }
            if login["number"] != *before && login["in"] == true {
                return Ok(());
            }
        }
        let now = Instant::now();
        if now >= asker.deadline.at() {
            return Err(asker.deadline.passed());
        }
        std::thread::sleep(limits::CONTROL_RETRY.min(asker.deadline.at() - now));
    }
}

fn log_out(asker: &Asker<'_>, asked: &LoginFlags) -> Result<u8, Failure> {
    let order = json!({
        "command": "logout",
        "server": asked.server,
        "principal": asked.principal,
    });
    let done = asker.last(&order)?;
    let was_in = done["was"] == true;
    let plain = if was_in {
        "Logged out."
    } else {
        "There was no login."
    };
    asker.say(plain, &done)?;
    Ok(if was_in { 0 } else { EXIT_FALSE })
}

fn status(asker: &Asker<'_>, asked: &LoginFlags) -> Result<u8, Failure> {
    let order = json!({"command": "logins", "server": asked.server});
    for line in asker.ask(&order)? {
        if line["kind"] == "login" {
            asker.say(&shown(&line), &line)?;
        }
    }
    Ok(0)
}

fn shown(line: &Value) -> String {
    let text = |name: &str| line[name].as_str().unwrap_or_default();
    let mut words = vec![text("server").to_owned()];
    if !text("principal").is_empty() {
        words.push(text("principal").to_owned());
    }
    match line["in"] == true {
        false => words.push("not logged in".to_owned()),
        true => {
            words.push(format!("logged in at {}", text("issuer")));
            let until = text("expiresAt");
            let renews = if line["refresh"] == true {
                ", renewed"
            } else {
                ""
            };
            if !until.is_empty() {
                words.push(format!("until {until}{renews}"));
            }
            if !text("scope").is_empty() {
                words.push(format!("for {}", text("scope")));
            }
        }
    }
    if !text("wanted").is_empty() {
        words.push(format!("scopes to ask for: {}", text("wanted")));
    }
    safe(&words.join("  "), limits::CONTROL_LINE_BYTES)
}
