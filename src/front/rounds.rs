//! Calls whose answer is not for this client as it comes: those at a stateless server, which may
//! want input first (`input_required`: its questions go to the client, then the call goes to the
//! server again), and those of clients whose revision lacks kinds of content. Runs on the
//! connection thread inside `exchange`, which writes; here it is decided what comes next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::front::ask;
use crate::front::exchange::Outstanding;
use crate::front::inputs::{Input, Inputs};
use crate::front::operation::Operation;
use crate::front::request::Params;
use crate::front::session::{PendingAsk, RoundAsk, Session};
use crate::front::session_tasks;
use crate::mcp::error::{INTERNAL_ERROR, Reason, RpcError};
use crate::mcp::method::{Ask, Method};
use crate::mcp::task::Part;
use crate::relay::bridge::Edits;
use crate::relay::bridge::content;
use crate::relay::bridge::error::{self, Verdict};
use crate::relay::bridge::input::{InputRequest, InputRequired};
use crate::relay::bridge::request::{self, Retry};
use crate::relay::bridge::result::{self, ResultType};
use crate::upstream::call::{Answer, CallId, MailSender, Notice, Outgoing};
use crate::upstream::caller::Caller;
use crate::upstream::server::Server;
use crate::wire::json::quoted;
use crate::wire::members::{Members, edited};
use crate::wire::message::{Envelope, FROM_CLIENT, FROM_SERVER, Kind};

/// What stands between the server of a call and its client.
pub enum Translation {
    None,
    /// Kinds of content that the client's revision does not know.
    Content,
    /// The answer tells of tasks.
    Task(Part),
    /// The server is of the other era.
    Rounds(Box<Rounds>),
}

/// One call of a session at a stateless server, from its first request to its last answer.
pub struct Rounds {
    server: Arc<Server>,
    method: Method,
    /// Of resources/read.
    uri: Option<String>,
    /// Set for methods that may need more than one request.
    kept: Option<Kept>,
    stage: Stage,
    /// How often the client was asked.
    asked: usize,
    /// Before the next request that brings no answers.
    wait: Duration,
    /// The last progress that the client was told. It must grow, whatever the server counts anew.
    progress: Option<f64>,
}

/// The client's request, to be sent again: what a borrowed `Outgoing` holds.
struct Kept {
    text: String,
    outgoing: Outgoing<'static>,
}

enum Stage {
    /// The server is at work.
    Called,
    /// The client is.
    Asking(Round),
    /// Nobody is: the server wants to be asked again, later.
    Waiting {
        state: Option<String>,
        until: Instant,
    },
}

struct Round {
    questions: Vec<Question>,
    /// Raw JSON.
    state: Option<String>,
    inputs: Arc<Inputs>,
}

struct Question {
    /// The server's name for it.
    key: String,
    ask: Ask,
    id: u64,
}

/// What comes next for a call.
pub enum Turn {
    /// Nothing, until something happens.
    Wait,
    /// These messages go to the client.
    Ask(Vec<Vec<u8>>),
    /// The whole response, with the client's id in it.
    Respond {
        response: Vec<u8>,
        success: bool,
    },
    Fail(RpcError),
    /// The client took its request back meanwhile.
    Drop,
}

impl Translation {
    /// For a server with sessions.
    pub fn within_sessions(session: &Session) -> Translation {
        match session.revision.has_resource_links() {
            true => Translation::None,
            false => Translation::Content,
        }
    }

    /// For a stateless server: adds to a request what it wants to be told.
    pub fn begin(
        session: &Session,
        server: &Arc<Server>,
        outgoing: &mut Outgoing<'_>,
        (envelope, params): (&Envelope<'_>, &Params<'_>),
    ) -> Result<Translation, RpcError> {
        let method = match &envelope.kind {
            Kind::Request { method, .. } => Method::parse(method),
            _ => None,
        };
        let Some(method) = method else {
            return Ok(Translation::None);
        };
        let may_ask = matches!(
            method,
            Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead
        );
        let kept = may_ask.then(|| Kept::of(outgoing));
        let stamp = session.stamp();
        let edits = request::to_stateless(outgoing.text, params.members(), &stamp, None)?;
        outgoing.edits.extend(edits);
        let uri = match method {
            Method::ResourcesRead => params.string("uri").map(|uri| uri.into_owned()),
            _ => None,
        };
        Ok(Translation::Rounds(Box::new(Rounds {
            server: server.clone(),
            method,
            uri,
            kept,
            stage: Stage::Called,
            asked: 0,
            wait: limits::ROUND_WAIT,
            progress: None,
        })))
    }

