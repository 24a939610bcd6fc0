//! `--health-listen`: health and metrics alone, on an address of its own, for probes that should
//! not depend on the listener of clients. It opens before the servers start and closes after they
//! ended.
//!
//! Absent on purpose: everything that is not read-only.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use crate::base::limits;
use crate::front::endpoints::{self, Access, Endpoint};
use crate::front::health::Health;
use crate::gateway::scrape;
use crate::http::{
    Admit, Checked, Handler, Head, HostPolicy, Method, Peer, Reply, Responder, Server,
    ServerOptions,
};

/// What the listener serves.
pub struct HealthDoor {
    pub policy: HostPolicy,
    pub health: Arc<Health>,
    pub has_metrics: bool,
}

/// Begins to answer on `listener`.
///
/// # Errors
/// When the system refuses a file descriptor or a thread.
pub fn serve(listener: TcpListener, door: HealthDoor) -> std::io::Result<Server> {
    let options = ServerOptions {
        connections: limits::HEALTH_LISTENER_CONNECTIONS,
        ..ServerOptions::default()
    };
    let server = Server::start(listener, options, Arc::new(door))?;
    log::info!("listening for health address={}", server.address());
    Ok(server)
}

/// # Errors
/// What is wrong with the address, and what to do.
pub fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| {
        format!("failed to listen on {address}: {error}; choose another with --health-listen")
    })
}

impl Handler for HealthDoor {
    /// Any Host may ask, as on the health paths of the other listener; pages may not.
    fn admit(&self, head: &Head<'_>, _peer: &Peer) -> Admit {
        let is_known = match endpoints::find(head.path) {
            Some((_, Access::Probe)) => true,
            Some((_, Access::Scrape)) => self.has_metrics,
            Some((_, Access::Token | Access::Page | Access::Public)) | None => false,
        };
        let refusal = |status, what: &str| Reply::json(status, format!("{{\"error\":\"{what}\"}}"));
        match (self.policy.check_origin(head), head.method) {
            (Checked::BadHost | Checked::BadOrigin, _) => {
                Admit::Answer(refusal(403, "Forbidden origin header"))
            }
            _ if !is_known => Admit::Answer(refusal(404, "Not found")),
            (_, Method::Get | Method::Head) => Admit::Body {
                max_bytes: 0,
                mark: None,
            },
            _ => Admit::Answer(refusal(405, "Method not allowed").with("Allow", "GET, HEAD")),
        }
    }

    fn handle(&self, head: &Head<'_>, peer: &Peer, _body: &[u8], out: &mut Responder<'_>) {
        let Some((endpoint, _)) = endpoints::find(head.path) else {
            return out.reply(&Reply::empty(404));
        };
        if endpoint == Endpoint::Metrics {
            return out.reply(&scrape::answer());
        }
        let known_host = self.policy.allows_host(&head.host);
        let detail = self.health.detail_for(head, peer, known_host);
        out.reply(&self.health.answer(&endpoint, detail));
    }
}
