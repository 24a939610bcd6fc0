//! What an owner says to its server: `initialize` (lifecycle of the session era; `probe` has the
//! other greeting) and the reading of lists. Runs on the owner thread; every wait has a deadline
//! and ends when the server goes or the gateway stops.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select};

use crate::base::limits;
use crate::base::time::rounded;
use crate::mcp::era::Era;
use crate::mcp::error::{METHOD_NOT_FOUND, Reason, RpcError};
use crate::mcp::list::ListKind;
use crate::mcp::method::INITIALIZED;
use crate::mcp::revision::Revision;
use crate::mcp::task::has_calls;
use crate::model::hint::CacheHint;
use crate::model::listing::{Item, Page, parse_page};
use crate::upstream::call::{CallId, Mail, Mailbox, Reply};
use crate::upstream::link::{Hello, Link};
use crate::upstream::signals::{End, Watch};
use crate::wire::json::quoted;
use crate::wire::members::Members;
use crate::wire::message::{Envelope, FROM_SERVER, Kind};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The gateway is stopping this server.
    Stopped,
    /// The process ended, or one of its pipes is closed.
    Gone(End),
    /// The limit, and the key that sets it.
    Timeout(Duration, &'static str),
    /// Nothing could be asked: it does not read, or is asked too much already.
    Busy(String),
    /// It answered with an error, or with something that could not be read.
    Refused(String),
    /// It answered, but not as a server of its era does.
    Bad(String),
    /// This, and a server that never saw our first request might have done better.
    Spoilt(Box<Fault>),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Stopped => f.write_str("stopped"),
            Fault::Gone(_) => f.write_str("ended"),
            Fault::Timeout(limit, key) => write!(
                f,
                "gave no answer within {}; raise {key:?} if it needs longer",
                rounded(*limit)
            ),
            Fault::Refused(error) => write!(f, "was answered with an error: {error}"),
            Fault::Busy(what) | Fault::Bad(what) => f.write_str(what),
            Fault::Spoilt(fault) => fault.fmt(f),
        }
    }
}

/// What the gateway says about itself to a server: its own face for a shared process, the
/// client's for a process of one session. Capabilities and info are raw JSON.
#[derive(Debug, Clone)]
pub struct ClientFace {
    pub revision: Revision,
    pub capabilities: String,
    pub info: String,
}

impl ClientFace {
    /// Everything that some client may be able to do; questions to clients that cannot are
    /// refused on their behalf.
    pub fn shared() -> ClientFace {
        ClientFace {
            revision: Revision::NEWEST,
            capabilities: "{\"roots\":{},\"sampling\":{\"context\":{},\"tools\":{}},\
                           \"elicitation\":{\"form\":{},\"url\":{}}}"
                .to_owned(),
            info: format!(
                "{{\"name\":\"onemcp\",\"title\":\"onemcp\",\"version\":\"{}\"}}",
                env!("CARGO_PKG_VERSION")
            ),
        }
    }
}

/// One list as far as it could be read.
#[derive(Debug, Default)]
pub struct Read {
    pub items: Vec<Item>,
    pub bytes: usize,
    /// What was left out.
    pub flaw: Option<String>,
    /// Of all pages; only a stateless server is asked for it.
    pub hint: Option<CacheHint>,
}

/// How long an answer may take, and the key that sets it.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    pub time: Duration,
    pub key: &'static str,
}

/// One exchange at a time with a server, on behalf of its owner.
pub struct Dialogue<'a, 'g> {
    pub link: &'a Link,
    pub watch: &'a mut Watch<'g>,
}

impl Dialogue<'_, '_> {
    /// The handshake. Accepts revisions 2024-11-05 to 2025-11-25.
    pub fn initialize(&mut self, face: &ClientFace, limit: Limit) -> Result<Hello, Fault> {
        let params = format!(
            "{{\"protocolVersion\":\"{}\",\"capabilities\":{},\"clientInfo\":{}}}",
            face.revision.as_str(),
            face.capabilities,
            face.info
        );
        let result = match self.ask("initialize", &params, limit) {
            Err(Fault::Refused(error)) => {
                return Err(Fault::Bad(format!("refused initialize: {error}")));
            }
            other => other?,
        };
        let hello = parse_hello(&result)?;
        self.link.notify(INITIALIZED, "{}");
        Ok(hello)
    }

    /// All pages of one list. `room`: bytes that its entries may have.
    pub fn read_list(&mut self, kind: ListKind, room: usize, limit: Limit) -> Result<Read, Fault> {
        let mut reading = Reading::new(room);
        let hello = self.link.hello();
        let makes_tasks =
            hello.is_some_and(|h| !h.era.is_stateless() && has_calls(&h.capabilities));
        let mut cursor: Option<String> = None;
        for _ in 0..limits::LIST_PAGES {
            let params = match &cursor {
                Some(cursor) => format!("{{\"cursor\":{}}}", quoted(cursor)),
                None => "{}".to_owned(),
            };
            let result = match self.ask(kind.method(), &params, limit) {
                Err(Fault::Refused(error)) if is_missing(kind, &error) => {
                    return Ok(Read::default());
                }
                other => other?,
            };
            let Some(mut page) = parse_page(&result, kind) else {
                return Err(Fault::Bad("was answered without a list".to_owned()));
            };
            if !makes_tasks {
                page.items = page.items.into_iter().map(Item::without_tasks).collect();
            }
            match reading.take(page) {
                Some(next) => cursor = Some(next),
                None => return Ok(reading.end()),
            }
        }
        reading.flaw("has more pages than the bound; the rest is left out".to_owned());
        Ok(reading.end())
    }

