//! What the HTTP listener serves: finds the route, checks Host and Origin and who asks, and hands
//! the request to its endpoint. Policy is in the table (`front::endpoints`), in `http::guard` and
//! in `auth::gate`.

use std::borrow::Cow;
use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::auth::{Auth, OauthPath};
use crate::base::limits;
use crate::front::endpoints::{self, Access, Endpoint};
use crate::front::health::Health;
use crate::front::lacking;
use crate::front::post::names_stateless;
use crate::front::replicas::hop::Hop;
use crate::front::replicas::{Errand, Lost, Replicas};
use crate::front::sse::{Sse, refuse_message, session_id};
use crate::front::streamable::{
    Call, SESSION_HEADER, Streamable, refuse_get, refuse_post, rpc_reply,
};
use crate::front::traced;
use crate::gateway::logins;
use crate::gateway::scrape;
use crate::http::{
    Admit, Checked, Client, Handler, Head, HostPolicy, Method, Peer, Reply, Responder, Trusted,
    cors_headers,
};
use crate::journal::audit::{self, Event, Operation, Outcome, Reason, Record, Scoped, rejects};
use crate::journal::context::{self, Context, Guard, Origin};
use crate::journal::fact::{self, Fact, Refused};
use crate::journal::metrics::events;
use crate::mcp::error::SESSION_NOT_FOUND;
use crate::model::principal::Principal;
use crate::model::scope::Scopes;
use crate::relay::view::{Scope, View, wanted_scopes};

thread_local! {
    /// Who asks, from when the head of a request is judged until its body has come: both on the
    /// thread of its connection, with no other request between.
    static ADMITTED: Cell<Option<Arc<Principal>>> = const { Cell::new(None) };
    /// The same for what the audit log tells of the request.
    static ORIGIN: Cell<Option<Arc<Origin>>> = const { Cell::new(None) };
    static ASKED: Cell<Option<Guard>> = const { Cell::new(None) };
    /// The same for a request that another replica has passed on.
    static HOP: Cell<Option<Hop>> = const { Cell::new(None) };
}

pub struct FrontDoor {
    pub policy: HostPolicy,
    pub body_bytes: usize,
    pub streamable: Arc<Streamable>,
    pub sse: Arc<Sse>,
    pub health: Arc<Health>,
    pub has_metrics: bool,
    /// `None`: nobody is asked who he is.
    pub auth: Option<Arc<Auth>>,
    pub trusted: Trusted,
}

/// Origins that may read an answer.
#[derive(Clone, Copy)]
enum Readers<'h> {
    /// None but our own pages.
    None,
    Origin(&'h str),
    /// It depends on nothing that a browser adds by itself.
    All,
}

impl FrontDoor {
    /// The answer to a head that must not, or need not, go further.
    fn refuse(&self, head: &Head<'_>, peer: &Peer) -> Option<Reply> {
        ADMITTED.set(None);
        let found = endpoints::find(head.path).filter(|(at, access)| self.has(at, *access));
        let access = found.as_ref().map(|(_, access)| *access);
        let readers = match self.readers(access, head, peer) {
            Ok(readers) => readers,
            Err(reply) => return Some(reply),
        };
        let Some((endpoint, access)) = found else {
            return Some(readers.with(refusal(404, "Not found")));
        };
        if head.method == Method::Options {
            let cors = match readers {
                Readers::None => None,
                Readers::Origin(origin) => Some(origin),
                Readers::All => Some("*"),
            };
            return Some(HostPolicy::preflight(head, allowed(&endpoint), cors));
        }
        let checked = match access {
            Access::Token => self.identify(&endpoint, head, peer),
            Access::Scrape => self.check_scraper(head, peer),
            _ => Ok(()),
        };
        if let Err(reply) = checked {
            return Some(readers.with(reply));
        }
        misfit(&endpoint, head).map(|reply| readers.with(reply))
    }

