//! A client on a channel, from its first message to the end of the channel. Messages are taken in
//! the order in which they came: what one of them asks for is placed before the next is looked at
//! (unless it has to wait for a server), and is then waited for on a thread of its own.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::front::answer::Waiting;
use crate::front::ask;
use crate::front::channel::{Channel, Voice};
use crate::front::exchange::Exchange;
use crate::front::face::Initialize;
use crate::front::flight::Flight;
use crate::front::operation::Operation;
use crate::front::output::Output;
use crate::front::request::Params;
use crate::front::session::Session;
use crate::front::stateless::{self, Refusal, Stateless};
use crate::front::streamable::{Step, Streamable};
use crate::front::subscription;
use crate::front::traced::Asked;
use crate::front::workers::Workers;
use crate::journal::audit::Reason;
use crate::journal::context::{self, Context};
use crate::journal::metrics::outcome::Outcome;
use crate::mcp::error::{INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR, RpcError, result_response};
use crate::mcp::method;
use crate::model::principal::Principal;
use crate::relay::view::{Filter, Scope, View};
use crate::upstream::call::{LazyMailbox, Mailbox};
use crate::wire::json::elements;
use crate::wire::members::{Members, span_in};
use crate::wire::message::{Envelope, EnvelopeError, FROM_CLIENT, Kind};

thread_local! {
    /// The queue of this `call` thread, made at its first relayed call.
    static MAILBOX: LazyMailbox =
        LazyMailbox::new(|| Mailbox::new(limits::BATCH_MESSAGES));
}

/// What all talks of a gateway have in common.
pub struct Common {
    pub streamable: Arc<Streamable>,
    pub workers: Workers,
}

pub struct Talk {
    common: Arc<Common>,
    pub channel: Arc<Channel>,
    filter: Option<Filter>,
    address: IpAddr,
    /// Who opened the channel: nobody else's messages are taken.
    owner: Option<Arc<Principal>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stage: Stage,
    /// Requests that have no answer yet.
    at_work: usize,
    /// The request that is being placed, by its number.
    placing: Option<u64>,
    last_number: u64,
    /// Once nothing is at work the channel is finished.
    draining: bool,
    closed: bool,
    /// Stateless requests at work.
    flights: Vec<Arc<Flight>>,
}

#[derive(Default)]
enum Stage {
    #[default]
    New,
    /// `initialize` is at work.
    Opening,
    Open(Arc<Session>),
}

/// A message that is none: what to answer, and the id to answer it under.
#[derive(Debug)]
pub struct Unreadable {
    pub error: RpcError,
    pub id: Option<String>,
}

/// What a message that was read asks for.
enum Wish {
    Initialize {
        id: String,
        params: Option<String>,
    },
    /// One message, or an array of messages.
    Request(Request),
    Batch(String),
}

/// A request whose parts are known, on its way to another thread.
struct Request {
    text: String,
    id: Range<usize>,
    method: String,
    params: Option<Range<usize>>,
}

/// Who sent the message that this thread works on.
fn asker() -> Option<Arc<Principal>> {
    context::with(|context| context.who.clone()).flatten()
}

