//! Which server a name or URI belongs to, and what that server calls it. Default: unknown. A
//! server that a caller may not see is the same as one that does not exist.

use std::sync::Arc;

use crate::journal::metrics::meter::Meter;
use crate::mcp::error::{INVALID_PARAMS, RpcError};
use crate::mcp::list::ListKind;
use crate::model::catalog::Visible;
use crate::model::uri_template;
use crate::relay::view::{Scope, View};
use crate::relay::world::World;
use crate::upstream::server::Server;

#[derive(Clone)]
pub enum Route {
    /// `native`: what the server calls it, when that differs from what the client said.
    To {
        server: Arc<Server>,
        native: Option<String>,
        /// Of a tool or prompt.
        meter: Option<Arc<Meter>>,
    },
    /// This server may have it, but has not listed anything yet: wait for it, then ask again.
    Unlisted(Arc<Server>),
    Refused(RpcError),
}

/// Finds a tool or prompt.
pub fn named(world: &World, view: &View, visible: &Visible, kind: ListKind, name: &str) -> Route {
    let unknown = || {
        let what = if kind == ListKind::Tools {
            "tool"
        } else {
            "prompt"
        };
        Route::Refused(RpcError::new(
            INVALID_PARAMS,
            format!("unknown {what}: {name}"),
        ))
    };
    if let Scope::Server(server) = &view.scope {
        let Some((position, server)) = visible_server(world, visible, server) else {
            return unknown();
        };
        let entry = world.catalog.by_native(kind, position, name);
        if entry.is_some_and(|entry| !visible.shows(position, kind, &entry.item)) {
            return unknown();
        }
        if let Some(entry) = entry {
            return Route::To {
                server: server.clone(),
                native: None,
                meter: world.meter(kind, entry).cloned(),
            };
        }
        if is_unlisted(world, position) {
            return Route::Unlisted(server.clone());
        }
        return unknown();
    }
    if let Some(entry) = world.catalog.by_public(kind, name, visible) {
        let server = world.servers()[entry.server].clone();
        let native = (*entry.item.key != *name).then(|| entry.item.key.to_string());
        let meter = world.meter(kind, entry).cloned();
        return Route::To {
            server,
            native,
            meter,
        };
    }
    match unlisted_owner(world, visible, name) {
        Some(server) => Route::Unlisted(server.clone()),
        None => unknown(),
    }
}

/// A server that is coming up and whose prefix fits.
fn unlisted_owner<'w>(world: &'w World, visible: &Visible, name: &str) -> Option<&'w Arc<Server>> {
    let mut servers = world.servers().iter().enumerate();
    let found = servers.find(|(position, server)| {
        let prefix = world.fixed.settings.naming.prefix_of(server.name());
        visible.has(*position)
            && is_unlisted(world, *position)
            && prefix.is_some_and(|prefix| name.starts_with(&prefix))
    });
    found.map(|(_, server)| server)
}

fn is_unlisted(world: &World, position: usize) -> bool {
    world.servers()[position].is_enabled() && world.offers[position].is_none()
}

fn visible_server<'w>(
    world: &'w World,
    visible: &Visible,
    name: &str,
) -> Option<(usize, &'w Arc<Server>)> {
    let position = world.position_named(name)?;
    visible
        .has(position)
        .then(|| (position, &world.servers()[position]))
}

/// Finds who serves a resource: who lists it, whose template fits it, and last the only server
/// that has resources at all.
pub fn resource(world: &World, view: &View, visible: &Visible, uri: &str) -> Route {
    if let Scope::Server(name) = &view.scope {
        let found = visible_server(world, visible, name);
        return match found.filter(|(position, _)| visible.has_more_than_tools(*position)) {
            Some((_, server)) => Route::To {
                server: server.clone(),
                native: None,
                meter: None,
            },
            None => Route::Refused(RpcError::resource_not_found(uri)),
        };
    }
    let listed = world.catalog.by_public(ListKind::Resources, uri, visible);
    let owner = listed.map(|entry| entry.server).or_else(|| {
        template_owner(world, visible, |template| {
            uri_template::matches(template, uri)
        })
        .or_else(|| template_owner(world, visible, |t| uri_template::matches_loosely(t, uri)))
        .or_else(|| only_resource_server(world, visible))
    });
    match owner {
        Some(index) => Route::To {
            server: world.servers()[index].clone(),
            native: None,
            meter: None,
        },
        None => Route::Refused(RpcError::resource_not_found(uri)),
    }
}

fn template_owner(world: &World, visible: &Visible, fits: impl Fn(&str) -> bool) -> Option<usize> {
    let mut templates = world.catalog.entries(ListKind::Templates, visible);
    templates
        .find(|entry| fits(&entry.item.key))
        .map(|entry| entry.server)
}

fn only_resource_server(world: &World, visible: &Visible) -> Option<usize> {
    let mut having = (0..world.servers().len()).filter(|position| {
        visible.has_more_than_tools(*position)
            && (world.catalog.count(ListKind::Resources, *position) > 0
                || world.catalog.count(ListKind::Templates, *position) > 0)
    });
    let first = having.next()?;
    having.next().is_none().then_some(first)
}

/// Finds who completes an argument of a resource template.
pub fn template(world: &World, view: &View, visible: &Visible, template: &str) -> Route {
    let listed = world
        .catalog
        .by_public(ListKind::Templates, template, visible);
    match (&view.scope, listed) {
        (Scope::All, Some(entry)) => Route::To {
            server: world.servers()[entry.server].clone(),
            native: None,
            meter: None,
        },
        _ => resource(world, view, visible, template),
    }
}
