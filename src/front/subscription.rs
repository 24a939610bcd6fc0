//! Streams of changes for stateless clients (`subscriptions/listen`): which lists have changed,
//! which resources were updated. The router marks what is due, the thread of the request writes
//! it. A mark is set once however often something changes, so a slow client costs nothing more.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::base::{limits, sys};
use crate::front::desk::{Desk, Place};
use crate::front::listen;
use crate::front::output::Output;
use crate::front::request::Named;
use crate::front::session::ANNOUNCED;
use crate::front::sessions::{Digests, drop_subscription};
use crate::front::stateless::{Refusal, Request};
use crate::front::watched::{self, News, Task};
use crate::journal::metrics::events::{Change, list_changed};
use crate::mcp::error::{INVALID_PARAMS, INVALID_REQUEST, RpcError, result_response};
use crate::mcp::list::ListKind;
use crate::mcp::{meta, method};
use crate::model::task_id::TaskKey;
use crate::relay::bridge::SERVER_INFO;
use crate::relay::view::View;
use crate::relay::world::World;
use crate::upstream::call::{CallId, LazyMailbox, Reply};
use crate::upstream::caller::Caller;
use crate::upstream::link::Link;
use crate::upstream::listening::Watched;
use crate::upstream::server::Server;
use crate::wire::json::{elements, quoted, string_value};
use crate::wire::members::Members;
use crate::wire::message::{FROM_CLIENT, FROM_SERVER};

/// The members of a filter, in the order of `ANNOUNCED`.
const LISTS: [&str; 3] = [
    "toolsListChanged",
    "promptsListChanged",
    "resourcesListChanged",
];
const RESOURCES: &str = "resourceSubscriptions";
const TASKS: &str = "taskIds";

/// All that are open.
#[derive(Default)]
pub struct Subscriptions {
    open: Mutex<Vec<Arc<Subscription>>>,
    is_closing: AtomicBool,
}

/// What a client asked to hear of, before anything was done about it.
#[derive(Debug)]
pub struct Opening {
    /// Raw JSON of the request's id, which names the subscription.
    id: String,
    view: View,
    lists: [bool; 3],
    uris: Vec<String>,
    /// As the client knows them.
    pub tasks: Vec<String>,
}

/// One open subscription.
pub struct Subscription {
    number: u64,
    id: String,
    view: View,
    lists: [bool; 3],
    resources: Vec<Resource>,
    tasks: Vec<Task>,
    task_key: Arc<TaskKey>,
    /// An eventfd, to wake who writes.
    bell: OwnedFd,
    state: Mutex<State>,
}

struct Resource {
    uri: String,
    server: Arc<Server>,
}

struct State {
    /// What the client knows of the lists.
    digests: [u64; 3],
    lists_due: [bool; 3],
    /// By place in `resources`.
    updates_due: Vec<bool>,
    news: News,
    has_ended: bool,
}

/// What is to be written next.
pub enum Next {
    Message(String),
    /// Nothing now; the bell will ring.
    Wait,
    /// The gateway ends it: this response is the last message.
    Ended(Vec<u8>),
}

impl Opening {
    /// Reads what a request wants to hear of.
    pub fn read(request: &Request<'_>, view: &View) -> Result<Opening, Refusal> {
        let bad = |what: &str| RpcError::new(INVALID_PARAMS, format!("params: {what}"));
        let filter = request.params.get("notifications");
        let filter = filter.and_then(|raw| Members::parse(raw, 2, FROM_CLIENT).ok());
        let filter = filter.ok_or_else(|| bad("\"notifications\" must be an object"))?;
        let mut lists = [false; 3];
        for (wanted, key) in lists.iter_mut().zip(LISTS) {
            *wanted = match filter.get(key) {
                None | Some("false") => false,
                Some("true") => true,
                Some(_) => return Err(bad(&format!("{key:?} must be a boolean")).into()),
            };
        }
        let uris = match filter.get(RESOURCES) {
            None => Vec::new(),
            Some(raw) => strings(raw, limits::SESSION_SUBSCRIPTIONS).ok_or_else(|| {
                let most = limits::SESSION_SUBSCRIPTIONS;
                bad(&format!(
                    "{RESOURCES:?} must be an array of at most {most} URIs"
                ))
            })?,
        };
        let most = limits::SUBSCRIPTION_TASKS;
        let tasks = match filter.get(TASKS) {
            None => Vec::new(),
            Some(raw) => strings(raw, most)
                .ok_or_else(|| bad(&format!("{TASKS:?} must be an array of at most {most} ids")))?,
        };
        Ok(Opening {
            id: request.id.to_owned(),
            view: view.clone(),
            lists,
            uris,
            tasks,
        })
    }
}

