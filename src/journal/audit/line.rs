//! The text of one event: members in their fixed order, everything in printable ASCII, so that
//! nothing that somebody sends breaks a line, moves a cursor or turns a direction. Pure but for
//! the secrets that are masked.

use std::cell::Cell;
use std::fmt::Write;
use std::sync::Arc;

use ring::digest;

use crate::base::limits;
use crate::base::mask::{self, masked};
use crate::journal::audit::event::{Event, Outcome};
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

/// What a session's id is known by here: it is asked for when it is not the one of the line before.
pub type Mark<'a> = &'a dyn Fn(&str) -> [u8; 6];

/// The members from `event` on; what stands before and behind is the chain's.
pub fn body(record: &Record<'_>, mark: Mark<'_>, out: &mut String) {
    out.reserve(640);
    let mut line = Body(std::mem::take(out));
    line.0.push_str("\"event\":\"");
    line.0.push_str(record.event.as_str());
    line.0.push_str("\",\"outcome\":\"");
    line.0.push_str(record.outcome.as_str());
    line.0.push('"');
    line.name(
        key!("reason"),
        record.reason.map_or("", |reason| reason.as_str()),
    );
    let told = context::with(|context| line.circumstances(record, Some(context)));
    if told.is_none() {
        line.circumstances(record, None);
    }
    match record.asked {
        "" => line.asked(record, mark),
        asked => line.0.push_str(asked),
    }
    line.text(key!("args"), record.shown, limits::AUDIT_ARGUMENTS_BYTES);
    line.number(key!("res_bytes"), record.result_bytes);
    if let Some(is_error) = record.is_error {
        let _ = write!(line.0, ",\"is_error\":{is_error}");
    }
    if let Some(code) = record.code {
        let _ = write!(line.0, ",\"code\":{code}");
    }
    line.millis(key!("dur_ms"), record.spent);
    line.millis(key!("up_ms"), record.upstream);
    line.text(
        key!("scopes_used"),
        record.scopes_used,
        limits::AUDIT_TEXT_BYTES,
    );
    let missing = record.scopes_missing;
    line.text(key!("scopes_missing"), missing, limits::AUDIT_TEXT_BYTES);
    line.name(key!("policy"), record.policy);
    line.number(key!("count"), record.count);
    let detail = masked(record.detail);
    line.text(key!("detail"), &detail, limits::AUDIT_TEXT_BYTES);
    *out = line.0;
}

/// The members of a request, for `Record::asked`: made while its text is there.
pub fn asked(record: &Record<'_>, mark: Mark<'_>) -> String {
    let mut line = Body(String::with_capacity(384));
    line.asked(record, mark);
    line.0
}

/// Adds the server that a request goes to.
pub fn goes_to(asked: &mut String, server: &str) {
    asked.push_str(",\"server\":");
    push_text(asked, server, limits::AUDIT_NAME_BYTES);
}

/// Who and from where, as the line before says it. On most threads it is the same in the next.
#[derive(Default)]
struct Known {
    who: Option<Arc<Principal>>,
    from: Option<Arc<Origin>>,
    /// How many secrets had been learnt.
    secrets: u64,
    text: String,
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

/// What a request is but for its name: `said` is what the line says of that.
#[derive(Default)]
struct Kind {
    session: String,
    protocol: String,
    transport: String,
    method: String,
    said: String,
}

impl Kind {
    fn is_of(&self, record: &Record<'_>) -> bool {
        self.session == record.session
            && self.method == record.method
            && self.protocol == record.protocol
            && self.transport == record.transport
    }
}

struct Body(String);

impl Body {
    /// Who, and in which request.
    fn circumstances(&mut self, record: &Record<'_>, around: Option<&Context>) {
        let says_who = record.who.is_some() || record.from.is_some();
        let says_more = [record.subject, record.issuer, record.client] != [""; 3];
        match around {
            Some(context) if !says_who && !says_more => self.known(context),
            _ => self.who_and_whence(record, around),
        }
        if let Some(context) = around {
            self.0.push_str(",\"req_id\":");
            push_number(&mut self.0, context.request);
            if let Some(trace) = &context.trace {
                self.name(key!("trace"), &trace.trace_text());
            }
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
            let mut line = Body(String::new());
            let nothing = Record::new(Event::ToolCall, Outcome::Ok);
            line.who_and_whence(&nothing, Some(context));
            Box::new(Known {
                who: context.who.clone(),
                from: context.from.clone(),
                secrets,
                text: line.0,
            })
        });
        self.0.push_str(&known.text);
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

