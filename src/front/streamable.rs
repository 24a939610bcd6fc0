//! Streamable HTTP of the session era (basic/transports of 2025-03-26, 2025-06-18 and
//! 2025-11-25): POST, GET and DELETE on `/mcp` and `/mcp/<server>`. This file reads the request
//! and decides; `exchange` writes answers that come from servers, `listen` the GET stream.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::auth::gate::Gate;
use crate::base::limits;
use crate::front::ask;
use crate::front::channel::{Channel, Form};
use crate::front::desk::{Desk, Place, Target};
use crate::front::exchange::{Accepts, Effect, Exchange, Outstanding, with_type};
use crate::front::face::Initialize;
use crate::front::lacking;
use crate::front::listen;
use crate::front::operation::Operation;
use crate::front::parking::Parking;
use crate::front::post::{has_no_session, is_stateless, names_stateless, not_allowed};
use crate::front::replicas::Replicas;
use crate::front::request::{Named, Params};
use crate::front::rounds::Translation;
use crate::front::session::Session;
use crate::front::session_tasks;
use crate::front::sessions::{Digests, Full, Sessions, drop_subscription, note_too_many};
use crate::front::stateless::is_meant;
use crate::front::subscription::Subscriptions;
use crate::front::told::Around;
use crate::front::traced::Asked;
use crate::http::{Head, Reply, Responder, cors_headers};
use crate::journal::audit::{Event, Reason, Record, rejects};
use crate::journal::metrics::outcome::Outcome;
use crate::mcp::era::Era;
use crate::mcp::error::{
    INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, RpcError, SESSION_NOT_FOUND,
    result_response,
};
use crate::mcp::level::Level;
use crate::mcp::list::ListKind;
use crate::mcp::method::{self, Method};
use crate::mcp::revision::Revision;
use crate::mcp::task::Part;
use crate::model::catalog::Visible;
use crate::model::principal::Principal;
use crate::relay::instructions;
use crate::relay::view::{Scope, View, parse_query};
use crate::relay::world::World;
use crate::upstream::call::{LazyMailbox, Mailbox, Outgoing};
use crate::upstream::caller::{Caller, Lease};
use crate::upstream::listening::Watched;
use crate::upstream::server::Server;
use crate::upstream::tasks::Errand;
use crate::wire::json::{elements, quoted};
use crate::wire::members::{Members, span_in};
use crate::wire::message::{Envelope, EnvelopeError, FROM_CLIENT, Kind};

pub const SESSION_HEADER: &str = "Mcp-Session-Id";
const VERSION_HEADER: &str = "MCP-Protocol-Version";

thread_local! {
    /// The queue of this connection thread, made at its first relayed call.
    pub static MAILBOX: LazyMailbox =
        LazyMailbox::new(|| Mailbox::new(limits::BATCH_MESSAGES));
}

pub struct Streamable {
    pub desk: Desk,
    pub sessions: Arc<Sessions>,
    pub subscriptions: Arc<Subscriptions>,
    /// Calls of stateless clients that are to come back.
    pub parking: Arc<Parking>,
    /// `None`: there is no other gateway that may have what a client names.
    pub replicas: Option<Arc<Replicas>>,
}

/// One HTTP request on an MCP endpoint, with what the head already decided.
pub struct Call<'a> {
    pub head: &'a Head<'a>,
    /// Where it comes from, as far as trusted proxies and replicas tell it.
    pub address: &'a dyn Fn() -> IpAddr,
    pub scope: Scope,
    /// Who asks, where everybody is asked who he is.
    pub whose: Option<&'a Arc<Principal>>,
    /// The address that it comes from, for another replica; none when one has passed it on.
    pub client: Option<IpAddr>,
    /// Says which scopes are missing.
    pub gate: Option<&'a Gate>,
    /// The origin that may read the answer.
    pub cors: Option<&'a str>,
    /// CORS headers of the answer.
    pub headers: Vec<(&'a str, &'a str)>,
}

impl Call<'_> {
    /// The answer to a request that needs another scope, where its client may know that.
    pub fn lacks(
        &self,
        world: &World,
        view: &View,
        visible: &Visible,
        method: &str,
        params: &Params<'_>,
    ) -> Option<Reply> {
        let gate = self.gate?;
        let (wanted, name) = lacking::of_request(world, view, visible, method, params)?;
        if let Some(whose) = &view.whose {
            lacking::note_insufficient(whose, &wanted, &name);
        }
        let reply = gate.insufficient(&wanted, self.head.path);
        Some(match self.cors {
            Some(origin) => cors_headers(origin)
                .into_iter()
                .fold(reply, |reply, (name, value)| reply.with(name, value)),
            None => reply,
        })
    }
}