impl Talk {
    /// `filter` narrows what this client sees.
    pub fn new(
        common: Arc<Common>,
        channel: Arc<Channel>,
        filter: Option<Filter>,
        address: IpAddr,
        owner: Option<Arc<Principal>>,
    ) -> Talk {
        Talk {
            common,
            channel,
            filter,
            address,
            owner,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Whether `whose` opened the channel.
    pub fn belongs_to(&self, whose: Option<&Arc<Principal>>) -> bool {
        self.owner.as_deref().map(Principal::key) == whose.map(|whose| whose.key())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next message of the client. Its answer travels on the channel. Returns when the
    /// message after it may be taken.
    pub fn take(self: &Arc<Talk>, text: String) -> Result<(), Unreadable> {
        if text.trim_start().starts_with('[') {
            return self.start(Wish::Batch(text));
        }
        let envelope = Envelope::parse(&text, FROM_CLIENT)?;
        match &envelope.kind {
            Kind::Request { id, method } if method == "ping" && !is_stateless(&envelope) => {
                Operation::begin("ping").ended(Outcome::Success);
                self.channel.send(result_response(id, "{}"));
            }
            Kind::Request { id, method } if method == "initialize" && !is_stateless(&envelope) => {
                let (id, params) = ((*id).to_owned(), envelope.params.map(str::to_owned));
                return self.start(Wish::Initialize { id, params });
            }
            Kind::Request { id, method } => {
                let (id, method) = (span_in(&text, id), method.to_string());
                let params = envelope.params.map(|params| span_in(&text, params));
                let request = Request {
                    id,
                    method,
                    params,
                    text,
                };
                return self.start(Wish::Request(request));
            }
            Kind::Notification { method } => {
                let placed = self.wait_placed();
                if method == method::CANCELLED && self.take_back(envelope.params) {
                    return Ok(());
                }
                if let Some(session) = placed {
                    let streamable = &self.common.streamable;
                    streamable.notification(&session, method, envelope.params);
                }
            }
            Kind::Result { id, .. } | Kind::Error { id: Some(id), .. } => {
                if let Some(session) = self.wait_placed() {
                    ask::answered(&session, envelope.text, id);
                }
            }
            Kind::Error { id: None, .. } => {}
        }
        Ok(())
    }

    /// Waits until what came before is in its place. Gives the session, if there is one.
    fn wait_placed(&self) -> Option<Arc<Session>> {
        self.session(&self.settled())
    }

    fn session(&self, state: &State) -> Option<Arc<Session>> {
        match &state.stage {
            Stage::Open(session) => Some(session.clone()),
            Stage::New | Stage::Opening => None,
        }
    }

    /// The state once no `initialize` is at work, and the last request has been placed or has
    /// had its time for that.
    fn settled(&self) -> MutexGuard<'_, State> {
        self.settled_within(self.common.streamable.desk.hold + limits::START_WAIT)
    }

    fn settled_within(&self, limit: Duration) -> MutexGuard<'_, State> {
        let state = self.wait(self.state(), limit, |state| {
            !matches!(state.stage, Stage::Opening) || state.closed
        });
        self.wait(state, limits::CHANNEL_TURN, |state| {
            state.placing.is_none() || state.closed
        })
    }

    fn wait<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        limit: Duration,
        done: impl Fn(&State) -> bool,
    ) -> MutexGuard<'s, State> {
        let deadline = Instant::now() + limit;
        while !done(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    /// Puts a wish to work, in its turn.
    fn start(self: &Arc<Talk>, wish: Wish) -> Result<(), Unreadable> {
        // A client that asks for more than may be at work is held before it is refused.
        let mut state = self.wait(self.settled(), limits::QUEUE_WAIT, |state| {
            state.at_work < limits::SESSION_CALLS || state.closed
        });
        if state.closed {
            return Ok(());
        }
        if self.channel.is_over() {
            // Under the lock, as where the channel is finished: no answer could be given on it.
            let error = RpcError::new(INVALID_REQUEST, "the gateway is shutting down");
            let id = wish.id().map(str::to_owned);
            return Err(Unreadable { error, id });
        }
        let refusal = match (&wish, &state.stage) {
            _ if state.at_work >= limits::SESSION_CALLS => Some("too many requests in flight"),
            (Wish::Initialize { .. }, Stage::New) => None,
            (Wish::Initialize { .. }, _) => Some("initialize was sent before"),
            // Whether it needs a session is seen when it is read.
            (Wish::Request(_) | Wish::Batch(_), _) => None,
        };
        if let Some(refusal) = refusal {
            drop(state);
            self.refuse(&wish, &RpcError::new(INVALID_REQUEST, refusal));
            return Ok(());
        }
        state.at_work += 1;
        state.last_number += 1;
        let number = state.last_number;
        state.placing = Some(number);
        if matches!(wish, Wish::Initialize { .. }) {
            state.stage = Stage::Opening;
        }
        drop(state);
        let work = Work {
            talk: self.clone(),
            number,
            wish: Some(wish),
            // Of the message's own HTTP request, if it came in one.
            context: context::current().unwrap_or_else(Context::next),
        };
        // If nobody takes it, it is dropped and says so.
        self.common.workers.run(Box::new(move || work.run()));
        Ok(())
    }

    fn refuse(&self, wish: &Wish, error: &RpcError) {
        self.channel.send(error.response(wish.id()));
    }

    /// Ends the talk: calls in flight are cancelled, the session and what servers hold for it is
    /// freed, nothing more is written.
    pub fn close(&self) {
        self.channel.cut();
        let session = {
            let mut state = self.state();
            state.closed = true;
            state.flights.iter().for_each(|flight| flight.end());
            self.session(&state)
        };
        self.changed.notify_all();
        if let Some(session) = session {
            self.end(&session);
        }
    }

    fn end(&self, session: &Session) {
        let streamable = &self.common.streamable;
        let world = streamable.desk.hub.world();
        let sessions = &streamable.sessions;
        sessions.close(&session.id, world.servers(), Reason::Client);
    }

    /// Lets what is at work come to its end; then the channel is finished.
    pub fn drain(&self) {
        let mut state = self.state();
        state.draining = true;
        let endless = state.flights.iter().filter(|flight| flight.is_endless());
        endless.for_each(|flight| flight.finish());
        if state.at_work == 0 {
            self.channel.finish();
        }
    }

    /// The input has ended: no question can be answered any more, so none keeps a call waiting.
    /// Waits for a session that is being opened, at most until `deadline`.
    pub fn end_of_input(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        if let Some(session) = self.session(&self.settled_within(left)) {
            ask::end_of_answers(&session);
        }
    }

    /// Waits until no thread works for this client.
    pub fn wait_idle(&self, limit: Duration) -> bool {
        self.wait(self.state(), limit, |state| state.at_work == 0)
            .at_work
            == 0
    }

    /// The thread `number` has placed its request: the next message may be taken.
    fn placed(&self, number: u64) {
        let mut state = self.state();
        if state.placing == Some(number) {
            state.placing = None;
            self.changed.notify_all();
        }
    }

    fn done(&self, number: u64) {
        self.placed(number);
        let mut state = self.state();
        state.at_work -= 1;
        if state.draining && state.at_work == 0 {
            self.channel.finish();
        }
        self.changed.notify_all();
    }

    fn initialize(&self, id: &str, params: Option<&str>) {
        let operation = Operation::begin("initialize");
        let _working = operation.trace(&Asked::initialize(id, false));
        let opened = self.open(params);
        match &opened {
            Ok(_) => operation.ended(Outcome::Success),
            Err(error) => operation.failed(error),
        }
        let mut state = self.state();
        match opened {
            Ok((session, _)) if state.closed => {
                drop(state);
                self.end(&session);
            }
            Ok((session, result)) => {
                self.channel.greet(result_response(id, &result));
                state.stage = Stage::Open(session);
            }
            Err(error) => {
                self.channel.push(error.response(Some(id)));
                state.stage = Stage::New;
            }
        }
    }

    fn open(&self, params: Option<&str>) -> Result<(Arc<Session>, String), RpcError> {
        let streamable = &self.common.streamable;
        if streamable.desk.is_draining() {
            return Err(RpcError::new(
                INVALID_REQUEST,
                "the gateway is shutting down",
            ));
        }
        let client = Initialize::parse(params)?;
        let channel = Some(self.channel.clone());
        let opened = streamable.open(&client, self.view(), self.address, channel);
        opened.map_err(|(_, error)| error)
    }

    fn view(&self) -> View {
        View {
            scope: Scope::All,
            filters: self.filter.iter().cloned().collect(),
            whose: asker(),
        }
    }

    fn request(&self, request: &Request, number: u64) {
        let envelope = request.envelope();
        let params = Params::read(&envelope);
        if params.as_ref().is_ok_and(stateless::is_meant) {
            return self.stateless(request, &envelope, params, number);
        }
        let Some(session) = self.session(&self.state()) else {
            return self.no_session(Some(request.id()));
        };
        let streamable = &self.common.streamable;
        MAILBOX.with(|mail| {
            let step = {
                let seat =
                    streamable.seat(&session, streamable.view_of(&session, asker().as_ref()));
                streamable.step(&seat, &envelope, params, mail)
            };
            self.placed(number);
            match step {
                Step::Silent => {}
                Step::Done(response) => self.channel.send(response),
                Step::Relayed(call) => {
                    Exchange::on_channel(&session, &self.channel, mail).run(vec![call]);
                }
            }
        });
    }

    fn no_session(&self, id: Option<&str>) {
        let error = RpcError::new(
            INVALID_REQUEST,
            "there is no session; send initialize first",
        );
        self.channel.send(error.response(id));
    }

    /// An array of messages: revisions up to 2025-03-26 only.
    fn batch(&self, text: &str, number: u64) {
        let Some(session) = self.session(&self.state()) else {
            return self.no_session(None);
        };
        let messages = match checked_batch(&session, text) {
            Ok(messages) => messages,
            Err(error) => return self.channel.send(error.response(None)),
        };
        let streamable = &self.common.streamable;
        MAILBOX.with(|mail| {
            let seat = streamable.seat(&session, streamable.view_of(&session, asker().as_ref()));
            let (mut done, mut calls) = (Vec::new(), Vec::new());
            for message in messages {
                match streamable.batched(&seat, message, mail) {
                    Step::Done(response) => done.push(response),
                    Step::Relayed(call) => calls.push(call),
                    Step::Silent => {}
                }
            }
            self.placed(number);
            let mut exchange = Exchange::on_channel(&session, &self.channel, mail);
            exchange.is_batch = true;
            exchange.done = done;
            exchange.run(calls);
        });
    }
}

/// A request that says itself what it needs. No session comes into it.
impl Talk {
    fn stateless(
        &self,
        request: &Request,
        envelope: &Envelope<'_>,
        params: Result<Params<'_>, RpcError>,
        number: u64,
    ) {
        let flight = match Flight::new(request.id(), &request.method) {
            Ok(flight) => Arc::new(flight),
            Err(error) => {
                log::warn!("request refused: {error}");
                let error = RpcError::new(INTERNAL_ERROR, "the gateway has too many files open");
                return self.channel.send(error.response(Some(request.id())));
            }
        };
        {
            let mut state = self.state();
            if state.closed {
                return;
            }
            if state.draining && flight.is_endless() {
                flight.finish();
            }
            state.flights.push(flight.clone());
        }
        let operation = Operation::begin(&request.method);
        operation.says(envelope.params);
        let whose = asker();
        let served = params.map_err(Refusal::from).and_then(|params| {
            let request = stateless::Request {
                envelope,
                id: request.id(),
                method: &request.method,
                params: &params,
                head: None,
                whose: whose.as_deref(),
                operation: &operation,
            };
            self.serve(&request, &flight, number)
        });
        if let Err(refusal) = &served {
            operation.failed(&refusal.error);
        }
        if let (Err(refusal), false) = (served, flight.is_over()) {
            self.channel
                .send(refusal.error.response(Some(request.id())));
        }
        let mut state = self.state();
        state.flights.retain(|other| !Arc::ptr_eq(other, &flight));
    }

