//! HTTP+SSE, the transport of revision 2024-11-05 that newer clients fall back to: GET `/sse` is
//! the channel, POST `/messages?sessionId=...` brings what its client says. The session is the
//! connection of the GET: it ends with it. Which revision is spoken is what `initialize` says.

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use crate::base::limits;
use crate::front::channel::{Channel, Next};
use crate::front::exchange::with_type;
use crate::front::listen::has_ended;
use crate::front::streamable::rpc_reply;
use crate::front::talks::Talks;
use crate::http::{Head, Reply, Responder};
use crate::journal::audit::{self, Event, Reason, Record};
use crate::mcp::error::{INVALID_REQUEST, PARSE_ERROR};
use crate::model::principal::Principal;
use crate::wire::percent;
use crate::wire::sse;

pub struct Sse {
    pub talks: Talks,
}

/// Checks a POST to `/messages` before its body is read. Its answer has no body to speak of, so
/// it does not matter what the client accepts.
pub fn refuse_message(head: &Head<'_>) -> Option<Reply> {
    let content_type = head.header("Content-Type").unwrap_or_default();
    let media = content_type.split(';').next().unwrap_or_default().trim();
    let what = "Content-Type must be application/json";
    (!media.eq_ignore_ascii_case("application/json")).then(|| rpc_reply(415, INVALID_REQUEST, what))
}

impl Sse {
    /// Streams that are open when it is switched off go on.
    fn is_on(&self) -> bool {
        let world = self.talks.common.streamable.desk.hub.world();
        world.fixed.settings.enable_sse
    }

    /// Serves one GET until the client goes, or is cut off.
    pub fn listen(
        &self,
        head: &Head<'_>,
        address: IpAddr,
        whose: Option<&Arc<Principal>>,
        headers: &[(&str, &str)],
        out: &mut Responder<'_>,
    ) {
        if !self.is_on() {
            let text = "{\"error\":\"HTTP+SSE is switched off here; use /mcp\"}";
            return send(out, headers, &Reply::json(404, text));
        }
        let opened = self
            .talks
            .open(head.query.unwrap_or_default(), address, whose);
        let (id, talk) = match opened {
            Ok(opened) => opened,
            Err(reply) => return send(out, headers, &reply),
        };
        if out.start_stream(200, &with_type(headers, "text/event-stream"))
            && greet(forwarded_prefix(head), &id, out)
        {
            serve(&talk.channel, whose, out);
        }
        self.talks.close(&id, &talk);
        out.finish_stream();
    }

    /// Takes one message; its answer travels on the stream.
    pub fn post(
        &self,
        head: &Head<'_>,
        whose: Option<&Arc<Principal>>,
        headers: &[(&str, &str)],
        body: &[u8],
        out: &mut Responder<'_>,
    ) {
        let Some(id) = session_id(head.query) else {
            let what = "sessionId must stand there once; open a stream with GET /sse first";
            return send(out, headers, &rpc_reply(400, INVALID_REQUEST, what));
        };
        let talk = self.talks.get(&id);
        if talk.as_ref().is_some_and(|talk| !talk.belongs_to(whose)) {
            audit::note(Record {
                session: &id,
                ..Record::denied(Event::SessionHijack, Reason::OtherPrincipal)
            });
        }
        // Another one's is as one that is not there.
        let Some(talk) = talk.filter(|talk| talk.belongs_to(whose)) else {
            return send(
                out,
                headers,
                &Reply::json(404, "{\"error\":\"Transport not found\"}"),
            );
        };
        let Ok(text) = std::str::from_utf8(body) else {
            let reply = rpc_reply(400, PARSE_ERROR, "the body is not UTF-8");
            return send(out, headers, &reply);
        };
        match talk.take(text.to_owned()) {
            Ok(()) => out.send(202, headers, &[]),
            Err(bad) => {
                let status = if talk.channel.is_over() { 503 } else { 400 };
                let response = bad.error.response(bad.id.as_deref());
                send(out, headers, &Reply::json(status, response));
            }
        }
    }
}

