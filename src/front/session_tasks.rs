//! Tasks of clients with a session, in the form of 2025-11-25: requests about a task go to the
//! process that has it, under ids that are worth nothing to another session
//! (`model::task_id`). Runs on the thread of the request; `rounds` turns to here when an answer
//! comes back, `ask` and the router when a server says something about a task.
//!
//! The capability is offered to every client of that revision, as all capabilities are: what may
//! be called as a task, its tool says, and no tool of a server without tasks does.

use std::sync::Arc;
use std::time::Instant;

use crate::base::limits;
use crate::front::request::{Named, Params};
use crate::front::rounds::Translation;
use crate::front::session::Session;
use crate::front::streamable::{Seat, Step, Streamable};
use crate::front::tasks::unknown;
use crate::mcp::error::{INVALID_PARAMS, METHOD_NOT_FOUND, RpcError, result_response};
use crate::mcp::list::ListKind;
use crate::mcp::method::Method;
use crate::mcp::task::{Part, has};
use crate::model::task_id::{Holder, TaskId};
use crate::relay::bridge::Edits;
use crate::relay::bridge::task::{self, Nameless};
use crate::upstream::call::{Mail, Mailbox, Outgoing, Reply};
use crate::upstream::caller::Lease;
use crate::upstream::link::Link;
use crate::upstream::server::Server;
use crate::upstream::tasks::Errand;
use crate::wire::json::{elements, quoted, string_value};
use crate::wire::members::{Members, edited, span_in};
use crate::wire::message::{Envelope, FROM_SERVER, Kind};

/// A task at `link` under the name that the client of `session` knows.
fn named(session: &Session, link: &Link, native: &str) -> Option<String> {
    let id = TaskId {
        server: link.server().to_owned(),
        process: link.number(),
        native: native.to_owned(),
    };
    id.seal(&session.task_key, Holder::Session(&session.id))
}

/// Edits of `text` that give the tasks in `object`, a part of it, those names. The error says
/// what is wrong with the server's own.
pub fn renamed(
    session: &Session,
    link: &Link,
    text: &str,
    object: &str,
    part: Part,
) -> Result<Edits, String> {
    task::renamed(text, object, part, |native| named(session, link, native))
        .map_err(|Nameless(id)| format!("the id of a task is too long ({} bytes)", id.len()))
}

/// A message of the server under those names. `None`: it cannot be shown.
pub fn shown(session: &Session, link: &Link, text: Vec<u8>, part: Part) -> Option<Vec<u8>> {
    if part == Part::Other && !is_about_task(&text) {
        return Some(text);
    }
    let told = task::told(str::from_utf8(&text).ok()?, part, |native| {
        named(session, link, native)
    });
    Some(told.ok()?.unwrap_or(text))
}

/// Whether it may be: the word alone proves nothing.
pub fn is_about_task(text: &[u8]) -> bool {
    memchr::memmem::find(text, b"related-task").is_some()
}

/// The client's answer to a question, in the words of the server that asked.
pub fn answered(session: &Session, text: &str) -> Option<Vec<u8>> {
    if !is_about_task(text.as_bytes()) {
        return None;
    }
    let message = Members::parse(text, 0, FROM_SERVER).ok()?;
    let native = |ours: &str| {
        let id = TaskId::open(ours, &session.task_key, Holder::Session(&session.id));
        id.map(|id| id.native)
    };
    let edits = task::renamed(text, message.get("result")?, Part::Other, native).ok()?;
    Some(edited(text, edits))
}

/// What a request has to do with tasks: with a call its client may wish to have one.
pub fn errand(session: &Session, (envelope, params): (&Envelope<'_>, &Params<'_>)) -> Errand {
    let wishes = is_tool_call(envelope) && params.get("task").is_some();
    match wishes && session.revision.has_tasks() {
        true => Errand::Makes {
            session: session.id.clone(),
        },
        false => Errand::None,
    }
}

