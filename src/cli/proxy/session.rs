//! The session that the client has at the endpoint, if it speaks that era. When the endpoint has
//! forgotten it, it is opened again with the client's own words, which the client need not know.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::limits;
use crate::cli::proxy::flight::Flight;
use crate::cli::proxy::{Proxy, letter, lock};
use crate::front::streamable::SESSION_HEADER;
use crate::mcp::list::ListKind;
use crate::model::listing::parse_page;
use crate::model::mirror::{self, Mirror};
use crate::net::client::{Method, Request, Response};
use crate::net::stop::Stop;
use crate::wire::members::Members;
use crate::wire::message::{Envelope, FROM_SERVER, Kind};

#[derive(Default)]
pub(super) struct State {
    pub session: Option<Session>,
    /// An `initialize` of the client is under way.
    pub is_opening: bool,
    /// The client's own words, to open the session again.
    pub opening: Option<String>,
    pub initialized: Option<String>,
    /// What it asked for that belongs to the session: its level, and its subscriptions.
    pub wishes: Vec<(String, String)>,
    pub flights: Vec<Arc<Flight>>,
    /// Arguments of tools that have a header, from the lists that came by.
    pub mirrored: HashMap<String, Arc<[Mirror]>>,
    /// Of the stream that is open or being opened.
    pub listening: Option<Stop>,
    pub is_draining: bool,
    pub is_closed: bool,
    /// A request could not be carried out.
    pub has_failed: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Session {
    /// Tells one from the next.
    pub number: u64,
    /// Not every server gives one.
    pub id: Option<String>,
    pub version: Option<String>,
}

impl State {
    fn open(&mut self, id: Option<String>, version: Option<String>) {
        let number = self.session.as_ref().map_or(0, |session| session.number) + 1;
        self.session = Some(Session {
            number,
            id,
            version,
        });
    }

    /// Remembers what must be asked again in another session.
    pub(super) fn note_wish(&mut self, line: &str) {
        let Ok(envelope) = Envelope::parse(line, FROM_SERVER) else {
            return;
        };
        let Kind::Request { method, .. } = &envelope.kind else {
            return;
        };
        let uri = || {
            let members = Members::parse(envelope.params?, 1, FROM_SERVER).ok()?;
            members.string("uri").map(|uri| format!("uri {uri}"))
        };
        let key = match &**method {
            "logging/setLevel" => Some("level".to_owned()),
            "resources/subscribe" | "resources/unsubscribe" => uri(),
            _ => None,
        };
        let Some(key) = key else { return };
        self.wishes.retain(|(known, _)| *known != key);
        let is_kept = method != "resources/unsubscribe";
        if is_kept && self.wishes.len() < limits::SESSION_SUBSCRIPTIONS {
            self.wishes.push((key, line.to_owned()));
        }
    }
}

impl Proxy {
    /// The answer to `initialize`, and what its head said.
    pub(super) fn opened(&self, text: &str, session_id: Option<&str>) {
        let Ok(envelope) = Envelope::parse(text, FROM_SERVER) else {
            return;
        };
        let Kind::Result { result, .. } = envelope.kind else {
            return;
        };
        let members = Members::parse(result, 1, FROM_SERVER).ok();
        let version = members.and_then(|members| Some(members.string("protocolVersion")?.into()));
        lock(&self.state).open(session_id.map(str::to_owned), version);
        self.changed.notify_all();
    }

    /// Opens another session in the place of session `number`, once for everybody who found out.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn renew(&self, number: u64) -> Result<(), String> {
        let _one_at_a_time = lock(&self.renewal);
        let (opening, initialized, wishes) = {
            let state = lock(&self.state);
            if state
                .session
                .as_ref()
                .is_some_and(|session| session.number != number)
            {
                return Ok(());
            }
            let opening = state.opening.clone().unwrap_or_default();
            (opening, state.initialized.clone(), state.wishes.clone())
        };
        log::info!("the endpoint has forgotten the session; opening another one");
        let stop = Stop::default();
        let mut response = self
            .send(
                Method::Post,
                &Vec::new(),
                opening.as_bytes(),
                self.timeout,
                &stop,
            )
            .map_err(|error| error.to_string())?;
        let id = response.header(SESSION_HEADER).map(str::to_owned);
        let status = response.status();
        let answer = self.first_answer(&mut response)?;
        let before = lock(&self.state)
            .session
            .as_ref()
            .map(|session| session.number);
        self.opened(&answer, id.as_deref());
        let after = lock(&self.state)
            .session
            .as_ref()
            .map(|session| session.number);
        if before == after {
            return Err(format!(
                "open another session: the endpoint answers HTTP {status}"
            ));
        }
        for line in initialized
            .iter()
            .chain(wishes.iter().map(|(_, line)| line))
        {
            self.tell(line);
        }
        // The stream of the old session is of no use any more.
        if let Some(stop) = lock(&self.state).listening.take() {
            stop.stop();
        }
        self.changed.notify_all();
        Ok(())
    }

    /// Notes what the tools of a page want in headers.
    pub(super) fn learn(&self, text: &str) -> Option<String> {
        let envelope = Envelope::parse(text, FROM_SERVER).ok()?;
        let Kind::Result { result, .. } = envelope.kind else {
            return None;
        };
        let page = parse_page(result, ListKind::Tools)?;
        let mut state = lock(&self.state);
        for item in page.items {
            // A tool whose wishes are not allowed gets none of them.
            let wished = mirror::of_tool(&item.raw).ok().flatten();
            state.mirrored.remove(&*item.key);
            if let Some(wished) = wished
                && state.mirrored.len() < limits::ENTRIES
            {
                state.mirrored.insert(item.key.to_string(), wished);
            }
        }
        page.next_cursor
    }

    /// Gives the session back.
    pub(super) fn good_bye(&self) {
        let session = lock(&self.state).session.clone();
        let Some(session) = session.filter(|session| session.id.is_some()) else {
            return;
        };
        let headers = self.with_own(&letter::of_session(Some(&session)));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (&**n, &**v)).collect();
        let request = Request {
            method: Method::Delete,
            url: &self.endpoint,
            headers: &headers,
            body: b"",
            head_timeout: limits::CLIENT_CLOSE,
            idle_timeout: Some(limits::CLIENT_CLOSE),
        };
        match self.net.send(&request, &Stop::default()) {
            Ok(response) => log::debug!("session ended status={}", response.status()),
            Err(error) => log::debug!("session not ended: failed to {error}"),
        }
    }

    pub(super) fn note_reached(&self, response: &Response) {
        // A proxy in between may say that nobody is there.
        if !matches!(response.status(), 502..=504) {
            self.reached.store(true, Ordering::Release);
        }
    }
}