fn send(out: &mut Responder<'_>, headers: &[(&str, &str)], reply: &Reply) {
    let mut headers = with_type(headers, "application/json");
    if [429, 503].contains(&reply.status) {
        headers.push(("Retry-After", "1"));
    }
    out.send(reply.status, &headers, &[&reply.body]);
}

/// The event that tells the client where to post. Written from the stack, because the thread of
/// a quiet stream had better allocate little.
fn greet(prefix: &str, id: &str, out: &mut Responder<'_>) -> bool {
    let mut event = [0; limits::PREFIX_BYTES + limits::SESSION_ID_BYTES];
    let mut rest = &mut event[..];
    let written = write!(
        rest,
        "event: endpoint\ndata: {prefix}/messages?sessionId={id}\n\n"
    );
    let left = rest.len();
    written.is_ok() && out.write_stream(&event[..event.len() - left])
}

/// What a proxy says stands before our paths; believed only if it is a plain path, because the
/// client will post there.
fn forwarded_prefix<'h>(head: &Head<'h>) -> &'h str {
    let mut values = head.header_values("X-Forwarded-Prefix");
    match (values.next(), values.next()) {
        (Some(prefix), None) if is_plain_path(prefix) => prefix.trim_end_matches('/'),
        _ => "",
    }
}

fn is_plain_path(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    path.starts_with('/')
        && path.len() <= limits::PREFIX_BYTES
        && path.bytes().all(plain)
        && !path.contains("//")
        && !path
            .split('/')
            .any(|segment| segment == "." || segment == "..")
}

pub fn session_id(query: Option<&str>) -> Option<String> {
    let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    let mut ids = pairs.filter(|(key, _)| *key == "sessionId");
    let (Some((_, id)), None) = (ids.next(), ids.next()) else {
        return None;
    };
    percent::decode(id).filter(|id| !id.is_empty())
}

/// Writes what comes on the channel.
fn serve(channel: &Channel, whose: Option<&Arc<Principal>>, out: &mut Responder<'_>) {
    let mut last_write = Instant::now();
    while !has_ended(whose) {
        match channel.next() {
            Next::Message(message) => {
                if !out.write_stream(&message) {
                    return;
                }
                last_write = Instant::now();
                continue;
            }
            Next::Over => return,
            Next::Wait => {}
        }
        let left = limits::STREAM_KEEP_ALIVE.saturating_sub(last_write.elapsed());
        if left.is_zero() {
            if !out.write_stream(sse::KEEP_ALIVE) {
                return;
            }
            last_write = Instant::now();
            continue;
        }
        // Not IN: pipelined bytes would wake the loop again and again.
        let socket = PollFd::new(out.socket(), PollFlags::RDHUP);
        if !channel.sleep(socket, left).is_empty() && out.client_gone() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{is_plain_path, session_id};

    #[test]
    fn believes_plain_prefixes_only() {
        for good in ["/", "/gateway", "/a/b-c_d.e~f/", "/..a"] {
            assert!(is_plain_path(good), "{good}");
        }
        let long = format!("/{}", "x".repeat(300));
        let bad = [
            "",
            "x",
            "//evil.example",
            "/a//b",
            "/../x",
            "/a/.",
            "/a?b",
            "/a#b",
            "/a b",
            "/%2e",
            "http://evil.example",
            "/a\\b",
            &long,
        ];
        for bad in bad {
            assert!(!is_plain_path(bad), "{bad}");
        }
    }

    #[test]
    fn reads_the_session_of_a_query() {
        assert_eq!(
            session_id(Some("a=b&sessionId=x%2Dy")).as_deref(),
            Some("x-y")
        );
        for none in [
            None,
            Some(""),
            Some("sessionId="),
            Some("sessionId"),
            Some("session=x"),
            Some("sessionId=x&sessionId=y"),
        ] {
            assert_eq!(session_id(none), None, "{none:?}");
        }
    }
}