    /// One request; the result as raw JSON.
    fn ask(&mut self, method: &str, params: &str, limit: Limit) -> Result<String, Fault> {
        let mailbox = Mailbox::new(1);
        let call = self
            .link
            .request(method, params, mailbox.sender())
            .map_err(|error| self.not_asked(error))?;
        let fault = match self.wait(call, mailbox.receiver(), limit) {
            Ok(reply) => return outcome(reply, self.link),
            Err(fault) => fault,
        };
        self.link.cancel(call, "the gateway no longer waits");
        Err(fault)
    }

    /// Only a closed link means that the process is over.
    pub(crate) fn not_asked(&self, error: RpcError) -> Fault {
        let busy = RpcError::gateway(Reason::Busy, self.link.server(), "");
        match error.data == busy.data {
            true => Fault::Busy(error.message),
            false => Fault::Gone(End::OutputClosed),
        }
    }

    pub(crate) fn wait(
        &mut self,
        call: CallId,
        mail: &Receiver<Mail>,
        limit: Limit,
    ) -> Result<Reply, Fault> {
        let deadline = Instant::now() + limit.time;
        let bell = self.watch.bell();
        loop {
            // First what has come: a server may answer and close its output at once.
            while let Ok(mail) = mail.try_recv() {
                if mail.call == call {
                    return Ok(mail.reply);
                }
            }
            match self.watch.look() {
                Some(End::Stop) => return Err(Fault::Stopped),
                Some(end) => return Err(Fault::Gone(end)),
                None if Instant::now() >= deadline => {
                    return Err(Fault::Timeout(limit.time, limit.key));
                }
                None => {}
            }
            let mut ready = Select::new();
            ready.recv(mail);
            ready.recv(&bell);
            // A timeout, too, is a reason to look.
            let _ = ready.ready_deadline(deadline.min(self.watch.next_look()));
            // Heard: what it rang for is looked at next.
            let _ = bell.try_recv();
        }
    }
}

/// Declaring resources without templates is common; that is no reason for a warning.
fn is_missing(kind: ListKind, error: &str) -> bool {
    kind == ListKind::Templates && error.contains(&METHOD_NOT_FOUND.to_string())
}

/// The pages of one list put together.
struct Reading {
    read: Read,
    room: usize,
    keys: HashSet<Arc<str>>,
    cursors: HashSet<String>,
    flaws: Vec<String>,
    dropped: usize,
    twice: usize,
}

impl Reading {
    fn new(room: usize) -> Reading {
        Reading {
            read: Read::default(),
            room,
            keys: HashSet::new(),
            cursors: HashSet::new(),
            flaws: Vec::new(),
            dropped: 0,
            twice: 0,
        }
    }

    fn flaw(&mut self, what: String) {
        self.flaws.push(what);
    }

    /// Adds a page; gives the cursor of the next one that is wanted.
    fn take(&mut self, page: Page) -> Option<String> {
        self.dropped += page.dropped;
        self.read.hint = match (self.read.hint, page.hint) {
            (Some(one), Some(other)) => Some(one.and(other)),
            (one, other) => one.or(other),
        };
        for item in page.items {
            if !self.keys.insert(item.key.clone()) {
                self.twice += 1;
                continue;
            }
            let bytes = self.read.bytes + item.raw.len();
            if bytes > self.room || self.read.items.len() >= limits::TOOLS_PER_SERVER {
                self.flaw("has more entries than the bound; the rest is left out".to_owned());
                return None;
            }
            self.read.bytes = bytes;
            self.read.items.push(item);
        }
        let next = page.next_cursor?;
        if !self.cursors.insert(next.clone()) {
            self.flaw("gave a cursor twice; the rest is left out".to_owned());
            return None;
        }
        Some(next)
    }

    fn end(mut self) -> Read {
        if self.dropped > 0 {
            self.flaw(format!(
                "has {} entries without a usable name",
                self.dropped
            ));
        }
        if self.twice > 0 {
            self.flaw(format!(
                "has {} entries twice; the first is kept",
                self.twice
            ));
        }
        self.read.flaw = (!self.flaws.is_empty()).then(|| self.flaws.join(", "));
        self.read
    }
}