    /// An error is what is left to be told.
    fn serve(
        &self,
        request: &stateless::Request<'_>,
        flight: &Flight,
        number: u64,
    ) -> Result<(), Refusal> {
        let Streamable {
            desk,
            subscriptions,
            parking,
            ..
        } = &*self.common.streamable;
        let terms = request.terms()?;
        let view = self.view();
        let face = Stateless {
            desk,
            subscriptions,
            parking,
        };
        MAILBOX.with(|mail| {
            let step = face.decide(request, &terms, &view, mail)?;
            self.placed(number);
            let mut output = Output::Channel(Voice::new(&self.channel), flight);
            match step {
                stateless::Step::Done(result) => {
                    request.operation.ended(Outcome::Success);
                    output.respond(200, &[&result_response(request.id, &result)]);
                }
                stateless::Step::Relayed(relayed) => {
                    Waiting::new(relayed, mail, output, parking).run();
                }
                stateless::Step::Listen(opening) => {
                    subscription::serve(subscriptions, opening, desk, mail, output)?;
                    request.operation.goes_on();
                }
            }
            Ok(())
        })
    }

    /// `notifications/cancelled`. False when no stateless request is meant.
    fn take_back(&self, params: Option<&str>) -> bool {
        let members = params.and_then(|params| Members::parse(params, 1, FROM_CLIENT).ok());
        let Some(id) = members
            .as_ref()
            .and_then(|members| members.get("requestId"))
        else {
            return false;
        };
        let state = self.state();
        let flight = state.flights.iter().find(|flight| flight.has_id(id));
        flight.inspect(|flight| flight.end()).is_some()
    }
}

fn is_stateless(envelope: &Envelope<'_>) -> bool {
    Params::read(envelope).is_ok_and(|params| stateless::is_meant(&params))
}

fn checked_batch<'t>(session: &Session, text: &'t str) -> Result<Vec<&'t str>, RpcError> {
    let messages = elements(text, FROM_CLIENT)
        .ok_or_else(|| RpcError::new(PARSE_ERROR, "the message is not valid JSON"))?;
    if !session.revision.has_batches() {
        let what = "batches exist in revision 2025-03-26 only; send one message";
        return Err(RpcError::new(INVALID_REQUEST, what));
    }
    if messages.is_empty() || messages.len() > limits::BATCH_MESSAGES {
        return Err(RpcError::new(
            INVALID_REQUEST,
            "a batch holds 1 to 64 messages",
        ));
    }
    Ok(messages)
}