    fn has(&self, endpoint: &Endpoint, access: Access) -> bool {
        match endpoint {
            Endpoint::Oauth(OauthPath::UpstreamCallback(_)) => true,
            Endpoint::Oauth(_) => self.auth.is_some(),
            _ => self.has_metrics || access != Access::Scrape,
        }
    }

    fn readers<'h>(
        &self,
        access: Option<Access>,
        head: &Head<'h>,
        peer: &Peer,
    ) -> Result<Readers<'h>, Reply> {
        let checked = match access {
            Some(Access::Probe | Access::Scrape) => self.policy.check_origin(head),
            Some(Access::Public) => match self.policy.allows_host(&head.host) {
                true => return Ok(Readers::All),
                false => Checked::BadHost,
            },
            _ => self.policy.check(head),
        };
        match checked {
            Checked::Pass { cors } => Ok(cors.map_or(Readers::None, Readers::Origin)),
            Checked::BadHost => {
                note_refused(Refused::Host, self.client(head, peer).address);
                Err(refusal(403, "Forbidden host header"))
            }
            Checked::BadOrigin => {
                note_refused(Refused::Origin, self.client(head, peer).address);
                Err(refusal(403, "Forbidden origin header"))
            }
        }
    }

    /// With where it comes from.
    fn asked(&self, head: &Head<'_>, peer: &Peer) -> Context {
        let client = self.client(head, peer).address;
        let is_direct = client == peer.address;
        let port = if is_direct { peer.port } else { 0 };
        let source = SocketAddr::new(client, port);
        let via = (!is_direct).then_some(peer.address);
        let agent = head.header("User-Agent").unwrap_or_default();
        // As a rule a connection has one client.
        let last = ORIGIN.take();
        let is_same = |last: &Arc<Origin>| {
            last.source == source
                && last.via == via
                && last.user_agent == agent
                && last.certificate == peer.subject
        };
        let origin = last.filter(is_same).unwrap_or_else(|| {
            Arc::new(Origin {
                source,
                via,
                user_agent: agent.to_owned(),
                certificate: peer.subject.clone(),
            })
        });
        ORIGIN.set(Some(origin.clone()));
        Context {
            from: Some(origin),
            ..traced::work_on(head)
        }
    }

    fn client(&self, head: &Head<'_>, peer: &Peer) -> Client {
        let hop = self.replicas().and_then(|_| HOP.get());
        hop.map_or_else(
            || self.trusted.client(peer.address, head),
            |hop| Client {
                address: hop.client,
                peer: peer.address,
                certain: true,
                is_local: false,
            },
        )
    }

    /// For another replica, who this one is.
    fn proof(&self) -> Option<(&'static str, String)> {
        let hop = HOP.get()?;
        self.replicas().map(|replicas| hop.proof(&replicas.here))
    }

    fn replicas(&self) -> Option<&Replicas> {
        self.streamable.replicas.as_deref()
    }

    /// The replica that has the session of a request, if it is another one. What was passed on
    /// goes no further.
    fn holder(&self, endpoint: &Endpoint, head: &Head<'_>) -> Option<(&Replicas, String)> {
        let replicas = self.replicas().filter(|_| HOP.get().is_none())?;
        let placed = match endpoint {
            // To a stateless request a session means nothing, wherever it was.
            Endpoint::Mcp(_) if head.method == Method::Post && names_stateless(head) => {
                return None;
            }
            Endpoint::Mcp(_) => Cow::Borrowed(head.header(SESSION_HEADER)?),
            Endpoint::Messages => session_id(head.query)?.into(),
            _ => return None,
        };
        let is_ours = self.streamable.sessions.get(&placed).is_some();
        let holder = (!is_ours).then(|| replicas.holder_of(&placed))??;
        Some((replicas, holder))
    }

    /// Finds out who asks, and keeps it for when the body has come.
    fn identify(&self, at: &Endpoint, head: &Head<'_>, peer: &Peer) -> Result<(), Reply> {
        if audit::must_block() {
            return Err(refusal(503, "The audit log takes nothing").with("Retry-After", "5"));
        }
        let Some(auth) = &self.auth else {
            return Ok(());
        };
        let wanted = wanted_scopes(head.query);
        let who = auth.gate.check(head, &self.client(head, peer));
        let who = who.map_err(|denied| {
            note_refused(Refused::Token, self.client(head, peer).address);
            auth.gate.refusal(&denied, &wanted.to_string(), head.path)
        })?;
        auth.gate.count(&who).map_err(|denied| {
            note_refused(Refused::Pace, self.client(head, peer).address);
            auth.gate.refusal(&denied, "", head.path)
        })?;
        if !who
            .scopes
            .includes(&wanted.clone().narrowed_like(&who.scopes))
        {
            note_refused(Refused::Scope, self.client(head, peer).address);
            let wanted = wanted.to_string();
            lacking::note_insufficient(&who, &wanted, "");
            return Err(auth.gate.insufficient(&wanted, head.path));
        }
        if let Some(wanted) = self.lacks_server(at, &who) {
            note_refused(Refused::Scope, self.client(head, peer).address);
            lacking::note_insufficient(&who, &wanted, "");
            return Err(auth.gate.insufficient(&wanted, head.path));
        }
        if note_success(&who, &wanted, head) {
            self.note_allowed(at, &who, head);
        }
        ADMITTED.set(Some(who));
        Ok(())
    }

    /// Tells of a view that opens; that of a server that is closed is refused later.
    fn note_allowed(&self, at: &Endpoint, who: &Arc<Principal>, head: &Head<'_>) {
        if let Endpoint::Mcp(scope) = at
            && view_of(scope, who).is_closed(&self.streamable.desk.hub.world())
        {
            return;
        }
        audit::note(Record {
            who: Some(who),
            name: head.path,
            scopes_used: &who.scopes.to_string(),
            ..Record::new(Event::AuthzAllow, Outcome::Allow)
        });
    }

    /// The scope that would open the server of a path, where clients may know of it.
    fn lacks_server(&self, at: &Endpoint, who: &Arc<Principal>) -> Option<String> {
        let Endpoint::Mcp(scope @ Scope::Server(_)) = at else {
            return None;
        };
        lacking::of_scope(&self.streamable.desk.hub.world(), &view_of(scope, who))
    }

    /// Programs on this machine, or whoever may reach everything.
    fn check_scraper(&self, head: &Head<'_>, peer: &Peer) -> Result<(), Reply> {
        let Some(reply) = scrape::refuse(&self.health, head, peer) else {
            return Ok(());
        };
        let auth = self.auth.as_ref();
        let auth = auth.filter(|_| head.header("Authorization").is_some());
        let who = auth.map(|auth| {
            let who = auth.gate.check(head, &self.client(head, peer));
            who.map_err(|denied| auth.gate.refusal(&denied, "tag:*", head.path))
        });
        match who {
            Some(Ok(who)) if !who.scopes.narrows() => Ok(()),
            other => {
                note_refused(Refused::Metrics, self.client(head, peer).address);
                Err(other.and_then(Result::err).unwrap_or(reply))
            }
        }
    }

    fn serve_mcp(
        &self,
        head: &Head<'_>,
        peer: &Peer,
        (endpoint, whose): (Endpoint, Option<&Arc<Principal>>),
        body: &[u8],
        out: &mut Responder<'_>,
    ) {
        let cors = match self.policy.check_origin(head) {
            Checked::Pass { cors } => cors,
            Checked::BadHost | Checked::BadOrigin => None,
        };
        let headers = cors
            .map(|origin| cors_headers(origin).to_vec())
            .unwrap_or_default();
        let standing = match (&self.auth, whose, head.method) {
            // A stream may be open for hours.
            (Some(auth), Some(whose), Method::Post) => match auth.gate.enter(whose) {
                Ok(permit) => Some(permit),
                Err(denied) => {
                    note_refused(Refused::Pace, self.client(head, peer).address);
                    let reply = auth.gate.refusal(&denied, "", head.path);
                    return out.reply(&with_cors(reply, cors));
                }
            },
            _ => None,
        };
        if let Some((replicas, to)) = self.holder(&endpoint, head) {
            let errand = Errand {
                head,
                body,
                client: self.client(head, peer).address,
                to: &to,
            };
            let Err(lost) = replicas.pass_on(&errand, out) else {
                return;
            };
            let message = format!("session not found: it {}", lost.tell());
            let reply = rpc_reply(lost.status(), SESSION_NOT_FOUND, &message);
            let reply = match lost {
                Lost::Unreached => reply.with("Retry-After", "1"),
                _ => reply,
            };
            return out.reply(&with_cors(reply, cors));
        }
        let address = || self.client(head, peer).address;
        let scope = match endpoint {
            Endpoint::Sse => return self.sse.listen(head, address(), whose, &headers, out),
            Endpoint::Messages => return self.sse.post(head, whose, &headers, body, out),
            Endpoint::Mcp(scope) => scope,
            _ => return out.reply(&refusal(404, "Not found")),
        };
        let call = Call {
            head,
            address: &address,
            scope,
            whose,
            // What was passed on goes no further.
            client: (self.replicas().is_some() && HOP.get().is_none()).then(&address),
            gate: self.auth.as_ref().map(|auth| &auth.gate),
            cors,
            headers,
        };
        match head.method {
            Method::Post => self.streamable.post(&call, body, out),
            Method::Get => self.streamable.get(&call, out),
            _ => self.streamable.delete(&call, out),
        }
        drop(standing);
    }
}