    /// What was asked for, and of whom.
    fn asked(&mut self, record: &Record<'_>, mark: Mark<'_>) {
        self.kind(record, mark);
        self.name(key!("name"), &masked(record.name));
        if let Some(arguments) = record.arguments {
            let sum = digest::digest(&digest::SHA256, arguments.as_bytes());
            self.hex(key!("args_sha256"), sum.as_ref());
            self.number(key!("args_bytes"), Some(arguments.len() as u64));
        }
        self.name(key!("server"), record.server);
    }

    /// Most threads are asked in the same session for the same again and again.
    fn kind(&mut self, record: &Record<'_>, mark: Mark<'_>) {
        thread_local! {
            static LAST: Cell<Option<Box<Kind>>> = const { Cell::new(None) };
        }
        let last = LAST.try_with(Cell::take).ok().flatten();
        let kind = last.filter(|last| last.is_of(record)).unwrap_or_else(|| {
            let mut line = Body(String::new());
            if !record.session.is_empty() {
                line.hex(key!("sess"), &mark(record.session));
            }
            line.name(key!("proto"), record.protocol);
            line.name(key!("transport"), record.transport);
            line.name(key!("method"), record.method);
            Box::new(Kind {
                session: record.session.to_owned(),
                protocol: record.protocol.to_owned(),
                transport: record.transport.to_owned(),
                method: record.method.to_owned(),
                said: line.0,
            })
        });
        self.0.push_str(&kind.said);
        let _ = LAST.try_with(|last| last.set(Some(kind)));
    }

    fn hex(&mut self, key: &str, bytes: &[u8]) {
        self.0.push_str(key);
        self.0.push('"');
        hex::push(&mut self.0, bytes);
        self.0.push('"');
    }

    fn name(&mut self, key: &str, text: &str) {
        self.text(key, text, limits::AUDIT_NAME_BYTES);
    }

    fn text(&mut self, key: &str, text: &str, most: usize) {
        if text.is_empty() {
            return;
        }
        self.0.push_str(key);
        push_text(&mut self.0, text, most);
    }

    fn number(&mut self, key: &str, number: Option<u64>) {
        if let Some(number) = number {
            self.0.push_str(key);
            push_number(&mut self.0, number);
        }
    }

    fn millis(&mut self, key: &str, time: Option<std::time::Duration>) {
        let Some(time) = time else { return };
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0.push_str(key);
        push_number(&mut self.0, micros / 1000);
        push_thousandths(&mut self.0, micros % 1000);
    }
}

pub fn push_number(out: &mut String, number: u64) {
    out.push_str(itoa::Buffer::new().format(number));
}

/// A point and three digits.
pub fn push_thousandths(out: &mut String, number: u64) {
    let digit = |number: u64| b'0' + u8::try_from(number % 10).unwrap_or(0);
    let text = [b'.', digit(number / 100), digit(number / 10), digit(number)];
    // Digits are always text; in one piece they cost least.
    out.push_str(std::str::from_utf8(&text).unwrap_or_default());
}

/// A literal of printable ASCII with at most `most` bytes between its quotes; `...` ends what is
/// cut.
pub fn push_text(out: &mut String, text: &str, most: usize) {
    out.push('"');
    let plain = |byte: u8| (b' '..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
    if text.len() <= most && text.bytes().all(plain) {
        out.push_str(text);
        out.push('"');
        return;
    }
    let end = out.len() + most.saturating_sub(3);
    let mut units = [0; 2];
    for c in text.chars() {
        let before = out.len();
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
        if out.len() > end {
            out.truncate(before);
            out.push_str("...");
            break;
        }
    }
    out.push('"');
}