/// The edits that take a wish for a task out of a call whose client knows no tasks: its server
/// may know them.
pub fn without_wish(session: &Session, (envelope, params): (&Envelope<'_>, &Params<'_>)) -> Edits {
    match params.members() {
        Some(members) if !session.revision.has_tasks() && is_tool_call(envelope) => {
            members.rewritten(envelope.text, |key| key == "task", "")
        }
        _ => Edits::new(),
    }
}

fn is_tool_call(envelope: &Envelope<'_>) -> bool {
    matches!(&envelope.kind, Kind::Request { method, .. } if method == "tools/call")
}

impl Streamable {
    /// `tasks/get`, `tasks/result`, `tasks/cancel` and `tasks/list`.
    pub fn task(
        &self,
        seat: &Seat<'_>,
        envelope: &Envelope<'_>,
        id: &str,
        params: &Params<'_>,
        method: Method,
        mail: &Mailbox,
    ) -> Result<Step, RpcError> {
        if !seat.session.revision.has_tasks() || method == Method::TasksUpdate {
            return Err(RpcError::new(METHOD_NOT_FOUND, "method not found"));
        }
        if method == Method::TasksList {
            return Ok(Step::Done(result_response(id, &list(seat, params)?)));
        }
        let key = Named::key(params, "taskId", ListKind::Tools)?;
        let (server, lease, task) = locate(seat, &key.value).ok_or_else(unknown)?;
        self.desk.check_open(&server)?;
        let text = envelope.text;
        let native = |ours: &str| (ours == key.value).then(|| task.clone());
        let object = envelope.params.unwrap_or("{}");
        let foreign = |_| RpcError::new(INVALID_PARAMS, "_meta: unknown task");
        let outgoing = Outgoing {
            text,
            id: span_in(text, id),
            edits: task::renamed(text, object, Part::Params, native).map_err(foreign)?,
            progress_token: params.progress_token().map(|raw| span_in(text, raw)),
            meter: server.meter(method),
        };
        let (errand, part) = match method {
            Method::TasksResult => (Errand::Awaits { task }, Part::Other),
            _ => (Errand::Looks { task }, Part::Result),
        };
        let waits = method == Method::TasksResult;
        let mut call = self.dispatch(seat, id, &outgoing, (&server, lease, errand), mail)?;
        call.translation = Translation::Task(part);
        if waits {
            // It is answered when the task is over, and says nothing until then.
            call.deadline = call.ceiling;
        }
        Ok(Step::Relayed(call))
    }
}

/// The server of a task, its process and the task's own id there.
fn locate(seat: &Seat<'_>, ours: &str) -> Option<(Arc<Server>, Lease, String)> {
    let session = seat.session;
    let id = TaskId::open(ours, &session.task_key, Holder::Session(&session.id))?;
    let mut servers = seat.servers();
    let server = servers.find(|server| server.name() == id.server)?;
    let mut leases = server.leases(&session.face).into_iter();
    let lease = leases.find(|lease| lease.link.number() == id.process)?;
    Some((server.clone(), lease, id.native))
}

/// The tasks of the session at all servers that it sees and that list theirs. A server lists those
/// of all sessions: the others are left out. Deliberately without pages: a session has few.
fn list(seat: &Seat<'_>, params: &Params<'_>) -> Result<String, RpcError> {
    if params.get("cursor").is_some() {
        let what = "unknown cursor: tasks are listed without pages";
        return Err(RpcError::new(INVALID_PARAMS, what));
    }
    let mut asked: Vec<Asked> = Vec::new();
    for server in seat.servers() {
        for lease in server.leases(&seat.session.face) {
            asked.extend(Asked::of(seat.session, lease));
        }
    }
    let mail = Mailbox::new(asked.len());
    asked.iter_mut().for_each(|asked| asked.turn(None, &mail));
    let deadline = Instant::now() + limits::TASKS_LIST_WAIT;
    while asked.iter().any(|asked| asked.call.is_some()) {
        let Some(answer) = mail.wait(deadline) else {
            break;
        };
        if let Some(asked) = asked.iter_mut().find(|a| a.call == Some(answer.call)) {
            asked.hear(seat.session, answer, &mail);
        }
    }
    asked.iter().for_each(Asked::give_up);
    let tasks: Vec<String> = asked.into_iter().flat_map(|asked| asked.found).collect();
    Ok(format!("{{\"tasks\":[{}]}}", tasks.join(",")))
}

