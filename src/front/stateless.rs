//! Requests of the stateless era (2026-07-28): each says in its `_meta` all that it needs, so
//! nothing is kept from one to the next. This file reads, checks and decides, on whatever way a
//! request came; `headers` holds what HTTP adds, `answer` waits for servers and writes.
//! Deliberately absent: sessions. None is found, made or named here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::limits;
use crate::front::answer::{Bound, Relayed, may_ask};
use crate::front::desk::{Desk, Place, Target};
use crate::front::exchange::Outstanding;
use crate::front::headers;
use crate::front::operation::Operation;
use crate::front::parking::{Parking, Return};
use crate::front::request::{Named, Params};
use crate::front::subscription::{Opening, Subscriptions};
use crate::front::tasks;
use crate::front::told::Around;
use crate::front::traced::Asked;
use crate::http::Head;
use crate::mcp::era::{Era, STATELESS};
use crate::mcp::error::{
    INVALID_PARAMS, METHOD_NOT_FOUND, RESOURCE_NOT_FOUND, RpcError, UNSUPPORTED_VERSION,
};
use crate::mcp::level::Level;
use crate::mcp::list::ListKind;
use crate::mcp::meta::{self, TASKS_EXTENSION};
use crate::mcp::method::{self, Method};
use crate::model::hint::CacheHint;
use crate::model::principal::Principal;
use crate::relay::bridge::SERVER_INFO;
use crate::relay::bridge::request::to_session;
use crate::relay::instructions;
use crate::relay::view::View;
use crate::upstream::call::{LazyMailbox, Outgoing};
use crate::upstream::caller::{Caller, StatelessFace};
use crate::upstream::server::Server;
use crate::wire::json::{quoted, string_value};
use crate::wire::members::{Members, MembersError, span_in};
use crate::wire::message::{Envelope, FROM_CLIENT};

/// Where stateless requests are decided.
pub struct Stateless<'a> {
    pub desk: &'a Desk,
    pub subscriptions: &'a Arc<Subscriptions>,
    pub parking: &'a Parking,
}

/// One request, read but not yet judged.
pub struct Request<'a> {
    pub envelope: &'a Envelope<'a>,
    /// Raw JSON.
    pub id: &'a str,
    pub method: &'a str,
    pub params: &'a Params<'a>,
    /// Set for a request that came over HTTP: its headers repeat the body.
    pub head: Option<&'a Head<'a>>,
    /// Who asks, where everybody is asked who he is.
    pub whose: Option<&'a Principal>,
    pub operation: &'a Operation,
}

/// What a request says about itself and its client.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Raw JSON of an object.
    pub capabilities: &'a str,
    /// Without one, the client wants no log messages.
    pub level: Option<Level>,
    /// Who asks, where that is known.
    pub principal: Option<&'a str>,
}

/// Why a request is not carried out. `status` is for HTTP.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub error: RpcError,
}

/// What a request comes to.
#[expect(
    clippy::large_enum_variant,
    reason = "taken apart where it is made; a box would cost each call an allocation"
)]
pub enum Step<'a> {
    /// The raw JSON of a result.
    Done(String),
    Relayed(Relayed<'a>),
    Listen(Opening),
}

impl From<RpcError> for Refusal {
    fn from(error: RpcError) -> Refusal {
        Refusal { status: 200, error }
    }
}

impl Refusal {
    /// What HTTP calls a bad request.
    pub fn malformed(error: RpcError) -> Refusal {
        Refusal { status: 400, error }
    }
}

/// Whether a message is one of this era, whatever its headers say.
pub fn is_meant(params: &Params<'_>) -> bool {
    let meta = params.meta();
    meta.is_some_and(|meta| meta.get(meta::PROTOCOL_VERSION).is_some())
}

