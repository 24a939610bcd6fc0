//! Spans: what one request took, as OpenTelemetry sees it. They are recorded only while somebody
//! takes them (`journal::otlp`); otherwise whoever asks learns so from one number and goes on.
//! Process-wide, like the log. A span that nobody has room for is counted and dropped.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Sender;

use crate::base::{limits, mask, sys};
use crate::journal::metrics::outcome::Outcome;
use crate::mcp::error::RpcError;
use crate::mcp::trace::{SAMPLED, SpanId, TraceContext, TraceId};
use crate::wire::members::Members;
use crate::wire::message::FROM_SERVER;

/// Of a hundred requests without a trace of their own, so many begin one; `OFF`: nothing is
/// recorded at all.
static PERCENT: AtomicU32 = AtomicU32::new(OFF);
const OFF: u32 = u32::MAX;

/// Whoever takes finished spans.
static TAKER: RwLock<Option<Sender<Box<Record>>>> = RwLock::new(None);

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Where finished spans go from now on, and of how many new traces. `None`: nowhere.
pub fn set_taker(taker: Option<Sender<Box<Record>>>, percent: Option<u32>) {
    *TAKER.write().unwrap_or_else(PoisonError::into_inner) = taker;
    set_percent(percent);
}

/// The same for the number alone. Without it nothing is recorded.
pub fn set_percent(percent: Option<u32>) {
    let has_taker = TAKER
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .is_some();
    let percent = percent.filter(|_| has_taker).unwrap_or(OFF);
    PERCENT.store(percent, Ordering::Relaxed);
}

#[inline]
pub fn is_on() -> bool {
    PERCENT.load(Ordering::Relaxed) != OFF
}

/// Spans that there was no room for.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

pub fn count_dropped(count: usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    DROPPED.fetch_add(count, Ordering::Relaxed);
}

/// Whether work under `parent` is recorded. Whoever began the trace has decided that for all.
pub fn is_wanted(parent: Option<&TraceContext>) -> bool {
    let percent = PERCENT.load(Ordering::Relaxed);
    match parent {
        _ if percent == OFF => false,
        Some(parent) => parent.sampled(),
        None => percent >= 100 || random() % 100 < u64::from(percent),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Works for a client.
    Server,
    /// Waits for a server.
    Client,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(told(text))
    }
}

/// What is known of a span when it is over.
#[derive(Debug)]
pub struct Record {
    pub context: TraceContext,
    pub parent: Option<SpanId>,
    /// A span of somebody else that has to do with this one.
    pub link: Option<(TraceId, SpanId)>,
    pub role: Role,
    pub name: String,
    /// Nanoseconds since 1970.
    pub start_ns: u64,
    pub end_ns: u64,
    pub attributes: Vec<(&'static str, Value)>,
    /// Of a span that failed.
    pub error: Option<String>,
}

/// A span that is not over. It ends when it is dropped, and unless somebody said how, nobody
/// waited for its end.
#[derive(Debug)]
pub struct Span {
    record: Option<Box<Record>>,
    began: Instant,
    /// The tool or prompt that it asks for.
    target: Option<String>,
    is_judged: bool,
}

impl Span {
    /// Begins a span under `parent`, or the first one of a new trace.
    pub fn begin(role: Role, name: String, parent: Option<&TraceContext>) -> Span {
        let span_id = new_span_id();
        let context = match parent {
            Some(parent) => parent.child(span_id),
            None => TraceContext {
                trace_id: new_trace_id(),
                span_id,
                flags: SAMPLED,
                state: None,
            },
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let start_ns = since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0));
        let record = Record {
            context,
            parent: parent.map(|parent| parent.span_id),
            link: None,
            role,
            name,
            start_ns,
            end_ns: start_ns,
            attributes: Vec::with_capacity(8),
            error: None,
        };
        Span {
            record: Some(Box::new(record)),
            began: Instant::now(),
            target: None,
            is_judged: false,
        }
    }