/// Each once; `None` when it is no array of strings, or has more than `most`.
fn strings(raw: &str, most: usize) -> Option<Vec<String>> {
    let listed = elements(raw, FROM_CLIENT)?;
    if listed.len() > most {
        return None;
    }
    let mut strings: Vec<String> = Vec::with_capacity(listed.len());
    for element in listed {
        let string = string_value(element)?;
        if !strings.iter().any(|known| **known == *string) {
            strings.push(string.into_owned());
        }
    }
    Some(strings)
}

impl Subscriptions {
    fn open(&self) -> MutexGuard<'_, Vec<Arc<Subscription>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Arc<Subscription>> {
        self.open().clone()
    }

    pub fn len(&self) -> usize {
        self.open().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Opens one: from its first message on it misses nothing. `bell` is rung when there is
    /// something to write.
    pub fn begin(
        self: &Arc<Self>,
        opening: Opening,
        desk: &Desk,
        bell: OwnedFd,
        mail: &LazyMailbox,
    ) -> Result<Listening, Refusal> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let busy = |what: &str| Refusal {
            status: 503,
            error: RpcError::new(INVALID_REQUEST, what),
        };
        let resources = subscribe_all(&opening, desk, mail);
        let tasks = watched::watch_all(&opening.tasks, &opening.view, desk);
        let world = desk.hub.world();
        let subscription = Arc::new(Subscription {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            state: Mutex::new(State {
                digests: Digests::default().of(
                    &world,
                    &opening.view,
                    &opening.view.visible(&world),
                ),
                lists_due: [false; 3],
                updates_due: vec![false; resources.len()],
                news: News::default(),
                has_ended: false,
            }),
            id: opening.id,
            view: opening.view,
            lists: opening.lists,
            resources,
            tasks,
            task_key: world.fixed.task_key.clone(),
            bell,
        });
        let listening = Listening {
            subscriptions: self.clone(),
            subscription: subscription.clone(),
        };
        let mut open = self.open();
        // Under the lock: who ends them all sees it, or it sees that all are ended.
        if self.is_closing.load(Ordering::Acquire) {
            drop(open);
            return Err(busy("the gateway is shutting down"));
        }
        if open.len() >= limits::SUBSCRIPTIONS {
            drop(open);
            return Err(busy("too many subscriptions; try again later"));
        }
        open.push(subscription);
        drop(open);
        // A world that was published in between is not announced any more.
        listening
            .subscription
            .look(&desk.hub.world(), &mut Digests::default());
        Ok(listening)
    }

    /// For the router thread: marks the lists that have changed in each one's view.
    pub fn announce(&self, world: &World) {
        let mut known = Digests::default();
        for subscription in self.all() {
            subscription.look(world, &mut known);
        }
    }

    /// For the router thread: takes what there is now for what everybody knows.
    pub fn know(&self, world: &World) {
        let mut known = Digests::default();
        for subscription in self.all() {
            let view = &subscription.view;
            subscription.state().digests = known.of(world, view, &view.visible(world));
        }
    }

    /// For the router thread: a server says that a resource was updated.
    pub fn updated(&self, world: &World, server: usize, uri: &str) {
        for subscription in self.all() {
            subscription.updated(world, server, uri);
        }
    }

    /// For the router thread: a server says that a task changed.
    pub fn task_changed(&self, server: usize, native: &str, text: &Arc<str>) {
        for subscription in self.all() {
            subscription.task_changed(server, native, text);
        }
    }

    /// The gateway ends: no more are opened. Gives those that are open, to be ended one by one.
    pub fn close(&self) -> Vec<Arc<Subscription>> {
        // Under the lock, as where one is opened.
        let open = self.open();
        self.is_closing.store(true, Ordering::Release);
        open.clone()
    }
}

/// An open subscription, until this is dropped.
pub struct Listening {
    subscriptions: Arc<Subscriptions>,
    pub subscription: Arc<Subscription>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let number = self.subscription.number;
        self.subscriptions
            .open()
            .retain(|open| open.number != number);
        for resource in &self.subscription.resources {
            drop_subscription(&resource.server.current(), &resource.uri);
        }
    }
}

impl Subscription {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its client gets the response that ends it.
    pub fn end(&self) {
        self.state().has_ended = true;
        self.ring();
    }