impl<'a> Request<'a> {
    /// Checks what every request must say, and that its headers say the same.
    pub fn terms(&self) -> Result<Terms<'a>, Refusal> {
        let bad = |what: String| Refusal::malformed(RpcError::new(INVALID_PARAMS, what));
        let missing = |key: &str, what: &str| bad(format!("_meta: {key:?} must be {what}"));
        let said = self.head.map(headers::version).transpose();
        let said = said.map_err(Refusal::malformed)?;
        let Some(meta) = self.params.meta() else {
            return Err(missing(meta::PROTOCOL_VERSION, "a string"));
        };
        let version = meta
            .string(meta::PROTOCOL_VERSION)
            .ok_or_else(|| missing(meta::PROTOCOL_VERSION, "a string"))?;
        let capabilities = meta
            .get(meta::CLIENT_CAPABILITIES)
            .filter(|raw| raw.starts_with('{'))
            .ok_or_else(|| missing(meta::CLIENT_CAPABILITIES, "an object"))?;
        if let (Some(head), Some(said)) = (self.head, said) {
            if said != version {
                return Err(Refusal::malformed(headers::differs(headers::VERSION)));
            }
            let named = self.named();
            headers::agree(head, self.method, named.as_deref()).map_err(Refusal::malformed)?;
        }
        if version != STATELESS {
            return Err(Refusal::malformed(unsupported(&version)));
        }
        check_capabilities(capabilities)
            .map_err(|error| bad(format!("_meta: {:?}: {error}", meta::CLIENT_CAPABILITIES)))?;
        if meta
            .get(meta::CLIENT_INFO)
            .is_some_and(|raw| !raw.starts_with('{'))
        {
            return Err(missing(meta::CLIENT_INFO, "an object"));
        }
        let level = match meta.get(meta::LOG_LEVEL) {
            None => None,
            Some(_) => {
                let level = meta.string(meta::LOG_LEVEL);
                let level = level.and_then(|level| Level::parse(&level));
                Some(level.ok_or_else(|| missing(meta::LOG_LEVEL, "one of the eight levels"))?)
            }
        };
        Ok(Terms {
            capabilities,
            level,
            principal: self.whose.map(Principal::key),
        })
    }

    /// What the header Mcp-Name repeats.
    fn named(&self) -> Option<std::borrow::Cow<'a, str>> {
        let key = match self.method {
            "tools/call" | "prompts/get" => "name",
            "resources/read" => "uri",
            "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
            _ => return None,
        };
        self.params.string(key)
    }
}

/// As deep as anything is decided by them, no key may stand twice.
fn check_capabilities(raw: &str) -> Result<(), MembersError> {
    if raw == "{}" {
        return Ok(());
    }
    let members = Members::parse(raw, 3, FROM_CLIENT)?;
    let inner = members.iter().map(|(_, raw)| raw);
    for raw in inner.filter(|raw| raw.starts_with('{') && *raw != "{}") {
        Members::parse(raw, 4, FROM_CLIENT)?;
    }
    Ok(())
}

fn unsupported(version: &str) -> RpcError {
    let mut error = RpcError::new(
        UNSUPPORTED_VERSION,
        format!("unsupported protocol version {version:?}; known: {STATELESS}"),
    );
    let requested = quoted(version);
    error.data = Some(format!(
        "{{\"supported\":[\"{STATELESS}\"],\"requested\":{requested}}}"
    ));
    error
}

