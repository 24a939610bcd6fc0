//! A POST of the stateless era, on the same paths as those of sessions: what HTTP adds to
//! `stateless`. Which era a message is of, its body says first; session ids and `Last-Event-ID`
//! mean nothing here and are not looked at.

use crate::front::answer::Waiting;
use crate::front::exchange::with_type;
use crate::front::headers;
use crate::front::lacking;
use crate::front::operation::Operation;
use crate::front::output::Output;
use crate::front::replicas::{Errand, Lost, Replicas};
use crate::front::request::Params;
use crate::front::stateless::{Refusal, Request, Stateless, Step, is_meant};
use crate::front::streamable::{Call, MAILBOX, SESSION_HEADER, Streamable, accepts};
use crate::front::subscription::{self, Opening};
use crate::front::tasks;
use crate::http::{Head, Responder};
use crate::journal::metrics::outcome::Outcome;
use crate::mcp::era;
use crate::mcp::error::{INVALID_PARAMS, INVALID_REQUEST, RpcError, result_response};
use crate::relay::view::{Scope, View, parse_query};
use crate::upstream::call::LazyMailbox;
use crate::wire::message::{Envelope, Kind};

/// Whether a message is of the stateless era: its body says so, or its header alone, which is
/// then refused for what the body lacks.
pub fn is_stateless(head: &Head<'_>, params: &Result<Params<'_>, RpcError>) -> bool {
    params.as_ref().is_ok_and(is_meant) || names_stateless(head)
}

pub fn names_stateless(head: &Head<'_>) -> bool {
    head.header_values(headers::VERSION).any(era::is_stateless)
}

/// A GET or DELETE that can mean no session: this era has neither.
pub fn has_no_session(head: &Head<'_>) -> bool {
    names_stateless(head) && head.header(SESSION_HEADER).is_none()
}

pub fn not_allowed(call: &Call<'_>, out: &mut Responder<'_>) {
    let mut headers = with_type(&call.headers, "application/json");
    headers.push(("Allow", "POST, OPTIONS"));
    let error = RpcError::new(INVALID_REQUEST, "the stateless revision knows POST only");
    out.send(405, &headers, &[&error.response(None)]);
}

const TASK: &str = "the task";

/// What a request is about that another replica has, and the name of that replica.
fn elsewhere(replicas: &Replicas, request: &Request<'_>) -> Option<(&'static str, String)> {
    let names = |key| replicas.holder_of(&request.params.string(key)?);
    if let Some(replica) = names("requestState") {
        return Some(("the call of this requestState", replica));
    }
    let is_of_task = request.method.starts_with("tasks/");
    let replica = is_of_task.then(|| names("taskId"))??;
    Some((TASK, replica))
}

impl Streamable {
    pub fn stateless(
        &self,
        call: &Call<'_>,
        envelope: &Envelope<'_>,
        params: Result<Params<'_>, RpcError>,
        out: &mut Responder<'_>,
    ) {
        let (id, method) = match &envelope.kind {
            Kind::Request { id, method } => (*id, &**method),
            // Nothing that clients announce in this era changes anything here.
            Kind::Notification { .. } => return out.send(202, &call.headers, &[]),
            Kind::Result { .. } | Kind::Error { .. } => {
                let error = RpcError::new(INVALID_REQUEST, "no request waits for a response");
                return refuse(call, &Refusal::malformed(error), None, out);
            }
        };
        let operation = Operation::begin(method);
        operation.says(envelope.params);
        let params = match params {
            Ok(params) => params,
            Err(error) => {
                operation.failed(&error);
                return refuse(call, &Refusal::malformed(error), Some(id), out);
            }
        };
        let request = Request {
            envelope,
            id,
            method,
            params: &params,
            head: Some(call.head),
            whose: call.whose.map(|whose| &**whose),
            operation: &operation,
        };
        let outcome = MAILBOX.with(|mail| self.serve(call, &request, mail, out));
        // A subscription may be quiet for long, and had better hold no more than it needs.
        drop(params);
        let outcome = outcome.and_then(|left| match left {
            Some(opening) => {
                let listened = self.listen(call, opening, out);
                listened.inspect(|()| operation.goes_on())
            }
            None => Ok(()),
        });
        if let Err(refusal) = outcome {
            operation.failed(&refusal.error);
            refuse(call, &refusal, Some(id), out);
        }
    }

