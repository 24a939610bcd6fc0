//! What the HTTP listener serves: finds the route, checks Host and Origin, and hands the
//! request to its endpoint. Policy is in the table (`front::endpoints`) and in `http::guard`.

use std::cell::Cell;
use std::sync::Arc;

use crate::auth::OauthPath;
use crate::front::endpoints::{self, Access, Endpoint};
use crate::front::health::Health;
use crate::front::sse::{Sse, refuse_message};
use crate::front::streamable::{Call, Streamable, refuse_get, refuse_post};
use crate::front::traced;
use crate::gateway::logins;
use crate::gateway::scrape;
use crate::http::{
    Admit, Checked, Handler, Head, HostPolicy, Method, Peer, Reply, Responder, cors_headers,
};
use crate::journal::context::{self, Context};
use crate::journal::fact::{self, Fact, Refused};
use crate::journal::metrics::events;
use crate::model::principal::Principal;

thread_local! {
    /// Who asks, from when the head of a request is judged until its body has come: both on the
    /// thread of its connection, with no other request between.
    static ADMITTED: Cell<Option<Arc<Principal>>> = const { Cell::new(None) };
}

pub struct FrontDoor {
    pub policy: HostPolicy,
    pub body_bytes: usize,
    pub streamable: Arc<Streamable>,
    pub sse: Arc<Sse>,
    pub health: Arc<Health>,
    pub has_metrics: bool,
}

impl FrontDoor {
    /// The answer to a head that must not, or need not, go further.
    fn refuse(&self, head: &Head<'_>, peer: &Peer) -> Option<Reply> {
        let found = endpoints::find(head.path)
            .filter(|(_, access)| self.has_metrics || *access != Access::Scrape);
        let checked = match found {
            Some((_, Access::Probe | Access::Scrape)) => self.policy.check_origin(head),
            _ => self.policy.check(head),
        };
        let cors = match checked {
            Checked::Pass { cors } => cors,
            Checked::BadHost => {
                note_refused(Refused::Host, peer);
                return Some(refusal(403, "Forbidden host header"));
            }
            Checked::BadOrigin => {
                note_refused(Refused::Origin, peer);
                return Some(refusal(403, "Forbidden origin header"));
            }
        };
        let Some((endpoint, access)) = found else {
            return Some(with_cors(refusal(404, "Not found"), cors));
        };
        if access == Access::Scrape
            && let Some(reply) = scrape::refuse(&self.health, head, peer)
        {
            note_refused(Refused::Metrics, peer);
            return Some(with_cors(reply, cors));
        }
        let answer = match (&endpoint, head.method) {
            (_, Method::Options) => Some(HostPolicy::preflight(head, allowed(&endpoint), cors)),
            (Endpoint::Mcp(_), Method::Post) => refuse_post(head),
            (Endpoint::Mcp(_), Method::Get) => refuse_get(head),
            (Endpoint::Mcp(_), Method::Delete) => None,
            (Endpoint::Sse, Method::Get) => refuse_get(head),
            (Endpoint::Messages, Method::Post) => refuse_message(head),
            (Endpoint::Mcp(_) | Endpoint::Sse | Endpoint::Messages, _) => {
                Some(not_allowed(allowed(&endpoint)))
            }
            (_, Method::Get | Method::Head) => None,
            _ => Some(not_allowed(allowed(&endpoint))),
        };
        answer.map(|reply| with_cors(reply, cors))
    }
}

impl Handler for FrontDoor {
    fn admit(&self, head: &Head<'_>, peer: &Peer) -> Admit {
        match self.refuse(head, peer) {
            Some(reply) => Admit::Answer(reply),
            None => Admit::Body {
                max_bytes: self.body_bytes,
            },
        }
    }

    fn handle(&self, head: &Head<'_>, peer: &Peer, body: &[u8], out: &mut Responder<'_>) {
        let whose = ADMITTED.take();
        let _working = context::enter(Context {
            who: whose.clone(),
            ..traced::work_on(head)
        });
        let whose = whose.as_ref();
        // `admit` has let this head in; what is left is where to and for whom.
        let Some((endpoint, _)) = endpoints::find(head.path) else {
            return out.reply(&refusal(404, "Not found"));
        };
        let cors = match self.policy.check_origin(head) {
            Checked::Pass { cors } => cors,
            Checked::BadHost | Checked::BadOrigin => None,
        };
        let headers = cors
            .map(|origin| cors_headers(origin).to_vec())
            .unwrap_or_default();
        let scope = match endpoint {
            Endpoint::Mcp(scope) => scope,
            Endpoint::Sse => return self.sse.listen(head, peer, whose, &headers, out),
            Endpoint::Messages => return self.sse.post(head, whose, &headers, body, out),
            Endpoint::Oauth(OauthPath::UpstreamCallback(server)) => {
                let world = self.health.hub.world();
                return out.reply(&logins::came_back(&world, &server, head.query));
            }
            Endpoint::ClientDocument(server) => {
                let world = self.health.hub.world();
                return out.reply(&with_cors(logins::document(&world, &server), cors));
            }
            Endpoint::Metrics => return out.reply(&with_cors(scrape::answer(), cors)),
            health => {
                let known_host = self.policy.allows_host(&head.host);
                let detail = self.health.detail_for(head, peer, known_host);
                let reply = self.health.answer(&health, detail);
                return out.reply(&with_cors(reply, cors));
            }
        };
        let call = Call {
            head,
            peer,
            scope,
            whose,
            headers,
        };
        match head.method {
            Method::Post => self.streamable.post(&call, body, out),
            Method::Get => self.streamable.get(&call, out),
            _ => self.streamable.delete(&call, out),
        }
    }

    fn refused(&self, peer: &Peer, status: u16, reason: &'static str) {
        events::http_refused(status);
        log::debug!(
            "request refused address={} status={status} reason={reason:?}",
            peer.address
        );
    }
}

fn note_refused(what: Refused, peer: &Peer) {
    let whom = peer.address.to_string();
    fact::note(Fact::Refused { what, whom });
}

fn refusal(status: u16, what: &str) -> Reply {
    Reply::json(status, format!("{{\"error\":\"{what}\"}}"))
}

/// The methods that an endpoint takes.
fn allowed(endpoint: &Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Mcp(_) => "GET, POST, DELETE, OPTIONS",
        Endpoint::Sse => "GET, OPTIONS",
        Endpoint::Messages => "POST, OPTIONS",
        _ => "GET, HEAD, OPTIONS",
    }
}

fn not_allowed(allow: &str) -> Reply {
    refusal(405, "Method not allowed").with("Allow", allow)
}

fn with_cors(mut reply: Reply, cors: Option<&str>) -> Reply {
    if let Some(origin) = cors {
        let known = reply
            .headers
            .iter()
            .any(|(name, _)| *name == "Access-Control-Allow-Origin");
        if !known {
            for (name, value) in cors_headers(origin) {
                reply = reply.with(name, value);
            }
        }
    }
    reply
}