fn outcome(reply: Reply, link: &Link) -> Result<String, Fault> {
    let answer = match reply {
        Reply::Answer(answer) => answer,
        Reply::Failed(error) => return Err(Fault::Refused(error.message)),
        _ => {
            return Err(Fault::Bad("answered out of turn".to_owned()));
        }
    };
    let envelope = Envelope::from_bytes(&answer.line, FROM_SERVER);
    match envelope.map(|envelope| envelope.kind) {
        Ok(Kind::Result { result, .. }) => Ok(result.to_owned()),
        Ok(Kind::Error { error, .. }) => {
            Err(Fault::Refused(link.hide(error).chars().take(300).collect()))
        }
        _ => Err(Fault::Bad(
            "answered with something that is not a response".to_owned(),
        )),
    }
}

/// Instructions are bounded; the rest is cut off.
pub(crate) fn bound_instructions(server: &str, hello: &mut Hello) {
    if let Some(bytes) = cut_instructions(hello) {
        let limit = limits::INSTRUCTIONS_BYTES;
        log::warn!("instructions cut short server={server:?} bytes={bytes} limit={limit}");
    }
}

/// Gives the bytes that there were, if there were too many.
fn cut_instructions(hello: &mut Hello) -> Option<usize> {
    let text = hello.instructions.as_mut()?;
    let bytes = text.len();
    if bytes <= limits::INSTRUCTIONS_BYTES {
        return None;
    }
    // Zero is always one.
    let mut ends = (0..=limits::INSTRUCTIONS_BYTES).rev();
    let end = ends.find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
    text.shrink_to_fit();
    Some(bytes)
}

fn parse_hello(result: &str) -> Result<Hello, Fault> {
    let members = Members::parse(result, 0, FROM_SERVER)
        .map_err(|error| Fault::Bad(format!("sent an unusable initialize result: {error}")))?;
    let version = members.string("protocolVersion").unwrap_or_default();
    let Some(revision) = Revision::parse(&version) else {
        let version: String = version.chars().take(40).collect();
        return Err(Fault::Bad(format!(
            "speaks protocol revision {version:?}; known are 2024-11-05 to {}",
            Revision::NEWEST.as_str()
        )));
    };
    let object = |key: &str| {
        members
            .get(key)
            .filter(|raw| raw.starts_with('{'))
            .unwrap_or("{}")
    };
    Ok(Hello {
        era: Era::Session(revision),
        capabilities: object("capabilities").to_owned(),
        instructions: members.string("instructions").map(|text| text.into_owned()),
        server_info: object("serverInfo").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Fault, Reading, cut_instructions, parse_hello};
    use crate::base::limits;
    use crate::mcp::era::Era;
    use crate::mcp::list::ListKind;
    use crate::mcp::revision::Revision;
    use crate::model::listing::parse_page;

    #[test]
    fn reads_results_of_all_revisions() {
        for revision in Revision::ALL {
            let result = format!(
                "{{\"protocolVersion\":\"{}\",\"capabilities\":{{\"tools\":{{}}}}}}",
                revision.as_str()
            );
            let hello = parse_hello(&result).expect("a hello");
            assert_eq!(hello.era, Era::Session(revision));
            assert_eq!(hello.capabilities, "{\"tools\":{}}");
            assert_eq!(hello.server_info, "{}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_speak() {
        for result in [
            "[]",
            "{}",
            "{\"protocolVersion\":\"2026-07-28\"}",
            "{\"protocolVersion\":1}",
        ] {
            assert!(
                matches!(parse_hello(result), Err(Fault::Bad(_))),
                "{result}"
            );
        }
    }

    #[test]
    fn cuts_long_instructions_between_characters() {
        let long = "é".repeat(limits::INSTRUCTIONS_BYTES);
        let result = format!("{{\"protocolVersion\":\"2025-06-18\",\"instructions\":\"x{long}\"}}");
        let mut hello = parse_hello(&result).expect("a hello");
        assert_eq!(
            cut_instructions(&mut hello),
            Some(2 * limits::INSTRUCTIONS_BYTES + 1)
        );
        let kept = hello.instructions.as_ref().map(String::len);
        assert_eq!(kept, Some(limits::INSTRUCTIONS_BYTES - 1));
        assert_eq!(cut_instructions(&mut hello), None);
    }

    #[test]
    fn a_list_is_bounded_and_its_flaws_are_told_once() {
        let page = |text: &str| parse_page(text, ListKind::Tools).expect("a page");
        let mut reading = Reading::new(1000);
        let one = r#"{"tools":[{"name":"a"},{"name":"a"},7],"nextCursor":"c"}"#;
        assert_eq!(reading.take(page(one)).as_deref(), Some("c"));
        assert_eq!(reading.take(page(one)), None);
        let read = reading.end();
        assert_eq!((read.items.len(), read.bytes), (1, 12));
        assert_eq!(read.flaw.map(|flaw| flaw.matches("twice").count()), Some(2));
        let mut small = Reading::new(20);
        assert_eq!(
            small.take(page(r#"{"tools":[{"name":"a"},{"name":"b"}]}"#)),
            None
        );
        let read = small.end();
        assert_eq!((read.items.len(), read.flaw.is_some()), (1, true));
    }
}