    fn ring(&self) {
        // Fails only when the counter is full, and then the waiter is awake.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// Compares what the client knows with `world`. `known`: digests of views that were looked
    /// at already.
    fn look(&self, world: &World, known: &mut Digests) {
        let now = known.of(world, &self.view, &self.view.visible(world));
        let mut is_due = false;
        {
            let mut state = self.state();
            for (at, digest) in now.into_iter().enumerate() {
                if state.digests[at] != digest && self.lists[at] {
                    let was_due = std::mem::replace(&mut state.lists_due[at], true);
                    list_changed(
                        ANNOUNCED[at],
                        match was_due {
                            true => Change::Suppressed,
                            false => Change::Sent,
                        },
                    );
                    is_due = true;
                }
            }
            state.digests = now;
        }
        if is_due {
            self.ring();
        }
    }

    fn updated(&self, world: &World, server: usize, uri: &str) {
        let is_it = |resource: &Resource| resource.server.id.slot == server && resource.uri == uri;
        let Some(at) = self.resources.iter().position(is_it) else {
            return;
        };
        // It may be closed to this client by now.
        let position = world.fixed.position(server);
        let visible = || self.view.visible(world);
        if !position.is_some_and(|position| visible().has_more_than_tools(position)) {
            return;
        }
        self.state().updates_due[at] = true;
        self.ring();
    }

    fn task_changed(&self, server: usize, native: &str, text: &Arc<str>) {
        if let Some(at) = watched::place_of(&self.tasks, server, native) {
            self.state().news.put(at, text);
            self.ring();
        }
    }

    /// The first message: what of the wishes is granted.
    pub fn acknowledgement(&self) -> String {
        let lists = LISTS.iter().zip(self.lists).filter(|(_, wanted)| *wanted);
        let mut granted: Vec<String> = lists.map(|(key, _)| format!("\"{key}\":true")).collect();
        if !self.resources.is_empty() {
            let uris: Vec<String> = self.resources.iter().map(|r| quoted(&r.uri)).collect();
            granted.push(format!("\"{RESOURCES}\":[{}]", uris.join(",")));
        }
        if !self.tasks.is_empty() {
            let names: Vec<String> = self.tasks.iter().map(|task| quoted(&task.name)).collect();
            granted.push(format!("\"{TASKS}\":[{}]", names.join(",")));
        }
        let granted = format!(",\"notifications\":{{{}}}", granted.join(","));
        self.notification(method::LISTENING, &granted)
    }

    pub fn next(&self) -> Next {
        let mut state = self.state();
        if let Some(at) = state.lists_due.iter().position(|due| *due) {
            state.lists_due[at] = false;
            return Next::Message(self.notification(ANNOUNCED[at].changed(), ""));
        }
        if let Some(at) = state.updates_due.iter().position(|due| *due) {
            state.updates_due[at] = false;
            let uri = format!(",\"uri\":{}", quoted(&self.resources[at].uri));
            return Next::Message(self.notification(method::RESOURCE_UPDATED, &uri));
        }
        while let Some((at, text)) = state.news.take() {
            let task = &self.tasks[at];
            let told = watched::message(task, &text, &self.id, &self.task_key, &self.view);
            if let Some(message) = told.and_then(|bytes| String::from_utf8(bytes).ok()) {
                return Next::Message(message);
            }
        }
        match state.has_ended {
            true => Next::Ended(self.response()),
            false => Next::Wait,
        }
    }

    fn notification(&self, method: &str, more: &str) -> String {
        format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\
             \"params\":{{\"_meta\":{{\"{}\":{}}}{more}}}}}",
            meta::SUBSCRIPTION_ID,
            self.id
        )
    }

    fn response(&self) -> Vec<u8> {
        let result = format!(
            "{{\"resultType\":\"complete\",\
             \"_meta\":{{\"{}\":{},\"{}\":{SERVER_INFO}}}}}",
            meta::SUBSCRIPTION_ID,
            self.id,
            meta::SERVER_INFO
        );
        result_response(&self.id, &result)
    }
}

/// Serves a subscription on its own stream, until the client goes or the gateway ends.
pub fn serve(
    subscriptions: &Arc<Subscriptions>,
    opening: Opening,
    desk: &Desk,
    mail: &LazyMailbox,
    mut output: Output<'_, '_>,
) -> Result<(), Refusal> {
    if !output.takes_notices() {
        let what = "Accept must allow text/event-stream";
        let error = RpcError::new(INVALID_REQUEST, what);
        return Err(Refusal { status: 406, error });
    }
    let (waker, bell) = listen::new_waker().map_err(|error| {
        log::warn!("stream not opened: {error}");
        let error = RpcError::new(INVALID_REQUEST, "no stream can be opened; try again later");
        Refusal { status: 503, error }
    })?;
    let listening = subscriptions.begin(opening, desk, bell, mail)?;
    let subscription = &listening.subscription;
    if !output.event(subscription.acknowledgement().into_bytes()) {
        return Ok(());
    }
    let mut last_write = Instant::now();
    let mut is_rested = false;
    loop {
        // What comes after the end of a token is not for its client.
        let next = match listen::has_ended(subscription.view.whose.as_ref()) {
            true => Next::Ended(subscription.response()),
            false => subscription.next(),
        };
        match next {
            Next::Message(text) => {
                if !output.event(text.into_bytes()) {
                    return Ok(());
                }
                last_write = Instant::now();
                is_rested = false;
                continue;
            }
            Next::Ended(response) => {
                output.respond(200, &[&response]);
                return Ok(());
            }
            Next::Wait if output.is_finishing() => {
                output.respond(200, &[&subscription.response()]);
                return Ok(());
            }
            Next::Wait => {}
        }
        let left = limits::STREAM_KEEP_ALIVE.saturating_sub(last_write.elapsed());
        if left.is_zero() {
            if !output.keep_alive() {
                return Ok(());
            }
            last_write = Instant::now();
            continue;
        }
        if !is_rested {
            sys::rest_heap();
            is_rested = true;
        }
        if !output.sleep(&waker, left) {
            return Ok(());
        }
    }
}