    fn rounds(&self) -> Option<&Rounds> {
        match self {
            Translation::Rounds(rounds) => Some(rounds),
            _ => None,
        }
    }

    /// Something is to be done without a word from the server.
    pub fn is_due(&self) -> bool {
        self.rounds().is_some_and(|rounds| match &rounds.stage {
            Stage::Called => false,
            Stage::Asking(round) => round.inputs.is_ready(),
            Stage::Waiting { until, .. } => *until <= Instant::now(),
        })
    }

    /// When `is_due` is to be asked, if nothing happens before.
    pub fn due_at(&self) -> Option<Instant> {
        match self.rounds()?.stage {
            Stage::Waiting { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Whether the client is being waited for.
    pub fn is_asking(&self) -> bool {
        let rounds = self.rounds();
        rounds.is_some_and(|rounds| matches!(rounds.stage, Stage::Asking(_)))
    }

    /// Whether a report of progress may be shown.
    pub fn lets_pass(&mut self, notice: &Notice) -> bool {
        match self {
            Translation::Rounds(rounds) if notice.level.is_none() => rounds.advances(&notice.text),
            _ => true,
        }
    }
}

impl Kept {
    fn of(outgoing: &Outgoing<'_>) -> Kept {
        Kept {
            text: outgoing.text.to_owned(),
            outgoing: Outgoing {
                text: "",
                id: outgoing.id.clone(),
                edits: outgoing.edits.clone(),
                progress_token: outgoing.progress_token.clone(),
                meter: outgoing.meter.clone(),
            },
        }
    }

    fn with(&self, stamp: &str, retry: &Retry) -> Result<Outgoing<'_>, RpcError> {
        let params = Envelope::parse(&self.text, FROM_CLIENT)
            .ok()
            .and_then(|envelope| envelope.params)
            .and_then(|raw| Members::parse(raw, 1, FROM_CLIENT).ok());
        let more = request::to_stateless(&self.text, params.as_ref(), stamp, Some(retry))?;
        let first = &self.outgoing;
        Ok(Outgoing {
            text: &self.text,
            id: first.id.clone(),
            edits: first.edits.iter().cloned().chain(more).collect(),
            progress_token: first.progress_token.clone(),
            meter: first.meter.clone(),
        })
    }
}

/// The server's answer to a call that is translated: what becomes of it.
pub fn answered(
    call: &mut Outstanding,
    answer: &Answer,
    session: &Session,
    mail: Option<&MailSender>,
) -> Turn {
    let Ok(text) = std::str::from_utf8(&answer.line) else {
        return Turn::Fail(malformed(call, "not UTF-8"));
    };
    let translated = match &mut call.translation {
        Translation::Rounds(rounds) => rounds.judge(text, answer, session),
        _ if answer.is_error => Ok(Judged::Pass(Edits::new())),
        Translation::Task(part) => {
            let payload = &text[answer.payload.clone()];
            session_tasks::renamed(session, &call.lease.link, text, payload, *part)
                .map(Judged::Pass)
        }
        _ => Members::parse(&text[answer.payload.clone()], 1, FROM_SERVER)
            .map(|result| Judged::Pass(content::for_revision(text, &result, session.revision)))
            .map_err(|error| error.to_string()),
    };
    match translated {
        Ok(Judged::Pass(mut edits)) => {
            edits.push((answer.id.clone(), call.client_id.clone()));
            Turn::Respond {
                response: edited(text, edits),
                success: !answer.is_error,
            }
        }
        Ok(Judged::Fail(error)) => Turn::Fail(error),
        Ok(Judged::Input(input)) => ask_client(call, input, session, mail),
        Err(what) => Turn::Fail(malformed(call, &what)),
    }
}

fn malformed(call: &Outstanding, what: &str) -> RpcError {
    let detail = format!("malformed answer: {what}");
    RpcError::gateway(Reason::BadUpstream, call.link().server(), &detail)
}

/// What an answer is.
enum Judged {
    Pass(Edits),
    Fail(RpcError),
    Input(InputRequired),
}

impl Rounds {
    /// An error says what is wrong with the answer.
    fn judge(&self, text: &str, answer: &Answer, session: &Session) -> Result<Judged, String> {
        let payload = &text[answer.payload.clone()];
        if answer.is_error {
            let asked = error::Asked {
                server: self.server.name(),
                method: self.method,
                uri: self.uri.as_deref(),
            };
            return Ok(match error::stateless_to_session(text, payload, &asked) {
                Verdict::Instead(error) => Judged::Fail(error),
                Verdict::Pass(edits) => Judged::Pass(edits),
                Verdict::Result(_) => Judged::Pass(Edits::new()),
            });
        }
        let result = Members::parse(payload, 1, FROM_SERVER).map_err(|error| error.to_string())?;
        let unknown = |kind: &str| Judged::Fail(error::unknown_result(self.server.name(), kind));
        match ResultType::of(&result) {
            ResultType::Complete => result::stateless_to_session(text, &result, session.revision)
                .map(Judged::Pass)
                .map_err(|error| error.to_string()),
            ResultType::InputRequired if self.kept.is_some() => {
                InputRequired::parse(&result).map(Judged::Input)
            }
            ResultType::InputRequired => Ok(unknown("\"input_required\"")),
            ResultType::Task => Ok(unknown("\"task\"")),
            ResultType::Other(kind) => Ok(unknown(&kind)),
        }
    }

    fn advances(&mut self, notice: &[u8]) -> bool {
        let progress = Envelope::from_bytes(notice, FROM_SERVER)
            .ok()
            .and_then(|envelope| Members::parse(envelope.params?, 1, FROM_SERVER).ok())
            .and_then(|params| params.get("progress")?.parse::<f64>().ok());
        let Some(progress) = progress else {
            return true;
        };
        let is_more = self.progress.is_none_or(|last| progress > last);
        if is_more {
            self.progress = Some(progress);
        }
        // Within one round it is the server's own affair.
        is_more || self.asked == 0
    }
}

/// Turns what a server wants to know into questions for the client. `mail`: where their answers
/// are waited for; `None` when the client cannot be asked here.
fn ask_client(
    call: &mut Outstanding,
    input: InputRequired,
    session: &Session,
    mail: Option<&MailSender>,
) -> Turn {
    let id = call.call;
    let Translation::Rounds(rounds) = &mut call.translation else {
        return Turn::Wait;
    };
    if input.requests.is_empty() {
        return rounds.wait(input.state);
    }
    match rounds.questions(id, input, session, mail) {
        Ok(questions) => Turn::Ask(questions),
        Err(detail) => {
            let name = rounds.server.name();
            Turn::Fail(RpcError::gateway(Reason::BadUpstream, name, &detail))
        }
    }
}

impl Rounds {
    /// The server wants to be asked again, without answers.
    fn wait(&mut self, state: Option<String>) -> Turn {
        let until = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(limits::ROUND_WAIT_MAX);
        self.stage = Stage::Waiting { state, until };
        Turn::Wait
    }

    /// The questions of one round, noted in the session. The error says why they cannot be asked.
    fn questions(
        &mut self,
        call: CallId,
        input: InputRequired,
        session: &Session,
        mail: Option<&MailSender>,
    ) -> Result<Vec<Vec<u8>>, String> {
        if self.asked >= limits::ROUNDS {
            let most = limits::ROUNDS;
            return Err(format!("wanted input more than {most} times for one call"));
        }
        let mail = mail.ok_or("wants to ask the client, which accepts no event stream")?;
        let requests = input.requests.iter();
        let kinds: Vec<Ask> = requests
            .map(|request| kind(request, session))
            .collect::<Result<_, String>>()?;
        self.asked += 1;
        self.wait = limits::ROUND_WAIT;
        let inputs = Arc::new(Inputs::new(kinds.len()));
        let mut texts = Vec::with_capacity(kinds.len());
        let mut questions = Vec::with_capacity(kinds.len());
        for (request, ask) in input.requests.into_iter().zip(kinds) {
            let id = ask::next_ask_id();
            let pending = PendingAsk::Round(RoundAsk {
                call,
                ask,
                mail: mail.clone(),
                inputs: inputs.clone(),
            });
            if let Err(why) = session.register_ask(id, pending) {
                return Err(format!("wants to ask the client, but {why}"));
            }
            texts.push(question(id, &request));
            let key = request.key;
            questions.push(Question { key, ask, id });
        }
        self.stage = Stage::Asking(Round {
            questions,
            state: input.state,
            inputs,
        });
        Ok(texts)
    }
}

/// What kind of question it is, if this client can be asked it.
fn kind(request: &InputRequest, session: &Session) -> Result<Ask, String> {
    let method = &request.method;
    let ask = Ask::parse(method).ok_or_else(|| format!("asks for {method:?}, which is unknown"))?;
    let refused = session.abilities.refuses(ask, request.params.as_deref());
    let is_too_new = is_url(request) && !session.revision.has_url_elicitation();
    match refused {
        Some(error) => Err(format!("asks for {method:?}: {}", error.message)),
        None if is_too_new => Err(format!("asks for {method:?} in a mode that is too new")),
        None => Ok(ask),
    }
}

fn is_url(request: &InputRequest) -> bool {
    let params = request.params.as_deref();
    let members = params.and_then(|raw| Members::parse(raw, 1, FROM_SERVER).ok());
    members.is_some_and(|members| members.string("mode").as_deref() == Some("url"))
}

/// The request that asks the client. A visit of a URL gets the id that sessions demand.
fn question(id: u64, request: &InputRequest) -> Vec<u8> {
    let method = quoted(&request.method);
    let mut params = request.params.clone();
    if is_url(request)
        && let Some(raw) = &request.params
        && let Ok(members) = Members::parse(raw, 1, FROM_SERVER)
    {
        let minted = format!("\"elicitationId\":\"onemcp-{id}\"");
        let edits = members.rewritten(raw, |key| key == "elicitationId", &minted);
        params = String::from_utf8(edited(raw, edits)).ok();
    }
    let params = params.map(|raw| format!(",\"params\":{raw}"));
    let params = params.unwrap_or_default();
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":{method}{params}}}").into_bytes()
}

/// Goes on with a call that is due: it goes to its server again.
pub fn resume(call: &mut Outstanding, session: &Session, mail: &MailSender) -> Turn {
    let old = call.call;
    let _working = call.operation.as_ref().and_then(Operation::enter);
    let Translation::Rounds(rounds) = &mut call.translation else {
        return Turn::Wait;
    };
    let retry = match std::mem::replace(&mut rounds.stage, Stage::Called) {
        Stage::Called => return Turn::Wait,
        Stage::Waiting { state, .. } => Retry {
            responses: String::new(),
            state,
        },
        Stage::Asking(round) => match round.responses() {
            Ok(responses) => Retry {
                responses,
                state: round.state,
            },
            Err(error) => return Turn::Fail(error),
        },
    };
    let Some(kept) = &rounds.kept else {
        return Turn::Wait;
    };
    let sent = kept.with(&session.stamp(), &retry).and_then(|outgoing| {
        let lease = rounds.server.link_for(&Caller::Session(&session.face))?;
        if !lease.link.is_stateless() {
            let detail = "has become another server while its call waited for input";
            let name = rounds.server.name();
            return Err(RpcError::gateway(Reason::Restarting, name, detail));
        }
        let id = lease.link.call(&outgoing, session.number, mail)?;
        Ok((lease, id))
    });
    let (lease, id) = match sent {
        Ok(sent) => sent,
        Err(error) => return Turn::Fail(error),
    };
    let goes_on = session.goes_on(old, id, &lease.link);
    if !goes_on {
        lease.link.cancel(id, "the client took it back");
        return Turn::Drop;
    }
    (call.call, call.lease) = (id, lease);
    Turn::Wait
}

impl Round {
    /// All answers as the raw JSON of `inputResponses`. What was refused and cannot be left open
    /// ends the call.
    fn responses(&self) -> Result<String, RpcError> {
        let mut members = Vec::with_capacity(self.questions.len());
        for question in &self.questions {
            let result = match self.inputs.of(question.id) {
                Some(Input::Result(raw)) => raw,
                Some(Input::Refused(why)) if question.ask != Ask::Elicitation => {
                    return Err(not_given(question.ask, &why));
                }
                Some(Input::Refused(_)) => "{\"action\":\"cancel\"}".to_owned(),
                // Another one is what ends the call.
                None => continue,
            };
            members.push(format!("{}:{result}", quoted(&question.key)));
        }
        Ok(format!("{{{}}}", members.join(",")))
    }
}

fn not_given(ask: Ask, why: &str) -> RpcError {
    let method = ask.method();
    let message = format!("the call needs an answer to {method}, which the client refused: {why}");
    RpcError::new(INTERNAL_ERROR, message)
}
