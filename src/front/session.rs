//! One session of the session era: what its client can do, what it is waiting for, and the
//! streams it may come back to. Its lock is never held across a read, a write or a send that
//! can wait.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::front::channel::{Channel, Form};
use crate::front::face::{Abilities, Initialize};
use crate::front::in_flight::{InFlight, OfCall};
use crate::front::inputs::Inputs;
use crate::front::stream::EventStream;
use crate::journal::metrics::events::Change;
use crate::journal::metrics::meter::client_left;
use crate::mcp::error::RpcError;
use crate::mcp::level::Level;
use crate::mcp::list::ListKind;
use crate::mcp::method::{Ask, Asks};
use crate::mcp::revision::Revision;
use crate::model::catalog::Visible;
use crate::model::principal::Principal;
use crate::model::task_id::TaskKey;
use crate::relay::bridge::request::stamp;
use crate::relay::view::View;
use crate::relay::world::World;
use crate::upstream::call::{CallId, MailSender, Reply};
use crate::upstream::handshake::ClientFace;
use crate::upstream::link::Link;
use crate::upstream::server::{SessionFace, Wanted};
use crate::wire::members::{Members, edited};
use crate::wire::message::{FROM_CLIENT, canonical_id};

pub struct Session {
    pub id: String,
    /// Tells sessions apart where the id must not go.
    pub number: u64,
    pub revision: Revision,
    pub abilities: Abilities,
    view: RwLock<Arc<View>>,
    pub face: SessionFace,
    pub address: IpAddr,
    opened: Instant,
    /// Milliseconds after `opened`.
    last_used_ms: AtomicU64,
    visible: Mutex<Option<Shown>>,
    state: Mutex<State>,
    /// Unsolicited messages go here; the GET streams of the session read it.
    pub listener: EventStream,
    /// Makes names for the tasks that its client gets.
    pub task_key: Arc<TaskKey>,
    /// Set when the session lives on a channel: then everything goes there, and the session ends
    /// with it.
    pub channel: Option<Arc<Channel>>,
}

#[derive(Default)]
struct State {
    level: Option<Level>,
    stamp: Option<Arc<str>>,
    flights: InFlight<Way, PendingAsk>,
    /// URI to the server that has it.
    subscriptions: HashMap<String, usize>,
    /// Streams of POSTs that may be resumed, oldest first.
    streams: VecDeque<Arc<EventStream>>,
    next_stream: u64,
    digests: [u64; 3],
    /// Server and id of questions that are answered in a browser.
    elicitations: VecDeque<(String, String)>,
}

/// To the server that works on a request of the client, and to the request's connection.
#[derive(Clone)]
struct Way {
    link: Arc<Link>,
    mail: MailSender,
}

/// A question that the client has been asked, and who waits for its answer.
pub enum PendingAsk {
    Server(ServerAsk),
    Round(RoundAsk),
}

/// A server waits on its link.
pub struct ServerAsk {
    pub link: Arc<Link>,
    pub upstream_id: String,
    /// The server's own progress token, raw.
    pub progress_token: Option<String>,
    /// The call it belongs to, and its connection.
    pub call: Option<(CallId, MailSender)>,
}

/// A call waits that goes to its server again once all is answered.
pub struct RoundAsk {
    pub call: CallId,
    pub ask: Ask,
    pub mail: MailSender,
    pub inputs: Arc<Inputs>,
}

impl OfCall for PendingAsk {
    fn is_of(&self, call: CallId) -> bool {
        match self {
            PendingAsk::Server(ask) => ask.call.as_ref().is_some_and(|(id, _)| *id == call),
            PendingAsk::Round(ask) => ask.call == call,
        }
    }
}

impl PendingAsk {
    fn as_server(&self) -> Option<&ServerAsk> {
        match self {
            PendingAsk::Server(ask) => Some(ask),
            PendingAsk::Round(_) => None,
        }
    }

    /// Tells who waits that there will be no answer.
    pub fn refuse(&self, error: &RpcError) {
        if let Some(ask) = self.as_server() {
            ask.link.answer_error(&ask.upstream_id, error);
        }
    }
}

/// The servers that a view shows in one world.
struct Shown {
    generation: u64,
    view: Arc<View>,
    visible: Arc<Visible>,
}

impl Shown {
    fn is_of(&self, world: &World, view: &Arc<View>) -> bool {
        self.generation == world.generation && Arc::ptr_eq(&self.view, view)
    }
}