/// Subscribes at the servers that have the resources and let themselves be asked. What nobody
/// has, or nobody tells of, is left out.
fn subscribe_all(opening: &Opening, desk: &Desk, mail: &LazyMailbox) -> Vec<Resource> {
    let mut granted = Vec::new();
    for some in opening.uris.chunks(limits::SUBSCRIBE_AT_ONCE) {
        let deadline = Instant::now() + limits::SUBSCRIBE_WAIT;
        let asked: Vec<Asked> = some
            .iter()
            .filter_map(|uri| ask(uri, &opening.view, desk, mail))
            .collect();
        let mut open: Vec<CallId> = asked.iter().filter_map(|asked| asked.call()).collect();
        let mut agreed = Vec::new();
        while !open.is_empty() {
            let Some(answer) = mail.wait(deadline) else {
                break;
            };
            if let Some(at) = open.iter().position(|call| *call == answer.call) {
                open.swap_remove(at);
                if let Reply::Answer(reply) = answer.reply
                    && !reply.is_error
                {
                    agreed.push(answer.call);
                }
            }
        }
        for Asked { resource, question } in asked {
            let is_granted = match question {
                Question::None => true,
                Question::Call(_, call) if agreed.contains(&call) => true,
                Question::Call(link, call) => {
                    link.cancel(call, "timed out");
                    false
                }
                Question::Listening(link) => {
                    link.listening().wait_for(&resource.uri, deadline) == Watched::Yes
                }
            };
            if is_granted {
                resource.server.confirm_subscription(&resource.uri);
                granted.push(resource);
            } else {
                resource.server.unsubscribe(&resource.uri);
            }
        }
    }
    granted
}

/// A resource that is counted at its server, and the question whether that agrees.
struct Asked {
    resource: Resource,
    question: Question,
}

/// How a server is asked.
enum Question {
    /// It has agreed already.
    None,
    Call(Arc<Link>, CallId),
    /// It is stateless: its owner listens for what is wanted.
    Listening(Arc<Link>),
}

impl Asked {
    fn call(&self) -> Option<CallId> {
        match &self.question {
            Question::Call(_, call) => Some(*call),
            Question::None | Question::Listening(_) => None,
        }
    }
}

fn ask(uri: &str, view: &View, desk: &Desk, mail: &LazyMailbox) -> Option<Asked> {
    let world = desk.hub.world();
    let visible = view.visible(&world);
    let place = Place {
        world: &world,
        view,
        visible: &visible,
    };
    let literal = quoted(uri);
    let key = Named {
        kind: ListKind::Resources,
        value: uri.into(),
        raw: &literal,
    };
    let server = desk.find(&place, &key, &Caller::NOBODY).ok()?.server;
    let link = server.link_for(&Caller::NOBODY).ok()?.link.clone();
    let hello = link.hello()?;
    if !tells_of_updates(&hello.capabilities) {
        return None;
    }
    let is_stateless = hello.era.is_stateless();
    let is_undecided = server.subscribe(uri);
    let resource = Resource {
        uri: uri.to_owned(),
        server,
    };
    if is_stateless || !is_undecided {
        let question = match is_stateless {
            true => Question::Listening(link),
            false => Question::None,
        };
        return Some(Asked { resource, question });
    }
    let params = format!("{{\"uri\":{literal}}}");
    match link.request("resources/subscribe", &params, mail.sender()) {
        Ok(call) => Some(Asked {
            resource,
            question: Question::Call(link, call),
        }),
        Err(error) => {
            let server = resource.server.name();
            log::debug!("not subscribed server={server:?}: {}", error.message);
            resource.server.unsubscribe(uri);
            None
        }
    }
}

fn tells_of_updates(capabilities: &str) -> bool {
    let members = Members::parse(capabilities, 0, FROM_SERVER).ok();
    let resources = members.and_then(|members| members.get("resources"));
    let resources = resources.and_then(|raw| Members::parse(raw, 1, FROM_SERVER).ok());
    resources.is_some_and(|resources| resources.get("subscribe") == Some("true"))
}
