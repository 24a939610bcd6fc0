//! The first exchange with a server (`initialize`, lifecycle of the session era) and the reading
//! of its lists. Runs on the owner thread; every wait has a deadline and ends when the server
//! goes or the gateway stops.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select};

use crate::base::limits;
use crate::mcp::error::METHOD_NOT_FOUND;
use crate::mcp::list::ListKind;
use crate::mcp::method::INITIALIZED;
use crate::mcp::revision::Revision;
use crate::model::listing::{Item, Listing, parse_page};
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
    Timeout(Duration),
    /// It answered, but not as a server of the session era does.
    Bad(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Stopped => f.write_str("stopped"),
            Fault::Gone(_) => f.write_str("ended"),
            Fault::Timeout(limit) => write!(
                f,
                "gave no answer within {} s; raise \"connectionTimeout\" if it needs longer",
                limit.as_secs_f64()
            ),
            Fault::Bad(what) => f.write_str(what),
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

/// One exchange at a time with a server, on behalf of its owner.
pub struct Dialogue<'a, 'g> {
    pub link: &'a Link,
    pub watch: &'a mut Watch<'g>,
}

impl Dialogue<'_, '_> {
    /// The handshake. Accepts revisions 2024-11-05 to 2025-11-25.
    pub fn initialize(&mut self, face: &ClientFace, limit: Duration) -> Result<Hello, Fault> {
        let params = format!(
            "{{\"protocolVersion\":\"{}\",\"capabilities\":{},\"clientInfo\":{}}}",
            face.revision.as_str(),
            face.capabilities,
            face.info
        );
        let result = self
            .ask("initialize", &params, limit)?
            .map_err(|error| Fault::Bad(format!("refused initialize: {error}")))?;
        let hello = parse_hello(&result)?;
        self.link.notify(INITIALIZED, "{}");
        Ok(hello)
    }

    /// Reads every list that the server declares. A list that it refuses stays empty.
    pub fn read_all(&mut self, capabilities: &str, limit: Duration) -> Result<Listing, Fault> {
        let mut listing = Listing::default();
        let declared = Members::parse(capabilities, 0, FROM_SERVER);
        for kind in ListKind::ALL {
            let offers = declared
                .as_ref()
                .is_ok_and(|c| c.get(kind.capability()).is_some());
            if offers {
                listing.set(kind, self.read_list(kind, limit)?);
            }
        }
        Ok(listing)
    }

    /// All pages of one list.
    pub fn read_list(&mut self, kind: ListKind, limit: Duration) -> Result<Vec<Item>, Fault> {
        let mut items: Vec<Item> = Vec::new();
        let mut keys = HashSet::new();
        let mut seen = HashSet::new();
        let mut cursor: Option<String> = None;
        for _ in 0..limits::LIST_PAGES {
            let params = match &cursor {
                Some(cursor) => format!("{{\"cursor\":{}}}", quoted(cursor)),
                None => "{}".to_owned(),
            };
            let result = match self.ask(kind.method(), &params, limit)? {
                Ok(result) => result,
                Err(error) => {
                    self.refused(kind, &error);
                    return Ok(items);
                }
            };
            let Some(page) = parse_page(&result, kind) else {
                self.warn(kind, "the result holds no list");
                return Ok(items);
            };
            if page.dropped > 0 {
                self.warn(
                    kind,
                    &format!("{} entries without a usable name dropped", page.dropped),
                );
            }
            let before = items.len() + page.items.len();
            items.extend(
                page.items
                    .into_iter()
                    .filter(|item| keys.insert(item.key.clone())),
            );
            if items.len() < before {
                self.warn(kind, "an entry appears twice; the first one is kept");
            }
            if items.len() > limits::TOOLS_PER_SERVER {
                items.truncate(limits::TOOLS_PER_SERVER);
                self.warn(kind, "more entries than the bound; the rest is left out");
                return Ok(items);
            }
            match page.next_cursor {
                None => return Ok(items),
                Some(next) if !seen.insert(next.clone()) => {
                    self.warn(kind, "a cursor came twice; the rest is left out");
                    return Ok(items);
                }
                Some(next) => cursor = Some(next),
            }
        }
        self.warn(kind, "more pages than the bound; the rest is left out");
        Ok(items)
    }

    fn refused(&self, kind: ListKind, error: &str) {
        // Declaring resources without templates is common; that is no reason for a warning.
        if kind != ListKind::Templates || !error.contains(&METHOD_NOT_FOUND.to_string()) {
            self.warn(kind, error);
        }
    }

    fn warn(&self, kind: ListKind, what: &str) {
        let server = self.link.server();
        log::warn!(
            "list incomplete server={server:?} method={}: {what}",
            kind.method()
        );
    }

    /// One request; the result, or the server's error, as raw JSON.
    fn ask(
        &mut self,
        method: &str,
        params: &str,
        limit: Duration,
    ) -> Result<Result<String, String>, Fault> {
        let mailbox = Mailbox::new(1);
        let call = self
            .link
            .request(method, params, mailbox.sender())
            .map_err(|_| Fault::Gone(End::OutputClosed))?;
        let fault = match self.wait(call, mailbox.receiver(), Instant::now() + limit) {
            Ok(mail) => return outcome(mail),
            Err(Fault::Timeout(_)) => Fault::Timeout(limit),
            Err(fault) => fault,
        };
        self.link.cancel(call, "the gateway no longer waits");
        Err(fault)
    }

    fn wait(
        &mut self,
        call: CallId,
        mail: &Receiver<Mail>,
        deadline: Instant,
    ) -> Result<Reply, Fault> {
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
                None if Instant::now() >= deadline => return Err(Fault::Timeout(Duration::ZERO)),
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

fn outcome(reply: Reply) -> Result<Result<String, String>, Fault> {
    let answer = match reply {
        Reply::Answer(answer) => answer,
        Reply::Failed(error) => return Ok(Err(error.message)),
        _ => {
            return Err(Fault::Bad("answered out of turn".to_owned()));
        }
    };
    let envelope = Envelope::from_bytes(&answer.line, FROM_SERVER);
    match envelope.map(|envelope| envelope.kind) {
        Ok(Kind::Result { result, .. }) => Ok(Ok(result.to_owned())),
        Ok(Kind::Error { error, .. }) => Ok(Err(error.chars().take(300).collect())),
        _ => Err(Fault::Bad(
            "answered with something that is not a response".to_owned(),
        )),
    }
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
        revision,
        capabilities: object("capabilities").to_owned(),
        instructions: members.string("instructions").map(|text| text.into_owned()),
        server_info: object("serverInfo").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Fault, parse_hello};
    use crate::mcp::revision::Revision;

    #[test]
    fn reads_results_of_all_revisions() {
        for revision in Revision::ALL {
            let result = format!(
                "{{\"protocolVersion\":\"{}\",\"capabilities\":{{\"tools\":{{}}}}}}",
                revision.as_str()
            );
            let hello = parse_hello(&result).expect("a hello");
            assert_eq!(hello.revision, revision);
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
}