/// What is left to do when a session has ended.
pub struct Remains {
    pub subscriptions: HashMap<String, usize>,
}

/// The three kinds a client is told about: resources and templates are one.
pub const ANNOUNCED: [ListKind; 3] = [ListKind::Tools, ListKind::Prompts, ListKind::Resources];

impl Session {
    pub fn new(
        id: String,
        client: &Initialize,
        view: View,
        address: IpAddr,
        channel: Option<Arc<Channel>>,
        task_key: Arc<TaskKey>,
    ) -> Session {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let face = ClientFace {
            revision: client.revision,
            capabilities: without_tasks(&client.capabilities),
            info: client.info.clone(),
        };
        Session {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            revision: client.revision,
            abilities: client.abilities,
            face: SessionFace {
                session: id.clone(),
                face,
                asks: Asks::declared(&client.capabilities),
                principal: view.whose.as_ref().map(|whose| whose.key().to_owned()),
                wanted: Wanted::default(),
                ended: Arc::default(),
            },
            id,
            address,
            view: RwLock::new(Arc::new(view)),
            opened: Instant::now(),
            last_used_ms: AtomicU64::new(0),
            visible: Mutex::new(None),
            state: Mutex::default(),
            listener: EventStream::new(0),
            task_key,
            channel,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn touch(&self) {
        let ms = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_used_ms.store(ms, Ordering::Relaxed);
    }

    /// A message that belongs to no request of the client. Never waits.
    pub fn tell(&self, text: Vec<u8>) {
        match &self.channel {
            Some(channel) => channel.tell(text),
            None => {
                self.listener.push(text, None);
            }
        }
    }

    /// The same, unless just this message still waits to be sent.
    pub fn tell_once(&self, text: Vec<u8>) -> Change {
        let waits = match &self.channel {
            Some(channel) => channel.has_unsent(&text),
            None => self.listener.has_unsent(&text),
        };
        if waits {
            return Change::Suppressed;
        }
        self.tell(text);
        Change::Sent
    }

    /// Not used for so long, with no stream open and no call in flight.
    pub fn is_idle(&self, limit: Duration) -> bool {
        let last = Duration::from_millis(self.last_used_ms.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(last) > limit
            && self.channel.is_none()
            && self.listener.attached() == 0
            && self.state().flights.is_idle()
    }

    /// The servers of this session's view, computed once for each world.
    pub fn visible(&self, world: &World) -> Arc<Visible> {
        self.visible_in(world, &self.view())
    }

    /// The same in a view that this session had at some time.
    pub fn visible_in(&self, world: &World, view: &Arc<View>) -> Arc<Visible> {
        let mut cached = self.visible.lock().unwrap_or_else(PoisonError::into_inner);
        match &*cached {
            Some(shown) if shown.is_of(world, view) => shown.visible.clone(),
            _ => {
                let visible = Arc::new(view.visible(world));
                *cached = Some(Shown {
                    generation: world.generation,
                    view: view.clone(),
                    visible: visible.clone(),
                });
                visible
            }
        }
    }

    pub fn view(&self) -> Arc<View> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        view.clone()
    }

    /// Whether it was opened by `whose`: another one is told that it does not exist.
    pub fn belongs_to(&self, whose: Option<&Arc<Principal>>) -> bool {
        self.face.principal.as_deref() == whose.map(|whose| whose.key())
    }

    /// The view of a request that shows this token; from now on also what its client is told by.
    /// True with it when that is more or less than before.
    pub fn open_to(&self, whose: Option<&Arc<Principal>>) -> (Arc<View>, bool) {
        let before = self.view();
        let is_known = match (&before.whose, whose) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        if is_known {
            return (before, false);
        }
        let view = Arc::new(View {
            whose: whose.cloned(),
            ..(*before).clone()
        });
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view.clone();
        let differs = view.whose != before.whose;
        (view, differs)
    }

    /// Notes a call. False when the session has too many, or has ended.
    pub fn begin(
        &self,
        client_id: &str,
        call: CallId,
        link: &Arc<Link>,
        mail: &MailSender,
    ) -> bool {
        let client_id = canonical_id(client_id).into_owned();
        let (link, mail) = (link.clone(), mail.clone());
        let way = Way { link, mail };
        self.state().flights.begin(client_id, call, way)
    }

    /// A call has gone to its server again, as call `next`. False when the client has taken its
    /// request back meanwhile, or has ended the session.
    pub fn goes_on(&self, call: CallId, next: CallId, link: &Arc<Link>) -> bool {
        let mut state = self.state();
        let change = |way: &mut Way| way.link = link.clone();
        state.flights.goes_on(call, next, change)
    }

    /// A call is over: forgets it and its open questions, which it gives.
    pub fn end(&self, call: CallId) -> Vec<(u64, PendingAsk)> {
        self.state().flights.end(call)
    }

    /// The client takes a request back. Its connection ends without a response.
    pub fn cancel(&self, client_id: &str, reason: &str) {
        let wanted = canonical_id(client_id);
        let found = self.state().flights.take_back(&wanted);
        let Some((call, Way { link, mail })) = found else {
            return;
        };
        // Not known to the server: it has answered, and the client may be asked before it goes
        // there again.
        link.cancel(call, reason);
        // Full: the call's answer is already among what waits there.
        mail.post(call, Reply::Cancelled);
    }

    /// Registers a question under a new id of ours. The error says why it cannot be asked.
    pub fn register_ask(&self, id: u64, ask: PendingAsk) -> Result<(), &'static str> {
        self.state().flights.ask(id, ask)
    }

    /// The client has said its last word: gives the questions that it has left open.
    pub fn mute(&self) -> Vec<u64> {
        self.state().flights.mute()
    }

    pub fn take_ask(&self, id: u64) -> Option<PendingAsk> {
        self.state().flights.take_ask(id)
    }

    /// The question that a server withdraws, by its own id.
    pub fn withdraw_ask(&self, upstream_id: &str, link: &Arc<Link>) -> Option<u64> {
        let mut state = self.state();
        let same = |ask: &PendingAsk| {
            let ask = ask.as_server();
            ask.is_some_and(|ask| ask.upstream_id == upstream_id && Arc::ptr_eq(&ask.link, link))
        };
        let mut asks = state.flights.asks().iter();
        let id = asks.find(|(_, ask)| same(ask)).map(|(id, _)| *id)?;
        state.flights.take_ask(id);
        Some(id)
    }

    /// The question that client progress belongs to: its server and that server's own token.
    pub fn ask_progress(&self, id: u64) -> Option<(Arc<Link>, String)> {
        let state = self.state();
        let ask = state.flights.asks().get(&id)?.as_server()?;
        Some((ask.link.clone(), ask.progress_token.clone()?))
    }

    /// Whether a question is open that `call` may be waiting for.
    pub fn has_open_ask(&self, call: CallId, link: &Arc<Link>) -> bool {
        let state = self.state();
        state.flights.asks().values().any(|ask| {
            let of_session = |ask: &ServerAsk| ask.call.is_none() && Arc::ptr_eq(&ask.link, link);
            ask.is_of(call) || ask.as_server().is_some_and(of_session)
        })
    }

    pub fn set_level(&self, level: Level) {
        let mut state = self.state();
        state.level = Some(level);
        state.stamp = None;
    }

    /// What stateless servers are told with each request: members of its `_meta`.
    pub fn stamp(&self) -> Arc<str> {
        let mut state = self.state();
        if let Some(stamp) = &state.stamp {
            return stamp.clone();
        }
        let face = &self.face.face;
        let level = state.level.unwrap_or(Level::Info);
        let stamp = stamp(self.revision, &face.capabilities, &face.info, level);
        state.stamp.insert(stamp.into()).clone()
    }

    /// The level this client asked for; without one the server decides.
    pub fn level(&self) -> Option<Level> {
        self.state().level
    }

    pub fn wants(&self, level: Option<Level>) -> bool {
        match (self.level(), level) {
            (Some(wanted), Some(level)) => level >= wanted,
            _ => true,
        }
    }

    /// Whether `uri` is subscribed to.
    pub fn is_subscribed(&self, uri: &str, server: usize) -> bool {
        self.state().subscriptions.get(uri) == Some(&server)
    }

    /// True when it is new.
    pub fn add_subscription(&self, uri: &str, server: usize) -> bool {
        let mut state = self.state();
        if state.flights.is_closed() || state.subscriptions.insert(uri.to_owned(), server).is_some()
        {
            return false;
        }
        self.face.wanted.add(uri, server);
        true
    }

    pub fn has_room_for_subscription(&self) -> bool {
        self.state().subscriptions.len() < limits::SESSION_SUBSCRIPTIONS
    }

    /// The server it was subscribed at, which may not be the one that has `uri` now.
    pub fn remove_subscription(&self, uri: &str) -> Option<usize> {
        self.face.wanted.remove(uri);
        self.state().subscriptions.remove(uri)
    }

    /// Forgets streams that are complete and old, or, when memory is short, complete.
    pub fn prune_streams(&self, short_of_memory: bool) {
        let keep = if short_of_memory {
            Duration::ZERO
        } else {
            limits::REPLAY_FINISHED
        };
        let now = Instant::now();
        self.state()
            .streams
            .retain(|stream| !stream.is_finished_for(keep, now));
    }

    /// A stream for the answer of one POST.
    pub fn open_stream(&self) -> Arc<EventStream> {
        let mut state = self.state();
        state.next_stream += 1;
        let stream = Arc::new(EventStream::new(state.next_stream));
        if state.streams.len() >= limits::REPLAY_STREAMS {
            // The oldest that is complete; a stream still in work is kept.
            let now = Instant::now();
            let at = state
                .streams
                .iter()
                .position(|stream| stream.is_finished_for(Duration::ZERO, now));
            if let Some(at) = at {
                state.streams.remove(at);
            }
        }
        if state.streams.len() < limits::SESSION_CALLS {
            state.streams.push_back(stream.clone());
        }
        stream
    }

    pub fn stream(&self, number: u64) -> Option<Arc<EventStream>> {
        self.state()
            .streams
            .iter()
            .find(|stream| stream.number() == number)
            .cloned()
    }

    /// Remembers a question that is answered in a browser, so that its end can be told.
    pub fn note_elicitation(&self, server: &str, id: String) {
        let mut state = self.state();
        if state.elicitations.len() >= limits::SESSION_CALLS {
            state.elicitations.pop_front();
        }
        state.elicitations.push_back((server.to_owned(), id));
    }

    /// True, once, for the session that was asked.
    pub fn take_elicitation(&self, server: &str, id: &str) -> bool {
        let mut state = self.state();
        let known = |(by, known): &(String, String)| by == server && known == id;
        let at = state.elicitations.iter().position(known);
        at.is_some_and(|at| state.elicitations.remove(at).is_some())
    }

    /// Sets what the client knows of the lists; returns the kinds that differ from before.
    pub fn update_digests(&self, digests: [u64; 3]) -> Vec<ListKind> {
        let mut state = self.state();
        let before = std::mem::replace(&mut state.digests, digests);
        let changed = before.iter().zip(&digests).zip(ANNOUNCED);
        changed
            .filter(|((old, new), _)| old != new)
            .map(|(_, kind)| kind)
            .collect()
    }

    pub fn is_closed(&self) -> bool {
        self.state().flights.is_closed()
    }

    /// Ends the session: calls are cancelled at their servers, questions answered with an error,
    /// streams finished.
    pub fn close(&self) -> Remains {
        self.face.ended.store(true, Ordering::Release);
        let (calls, asks, streams, subscriptions) = {
            let mut state = self.state();
            let (calls, asks) = state.flights.close();
            (
                calls,
                asks,
                std::mem::take(&mut state.streams),
                std::mem::take(&mut state.subscriptions),
            )
        };
        for (call, Way { link, mail }) in calls {
            link.cancel(call, "the session has ended");
            mail.post(call, Reply::Cancelled);
        }
        let error = crate::front::ask::over("the session has ended");
        asks.values().for_each(|ask| ask.refuse(&error));
        let now = Instant::now();
        streams.iter().for_each(|stream| stream.finish(now));
        self.listener.finish(now);
        let transport = match self.channel.as_ref().map(|channel| channel.form()) {
            Some(Form::Line) => "pipe",
            Some(Form::Event) | None => "tcp",
        };
        client_left(self.revision.as_str(), transport, self.opened.elapsed());
        Remains { subscriptions }
    }
}

/// Tasks that a client works on for servers are not passed on, so no server is told that it may
/// ask for them.
fn without_tasks(capabilities: &str) -> String {
    let members = Members::parse(capabilities, 1, FROM_CLIENT);
    let Ok(members) = members else {
        return "{}".to_owned();
    };
    let edits = members.rewritten(capabilities, |key| key == "tasks", "");
    String::from_utf8(edited(capabilities, edits)).unwrap_or_default()
}