/// What is done with one message of a client.
pub enum Step {
    /// A complete response.
    Done(Vec<u8>),
    Relayed(Outstanding),
    /// A notification or response: nothing to say.
    Silent,
}

/// One request of a session on its way.
#[derive(Clone, Copy)]
struct Passage<'a> {
    seat: &'a Seat<'a>,
    envelope: &'a Envelope<'a>,
    /// Raw JSON.
    id: &'a str,
    params: &'a Params<'a>,
    mail: &'a Mailbox,
    operation: &'a Operation,
}

/// On whose process a resource is watched: the shared one, as long as sessions do not have their
/// own from their first call on. One that a session has besides is told by `tell_own`.
fn subscriber<'a>(seat: &'a Seat<'_>, server: &Server) -> Caller<'a> {
    match server.config.instances.is_per_session() || server.serves_principals_only() {
        true => seat.caller(),
        false => Caller::NOBODY,
    }
}

/// What a session's own process hears beside the shared one. Nobody waits for its answer.
fn tell_own(server: &Server, session: &str, method: &str, uri: &str) {
    if server.config.instances.is_per_session() {
        return;
    }
    if let Some(own) = server.session_link(session) {
        let params = format!("{{\"uri\":{}}}", quoted(uri));
        if let Err(error) = own.request(method, &params, Mailbox::new(1).sender()) {
            let name = server.name();
            log::debug!("{method} not told server={name:?}: {}", error.message);
        }
    }
}

/// The session, and the view of this one request.
pub struct Seat<'a> {
    pub session: &'a Arc<Session>,
    world: Arc<World>,
    view: Arc<View>,
    visible: Arc<Visible>,
}

impl Seat<'_> {
    fn place(&self) -> Place<'_> {
        Place {
            world: &self.world,
            view: &self.view,
            visible: &self.visible,
        }
    }

    /// Those that are seen.
    pub fn servers(&self) -> impl Iterator<Item = &Arc<Server>> {
        let servers = self.world.visible_servers(&self.visible);
        servers.map(|(_, server)| server)
    }

    fn caller(&self) -> Caller<'_> {
        Caller::Session(&self.session.face)
    }
}

/// Who owns it is in the line of its opening; who tried is in this one.
fn note_hijack(session: &Session) {
    rejects::reject(Record {
        session: &session.id,
        ..Record::denied(Event::SessionHijack, Reason::OtherPrincipal)
    });
}

/// For the audit log.
fn told_around(session: &Session) -> Around<'_> {
    Around {
        session: &session.id,
        revision: session.revision.as_str(),
        transport: match &session.channel {
            None => "http",
            Some(channel) => match channel.form() {
                Form::Event => "sse",
                Form::Line => "stdio",
            },
        },
    }
}

/// Checks the media types of a POST before its body is read.
pub fn refuse_post(head: &Head<'_>) -> Option<Reply> {
    let content_type = head.header("Content-Type").unwrap_or_default();
    let media = content_type.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/json") {
        return Some(rpc_reply(
            415,
            INVALID_REQUEST,
            "Content-Type must be application/json",
        ));
    }
    let accepts = accepts(head);
    if !accepts.json && !accepts.stream {
        let what = "Accept must allow application/json and text/event-stream";
        return Some(rpc_reply(406, INVALID_REQUEST, what));
    }
    None
}

pub fn refuse_get(head: &Head<'_>) -> Option<Reply> {
    (!accepts(head).stream)
        .then(|| rpc_reply(406, INVALID_REQUEST, "Accept must allow text/event-stream"))
}

pub fn accepts(head: &Head<'_>) -> Accepts {
    let mut accepts = Accepts {
        json: false,
        stream: false,
    };
    let mut any = false;
    for value in head.header_values("Accept") {
        // What nearly every client says, word for word.
        if value == "application/json, text/event-stream" {
            return Accepts {
                json: true,
                stream: true,
            };
        }
        for range in value.split(',') {
            any = true;
            let media = range.split(';').next().unwrap_or_default().trim();
            if range.split(';').skip(1).any(is_zero_quality) {
                continue;
            }
            let is = |text: &str| media.eq_ignore_ascii_case(text);
            accepts.json |= is("application/json") || is("application/*") || is("*/*");
            accepts.stream |= is("text/event-stream") || is("text/*") || is("*/*");
        }
    }
    if any {
        accepts
    } else {
        Accepts {
            json: true,
            stream: true,
        }
    }
}

/// `q=0` in any spelling: the client does not want this type (RFC 9110 12.4.2).
fn is_zero_quality(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else {
        return false;
    };
    name.trim().eq_ignore_ascii_case("q") && value.trim().parse() == Ok(0.0)
}