impl Handler for FrontDoor {
    fn admit(&self, head: &Head<'_>, peer: &Peer) -> Admit {
        // First, because it says whose request it is.
        if let Some(replicas) = self.replicas() {
            match replicas.accept(head) {
                Ok(hop) => HOP.set(hop),
                Err(reply) => return Admit::Answer(reply),
            }
        }
        // One that got no further is over.
        ASKED.set(None);
        let working = audit::is_on().then(|| context::enter(self.asked(head, peer)));
        let refused = self.refuse(head, peer);
        ASKED.set(working.filter(|_| refused.is_none()));
        match refused {
            Some(reply) => Admit::Answer(match self.proof() {
                Some((name, proof)) => reply.with(name, proof),
                None => reply,
            }),
            None => Admit::Body {
                mark: self.proof(),
                max_bytes: match endpoints::find(head.path) {
                    Some((Endpoint::Oauth(_), _)) => limits::PAGE_FORM_BYTES,
                    _ => self.body_bytes,
                },
            },
        }
    }

    fn handle(&self, head: &Head<'_>, peer: &Peer, body: &[u8], out: &mut Responder<'_>) {
        let whose = ADMITTED.take();
        let asked = ASKED.take();
        let _working = asked.unwrap_or_else(|| context::enter(traced::work_on(head)));
        context::is_of(whose.clone());
        if self.replicas().is_some() && HOP.get().is_some_and(|hop| !hop.is_for(body)) {
            return out.reply(&refusal(403, "Not the body that was passed on"));
        }
        // `admit` has let this head in; what is left is where to and for whom.
        let Some((endpoint, access)) = endpoints::find(head.path) else {
            return out.reply(&refusal(404, "Not found"));
        };
        if access == Access::Token {
            return self.serve_mcp(head, peer, (endpoint, whose.as_ref()), body, out);
        }
        let readers = match self.readers(Some(access), head, peer) {
            Ok(readers) => readers,
            Err(reply) => return out.reply(&reply),
        };
        let world = self.health.hub.world();
        let reply = match (endpoint, &self.auth) {
            (Endpoint::Oauth(OauthPath::UpstreamCallback(server)), _) => {
                logins::came_back(&world, &server, head.query)
            }
            (Endpoint::ClientDocument(server), _) => logins::document(&world, &server),
            (Endpoint::Oauth(at), Some(auth)) => {
                auth.answer(&at, head, &self.client(head, peer), body)
            }
            (Endpoint::Oauth(_), None) => refusal(404, "Not found"),
            (Endpoint::Metrics, _) => scrape::answer(),
            (health, _) => {
                let known_host = self.policy.allows_host(&head.host);
                let detail = self.health.detail_for(head, peer, known_host);
                self.health.answer(&health, detail)
            }
        };
        out.reply(&readers.with(reply));
    }