impl<'a> Stateless<'a> {
    /// What the request comes to. What is sent on answers into `mail`.
    pub fn decide(
        &self,
        request: &Request<'a>,
        terms: &Terms<'a>,
        view: &View,
        mail: &LazyMailbox,
    ) -> Result<Step<'a>, Refusal> {
        let transport = if request.head.is_some() {
            "http"
        } else {
            "stdio"
        };
        let around = Around {
            session: "",
            revision: STATELESS,
            transport,
        };
        request.operation.asks(request.params, around);
        let _working = request.operation.trace(&Asked {
            method: request.method,
            id: request.id,
            revision: STATELESS,
            is_http: request.head.is_some(),
            params: Some(request.params),
        });
        let world = self.desk.hub.world();
        let visible = view.visible(&world);
        let place = Place {
            world: &world,
            view,
            visible: &visible,
        };
        let list = |kind| self.list(&place, request.params, kind);
        let relay = |method, key| self.relay(&place, request, terms, method, key, mail);
        let named = |key, kind| Named::key(request.params, key, kind);
        match request.method {
            method::DISCOVER => return Ok(Step::Done(self.discover(&place))),
            method::LISTEN => {
                let opening = Opening::read(request, view)?;
                if !opening.tasks.is_empty() {
                    tasks::require(terms)?;
                }
                return Ok(Step::Listen(opening));
            }
            _ => {}
        }
        match Method::parse(request.method) {
            Some(Method::ToolsList) => list(ListKind::Tools),
            Some(Method::PromptsList) => list(ListKind::Prompts),
            Some(Method::ResourcesList) => list(ListKind::Resources),
            Some(Method::ResourcesTemplatesList) => list(ListKind::Templates),
            Some(method @ Method::ToolsCall) => relay(method, named("name", ListKind::Tools)?),
            Some(method @ Method::PromptsGet) => relay(method, named("name", ListKind::Prompts)?),
            Some(method @ Method::ResourcesRead) => {
                relay(method, named("uri", ListKind::Resources)?)
            }
            Some(method @ Method::Complete) => relay(method, Named::reference(request.params)?),
            Some(method @ (Method::TasksGet | Method::TasksUpdate | Method::TasksCancel)) => {
                self.task(&place, request, terms, method, mail)
            }
            // Those of the session era do not exist in this one.
            _ => Err(Refusal {
                status: 404,
                error: RpcError::new(
                    METHOD_NOT_FOUND,
                    format!("method not found: {}", request.method),
                ),
            }),
        }
    }

    /// The same whatever servers are up, as in `initialize`.
    fn discover(&self, place: &Place<'_>) -> String {
        self.desk.wait_settled();
        let world = self.desk.hub.world();
        let visible = place.view.visible(&world);
        let instructions = match instructions::merged(&world, place.view, &visible) {
            Some(text) => format!(",\"instructions\":{}", quoted(&text)),
            None => String::new(),
        };
        let tells = world.fixed.settings.enable_client_notifications;
        format!(
            "{{{},\"supportedVersions\":[\"{STATELESS}\"],\
             \"capabilities\":{{\"completions\":{{}},\
             \"extensions\":{{\"{TASKS_EXTENSION}\":{{}}}},\"logging\":{{}},\
             \"prompts\":{{\"listChanged\":{tells}}},\
             \"resources\":{{\"listChanged\":{tells},\"subscribe\":true}},\
             \"tools\":{{\"listChanged\":{tells}}}}}{instructions}}}",
            complete(self.own_hint(place.view)),
        )
    }

    /// What holds for everything that the gateway says itself. Names and filters stand in the URL;
    /// where callers are known, what they see is theirs alone.
    fn own_hint(&self, view: &View) -> CacheHint {
        CacheHint {
            ttl_ms: match self.desk.hub.is_settled() {
                true => limits::LIST_TTL_MS,
                false => 0,
            },
            is_private: view.whose.is_some(),
        }
    }

    fn list(
        &self,
        place: &Place<'_>,
        params: &Params<'_>,
        kind: ListKind,
    ) -> Result<Step<'a>, Refusal> {
        let page = self.desk.list(place, params, Era::Stateless, kind)?;
        // A page begins with its list.
        let rest = page.strip_prefix('{').unwrap_or_default();
        let hint = place
            .world
            .hint(kind, place.visible, self.own_hint(place.view));
        Ok(Step::Done(format!("{{{},{rest}", complete(hint))))
    }

    /// Sends a request on to the server it belongs to.
    fn relay(
        &self,
        place: &Place<'_>,
        request: &Request<'a>,
        terms: &Terms<'a>,
        method: Method,
        key: Named<'a>,
        mail: &LazyMailbox,
    ) -> Result<Step<'a>, Refusal> {
        let caller = caller_of(terms, method);
        let found = self.desk.find(place, &key, &caller);
        let found = found.map_err(renumbered)?;
        let Target {
            server,
            native,
            meter,
        } = found.measured(method, &key.value, request.operation);
        self.desk.check_open(&server)?;
        if let (Method::ToolsCall, Some(head)) = (method, request.head) {
            let tool = native.as_deref().unwrap_or(&key.value);
            self.check_mirrors(head, &server, tool, request.params)?;
        }
        let bound = Bound {
            view: place.view.key(),
            method: request.method,
            params: request.envelope.params,
            progress_token: request.params.progress_token(),
        };
        let task_key = place.world.fixed.task_key.clone();
        let relayed = |mut call: Outstanding, from_stateless, about, back| {
            call.operation = Some(request.operation.hand_over());
            Step::Relayed(Relayed {
                call,
                from_stateless,
                method,
                about,
                terms: *terms,
                bound,
                task_key,
                back,
            })
        };
        if let Some(back) = self.returned(&server, request, &bound)? {
            let call = back.call.resumed(request.id);
            let kept = Some(Box::new(back.kept));
            return Ok(relayed(call, false, key.value, kept));
        }
        let lease = server.link_for(&caller)?;
        let text = request.envelope.text;
        let is_stateless = lease.link.is_stateless();
        let mut edits = match is_stateless {
            true => Vec::new(),
            false => to_session(text, request.params.members(), request.params.meta())?,
        };
        edits.extend(native.map(|name| (span_in(text, key.raw), quoted(&name))));
        let outgoing = Outgoing {
            text,
            id: span_in(text, request.id),
            edits,
            progress_token: bound.progress_token.map(|raw| span_in(text, raw)),
            meter,
        };
        if let (false, Some(level)) = (is_stateless, terms.level) {
            lower_level(&server, level);
        }
        let call = lease.link.call(&outgoing, next_caller(), mail.sender())?;
        let timeout = server.config.request_timeout;
        let call = Outstanding::new(call, request.id, lease, timeout);
        Ok(relayed(call, is_stateless, key.value, None))
    }

    /// The parked call that the client comes back to. A state of a server that is stateless itself
    /// is that server's own.
    fn returned(
        &self,
        server: &Server,
        request: &Request<'_>,
        bound: &Bound<'_>,
    ) -> Result<Option<Return>, RpcError> {
        let Some(raw) = request.params.get("requestState") else {
            return Ok(None);
        };
        if server.is_stateless() {
            return Ok(None);
        }
        let not_a_string = || RpcError::new(INVALID_PARAMS, "\"requestState\" must be a string");
        let state = string_value(raw).ok_or_else(not_a_string)?;
        let responses = request.params.get("inputResponses");
        let bound = bound.digest(request.whose.map(Principal::key).unwrap_or_default());
        let back = self.parking.take(&bound, &state, responses)?;
        Ok(Some(back))
    }

    /// Compares the headers of arguments with the arguments.
    fn check_mirrors(
        &self,
        head: &Head<'_>,
        server: &Server,
        tool: &str,
        params: &Params<'_>,
    ) -> Result<(), Refusal> {
        let world = self.desk.hub.world();
        if !world.catalog.has_mirrors {
            return Ok(());
        }
        let position = world.fixed.position(server.id.slot);
        let entry = position.and_then(|at| world.catalog.by_native(ListKind::Tools, at, tool));
        let Some(mirrors) = entry.and_then(|entry| entry.item.mirrors.as_deref()) else {
            return Ok(());
        };
        headers::mirrored(head, mirrors, params.get("arguments")).map_err(Refusal::malformed)
    }
}