/// A header that decides something must not have two values: a proxy may read the other one.
fn single<'h>(head: &Head<'h>, name: &str) -> Result<Option<&'h str>, (u16, RpcError)> {
    let mut values = head.header_values(name);
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => {
            let message = format!("header {name} is given twice");
            Err((400, RpcError::new(INVALID_REQUEST, message)))
        }
    }
}

/// A JSON-RPC error as a whole HTTP answer, when no request id is known.
pub fn rpc_reply(status: u16, code: i32, message: &str) -> Reply {
    Reply::json(status, RpcError::new(code, message).response(None))
}

impl Streamable {
    pub fn post(&self, call: &Call<'_>, body: &[u8], out: &mut Responder<'_>) {
        let Ok(text) = std::str::from_utf8(body) else {
            return self.refuse(
                call,
                400,
                &RpcError::new(PARSE_ERROR, "the body is not UTF-8"),
                None,
                out,
            );
        };
        if text.trim_start().starts_with('[') {
            return self.batch(call, text, out);
        }
        let envelope = match Envelope::parse(text, FROM_CLIENT) {
            Ok(envelope) => envelope,
            Err(error) => return self.unreadable(call, &error, out),
        };
        let params = Params::read(&envelope);
        if is_stateless(call.head, &params) {
            return self.stateless(call, &envelope, params, out);
        }
        if let Kind::Request { id, method } = &envelope.kind
            && method == "initialize"
        {
            return self.initialize(call, id, envelope.params, out);
        }
        let id = match &envelope.kind {
            Kind::Request { id, .. } => Some(*id),
            _ => None,
        };
        let (session, view) = match self.enter(call) {
            Ok(entered) => entered,
            Err((status, error)) => {
                if let Kind::Request { method, .. } = &envelope.kind {
                    Operation::begin(method).failed(&error);
                }
                return self.refuse(call, status, &error, id, out);
            }
        };
        let seat = self.seat(&session, view);
        if let (Ok(params), Kind::Request { method, .. }) = (&params, &envelope.kind)
            && let Some(reply) = call.lacks(&seat.world, &seat.view, &seat.visible, method, params)
        {
            return out.reply(&reply);
        }
        MAILBOX.with(|mail| match self.step(&seat, &envelope, params, mail) {
            Step::Silent => out.send(202, &call.headers, &[]),
            Step::Done(response) => {
                self.send(call, accepts(call.head), &session, response, out);
            }
            Step::Relayed(outstanding) => {
                let accepts = accepts(call.head);
                let headers = &call.headers;
                let mut exchange = Exchange::new(&session, out, headers, accepts, mail);
                exchange.whose = call.whose;
                exchange.run(vec![outstanding]);
            }
        });
        session.touch();
    }

    /// A finished response, in the form that the client takes.
    fn send(
        &self,
        call: &Call<'_>,
        accepts: Accepts,
        session: &Arc<Session>,
        response: Vec<u8>,
        out: &mut Responder<'_>,
    ) {
        if accepts.json {
            return out.send(
                200,
                &with_type(&call.headers, "application/json"),
                &[&response],
            );
        }
        MAILBOX.with(|mail| {
            let mut exchange = Exchange::new(session, out, &call.headers, accepts, mail);
            exchange.done.push(response);
            exchange.run(Vec::new());
        });
    }

    fn unreadable(&self, call: &Call<'_>, error: &EnvelopeError, out: &mut Responder<'_>) {
        let (code, id) = match error {
            EnvelopeError::NotUtf8 | EnvelopeError::Json(_) => (PARSE_ERROR, None),
            EnvelopeError::Invalid { id, .. } => (INVALID_REQUEST, id.as_deref()),
        };
        self.refuse(call, 400, &RpcError::new(code, error.to_string()), id, out);
    }

    fn refuse(
        &self,
        call: &Call<'_>,
        status: u16,
        error: &RpcError,
        id: Option<&str>,
        out: &mut Responder<'_>,
    ) {
        let mut headers = with_type(&call.headers, "application/json");
        if [429, 503].contains(&status) {
            headers.push(("Retry-After", "1"));
        }
        out.send(status, &headers, &[&error.response(id)]);
    }