    fn listen(
        &self,
        call: &Call<'_>,
        opening: Opening,
        out: &mut Responder<'_>,
    ) -> Result<(), Refusal> {
        let output = Output::http(out, &call.headers, accepts(call.head));
        MAILBOX.with(|mail| {
            subscription::serve(&self.subscriptions, opening, &self.desk, mail, output)
        })
    }

    /// Whether the request is about something that another replica has, which has answered.
    fn is_passed_on(
        &self,
        call: &Call<'_>,
        request: &Request<'_>,
        view: &View,
        out: &mut Responder<'_>,
    ) -> Result<bool, Refusal> {
        let Some((replicas, client)) = self.replicas.as_ref().zip(call.client) else {
            return Ok(false);
        };
        let Some((what, to)) = elsewhere(replicas, request) else {
            return Ok(false);
        };
        let errand = Errand {
            head: call.head,
            body: request.envelope.text.as_bytes(),
            client,
            to: &to,
        };
        match replicas.pass_on(&errand, out) {
            Ok(()) => {
                request.operation.ended(Outcome::Success);
                Ok(true)
            }
            Err(Lost::Alone | Lost::Gone) if what == TASK && self.is_anybodys(request, view) => {
                Ok(false)
            }
            Err(lost) => {
                let message = format!("{what} {}; send it anew", lost.tell());
                let error = RpcError::new(INVALID_PARAMS, message);
                let status = lost.status();
                Err(Refusal { status, error })
            }
        }
    }

    /// Whether the task is at a server that every replica reaches: not one of its own processes.
    fn is_anybodys(&self, request: &Request<'_>, view: &View) -> bool {
        let world = self.desk.hub.world();
        let id = request.params.string("taskId");
        let found = id.and_then(|id| tasks::locate(&world, view, &id));
        found.is_some_and(|(server, _)| server.is_remote())
    }

    /// What is left to do: a subscription to be served, or an error to be told.
    fn serve(
        &self,
        call: &Call<'_>,
        request: &Request<'_>,
        mail: &LazyMailbox,
        out: &mut Responder<'_>,
    ) -> Result<Option<Opening>, Refusal> {
        let terms = request.terms()?;
        let view = self.view(call)?;
        if self.is_passed_on(call, request, &view, out)? {
            return Ok(None);
        }
        let world = self.desk.hub.world();
        let visible = || view.visible(&world);
        if call.gate.is_some()
            && let Some(reply) =
                call.lacks(&world, &view, &visible(), request.method, request.params)
        {
            out.reply(&reply);
            request
                .operation
                .failed(&RpcError::new(INVALID_REQUEST, "insufficient scope"));
            return Ok(None);
        }
        let face = Stateless {
            desk: &self.desk,
            subscriptions: &self.subscriptions,
            parking: &self.parking,
        };
        let step = face.decide(request, &terms, &view, mail)?;
        let mut output = Output::http(out, &call.headers, accepts(call.head));
        match step {
            Step::Done(result) => {
                request.operation.ended(Outcome::Success);
                output.respond(200, &[&result_response(request.id, &result)]);
            }
            Step::Relayed(relayed) => {
                let mut waiting = Waiting::new(relayed, mail, output, &self.parking);
                waiting.whose = call.whose;
                waiting.run();
            }
            Step::Listen(opening) => return Ok(Some(opening)),
        }
        Ok(None)
    }

    /// What a request sees that belongs to no session yet.
    pub fn view(&self, call: &Call<'_>) -> Result<View, Refusal> {
        let bad = |status, what| Refusal {
            status,
            error: RpcError::new(INVALID_PARAMS, what),
        };
        let world = self.desk.hub.world();
        let mut view = View {
            scope: call.scope.clone(),
            filters: Vec::new(),
            whose: call.whose.cloned(),
        };
        // One that is closed to this client is as one that is not there.
        if let Scope::Server(name) = &call.scope
            && view.is_closed(&world)
        {
            lacking::note_closed(&world, &view, name);
            return Err(bad(404, format!("unknown server: {name}")));
        }
        let filter = parse_query(call.head.query, &world).map_err(|why| bad(400, why.0))?;
        view.filters.extend(filter);
        Ok(view)
    }
}

fn refuse(call: &Call<'_>, refusal: &Refusal, id: Option<&str>, out: &mut Responder<'_>) {
    let mut headers = with_type(&call.headers, "application/json");
    if refusal.status == 503 {
        headers.push(("Retry-After", "1"));
    }
    out.send(refusal.status, &headers, &[&refusal.error.response(id)]);
}
