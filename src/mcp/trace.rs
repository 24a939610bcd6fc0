//! Where a request stands in a trace, as W3C Trace Context and Baggage write it. MCP reserves the
//! three names in `_meta` and HTTP has them as headers: `traceparent`, `tracestate`, `baggage`.
//! Pure: new ids come from whoever records spans.

use std::fmt::{Display, Formatter, Result as FmtResult};

use crate::base::ordered;

/// The reserved names, the same as members of `_meta` and as HTTP headers.
pub const PARENT: &str = "traceparent";
pub const STATE: &str = "tracestate";
pub const BAGGAGE: &str = "baggage";

pub fn is_name(name: &str) -> bool {
    matches!(name, PARENT | STATE | BAGGAGE)
}

/// Version, both ids and flags with the dashes between them.
pub const PARENT_BYTES: usize = 55;
/// What the standards ask everybody to pass on; more is not passed at all.
pub const STATE_BYTES: usize = 512;
pub const STATE_MEMBERS: usize = 32;
pub const BAGGAGE_BYTES: usize = 8192;
pub const BAGGAGE_MEMBERS: usize = 180;

pub const SAMPLED: u8 = 1;
/// The trace id is random (level 2 of the standard).
pub const RANDOM: u8 = 2;

pub type TraceId = [u8; 16];
pub type SpanId = [u8; 8];

/// The span under which something happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub flags: u8,
    /// `tracestate` as it came.
    pub state: Option<String>,
}

impl TraceContext {
    /// Nothing if `parent` is not valid: whoever gets such a thing starts a trace of its own. A
    /// `state` that is not valid is left out, and hurts nothing else.
    pub fn parse(parent: &str, state: Option<&str>) -> Option<TraceContext> {
        let bytes = parent.as_bytes();
        let known = bytes.get(..PARENT_BYTES)?;
        let (version, rest) = (hex::<1>(&known[..2])?[0], &bytes[PARENT_BYTES..]);
        // Later versions may say more behind a further dash. Ours says nothing more.
        let foreign = match (version, rest.first()) {
            (0xff, _) => return None,
            (_, None) => version != 0,
            (0, Some(_)) => return None,
            (_, Some(next)) => (*next == b'-').then_some(true)?,
        };
        if known[2] != b'-' || known[35] != b'-' || known[52] != b'-' {
            return None;
        }
        let trace_id = hex::<16>(&known[3..35])?;
        let span_id = hex::<8>(&known[36..52])?;
        let flags = hex::<1>(&known[53..55])?[0];
        if trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        Some(TraceContext {
            trace_id,
            span_id,
            flags: if foreign {
                flags & SAMPLED
            } else {
                flags & (SAMPLED | RANDOM)
            },
            state: state
                .filter(|state| state_is_good(state))
                .map(str::to_owned),
        })
    }

    pub fn sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same trace, one span further down.
    pub fn child(&self, span_id: SpanId) -> TraceContext {
        TraceContext {
            span_id,
            ..self.clone()
        }
    }

    /// The value of `traceparent`.
    pub fn parent(&self) -> String {
        self.to_string()
    }

    pub fn trace_text(&self) -> String {
        Hex(&self.trace_id).to_string()
    }

    pub fn span_text(&self) -> String {
        Hex(&self.span_id).to_string()
    }
}

impl Display for TraceContext {
    fn fmt(&self, out: &mut Formatter<'_>) -> FmtResult {
        let (trace, span) = (Hex(&self.trace_id), Hex(&self.span_id));
        write!(out, "00-{trace}-{span}-{:02x}", self.flags)
    }
}