    fn refused(&self, peer: &Peer, status: u16, reason: &'static str) {
        events::http_refused(status);
        if audit::is_on() {
            note_unread(peer, status, reason);
        }
        log::debug!(
            "request refused address={} status={status} reason={reason:?}",
            peer.address
        );
    }
}

impl Readers<'_> {
    fn with(self, reply: Reply) -> Reply {
        match self {
            Readers::None => reply,
            Readers::Origin(origin) => with_cors(reply, Some(origin)),
            Readers::All => with_cors(reply, Some("*")),
        }
    }
}

/// What does not fit an endpoint: its method, or what is sent and taken there.
fn misfit(endpoint: &Endpoint, head: &Head<'_>) -> Option<Reply> {
    match (endpoint, head.method) {
        (Endpoint::Mcp(_), Method::Post) => refuse_post(head),
        (Endpoint::Mcp(_), Method::Get) => refuse_get(head),
        (Endpoint::Mcp(_), Method::Delete) => None,
        (Endpoint::Sse, Method::Get) => refuse_get(head),
        (Endpoint::Messages, Method::Post) => refuse_message(head),
        (Endpoint::Oauth(at), Method::Post) if takes_form(at) => None,
        (Endpoint::Mcp(_) | Endpoint::Sse | Endpoint::Messages, _) => {
            Some(not_allowed(allowed(endpoint)))
        }
        (Endpoint::Oauth(at), _) if takes_form(at) => Some(not_allowed(allowed(endpoint))),
        (_, Method::Get | Method::Head) => None,
        _ => Some(not_allowed(allowed(endpoint))),
    }
}

