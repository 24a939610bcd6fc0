//! The text of one event: members in their fixed order, everything in printable ASCII, so that
//! nothing that somebody sends breaks a line, moves a cursor or turns a direction. Pure but for
//! the secrets that are masked.

use std::cell::Cell;
use std::io::Write;
use std::sync::Arc;

use ring::digest;

use crate::base::limits;
use crate::base::mask::{self, masked};
use crate::journal::audit::call::{Arguments, Facts, Texts};
use crate::journal::audit::event::{Event, Outcome, Reason};
use crate::journal::audit::record::Record;
use crate::journal::context::{self, Context, Origin};
use crate::model::principal::Principal;
use crate::wire::hex;

/// A key with all that stands around it: one piece costs less than three.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

/// What a session's id is known by here.
pub type Mark<'a> = &'a dyn Fn(&str) -> [u8; 6];

/// The members from `event` on; what stands before and behind is the chain's.
pub fn body(record: &Record<'_>, mark: Mark<'_>, out: &mut Vec<u8>) {
    let mut line = Body(std::mem::take(out));
    line.begin(record.event, record.outcome, record.reason);
    let told = context::with(|context| line.circumstances(record, Some(context)));
    if told.is_none() {
        line.circumstances(record, None);
    }
    line.kind(&record.kind(), mark);
    line.name(key!("name"), &masked(record.name));
    line.name(key!("server"), record.server);
    line.code(record.code);
    line.long(key!("scopes_used"), record.scopes_used);
    line.long(key!("scopes_missing"), record.scopes_missing);
    line.name(key!("policy"), record.policy);
    line.number(key!("count"), record.count);
    line.long(key!("detail"), &masked(record.detail));
    *out = line.0;
}

/// Who asks, and in which request, as far as this thread works on one.
pub fn around(out: &mut Vec<u8>) {
    let mut line = Body(std::mem::take(out));
    context::with(|context| {
        line.known(context);
        line.request(context);
    });
    *out = line.0;
}

/// What kind of request it is.
pub fn kind(kind: &Kind<'_>, mark: Mark<'_>) -> Vec<u8> {
    let mut line = Body(Vec::new());
    line.kind(kind, mark);
    line.0
}

/// The same as `body`, of a request of a client.
pub fn call(facts: &Facts, texts: &Texts<'_>, out: &mut Vec<u8>) {
    let mut line = Body(std::mem::take(out));
    line.begin(facts.event, facts.outcome, facts.reason);
    line.0.extend_from_slice(texts.around);
    line.0.extend_from_slice(texts.kind);
    line.raw(key!("name"), texts.name);
    line.arguments(facts.arguments_bytes, texts.arguments);
    line.raw(key!("server"), texts.server);
    line.text(key!("args"), texts.shown, limits::AUDIT_ARGUMENTS_BYTES);
    line.number(key!("res_bytes"), facts.result_bytes);
    if let Some(is_error) = facts.is_error {
        let _ = write!(line.0, ",\"is_error\":{is_error}");
    }
    line.code(facts.code);
    line.millis(key!("dur_ms"), Some(facts.spent));
    line.millis(key!("up_ms"), facts.upstream);
    line.long(key!("detail"), facts.detail);
    *out = line.0;
}

/// What a request is but for its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind<'a> {
    /// Empty where there are no sessions.
    pub session: &'a str,
    pub protocol: &'a str,
    pub transport: &'a str,
    pub method: &'a str,
}

/// Who and from where, as the line before says it. On most threads it is the same in the next.
#[derive(Default)]
struct Known {
    who: Option<Arc<Principal>>,
    from: Option<Arc<Origin>>,
    /// How many secrets had been learnt.
    secrets: u64,
    text: Vec<u8>,
}

impl Known {
    fn is_of(&self, context: &Context) -> bool {
        self.secrets == mask::learnt()
            && is_same(self.who.as_ref(), context.who.as_ref())
            && is_same(self.from.as_ref(), context.from.as_ref())
    }
}

fn is_same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

struct Body(Vec<u8>);

impl Body {
    fn begin(&mut self, event: Event, outcome: Outcome, reason: Option<Reason>) {
        self.piece("\"event\":\"");
        self.piece(event.as_str());
        self.piece("\",\"outcome\":\"");
        self.piece(outcome.as_str());
        self.piece("\"");
        if let Some(reason) = reason {
            self.name(key!("reason"), reason.as_str());
        }
    }