/// This era has no number of its own for a resource that is not found.
fn renumbered(mut error: RpcError) -> RpcError {
    if error.code == RESOURCE_NOT_FOUND {
        error.code = INVALID_PARAMS;
    }
    error
}

/// A request that cannot ask needs no process where nothing else happens.
fn caller_of<'a>(terms: &Terms<'a>, method: Method) -> Caller<'a> {
    match may_ask(method) {
        true => Caller::Stateless(StatelessFace {
            principal: terms.principal,
            capabilities: terms.capabilities,
        }),
        false => Caller::Stateless(StatelessFace {
            principal: terms.principal,
            capabilities: "{}",
        }),
    }
}

/// Members that every complete result of our own has.
fn complete(hint: CacheHint) -> String {
    format!(
        "\"resultType\":\"complete\",{},\"_meta\":{{\"{}\":{SERVER_INFO}}}",
        hint.members(),
        meta::SERVER_INFO,
    )
}

/// A server with sessions has one level for everybody: it says as much as the most curious
/// request wants to hear, and each request gets its part of that.
fn lower_level(server: &Server, level: Level) {
    if server.level().is_none_or(|told| level < told) {
        server.set_level(level);
    }
}

/// A number that no session and no other request has: what a server asks or says is given to
/// calls by it.
pub fn next_caller() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 63);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