/// A wish at work. However it ends, its place is free afterwards; one that was not fulfilled
/// because there is no thread, or because the thread panicked, is answered with an error.
struct Work {
    talk: Arc<Talk>,
    number: u64,
    wish: Option<Wish>,
    context: Context,
}

impl Work {
    fn run(mut self) {
        let _working = context::enter(self.context.clone());
        let talk = &self.talk;
        match &self.wish {
            Some(Wish::Initialize { id, params }) => talk.initialize(id, params.as_deref()),
            Some(Wish::Request(request)) => talk.request(request, self.number),
            Some(Wish::Batch(text)) => talk.batch(text, self.number),
            None => {}
        }
        self.wish = None;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(wish) = self.wish.take() {
            if matches!(wish, Wish::Initialize { .. }) {
                self.talk.state().stage = Stage::New;
            }
            let what = "the gateway has too many calls at work; try again in a moment";
            self.talk
                .refuse(&wish, &RpcError::new(INTERNAL_ERROR, what));
        }
        self.talk.done(self.number);
    }
}

impl Wish {
    fn id(&self) -> Option<&str> {
        match self {
            Wish::Initialize { id, .. } => Some(id),
            Wish::Request(request) => Some(request.id()),
            Wish::Batch(_) => None,
        }
    }
}

impl Request {
    fn id(&self) -> &str {
        &self.text[self.id.clone()]
    }

    fn envelope(&self) -> Envelope<'_> {
        Envelope {
            text: &self.text,
            kind: Kind::Request {
                id: self.id(),
                method: self.method.as_str().into(),
            },
            params: self.params.clone().map(|params| &self.text[params]),
        }
    }
}

impl From<EnvelopeError> for Unreadable {
    fn from(error: EnvelopeError) -> Unreadable {
        let (code, id) = match &error {
            EnvelopeError::NotUtf8 | EnvelopeError::Json(_) => (PARSE_ERROR, None),
            EnvelopeError::Invalid { id, .. } => (INVALID_REQUEST, id.clone()),
        };
        Unreadable {
            error: RpcError::new(code, error.to_string()),
            id,
        }
    }
}