    /// Finds the session of a request and checks what its head says.
    fn enter(&self, call: &Call<'_>) -> Result<(Arc<Session>, Arc<View>), (u16, RpcError)> {
        if let Some(version) = single(call.head, VERSION_HEADER)?
            && Revision::parse(version).is_none()
        {
            let known: Vec<&str> = Revision::ALL.iter().map(|known| known.as_str()).collect();
            let known = known.join(", ");
            let message = format!("unsupported protocol version {version:?}; known: {known}");
            return Err((400, RpcError::new(INVALID_REQUEST, message)));
        }
        let Some(id) = single(call.head, SESSION_HEADER)? else {
            let message = "header Mcp-Session-Id is missing; send initialize first";
            return Err((400, RpcError::new(INVALID_REQUEST, message)));
        };
        let session = self.sessions.get(id).filter(|session| {
            let is_theirs = session.belongs_to(call.whose);
            if !is_theirs {
                note_hijack(session);
            }
            is_theirs && session.channel.is_none() && session.view().scope == call.scope
        });
        let Some(session) = session else {
            let message = "session not found; send initialize to open a new one";
            return Err((404, RpcError::new(SESSION_NOT_FOUND, message)));
        };
        session.touch();
        let world = self.desk.hub.world();
        let narrowing = parse_query(call.head.query, &world)
            .map_err(|bad| (400, RpcError::new(INVALID_PARAMS, bad.0)))?;
        let view = self.view_of(&session, call.whose);
        Ok((session, view.narrowed(narrowing)))
    }

    /// What a session shows to a request with this token. Its client is told when that changes.
    pub fn view_of(&self, session: &Arc<Session>, whose: Option<&Arc<Principal>>) -> Arc<View> {
        let (view, has_changed) = session.open_to(whose);
        if has_changed {
            self.sessions.announce_to(session, &self.desk.hub.world());
        }
        view
    }

