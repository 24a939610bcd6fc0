//! All sessions: bounded in number, in number per address, and in idle time.

use std::net::IpAddr;
use std::sync::Arc;

use crate::base::{limits, sys};
use crate::front::channel::Channel;
use crate::front::face::Initialize;
use crate::front::session::{ANNOUNCED, Session};
use crate::front::session_tasks;
use crate::front::stream::short_of_memory;
pub use crate::front::table::Full;
use crate::front::table::{Listed, Table};
use crate::journal::audit::{self, Event, Outcome, Reason, Record, rejects};
use crate::journal::fact::{self, Fact, Refused};
use crate::journal::metrics::events::{Change, list_changed};
use crate::mcp::level::Level;
use crate::mcp::list::ListKind;
use crate::model::catalog::Visible;
use crate::model::place::Here;
use crate::model::task_id::TaskKey;
use crate::relay::view::View;
use crate::relay::world::World;
use crate::upstream::server::Server;
use crate::wire::hex;

#[derive(Default)]
pub struct Sessions {
    table: Table<Arc<Session>>,
    /// One of several replicas says so in each id.
    here: Option<Here>,
}

/// One principal has as many sessions or streams as it may.
pub fn note_too_many(address: IpAddr) {
    rejects::reject(Record::denied(Event::RateLimit, Reason::TooMany));
    let (what, whom) = (Refused::Pace, address.to_string());
    fact::note(Fact::Refused { what, whom });
}

impl Listed for Arc<Session> {
    fn id(&self) -> &str {
        &self.id
    }

    fn principal(&self) -> Option<&str> {
        self.face.principal.as_deref()
    }

    fn address(&self) -> IpAddr {
        self.address
    }
}

impl Sessions {
    pub fn new(here: Option<Here>) -> Sessions {
        Sessions {
            here,
            ..Sessions::default()
        }
    }

    /// A new id of a session: random, and found again by other replicas.
    pub fn new_id(&self) -> String {
        let id = new_id();
        match &self.here {
            Some(here) => here.put_behind(&id).unwrap_or(id),
            None => id,
        }
    }

    /// Opens a session under a new random id.
    pub fn open(
        &self,
        client: &Initialize,
        view: View,
        address: IpAddr,
        channel: Option<Arc<Channel>>,
        task_key: &Arc<TaskKey>,
    ) -> Result<Arc<Session>, Full> {
        let whose = view.whose.clone();
        let principal = whose.as_ref().map(|whose| whose.key());
        let session = self.table.open(principal, address, || {
            let (id, key) = (self.new_id(), task_key.clone());
            Arc::new(Session::new(id, client, view, address, channel, key))
        })?;
        audit::note(Record {
            session: &session.id,
            protocol: session.revision.as_str(),
            detail: &client.info,
            ..Record::new(Event::SessionOpen, Outcome::Ok)
        });
        Ok(session)
    }

    pub fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.table.get(id)
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub fn all(&self) -> Vec<Arc<Session>> {
        self.table.all()
    }

    /// Ends a session and what servers hold for it. False when it was unknown.
    pub fn close(&self, id: &str, servers: &[Arc<Server>], why: Reason) -> bool {
        let Some(session) = self.table.remove(id) else {
            return false;
        };
        let whose = session.view().whose.clone();
        audit::note(Record {
            reason: Some(why),
            who: whose.as_deref(),
            session: id,
            protocol: session.revision.as_str(),
            ..Record::new(Event::SessionClose, Outcome::Ok)
        });
        let remains = session.close();
        for (uri, server) in remains.subscriptions {
            let found = servers.iter().find(|handle| handle.id.slot == server);
            if let Some(server) = found {
                drop_subscription(server, &uri);
            }
        }
        servers.iter().for_each(|server| server.end_session(id));
        if session.revision.has_tasks() {
            session_tasks::cancel_all(id, servers);
        }
        true
    }

    /// For the router's clock: ends sessions that nobody has used for long.
    pub fn sweep(&self, servers: &[Arc<Server>]) {
        let short_of_memory = short_of_memory();
        for session in self.all() {
            session.prune_streams(short_of_memory);
            if session.is_idle(limits::SESSION_IDLE) {
                log::info!("session ended after being idle");
                self.close(&session.id, servers, Reason::Idle);
            }
        }
    }

    /// The most talkative level that any session asked for.
    pub fn lowest_level(&self) -> Option<Level> {
        self.all()
            .iter()
            .filter_map(|session| session.level())
            .min()
    }

    /// Tells every session whose view changed, and no other, which lists to read again.
    pub fn announce(&self, world: &World) {
        self.compare(world, |session, kind| {
            let text = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{}\"}}", kind.changed());
            list_changed(kind, session.tell_once(text.into_bytes()));
        });
    }

    /// The same to one session, whose client may see more or less than before.
    pub fn announce_to(&self, session: &Arc<Session>, world: &World) {
        let digests = Digests::default().of(world, &session.view(), &session.visible(world));
        for kind in session.update_digests(digests) {
            let text = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{}\"}}", kind.changed());
            list_changed(kind, session.tell_once(text.into_bytes()));
        }
    }

    /// Takes what there is now for what every session knows.
    pub fn know(&self, world: &World) {
        self.compare(world, |_, kind| list_changed(kind, Change::Suppressed));
    }

    /// Hands out each kind of list that has changed in a session's view.
    fn compare(&self, world: &World, changed: impl Fn(&Arc<Session>, ListKind)) {
        let mut known = Digests::default();
        for session in self.all() {
            let digests = known.of(world, &session.view(), &session.visible(world));
            let kinds = session.update_digests(digests);
            kinds.into_iter().for_each(|kind| changed(&session, kind));
        }
    }
}

/// What views show in one world, one number for each kind that clients are told about. Each is
/// made once.
#[derive(Default)]
pub struct Digests(Vec<(Visible, bool, [u64; 3])>);

impl Digests {
    /// `visible`: the servers of `view` in `world`, the same one each time.
    pub fn of(&mut self, world: &World, view: &View, visible: &Visible) -> [u64; 3] {
        let own_names = view.has_own_names();
        let mut known = self.0.iter();
        let found = known.find(|(seen, own, _)| *own == own_names && seen == visible);
        if let Some((_, _, digests)) = found {
            return *digests;
        }
        let digest = |kind| world.catalog.digest(kind, visible, own_names);
        let digests = ANNOUNCED.map(|kind| match kind {
            ListKind::Resources => digest(kind).rotate_left(1) ^ digest(ListKind::Templates),
            _ => digest(kind),
        });
        self.0.push((visible.clone(), own_names, digests));
        digests
    }
}

/// One session less wants `uri`; the last one takes the subscription at the server with it.
pub fn drop_subscription(server: &Server, uri: &str) {
    // A process of its own ends with the session and needs no word.
    if !server.unsubscribe(uri) || server.config.instances.is_per_session() {
        return;
    }
    // The owner of a stateless server has heard of it.
    let link = server.shared_link().filter(|link| !link.is_stateless());
    if let Some(link) = link {
        let params = format!("{{\"uri\":{}}}", crate::wire::json::quoted(uri));
        let mail = crate::upstream::call::Mailbox::new(1);
        if let Err(error) = link.request("resources/unsubscribe", &params, mail.sender()) {
            log::debug!(
                "not unsubscribed server={:?}: {}",
                server.name(),
                error.message
            );
        }
    }
}

/// 128 random bits in the form that users of 1MCP know.
fn new_id() -> String {
    let mut bytes = [0; 16];
    sys::random_bytes(&mut bytes);
    let hex = hex::encode(&bytes);
    format!(
        "stream-{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