    pub fn context(&self) -> Option<&TraceContext> {
        self.record.as_ref().map(|record| &record.context)
    }

    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(record) = &mut self.record {
            record.attributes.push((key, value.into()));
        }
    }

    /// What a request asks for. `name` and `uri` are the parameters of these names. The name of
    /// the span stays that of the method, until somebody knows that there is such a tool.
    pub fn set_request(&mut self, method: &str, name: Option<&str>, uri: Option<&str>) {
        self.set("mcp.method.name", method);
        let name = name.filter(|_| matches!(method, "tools/call" | "prompts/get"));
        if let Some(name) = name {
            self.target = Some(told(name));
            match method {
                "tools/call" => {
                    self.set("gen_ai.operation.name", "execute_tool");
                    self.set("gen_ai.tool.name", name);
                }
                _ => self.set("gen_ai.prompt.name", name),
            }
        }
        if let Some(uri) = uri.filter(|_| method.starts_with("resources/")) {
            self.set("mcp.resource.uri", uri);
        }
    }

    /// There is the tool or prompt that it asks for.
    pub fn is_about_it(&mut self) {
        if let (Some(record), Some(target)) = (&mut self.record, self.target.take()) {
            record.name = format!("{} {target}", record.name);
        }
    }

    pub fn link(&mut self, to: &TraceContext) {
        if let Some(record) = &mut self.record {
            record.link = Some((to.trace_id, to.span_id));
        }
    }

    /// Whether it is known how it ended.
    pub fn is_judged(&self) -> bool {
        self.is_judged
    }

    /// It came to a good end.
    pub fn succeed(&mut self) {
        self.judge(None);
    }

    /// `kind` is a word of a small set, `message` what the client was told.
    pub fn fail(&mut self, kind: &str, code: Option<i32>, message: &str) {
        self.judge(Some(message));
        self.set("error.type", kind);
        if let Some(code) = code {
            self.set("rpc.response.status_code", code.to_string().as_str());
        }
    }

    /// How it ends, unless something comes between.
    pub fn end(&mut self, outcome: Outcome) {
        let code = match outcome {
            Outcome::Error(code) => Some(code),
            _ => None,
        };
        match outcome.error_type() {
            None => self.succeed(),
            Some(kind) => self.fail(kind, code, kind),
        }
    }

    /// The error that the client gets.
    pub fn fail_with(&mut self, error: &RpcError) {
        let kind = Outcome::of_error(error).error_type();
        self.fail(kind.unwrap_or("_OTHER"), Some(error.code), &error.message);
    }

    /// The response of a server: `payload` is its result, or its error object.
    pub fn answer(&mut self, payload: &[u8], is_error: bool) {
        self.end(Outcome::of_response(payload, is_error));
        let text = str::from_utf8(payload).ok().filter(|_| is_error);
        let members = text.and_then(|text| Members::parse(text, 1, FROM_SERVER).ok());
        let message = members.and_then(|error| error.string("message").map(Cow::into_owned));
        if let (Some(record), Some(message)) = (&mut self.record, message) {
            record.error = Some(told(&message));
        }
    }

    /// What was said last counts.
    fn judge(&mut self, error: Option<&str>) {
        self.is_judged = true;
        let Some(record) = &mut self.record else {
            return;
        };
        record.error = error.map(told);
        let judged = ["error.type", "rpc.response.status_code"];
        record.attributes.retain(|(key, _)| !judged.contains(key));
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if !self.is_judged {
            self.fail("cancelled", None, "nobody waited for the answer any more");
        }
        let Some(mut record) = self.record.take() else {
            return;
        };
        let took = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        record.end_ns = record.start_ns.saturating_add(took);
        let taker = TAKER.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(taker) = &*taker
            && taker.try_send(record).is_err()
        {
            count_dropped(1);
        }
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Number(number)
    }
}

/// As much of a text as a span tells: no secret, and not too much.
fn told(text: &str) -> String {
    let mut text = mask::masked(text).into_owned();
    let mut end = text.len().min(limits::SPAN_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

fn new_trace_id() -> TraceId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&new_span_id());
    id[8..].copy_from_slice(&new_span_id());
    id
}

fn new_span_id() -> SpanId {
    // Zero means none.
    random().max(1).to_be_bytes()
}

thread_local! {
    /// 0: not seeded yet.
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// Differs from all others, and is no secret: the generator is small (splitmix64), its seed is
/// the kernel's.
fn random() -> u64 {
    let state = STATE.try_with(Cell::get).unwrap_or_default();
    let state = match state {
        0 => seed(),
        state => state.wrapping_add(0x9e37_79b9_7f4a_7c15),
    };
    // A thread that is ending has none any more, and is seeded each time.
    let _ = STATE.try_with(|kept| kept.set(state));
    let mut mixed = state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn seed() -> u64 {
    let mut bytes = [0; 8];
    sys::random_bytes(&mut bytes);
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{new_span_id, new_trace_id, random};

    #[test]
    fn ids_differ_and_are_spread() {
        let spans: HashSet<_> = (0..10_000).map(|_| new_span_id()).collect();
        let traces: HashSet<_> = (0..10_000).map(|_| new_trace_id()).collect();
        assert_eq!((spans.len(), traces.len()), (10_000, 10_000));
        let small = (0..10_000).filter(|_| random() % 100 < 25).count();
        assert!((2000..3000).contains(&small), "{small}");
        let other = std::thread::spawn(new_span_id).join().expect("no panic");
        assert!(!spans.contains(&other));
    }
}