    pub fn seat<'a>(&self, session: &'a Arc<Session>, view: Arc<View>) -> Seat<'a> {
        let world = self.desk.hub.world();
        let visible = session.visible_in(&world, &view);
        Seat {
            session,
            world,
            view,
            visible,
        }
    }

    fn initialize(&self, call: &Call<'_>, id: &str, params: Option<&str>, out: &mut Responder<'_>) {
        let operation = Operation::begin("initialize");
        let _working = operation.trace(&Asked::initialize(id, true));
        let (session, result) = match self.opened(call, params) {
            Ok(opened) => opened,
            Err((status, error)) => {
                operation.failed(&error);
                return self.refuse(call, status, &error, Some(id), out);
            }
        };
        operation.ended(Outcome::Success);
        let mut headers = with_type(&call.headers, "application/json");
        headers.push((SESSION_HEADER, &session.id));
        let accepts = accepts(call.head);
        if accepts.json {
            return out.send(200, &headers, &[&result_response(id, &result)]);
        }
        let mut headers = call.headers.clone();
        headers.push((SESSION_HEADER, &session.id));
        MAILBOX.with(|mail| {
            let mut exchange = Exchange::new(&session, out, &headers, accepts, mail);
            exchange.done.push(result_response(id, &result));
            exchange.run(Vec::new());
        });
    }

    /// The session that `initialize` asks for, or the status and error that refuse it.
    fn opened(
        &self,
        call: &Call<'_>,
        params: Option<&str>,
    ) -> Result<(Arc<Session>, String), (u16, RpcError)> {
        if self.desk.is_draining() {
            let error = RpcError::new(INVALID_REQUEST, "the gateway is shutting down");
            return Err((503, error));
        }
        let client = Initialize::parse(params).map_err(|error| (200, error))?;
        let view = self.view(call).map_err(|bad| (bad.status, bad.error))?;
        self.open(&client, view, (call.address)(), None)
    }

    /// Opens a session once clients are let in. Gives the result of `initialize` with it, or the
    /// status and error that refuse it.
    pub fn open(
        &self,
        client: &Initialize,
        view: View,
        address: IpAddr,
        channel: Option<Arc<Channel>>,
    ) -> Result<(Arc<Session>, String), (u16, RpcError)> {
        self.desk.wait_settled();
        if self.desk.is_draining() {
            let what = "the gateway is shutting down";
            return Err((503, RpcError::new(INVALID_REQUEST, what)));
        }
        let key = &self.desk.hub.world().fixed.task_key;
        let opened = self.sessions.open(client, view, address, channel, key);
        let session = opened.map_err(|full| {
            let (status, what) = match full {
                Full::All => (503, "too many sessions; try again later"),
                Full::Principal => (429, "too many sessions of this client; end one first"),
                Full::Address => (503, "too many sessions from this address; end one first"),
            };
            if full == Full::Principal {
                note_too_many(address);
            }
            (status, RpcError::new(INVALID_REQUEST, what))
        })?;
        let world = self.desk.hub.world();
        let visible = session.visible(&world);
        session.update_digests(Digests::default().of(&world, &session.view(), &visible));
        let instructions = instructions::merged(&world, &session.view(), &visible);
        let tells = world.fixed.settings.enable_client_notifications;
        Ok((session, initialize_result(client, instructions, tells)))
    }

    /// An array of messages: revisions up to 2025-03-26 only.
    fn batch(&self, call: &Call<'_>, text: &str, out: &mut Responder<'_>) {
        let bad = |what: &str| RpcError::new(INVALID_REQUEST, what.to_owned());
        let Some(messages) = elements(text, FROM_CLIENT) else {
            let error = RpcError::new(PARSE_ERROR, "the body is not valid JSON");
            return self.refuse(call, 400, &error, None, out);
        };
        if names_stateless(call.head) {
            let error = bad("the stateless revision has no batches; send one message");
            return self.refuse(call, 400, &error, None, out);
        }
        let (session, view) = match self.enter(call) {
            Ok(entered) => entered,
            Err((status, error)) => return self.refuse(call, status, &error, None, out),
        };
        if !session.revision.has_batches() {
            let error = bad("batches exist in revision 2025-03-26 only; send one message");
            return self.refuse(call, 400, &error, None, out);
        }
        if messages.is_empty() || messages.len() > limits::BATCH_MESSAGES {
            let error = bad("a batch holds 1 to 64 messages");
            return self.refuse(call, 400, &error, None, out);
        }
        let seat = self.seat(&session, view);
        MAILBOX.with(|mail| {
            let (mut done, mut calls) = (Vec::new(), Vec::new());
            for message in messages {
                match self.batched(&seat, message, mail) {
                    Step::Done(response) => done.push(response),
                    Step::Relayed(outstanding) => calls.push(outstanding),
                    Step::Silent => {}
                }
            }
            if done.is_empty() && calls.is_empty() {
                return out.send(202, &call.headers, &[]);
            }
            let accepts = accepts(call.head);
            let mut exchange = Exchange::new(&session, out, &call.headers, accepts, mail);
            exchange.is_batch = true;
            exchange.whose = call.whose;
            exchange.done = done;
            exchange.run(calls);
        });
        session.touch();
    }

    pub fn batched(&self, seat: &Seat<'_>, message: &str, mail: &Mailbox) -> Step {
        match Envelope::parse(message, FROM_CLIENT) {
            Ok(envelope) => {
                let params = match Params::read(&envelope) {
                    Ok(params) if is_meant(&params) => Err(RpcError::new(
                        INVALID_REQUEST,
                        "a stateless request cannot be part of a batch",
                    )),
                    other => other,
                };
                self.step(seat, &envelope, params, mail)
            }
            Err(error) => {
                let id = match &error {
                    EnvelopeError::Invalid { id, .. } => id.clone(),
                    _ => None,
                };
                let rpc = RpcError::new(INVALID_REQUEST, error.to_string());
                Step::Done(rpc.response(id.as_deref()))
            }
        }
    }

    /// What one message comes to.
    pub fn step(
        &self,
        seat: &Seat<'_>,
        envelope: &Envelope<'_>,
        params: Result<Params<'_>, RpcError>,
        mail: &Mailbox,
    ) -> Step {
        match &envelope.kind {
            Kind::Notification { method } => {
                self.notification(seat.session, method, envelope.params);
                Step::Silent
            }
            Kind::Result { id, .. } | Kind::Error { id: Some(id), .. } => {
                ask::answered(seat.session, envelope.text, id);
                Step::Silent
            }
            Kind::Error { id: None, .. } => Step::Silent,
            Kind::Request { id, method } => {
                let operation = Operation::begin(method);
                let _working = operation.trace(&Asked {
                    method,
                    id,
                    revision: seat.session.revision.as_str(),
                    is_http: seat.session.channel.is_none(),
                    params: params.as_ref().ok(),
                });
                operation.says(envelope.params);
                let outcome = params.and_then(|params| {
                    operation.asks(&params, told_around(seat.session));
                    let passage = Passage {
                        seat,
                        envelope,
                        id,
                        params: &params,
                        mail,
                        operation: &operation,
                    };
                    self.request(&passage, method)
                });
                match outcome {
                    Ok(Step::Relayed(mut call)) => {
                        call.operation = Some(operation);
                        Step::Relayed(call)
                    }
                    Ok(step) => {
                        operation.ended(Outcome::Success);
                        step
                    }
                    Err(error) => {
                        operation.failed(&error);
                        Step::Done(error.response(Some(id)))
                    }
                }
            }
        }
    }

    pub fn notification(&self, session: &Arc<Session>, method: &str, params: Option<&str>) {
        let members = params.and_then(|params| Members::parse(params, 1, FROM_CLIENT).ok());
        match method {
            // Nothing of ours waits for it; servers get theirs in their own handshake.
            method::INITIALIZED => {}
            method::CANCELLED => {
                let Some(members) = members else { return };
                let Some(id) = members.get("requestId") else {
                    return;
                };
                let reason = members.string("reason").unwrap_or_default();
                session.cancel(id, &reason);
            }
            method::PROGRESS => {
                if let Some(params) = params {
                    ask::progressed(session, params);
                }
            }
            method::ROOTS_CHANGED => {
                for server in self.desk.hub.world().servers() {
                    let link = server.session_link(&session.id);
                    if let Some(link) = link.filter(|link| !link.is_stateless()) {
                        link.notify(method::ROOTS_CHANGED, "{}");
                    }
                }
            }
            _ => log::debug!("notification of a client ignored method={method:?}"),
        }
    }

    fn request(&self, passage: &Passage<'_>, method: &str) -> Result<Step, RpcError> {
        let Passage {
            seat,
            envelope,
            id,
            params,
            mail,
            ..
        } = *passage;
        let Some(method) = Method::parse(method) else {
            return Err(RpcError::new(
                METHOD_NOT_FOUND,
                format!("method not found: {method}"),
            ));
        };
        let relay = |key: Named<'_>| self.relay(passage, method, key);
        match method {
            Method::Initialize => Err(RpcError::new(
                INVALID_REQUEST,
                "initialize cannot be part of a batch",
            )),
            Method::Ping => Ok(Step::Done(result_response(id, "{}"))),
            Method::ToolsList => self.list(seat, id, params, ListKind::Tools),
            Method::PromptsList => self.list(seat, id, params, ListKind::Prompts),
            Method::ResourcesList => self.list(seat, id, params, ListKind::Resources),
            Method::ResourcesTemplatesList => self.list(seat, id, params, ListKind::Templates),
            Method::ToolsCall => relay(Named::key(params, "name", ListKind::Tools)?),
            Method::PromptsGet => relay(Named::key(params, "name", ListKind::Prompts)?),
            Method::ResourcesRead => relay(Named::key(params, "uri", ListKind::Resources)?),
            Method::Complete => relay(Named::reference(params)?),
            Method::ResourcesSubscribe => self.subscribe(passage),
            Method::ResourcesUnsubscribe => self.unsubscribe(passage),
            Method::SetLevel => self.set_level(seat, id, params),
            Method::TasksGet
            | Method::TasksResult
            | Method::TasksCancel
            | Method::TasksList
            | Method::TasksUpdate => self.task(seat, envelope, id, params, method, mail),
        }
    }

    fn list(
        &self,
        seat: &Seat<'_>,
        id: &str,
        params: &Params<'_>,
        kind: ListKind,
    ) -> Result<Step, RpcError> {
        let era = Era::Session(seat.session.revision);
        let page = self.desk.list(&seat.place(), params, era, kind)?;
        Ok(Step::Done(result_response(id, &page)))
    }

    /// Sends a request on to the server it belongs to.
    fn relay(
        &self,
        passage: &Passage<'_>,
        method: Method,
        key: Named<'_>,
    ) -> Result<Step, RpcError> {
        let caller = passage.seat.caller();
        let target = self.desk.find(&passage.seat.place(), &key, &caller)?;
        let target = target.measured(method, &key.value, passage.operation);
        self.relay_to(passage, target, key.raw, &caller)
    }

    /// The same to a server that is known. `target`: the server, and its own name for what
    /// stands at `raw`.
    fn relay_to(
        &self,
        passage: &Passage<'_>,
        target: Target,
        raw: &str,
        caller: &Caller<'_>,
    ) -> Result<Step, RpcError> {
        let Passage {
            seat,
            envelope,
            id,
            params,
            mail,
            ..
        } = *passage;
        let Target {
            server,
            native,
            meter,
        } = target;
        self.desk.check_open(&server)?;
        let lease = server.link_for(caller)?;
        let link = &lease.link;
        let mut outgoing = Outgoing {
            text: envelope.text,
            id: span_in(envelope.text, id),
            edits: native
                .map(|name| (span_in(envelope.text, raw), quoted(&name)))
                .into_iter()
                .collect(),
            progress_token: params
                .progress_token()
                .map(|raw| span_in(envelope.text, raw)),
            meter,
        };
        let request = (envelope, params);
        let mut errand = Errand::None;
        let translation = match link.is_stateless() {
            true => Translation::begin(seat.session, &server, &mut outgoing, request)?,
            false => {
                errand = session_tasks::errand(seat.session, request);
                let unwished = session_tasks::without_wish(seat.session, request);
                outgoing.edits.extend(unwished);
                match errand {
                    Errand::None => Translation::within_sessions(seat.session),
                    _ => Translation::Task(Part::Created),
                }
            }
        };
        let mut outstanding = self.dispatch(seat, id, &outgoing, (&server, lease, errand), mail)?;
        outstanding.translation = translation;
        Ok(Step::Relayed(outstanding))
    }

    /// Sends a request to a process that is known.
    pub fn dispatch(
        &self,
        seat: &Seat<'_>,
        id: &str,
        outgoing: &Outgoing<'_>,
        (server, lease, errand): (&Server, Lease, Errand),
        mail: &Mailbox,
    ) -> Result<Outstanding, RpcError> {
        let link = &lease.link;
        let call = link.call_for(outgoing, seat.session.number, errand, mail.sender())?;
        if !seat.session.begin(id, call, link, mail.sender()) {
            link.cancel(call, "the session cannot take it");
            let message = "the session has too many requests in flight, or has ended";
            return Err(RpcError::new(INVALID_REQUEST, message));
        }
        Ok(Outstanding::new(
            call,
            id,
            lease,
            server.config.request_timeout,
        ))
    }

    fn set_level(&self, seat: &Seat<'_>, id: &str, params: &Params<'_>) -> Result<Step, RpcError> {
        let level = params
            .string("level")
            .and_then(|level| Level::parse(&level));
        let Some(level) = level else {
            let message = "\"level\" must be debug, info, notice, warning, error, critical, \
                           alert or emergency";
            return Err(RpcError::new(INVALID_PARAMS, message));
        };
        seat.session.set_level(level);
        // A shared process speaks as much as its most curious session wants to hear.
        let lowest = self.sessions.lowest_level().unwrap_or(level);
        for server in seat.servers() {
            server.set_level(lowest);
            if let Some(link) = server.session_link(&seat.session.id) {
                crate::upstream::server::send_level(&link, level);
            }
        }
        Ok(Step::Done(result_response(id, "{}")))
    }

    /// The first session that wants a resource subscribes at its server; once that has agreed,
    /// the others are counted.
    fn subscribe(&self, passage: &Passage<'_>) -> Result<Step, RpcError> {
        let Passage {
            seat, id, params, ..
        } = *passage;
        let key = Named::key(params, "uri", ListKind::Resources)?;
        let server = self.desk.find(&seat.place(), &key, &seat.caller())?.server;
        let uri = key.value.to_string();
        if seat.session.is_subscribed(&uri, server.id.slot) {
            return Ok(Step::Done(result_response(id, "{}")));
        }
        if !seat.session.has_room_for_subscription() {
            let message = "the session has too many subscriptions";
            return Err(RpcError::new(INVALID_REQUEST, message));
        }
        // The URI may have moved to another server since this session subscribed to it.
        if let Some(old) = seat.session.remove_subscription(&uri)
            && let Some(old) = seat.world.server_in(old)
        {
            drop_subscription(old, &uri);
        }
        if server.is_stateless() {
            return self.watch(seat, id, &server, &uri);
        }
        let undecided = server.subscribe(&uri);
        if !undecided && !server.config.instances.is_per_session() {
            tell_own(&server, &seat.session.id, "resources/subscribe", &uri);
            if !seat.session.add_subscription(&uri, server.id.slot) {
                drop_subscription(&server, &uri);
            }
            return Ok(Step::Done(result_response(id, "{}")));
        }
        let target = Target {
            server: server.clone(),
            native: None,
            meter: server.meter(Method::ResourcesSubscribe),
        };
        match self.relay_to(passage, target, key.raw, &subscriber(seat, &server)) {
            Ok(Step::Relayed(mut call)) => {
                tell_own(&server, &seat.session.id, "resources/subscribe", &uri);
                call.effect = Effect::Subscribe { server, uri };
                Ok(Step::Relayed(call))
            }
            other => {
                server.unsubscribe(&uri);
                other
            }
        }
    }

    /// The same at a stateless server: the resource becomes a part of what the gateway listens
    /// for. Waits until the server has heard that, because the next call may change it.
    fn watch(
        &self,
        seat: &Seat<'_>,
        id: &str,
        server: &Arc<Server>,
        uri: &str,
    ) -> Result<Step, RpcError> {
        let lease = server.link_for(&seat.caller())?;
        let hello = lease.link.hello();
        if !hello.is_some_and(|hello| hello.declares_that("resources", "subscribe")) {
            let message = "the server does not tell of changes of its resources";
            return Err(RpcError::new(METHOD_NOT_FOUND, message));
        }
        if server.has_all_subscriptions() {
            let message = "the server has too many subscriptions";
            return Err(RpcError::new(INVALID_REQUEST, message));
        }
        server.subscribe(uri);
        if !seat.session.add_subscription(uri, server.id.slot) {
            drop_subscription(server, uri);
            return Ok(Step::Done(result_response(id, "{}")));
        }
        server.wishes_changed(&seat.session.id);
        let deadline = Instant::now() + limits::LISTEN_ACK;
        match lease.link.listening().wait_for(uri, deadline) {
            Watched::Yes => server.confirm_subscription(uri),
            // It hears of it when it can; until then there are no news.
            Watched::NotYet => {}
            Watched::No => {
                seat.session.remove_subscription(uri);
                drop_subscription(server, uri);
                let message = format!("the server does not tell of changes of {uri}");
                return Err(RpcError::new(INVALID_PARAMS, message));
            }
        }
        Ok(Step::Done(result_response(id, "{}")))
    }

    fn unsubscribe(&self, passage: &Passage<'_>) -> Result<Step, RpcError> {
        let Passage {
            seat, id, params, ..
        } = *passage;
        let key = Named::key(params, "uri", ListKind::Resources)?;
        let Some(owner) = seat.session.remove_subscription(&key.value) else {
            // Never subscribed: still an error when there is no such resource to be seen.
            self.desk.find(&seat.place(), &key, &seat.caller())?;
            return Ok(Step::Done(result_response(id, "{}")));
        };
        let Some(server) = seat.world.server_in(owner).cloned() else {
            // It has left the configuration, and the subscription with it.
            return Ok(Step::Done(result_response(id, "{}")));
        };
        let last = server.unsubscribe(&key.value);
        if server.is_stateless() {
            server.wishes_changed(&seat.session.id);
            return Ok(Step::Done(result_response(id, "{}")));
        }
        tell_own(
            &server,
            &seat.session.id,
            "resources/unsubscribe",
            &key.value,
        );
        if last || server.config.instances.is_per_session() {
            let caller = subscriber(seat, &server);
            let target = Target {
                server: server.clone(),
                native: None,
                meter: server.meter(Method::ResourcesUnsubscribe),
            };
            return self.relay_to(passage, target, key.raw, &caller);
        }
        Ok(Step::Done(result_response(id, "{}")))
    }

    pub fn get(&self, call: &Call<'_>, out: &mut Responder<'_>) {
        if has_no_session(call.head) {
            return not_allowed(call, out);
        }
        let session = match self.enter(call) {
            Ok((session, _)) => session,
            Err((status, error)) => return self.refuse(call, status, &error, None, out),
        };
        let last_event = call.head.header("Last-Event-ID");
        // Who resumes may find the answer of a call.
        if last_event.is_none() && self.desk.is_draining() {
            let error = RpcError::new(INVALID_REQUEST, "the gateway is shutting down");
            return self.refuse(call, 503, &error, None, out);
        }
        listen::run(&session, last_event, call.whose, &call.headers, out);
    }

    pub fn delete(&self, call: &Call<'_>, out: &mut Responder<'_>) {
        if has_no_session(call.head) {
            return not_allowed(call, out);
        }
        let session = match self.enter(call) {
            Ok((session, _)) => session,
            Err((status, error)) => return self.refuse(call, status, &error, None, out),
        };
        self.sessions
            .close(&session.id, self.desk.hub.world().servers(), Reason::Client);
        out.send(200, &call.headers, &[]);
    }
}

/// Capabilities are the same whatever servers are up, because a client is told only once.
/// `tells`: whether clients hear that lists changed.
fn initialize_result(client: &Initialize, instructions: Option<String>, tells: bool) -> String {
    let completions = match client.revision.has_completions_capability() {
        true => "\"completions\":{},",
        false => "",
    };
    let tasks = match client.revision.has_tasks() {
        true => ",\"tasks\":{\"cancel\":{},\"list\":{},\"requests\":{\"tools\":{\"call\":{}}}}",
        false => "",
    };
    let instructions = match instructions {
        Some(text) => format!(",\"instructions\":{}", quoted(&text)),
        None => String::new(),
    };
    format!(
        "{{\"protocolVersion\":\"{}\",\"capabilities\":{{{completions}\"logging\":{{}},\
         \"prompts\":{{\"listChanged\":{tells}}},\
         \"resources\":{{\"listChanged\":{tells},\"subscribe\":true}},\
         \"tools\":{{\"listChanged\":{tells}}}{tasks}}},\
         \"serverInfo\":{{\"name\":\"onemcp\",\"version\":\"{}\"}}{instructions}}}",
        client.revision.as_str(),
        env!("CARGO_PKG_VERSION"),
    )
}