/// Bytes as lower-case hexadecimal digits.
pub struct Hex<'a>(pub &'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> FmtResult {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// Lower-case digits only: the standard knows no others.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// Whether a `tracestate` may be passed on: `key=value` members between commas, each key once.
pub fn state_is_good(state: &str) -> bool {
    if state.len() > STATE_BYTES {
        return false;
    }
    let mut keys = Vec::new();
    for member in state
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']))
    {
        if member.is_empty() {
            continue;
        }
        match member.split_once('=') {
            Some((key, value)) if key_is_good(key) && value_is_good(value) => keys.push(key),
            _ => return false,
        }
    }
    let count = keys.len();
    ordered::sort(&mut keys);
    keys.dedup();
    (1..=STATE_MEMBERS).contains(&count) && keys.len() == count
}

/// `name` or `tenant@system`.
fn key_is_good(key: &str) -> bool {
    let mut at = 0;
    let plain = key.bytes().all(|byte| {
        at += usize::from(byte == b'@');
        matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@')
    });
    let first = key.bytes().next();
    let starts = first.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    plain && starts && at <= 1 && key.len() <= 256
}

fn value_is_good(value: &str) -> bool {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b',' && byte != b'=';
    value.len() <= 256 && !value.is_empty() && value.bytes().all(plain)
}

/// Whether a `baggage` may be passed on. It is not ours to understand: what counts is that it is
/// bounded, fits into a header line, and consists of `key=value` members.
pub fn baggage_is_good(baggage: &str) -> bool {
    let plain = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
    let mut members = 0;
    let shaped = baggage.split(',').all(|member| {
        members += 1;
        let member = member.trim_matches([' ', '\t']);
        member
            .split_once('=')
            .is_some_and(|(key, _)| !key.is_empty())
    });
    baggage.len() <= BAGGAGE_BYTES
        && baggage.bytes().all(plain)
        && shaped
        && members <= BAGGAGE_MEMBERS
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_read_is_written_as_it_was() {
        let context = TraceContext::parse(GOOD, Some("congo=t61,rojo=00f")).unwrap();
        assert_eq!(context.parent(), GOOD);
        assert_eq!(context.state.as_deref(), Some("congo=t61,rojo=00f"));
        assert!(context.sampled());
        assert_eq!(context.trace_text(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.span_text(), "b7ad6b7169203331");
        let child = context.child([1; 8]);
        assert_eq!(
            child.parent(),
            "00-0af7651916cd43dd8448eb211c80319c-0101010101010101-01"
        );
        assert_eq!(child.state, context.state);
    }

    #[test]
    fn each_parent_is_good_or_nothing() {
        let good = [
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", 0),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03", 3),
            // Unknown flags are not passed on.
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff", 3),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff", 1),
            (
                "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-is-new",
                1,
            ),
            (
                "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
                1,
            ),
        ];
        for (text, flags) in good {
            let context = TraceContext::parse(text, None).expect(text);
            assert_eq!(context.flags, flags, "{text}");
            assert!(context.parent().starts_with("00-"), "{text}");
        }
        let bad = [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-011",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331_01",
            "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
            "0g-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c8031éé-b7ad6b7169203331-01",
        ];
        for text in bad {
            assert_eq!(TraceContext::parse(text, None), None, "{text}");
        }
    }

    #[test]
    fn a_bad_state_is_left_out_and_hurts_nothing_else() {
        let long = format!("a={}", "x".repeat(256));
        let many = (0..33)
            .map(|n| format!("k{n}=v"))
            .collect::<Vec<_>>()
            .join(",");
        let most = (0..32)
            .map(|n| format!("k{n}=v"))
            .collect::<Vec<_>>()
            .join(",");
        let good = [
            "a=1",
            "a=1,b=2",
            "a=1, b=2 ,,c=3",
            "t@s=v",
            "0a=b c",
            "a/b*_-=!",
            &long,
            &most,
        ];
        for state in good {
            assert!(state_is_good(state), "{state}");
            let context = TraceContext::parse(GOOD, Some(state)).unwrap();
            assert_eq!(context.state.as_deref(), Some(state));
        }
        let twice = format!("{long},b={}", "x".repeat(256));
        let bad = [
            "",
            ",",
            "a",
            "=1",
            "a=",
            "A=1",
            "a=1,a=2",
            "a=b=c",
            "a@b@c=1",
            "a=é",
            "a=1\r\nb: c",
            &many,
            &twice,
            &format!("{long}x"),
        ];
        for state in bad {
            assert!(!state_is_good(state), "{state}");
            let context = TraceContext::parse(GOOD, Some(state)).unwrap();
            assert_eq!(context.state, None, "{state}");
        }
    }

    #[test]
    fn baggage_is_bounded_and_fits_a_header() {
        let many = vec!["k=v"; BAGGAGE_MEMBERS + 1].join(",");
        let large = format!("k={}", "v".repeat(BAGGAGE_BYTES));
        for good in ["k=v", "user=alice%20b;secret=1, k2=", "a=1,b=2;p"] {
            assert!(baggage_is_good(good), "{good}");
        }
        for bad in ["", "k", "=v", "k=v,", "k=\r\nv", "k=é", &many, &large] {
            assert!(!baggage_is_good(bad), "{bad}");
        }
    }
}
