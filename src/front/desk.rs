//! What a request of either era comes to, as far as the eras agree: a page of a list, or the
//! server that a name belongs to. Runs on the connection thread; it may wait for servers that
//! are still starting, never for the answer of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::front::lacking;
use crate::front::operation::Operation;
use crate::front::request::{Named, Params};
use crate::journal::metrics::meter::Meter;
use crate::mcp::era::Era;
use crate::mcp::error::{INVALID_PARAMS, Reason, RpcError};
use crate::mcp::list::ListKind;
use crate::mcp::method::Method;
use crate::model::catalog::Visible;
use crate::relay::list;
use crate::relay::route::Route;
use crate::relay::view::View;
use crate::relay::world::{Hub, World};
use crate::upstream::caller::Caller;
use crate::upstream::server::Server;

pub struct Desk {
    pub hub: Arc<Hub>,
    /// Clients are held until servers have started, at most so long; zero with async loading.
    pub hold: Duration,
    pub draining: Arc<AtomicBool>,
}

/// What one request is decided on: who sees what, and the world it was taken in.
pub struct Place<'a> {
    pub world: &'a World,
    pub view: &'a View,
    pub visible: &'a Visible,
}

/// Where a request goes.
pub struct Target {
    pub server: Arc<Server>,
    /// What the server calls it, when that differs from what the client said.
    pub native: Option<String>,
    /// Of a tool or prompt.
    pub meter: Option<Arc<Meter>>,
}

impl Target {
    /// With the meter of a call of `method`, which is told to the request of the client. `name`
    /// is what that is about, in the client's words.
    pub fn measured(mut self, method: Method, name: &str, operation: &Operation) -> Target {
        let native = self.native.as_deref().unwrap_or(name);
        operation.goes_to(self.server.name(), name, native);
        match method {
            Method::ToolsCall | Method::PromptsGet => operation.is_about(self.meter.clone()),
            // Completion is about a prompt, and yet another kind of call.
            _ => self.meter = self.server.meter(method),
        }
        self
    }
}

impl Desk {
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Refuses calls to `server` while the gateway ends.
    pub fn check_open(&self, server: &Server) -> Result<(), RpcError> {
        let detail = "cannot be called: the gateway is shutting down";
        match self.is_draining() {
            true => Err(RpcError::gateway(Reason::Draining, server.name(), detail)),
            false => Ok(()),
        }
    }

    /// Holds a client until servers have started, as far as clients are held.
    pub fn wait_settled(&self) {
        self.hub.wait_settled(Instant::now() + self.hold);
    }

    /// One page as the raw JSON of a result.
    pub fn list(
        &self,
        place: &Place<'_>,
        params: &Params<'_>,
        era: Era,
        kind: ListKind,
    ) -> Result<String, RpcError> {
        let not_a_string = || RpcError::new(INVALID_PARAMS, "\"cursor\" must be a string");
        let cursor = match params.get("cursor") {
            None => None,
            Some(_) => Some(params.string("cursor").ok_or_else(not_a_string)?),
        };
        let cursor = cursor.as_deref();
        if self.hub.is_settled() {
            return list::page(place.world, place.view, place.visible, era, kind, cursor);
        }
        self.wait_settled();
        let world = self.hub.world();
        let visible = place.view.visible(&world);
        list::page(&world, place.view, &visible, era, kind, cursor)
    }

    /// The server of a name, waiting for one that is still coming up.
    pub fn find(
        &self,
        place: &Place<'_>,
        key: &Named<'_>,
        caller: &Caller<'_>,
    ) -> Result<Target, RpcError> {
        match key.route(place.world, place.view, place.visible) {
            Route::To {
                server,
                native,
                meter,
            } => {
                return Ok(Target {
                    server,
                    native,
                    meter,
                });
            }
            Route::Refused(error) if self.hub.is_settled() => {
                lacking::note_hidden(place.world, place.view, key);
                return Err(error);
            }
            // While servers start, an unknown name may become known.
            Route::Refused(_) => self.hub.wait_settled(Instant::now() + self.hold),
            Route::Unlisted(server) => {
                server.link_for(caller)?;
                let deadline = Instant::now() + limits::START_WAIT;
                let slot = server.id.slot;
                self.hub.wait_for(deadline, |world| {
                    let position = world.fixed.position(slot);
                    let is_known = position.is_none_or(|at| world.offers[at].is_some());
                    is_known || self.is_draining()
                });
            }
        }
        let world = self.hub.world();
        match key.route(&world, place.view, &place.view.visible(&world)) {
            Route::To {
                server,
                native,
                meter,
            } => Ok(Target {
                server,
                native,
                meter,
            }),
            Route::Refused(error) => {
                lacking::note_hidden(&world, place.view, key);
                Err(error)
            }
            Route::Unlisted(server) => {
                self.check_open(&server)?;
                let detail = "has not listed what it offers yet; call again in a moment";
                Err(RpcError::gateway(Reason::Starting, server.name(), detail))
            }
        }
    }
}
