//! What is agreed with one server: which manner of HTTP it speaks, the session it gave, and what
//! its tools want in headers. Plain data behind one lock; held for moments only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::mcp::revision::Revision;
use crate::model::mirror::Mirror;
use crate::upstream::remote::Remote;
use crate::upstream::remote::headers::{Told, is_safe, is_safe_method};
use crate::upstream::remote::road::Headers;
use crate::upstream::remote::trouble::Trouble;
use crate::upstream::traced;

#[derive(Debug, Default)]
pub struct State {
    pub manner: Manner,
    /// The `initialize` of the session: sent again when the server has forgotten it.
    pub opening: Vec<u8>,
    pub tools: Arc<Tools>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Manner {
    /// Nothing agreed yet: the next request is `server/discover` or `initialize`.
    #[default]
    Fresh,
    Session(Session),
    Stateless,
    /// HTTP with SSE. `None` until the server has named its endpoint.
    Sse {
        endpoint: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: Option<String>,
    pub revision: Revision,
    /// Counts the sessions that this server gave us.
    pub number: u64,
}

/// What the tools of a server want in headers, as of the last reading of the list. The shared
/// instance reads it, all instances go by it.
#[derive(Default)]
pub struct Tools(Mutex<Known>);

#[derive(Default)]
struct Known {
    read: u64,
    reader: Weak<Remote>,
    mirrors: HashMap<Arc<str>, Arc<[Mirror]>>,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tools").field(&self.times_read()).finish()
    }
}

impl Tools {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn learn(&self, reader: &Arc<Remote>, mirrors: HashMap<Arc<str>, Arc<[Mirror]>>) {
        let mut known = self.known();
        known.read += 1;
        known.reader = Arc::downgrade(reader);
        known.mirrors = mirrors;
    }

    fn of(&self, tool: &str) -> Option<Arc<[Mirror]>> {
        self.known().mirrors.get(tool).cloned()
    }

    pub fn times_read(&self) -> u64 {
        self.known().read
    }

    /// How often the list was read, and who can read it again.
    pub fn reader(&self) -> Option<(u64, Arc<Remote>)> {
        let known = self.known();
        known.reader.upgrade().map(|reader| (known.read, reader))
    }
}

/// What goes with one message.
#[derive(Debug, Default)]
pub struct Letter {
    pub headers: Headers,
    /// To be posted there instead of to the server's URL.
    pub url: Option<String>,
    /// The number of the session it goes to.
    pub session: Option<u64>,
    /// It asks for a session.
    pub is_opening: bool,
    pub is_stateless: bool,
    /// Its answer comes when the server or we end the subscription.
    pub is_listening: bool,
    /// Where the answers come: in the answer to the post, or on the one stream.
    pub answered_elsewhere: bool,
    /// A second try does no harm.
    pub is_repeatable: bool,
}

impl State {
    pub fn letter(&self, line: &str) -> Letter {
        let mut letter = self.letter_of_manner(line);
        letter.headers.extend(traced::headers(line));
        letter
    }

    fn letter_of_manner(&self, line: &str) -> Letter {
        match &self.manner {
            Manner::Session(session) => Letter {
                headers: session.headers(),
                session: Some(session.number),
                is_repeatable: is_safe(line),
                ..Letter::default()
            },
            Manner::Sse { endpoint } => Letter {
                url: endpoint.clone(),
                answered_elsewhere: true,
                is_repeatable: is_safe(line),
                ..Letter::default()
            },
            Manner::Fresh | Manner::Stateless => self.stateless_letter(line),
        }
    }

    fn stateless_letter(&self, line: &str) -> Letter {
        let told = Told::read(line).filter(|told| told.version.is_some());
        let Some(told) = told else {
            return Letter {
                is_opening: self.manner == Manner::Fresh,
                is_repeatable: is_safe(line),
                ..Letter::default()
            };
        };
        let name = told.name.as_deref().unwrap_or_default();
        let mirrors = match told.method.as_str() {
            "tools/call" => self.tools.of(name),
            _ => None,
        };
        Letter {
            headers: told.headers(mirrors.as_deref().unwrap_or_default()),
            is_stateless: true,
            is_listening: told.method == "subscriptions/listen",
            is_repeatable: is_safe_method(&told.method),
            ..Letter::default()
        }
    }

    pub fn session(&self) -> Option<&Session> {
        match &self.manner {
            Manner::Session(session) => Some(session),
            _ => None,
        }
    }
}

impl Session {
    pub fn headers(&self) -> Headers {
        let mut headers = Vec::with_capacity(2);
        if let Some(id) = &self.id {
            headers.push(("Mcp-Session-Id".to_owned(), id.clone()));
        }
        if self.revision.has_version_header() {
            let version = self.revision.as_str().to_owned();
            headers.push(("MCP-Protocol-Version".to_owned(), version));
        }
        headers
    }
}

/// Visible ASCII only (basic/transports), and not endless: with anything else the session could
/// not be named afterwards.
pub fn session_id(header: Option<&str>) -> Result<Option<String>, Trouble> {
    let id = header.unwrap_or_default().trim();
    if id.is_empty() {
        return Ok(None);
    }
    let limit = crate::base::limits::REMOTE_SESSION_ID_BYTES;
    if id.len() > limit {
        let bytes = id.len();
        let detail = format!("gave a session id of {bytes} bytes (limit {limit})");
        return Err(Trouble::unusable(detail));
    }
    match id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)) {
        true => Ok(Some(id.to_owned())),
        false => Err(Trouble::unusable(
            "gave a session id that is not of visible ASCII characters only",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::{Manner, Session, State, session_id};
    use crate::mcp::revision::Revision;

    fn session(revision: Revision, id: Option<&str>) -> State {
        let manner = Manner::Session(Session {
            id: id.map(str::to_owned),
            revision,
            number: 3,
        });
        State {
            manner,
            ..State::default()
        }
    }

    #[test]
    fn a_session_is_named_with_every_message() {
        let names = |state: &State| {
            let letter = state.letter(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
            assert_eq!(letter.session, Some(3));
            let names = letter.headers.into_iter().map(|(name, _)| name);
            names.collect::<Vec<_>>().join(" ")
        };
        let new = session(Revision::V2025_06_18, Some("s"));
        assert_eq!(names(&new), "Mcp-Session-Id MCP-Protocol-Version");
        let old = session(Revision::V2025_03_26, Some("s"));
        assert_eq!(names(&old), "Mcp-Session-Id");
        assert_eq!(names(&session(Revision::V2024_11_05, None)), "");
    }

    #[test]
    fn what_is_fresh_is_opened_or_asked() {
        let fresh = State::default();
        let opening = fresh.letter(r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#);
        assert!(opening.is_opening && !opening.is_stateless && opening.headers.is_empty());
        let line = r#"{"jsonrpc":"2.0","id":1,"method":"server/discover",
            "params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
        let asked = fresh.letter(line);
        assert!(!asked.is_opening && asked.is_stateless);
        assert_eq!(asked.headers.len(), 2);
    }

    #[test]
    fn session_ids_are_visible_ascii() {
        assert_eq!(session_id(Some(" a-1 ")), Ok(Some("a-1".to_owned())));
        for none in [None, Some("")] {
            assert_eq!(session_id(none), Ok(None));
        }
        for bad in ["a b", "é", "a\u{1}", &"x".repeat(5000)] {
            assert!(session_id(Some(bad)).is_err(), "{bad:?}");
        }
    }
}
