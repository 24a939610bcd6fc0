//! Tasks of stateless clients (the extension of 2026-07-28): requests about a task go to the
//! server that has it, and everything that a client is told of one carries the id that says so
//! (`model::task_id`). Nothing is kept here.
//!
//! The extension is offered always, as all capabilities are, because a client is not told again
//! when a server that has tasks comes up: a server only makes one for a client that declares it,
//! so a gateway without such servers never shows one.

use std::sync::Arc;

use crate::front::answer::{Bound, Relayed, missing_capability};
use crate::front::desk::Place;
use crate::front::exchange::Outstanding;
use crate::front::request::Named;
use crate::front::stateless::{Refusal, Request, Stateless, Step, Terms, next_caller};
use crate::mcp::error::{INVALID_PARAMS, Reason, RpcError};
use crate::mcp::list::ListKind;
use crate::mcp::method::Method;
use crate::mcp::task::{Part, has_extension};
use crate::model::principal::Principal;
use crate::model::task_id::{Holder, TaskId, TaskKey};
use crate::relay::bridge::Edits;
use crate::relay::bridge::error::unknown_result;
use crate::relay::bridge::result::ResultType;
use crate::relay::bridge::task;
use crate::relay::view::View;
use crate::relay::world::World;
use crate::upstream::call::{Mailbox, Outgoing};
use crate::upstream::caller::{Caller, StatelessFace};
use crate::upstream::server::Server;
use crate::wire::json::quoted;
use crate::wire::members::{Members, span_in};

/// The capabilities without which nothing about tasks is answered.
const REQUIRED: &str = "{\"extensions\":{\"io.modelcontextprotocol/tasks\":{}}}";

pub fn require(terms: &Terms<'_>) -> Result<(), Refusal> {
    match has_extension(terms.capabilities) {
        true => Ok(()),
        false => Err(Refusal::malformed(missing_capability(REQUIRED))),
    }
}

/// A task that nobody has, or that is not this client's: the same to it.
pub fn unknown() -> RpcError {
    RpcError::new(INVALID_PARAMS, "unknown task")
}

/// Whose the ids of a stateless client's tasks are: its principal's, or anybody's who sees the
/// same.
pub fn holder(principal: Option<&str>, view: u64) -> Holder<'_> {
    let principal = principal.unwrap_or_default();
    Holder::Stateless { principal, view }
}

/// The task of an id that a stateless client sent, and the server that has it.
pub fn locate(world: &World, view: &View, ours: &str) -> Option<(Arc<Server>, TaskId)> {
    let principal = view.whose.as_deref().map(Principal::key);
    let id = TaskId::open(ours, &world.fixed.task_key, holder(principal, view.key()))?;
    let visible = view.visible(world);
    let mut servers = world.visible_servers(&visible);
    let (_, server) = servers.find(|(_, server)| server.name() == id.server)?;
    Some((server.clone(), id))
}

/// A task of a server under the name that its client knows.
pub fn named(key: &TaskKey, holder: Holder<'_>, server: &str, native: &str) -> Option<String> {
    let id = TaskId {
        server: server.to_owned(),
        process: 0,
        native: native.to_owned(),
    };
    id.seal(key, holder)
}

impl<'a> Stateless<'a> {
    /// `tasks/get`, `tasks/update` and `tasks/cancel`.
    pub fn task(
        &self,
        place: &Place<'_>,
        request: &Request<'a>,
        terms: &Terms<'a>,
        method: Method,
        mail: &Mailbox,
    ) -> Result<Step<'a>, Refusal> {
        require(terms)?;
        let key = Named::key(request.params, "taskId", ListKind::Tools)?;
        let (server, id) = locate(place.world, place.view, &key.value).ok_or_else(unknown)?;
        self.desk.check_open(&server)?;
        let caller = Caller::Stateless(StatelessFace {
            principal: terms.principal,
            capabilities: terms.capabilities,
        });
        let lease = server.link_for(&caller)?;
        // Another one than it was when it made the task.
        if !lease.link.is_stateless() {
            return Err(unknown().into());
        }
        let text = request.envelope.text;
        let bound = Bound {
            view: place.view.key(),
            method: request.method,
            params: request.envelope.params,
            progress_token: request.params.progress_token(),
        };
        let outgoing = Outgoing {
            text,
            id: span_in(text, request.id),
            edits: vec![(span_in(text, key.raw), quoted(&id.native))],
            progress_token: bound.progress_token.map(|raw| span_in(text, raw)),
            meter: server.meter(method),
        };
        let call = lease.link.call(&outgoing, next_caller(), mail.sender())?;
        let timeout = server.config.request_timeout;
        let mut call = Outstanding::new(call, request.id, lease, timeout);
        call.operation = Some(request.operation.hand_over());
        Ok(Step::Relayed(Relayed {
            call,
            from_stateless: true,
            method,
            about: key.value,
            terms: *terms,
            bound,
            task_key: place.world.fixed.task_key.clone(),
            back: None,
        }))
    }
}

/// Edits of `text` that give the tasks in a result the names that the client knows. The error is
/// what the client gets instead of a task that it must not get.
pub fn of_answer(
    relayed: &Relayed<'_>,
    text: &str,
    result: &str,
    members: &Members<'_>,
) -> Result<Edits, RpcError> {
    let server = relayed.call.link().server();
    let is_about_one = matches!(
        relayed.method,
        Method::TasksGet | Method::TasksUpdate | Method::TasksCancel
    );
    let result_type = ResultType::of(members);
    match (&result_type, is_about_one) {
        (ResultType::Complete, true) => {}
        (ResultType::Task, false)
            if relayed.from_stateless
                && relayed.method == Method::ToolsCall
                && has_extension(relayed.terms.capabilities) => {}
        (ResultType::Task, _) if relayed.from_stateless => {
            return Err(unknown_result(server, "\"task\""));
        }
        _ => return Ok(Edits::new()),
    }
    let holder = holder(relayed.terms.principal, relayed.bound.view);
    let rename = |native: &str| named(&relayed.task_key, holder, server, native);
    task::renamed(text, result, Part::Result, rename).map_err(|task::Nameless(id)| {
        let detail = format!("gave a task an id of {} bytes, which is too long", id.len());
        RpcError::gateway(Reason::BadUpstream, server, &detail)
    })
}