/// One process that is asked for its tasks.
struct Asked {
    lease: Lease,
    /// Those that are still looked for.
    missing: Vec<String>,
    found: Vec<String>,
    pages: usize,
    call: Option<u64>,
}

impl Asked {
    fn of(session: &Session, lease: Lease) -> Option<Asked> {
        let missing = lease.link.tasks().of_session(&session.id);
        let hello = lease.link.hello()?;
        let lists = !hello.era.is_stateless() && has(&hello.capabilities, "list");
        (lists && !missing.is_empty()).then_some(Asked {
            lease,
            missing,
            found: Vec::new(),
            pages: 0,
            call: None,
        })
    }

    /// Asks for the next page.
    fn turn(&mut self, cursor: Option<&str>, mail: &Mailbox) {
        let params = cursor.map(|cursor| format!("{{\"cursor\":{cursor}}}"));
        let params = params.as_deref().unwrap_or("{}");
        self.pages += 1;
        let call = self.lease.link.request("tasks/list", params, mail.sender());
        self.call = call.inspect_err(|error| self.failed(&error.message)).ok();
    }

    fn hear(&mut self, session: &Session, answer: Mail, mail: &Mailbox) {
        self.call = None;
        let Reply::Answer(answer) = answer.reply else {
            return self.failed("it is gone");
        };
        let text = str::from_utf8(&answer.line[answer.payload]).unwrap_or_default();
        let result = Members::parse(text, 1, FROM_SERVER).ok();
        let (false, Some(result)) = (answer.is_error, result) else {
            return self.failed("it refused");
        };
        let listed = result
            .get("tasks")
            .and_then(|raw| elements(raw, FROM_SERVER));
        for raw in listed.unwrap_or_default() {
            self.take(session, raw);
        }
        let next = result.get("nextCursor");
        let next = next.filter(|raw| string_value(raw).is_some());
        if !self.missing.is_empty() && self.pages < limits::LIST_PAGES && next.is_some() {
            self.turn(next, mail);
        }
    }

    fn take(&mut self, session: &Session, raw: &str) {
        let id = Part::Params
            .ids(raw)
            .first()
            .and_then(|id| string_value(id));
        let known = id.and_then(|id| self.missing.iter().position(|known| **known == *id));
        let Some(at) = known else {
            return;
        };
        self.missing.swap_remove(at);
        if let Ok(edits) = renamed(session, &self.lease.link, raw, raw, Part::Params) {
            self.found.extend(String::from_utf8(edited(raw, edits)));
        }
    }

    fn failed(&self, why: &str) {
        let server = self.lease.link.server();
        log::debug!("tasks not listed server={server:?}: {why}");
    }

    fn give_up(&self) {
        if let Some(call) = self.call {
            self.lease.link.cancel(call, "timed out");
            self.failed("timed out");
        }
    }
}

/// A session has ended: what its tasks still do at processes that others use too is of no use to
/// anybody.
pub fn cancel_all(session: &str, servers: &[Arc<Server>]) {
    for link in servers.iter().filter_map(|server| server.shared_link()) {
        let open = link.tasks().forget(session);
        let hello = link.hello();
        if !hello.is_some_and(|hello| has(&hello.capabilities, "cancel")) {
            continue;
        }
        for task in open {
            let params = format!("{{\"taskId\":{}}}", quoted(&task));
            let mail = Mailbox::new(1);
            if let Err(error) = link.request("tasks/cancel", &params, mail.sender()) {
                log::debug!(
                    "task not cancelled server={:?}: {}",
                    link.server(),
                    error.message
                );
            }
        }
    }
}