    fn piece(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Who, and in which request.
    fn circumstances(&mut self, record: &Record<'_>, around: Option<&Context>) {
        let says_who = record.who.is_some() || record.from.is_some();
        let says_more = [record.subject, record.issuer, record.client] != [""; 3];
        match around {
            Some(context) if !says_who && !says_more => self.known(context),
            _ => self.who_and_whence(record, around),
        }
        if let Some(context) = around {
            self.request(context);
        }
    }

    fn request(&mut self, context: &Context) {
        self.number(key!("req_id"), Some(context.request));
        if let Some(trace) = &context.trace {
            self.name(key!("trace"), &trace.trace_text());
        }
    }

    /// Who and from where, when only the context knows.
    fn known(&mut self, context: &Context) {
        thread_local! {
            static LAST: Cell<Option<Box<Known>>> = const { Cell::new(None) };
        }
        let last = LAST.try_with(Cell::take).ok().flatten();
        let known = last.filter(|last| last.is_of(context)).unwrap_or_else(|| {
            let secrets = mask::learnt();
            let mut line = Body(Vec::new());
            let nothing = Record::new(Event::ToolCall, Outcome::Ok);
            line.who_and_whence(&nothing, Some(context));
            Box::new(Known {
                who: context.who.clone(),
                from: context.from.clone(),
                secrets,
                text: line.0,
            })
        });
        self.0.extend_from_slice(&known.text);
        let _ = LAST.try_with(|last| last.set(Some(known)));
    }

    fn who_and_whence(&mut self, record: &Record<'_>, around: Option<&Context>) {
        let around_who = around.and_then(|context| context.who.as_deref());
        match record.who.or(around_who) {
            Some(who) => self.principal(who),
            None => {
                self.name(key!("sub"), &masked(record.subject));
                self.name(key!("iss"), &masked(record.issuer));
                self.name(key!("client_id"), &masked(record.client));
            }
        }
        let around_from = around.and_then(|context| context.from.as_deref());
        if let Some(from) = record.from.or(around_from) {
            self.origin(from);
        }
    }

    fn principal(&mut self, who: &Principal) {
        self.name(key!("sub"), &masked(&who.subject));
        self.name(key!("iss"), &who.issuer);
        self.name(key!("client_id"), &masked(&who.client));
        self.name(key!("auth"), who.means.as_str());
        self.name(key!("tok"), &who.token);
    }

    fn origin(&mut self, from: &Origin) {
        let _ = match from.source.port() {
            0 => write!(self.0, ",\"src\":\"{}\"", from.source.ip()),
            _ => write!(self.0, ",\"src\":\"{}\"", from.source),
        };
        if let Some(via) = from.via {
            let _ = write!(self.0, ",\"via\":\"{via}\"");
        }
        if let Some(name) = &from.certificate {
            self.name(key!("cert"), &masked(name));
        }
        let agent = masked(&from.user_agent);
        self.text(key!("ua"), &agent, limits::AUDIT_AGENT_BYTES);
    }

    fn kind(&mut self, kind: &Kind<'_>, mark: Mark<'_>) {
        if !kind.session.is_empty() {
            self.hex(key!("sess"), &mark(kind.session));
        }
        self.name(key!("proto"), kind.protocol);
        self.name(key!("transport"), kind.transport);
        self.name(key!("method"), kind.method);
    }

    fn arguments(&mut self, bytes: Option<u64>, arguments: Arguments<'_>) {
        if bytes.is_none() {
            return;
        }
        match arguments {
            Arguments::Text(text) => {
                let sum = digest::digest(&digest::SHA256, text);
                self.hex(key!("args_sha256"), sum.as_ref());
            }
            Arguments::Digest(sum) => self.hex(key!("args_sha256"), sum),
        }
        self.number(key!("args_bytes"), bytes);
    }

    fn hex(&mut self, key: &str, bytes: &[u8]) {
        self.piece(key);
        self.0.push(b'"');
        hex::push(&mut self.0, bytes);
        self.0.push(b'"');
    }

    fn name(&mut self, key: &str, text: &str) {
        self.text(key, text, limits::AUDIT_NAME_BYTES);
    }

    fn long(&mut self, key: &str, text: &str) {
        self.text(key, text, limits::AUDIT_TEXT_BYTES);
    }

    fn code(&mut self, code: Option<i64>) {
        if let Some(code) = code {
            let _ = write!(self.0, ",\"code\":{code}");
        }
    }

    /// A name that may be a secret, and was text when it was put in.
    fn raw(&mut self, key: &str, name: &[u8]) {
        if mask::learnt() > 0 || name.is_empty() || !is_plain(name, limits::AUDIT_NAME_BYTES) {
            let text = std::str::from_utf8(name).unwrap_or_default();
            return self.name(key, &masked(text));
        }
        self.piece(key);
        self.0.push(b'"');
        self.0.extend_from_slice(name);
        self.0.push(b'"');
    }

    fn text(&mut self, key: &str, text: &str, most: usize) {
        if text.is_empty() {
            return;
        }
        self.piece(key);
        push_text(&mut self.0, text, most);
    }

    fn number(&mut self, key: &str, number: Option<u64>) {
        if let Some(number) = number {
            self.piece(key);
            push_number(&mut self.0, number);
        }
    }

    fn millis(&mut self, key: &str, time: Option<std::time::Duration>) {
        let Some(time) = time else { return };
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.piece(key);
        push_number(&mut self.0, micros / 1000);
        push_thousandths(&mut self.0, micros % 1000);
    }
}

pub fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A point and three digits.
pub fn push_thousandths(out: &mut Vec<u8>, number: u64) {
    let digit = |number: u64| b'0' + u8::try_from(number % 10).unwrap_or(0);
    let text = [b'.', digit(number / 100), digit(number / 10), digit(number)];
    // In one piece they cost least.
    out.extend_from_slice(&text);
}

/// A literal of printable ASCII with at most `most` bytes between its quotes; `...` ends what is
/// cut.
pub fn push_text(out: &mut Vec<u8>, text: &str, most: usize) {
    out.push(b'"');
    if is_plain(text.as_bytes(), most) {
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    let end = out.len() + most.saturating_sub(3);
    let mut units = [0; 2];
    for c in text.chars() {
        let before = out.len();
        let _ = match c {
            '"' | '\\' => write!(out, "\\{c}"),
            ' '..='~' => write!(out, "{c}"),
            _ => {
                let mut units = c.encode_utf16(&mut units).iter();
                units.try_for_each(|unit| write!(out, "\\u{unit:04x}"))
            }
        };
        if out.len() > end {
            out.truncate(before);
            out.extend_from_slice(b"...");
            break;
        }
    }
    out.push(b'"');
}

/// Whether it stands between quotes as it is.
fn is_plain(text: &[u8], most: usize) -> bool {
    let plain = |byte: &u8| (b' '..0x7f).contains(byte) && !matches!(byte, b'"' | b'\\');
    text.len() <= most && text.iter().all(plain)
}