fn takes_form(at: &OauthPath) -> bool {
    use OauthPath::{Consent, Login, Register, Revoke, Token};
    matches!(at, Token | Register | Revoke | Login | Consent)
}

/// What could not be read has no head that could say more.
fn note_unread(peer: &Peer, status: u16, reason: &str) {
    let from = Origin {
        source: SocketAddr::new(peer.address, peer.port),
        via: None,
        user_agent: String::new(),
        certificate: peer.subject.clone(),
    };
    rejects::reject(Record {
        from: Some(&from),
        code: Some(i64::from(status)),
        detail: reason,
        ..Record::denied(Event::ParseReject, Reason::Framing)
    });
}

fn note_refused(what: Refused, address: IpAddr) {
    let whom = address.to_string();
    fact::note(Fact::Refused { what, whom });
}

fn view_of(scope: &Scope, who: &Arc<Principal>) -> View {
    View {
        scope: scope.clone(),
        filters: Vec::new(),
        whose: Some(who.clone()),
    }
}

/// Once for each token and view: false after that.
fn note_success(who: &Arc<Principal>, wanted: &Scopes, head: &Head<'_>) -> bool {
    let query = head.query.unwrap_or_default();
    let once = [&*who.token, head.path, query].join(" ");
    let (wanted, granted) = (wanted.to_string(), who.scopes.to_string());
    audit::scope_operation(
        Operation::ValidationSuccess,
        &Scoped {
            client: &who.client,
            requested: Some(&wanted),
            granted: Some(&granted),
            once: &once,
            ..Scoped::default()
        },
    )
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
        Endpoint::Oauth(at) if takes_form(at) => "POST, OPTIONS",
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
