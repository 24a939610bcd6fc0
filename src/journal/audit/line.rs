//! The text of one event: members in their fixed order, everything in printable ASCII, so that
//! nothing that somebody sends breaks a line, moves a cursor or turns a direction. Pure but for
//! the secrets that are masked.

use std::cell::Cell;
use std::fmt::Write;

use ring::digest;
use ring::hmac;

use crate::base::limits;
use crate::base::mask::masked;
use crate::journal::audit::record::Record;
use crate::journal::context::{self, Context, Origin};
use crate::model::principal::Principal;

/// The members from `event` on; what stands before and behind is the chain's.
pub fn body(record: &Record<'_>, mark: &hmac::Key, out: &mut String) {
    out.reserve(640);
    let mut line = Body(std::mem::take(out));
    line.0.push_str("\"event\":\"");
    line.0.push_str(record.event.as_str());
    line.0.push_str("\",\"outcome\":\"");
    line.0.push_str(record.outcome.as_str());
    line.0.push('"');
    line.name("reason", record.reason.map_or("", |reason| reason.as_str()));
    let told = context::with(|context| line.circumstances(record, Some(context)));
    if told.is_none() {
        line.circumstances(record, None);
    }
    match record.asked {
        "" => line.asked(record, mark),
        asked => line.0.push_str(asked),
    }
    line.text("args", record.shown, limits::AUDIT_ARGUMENTS_BYTES);
    line.number("res_bytes", record.result_bytes);
    if let Some(is_error) = record.is_error {
        let _ = write!(line.0, ",\"is_error\":{is_error}");
    }
    if let Some(code) = record.code {
        let _ = write!(line.0, ",\"code\":{code}");
    }
    line.millis("dur_ms", record.spent);
    line.millis("up_ms", record.upstream);
    line.text("scopes_used", record.scopes_used, limits::AUDIT_TEXT_BYTES);
    let missing = record.scopes_missing;
    line.text("scopes_missing", missing, limits::AUDIT_TEXT_BYTES);
    line.name("policy", record.policy);
    line.number("count", record.count);
    let detail = masked(record.detail);
    line.text("detail", &detail, limits::AUDIT_TEXT_BYTES);
    *out = line.0;
}

/// The members of a request, for `Record::asked`: made while its text is there.
pub fn asked(record: &Record<'_>, mark: &hmac::Key) -> String {
    let mut line = Body(String::with_capacity(384));
    line.asked(record, mark);
    line.0
}

/// Adds the server that a request goes to.
pub fn goes_to(asked: &mut String, server: &str) {
    asked.push_str(",\"server\":");
    push_text(asked, server, limits::AUDIT_NAME_BYTES);
}

/// What stands for a session. Most threads ask for the same one again and again.
fn session_mark(mark: &hmac::Key, session: &str) -> [u8; 6] {
    thread_local! {
        static LAST: Cell<(String, [u8; 6])> = const { Cell::new((String::new(), [0; 6])) };
    }
    let (mut known, mut tag) = LAST.try_with(Cell::take).unwrap_or_default();
    if known != session {
        tag.copy_from_slice(&hmac::sign(mark, session.as_bytes()).as_ref()[..6]);
        session.clone_into(&mut known);
    }
    let _ = LAST.try_with(|last| last.set((known, tag)));
    tag
}

struct Body(String);

impl Body {
    /// Who, and in which request.
    fn circumstances(&mut self, record: &Record<'_>, around: Option<&Context>) {
        let around_who = around.and_then(|context| context.who.as_deref());
        match record.who.or(around_who) {
            Some(who) => self.principal(who),
            None => {
                self.name("sub", &masked(record.subject));
                self.name("iss", &masked(record.issuer));
                self.name("client_id", &masked(record.client));
            }
        }
        let around_from = around.and_then(|context| context.from.as_deref());
        if let Some(from) = record.from.or(around_from) {
            self.origin(from);
        }
        if let Some(context) = around {
            let _ = write!(self.0, ",\"req_id\":{}", context.request);
            if let Some(trace) = &context.trace {
                self.name("trace", &trace.trace_text());
            }
        }
    }

    fn principal(&mut self, who: &Principal) {
        self.name("sub", &masked(&who.subject));
        self.name("iss", &who.issuer);
        self.name("client_id", &masked(&who.client));
        self.name("auth", who.means.as_str());
        self.name("tok", &who.token);
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
            self.name("cert", &masked(name));
        }
        let agent = masked(&from.user_agent);
        self.text("ua", &agent, limits::AUDIT_AGENT_BYTES);
    }

    /// What was asked for, and of whom.
    fn asked(&mut self, record: &Record<'_>, mark: &hmac::Key) {
        if !record.session.is_empty() {
            self.hex("sess", &session_mark(mark, record.session));
        }
        self.name("proto", record.protocol);
        self.name("transport", record.transport);
        self.name("method", record.method);
        self.name("name", &masked(record.name));
        if let Some(arguments) = record.arguments {
            let sum = digest::digest(&digest::SHA256, arguments.as_bytes());
            self.hex("args_sha256", sum.as_ref());
            self.number("args_bytes", Some(arguments.len() as u64));
        }
        self.name("server", record.server);
    }

    fn hex(&mut self, key: &str, bytes: &[u8]) {
        self.key(key);
        self.0.push('"');
        push_hex(&mut self.0, bytes);
        self.0.push('"');
    }

    fn key(&mut self, key: &str) {
        self.0.push_str(",\"");
        self.0.push_str(key);
        self.0.push_str("\":");
    }

    fn name(&mut self, key: &str, text: &str) {
        self.text(key, text, limits::AUDIT_NAME_BYTES);
    }

    fn text(&mut self, key: &str, text: &str, most: usize) {
        if text.is_empty() {
            return;
        }
        self.key(key);
        push_text(&mut self.0, text, most);
    }

    fn number(&mut self, key: &str, number: Option<u64>) {
        if let Some(number) = number {
            self.key(key);
            push_number(&mut self.0, number);
        }
    }

    fn millis(&mut self, key: &str, time: Option<std::time::Duration>) {
        let Some(time) = time else { return };
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.key(key);
        push_number(&mut self.0, micros / 1000);
        self.0.push('.');
        let rest = micros % 1000;
        for digit in [rest / 100, rest / 10 % 10, rest % 10] {
            self.0
                .push(char::from(b'0' + u8::try_from(digit).unwrap_or(0)));
        }
    }
}

pub fn push_number(out: &mut String, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    digits[at..]
        .iter()
        .for_each(|digit| out.push(char::from(*digit)));
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

pub fn push_hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}
