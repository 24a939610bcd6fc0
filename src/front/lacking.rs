//! Which scope would open what a request names, where its token does not and the operator lets
//! clients know of the server (`discoverable`). Everything else that is closed does not exist.
//! Deliberately absent: what a
//! token opens (`model::scope`).

use std::sync::Arc;

use crate::front::request::{Named, Params};
use crate::journal::audit::{self, Event, Operation, Reason, Record, Scoped};
use crate::mcp::list::ListKind;
use crate::mcp::method::Method;
use crate::model::catalog::Visible;
use crate::model::principal::Principal;
use crate::model::scope;
use crate::relay::route::Route;
use crate::relay::view::{Scope, View};
use crate::relay::world::World;

/// For a request about a tool, a prompt or a resource, with its name. `visible`: what `view` shows.
pub fn of_request(
    world: &World,
    view: &View,
    visible: &Visible,
    method: &str,
    params: &Params<'_>,
) -> Option<(String, String)> {
    if !matches!(visible, Visible::Parts(_)) {
        return None;
    }
    let (kind, key) = match Method::parse(method)? {
        Method::ToolsCall => (ListKind::Tools, "name"),
        Method::PromptsGet => (ListKind::Prompts, "name"),
        Method::ResourcesRead | Method::ResourcesSubscribe => (ListKind::Resources, "uri"),
        _ => return None,
    };
    let name = params.string(key)?;
    if world.catalog.by_public(kind, &name, visible).is_some() {
        return None;
    }
    let open = View {
        whose: None,
        ..view.clone()
    };
    let all = open.visible(world);
    let entry = world.catalog.by_public(kind, &name, &all)?;
    let wanted = of_server(world, view, entry.server)?;
    Some((wanted, name.into_owned()))
}

/// Tells the auditor of what a token does not open; its client is told that there is no such thing.
pub fn note_hidden(world: &World, view: &View, key: &Named<'_>) {
    let Some(whose) = view.whose.as_ref().filter(|_| audit::is_on()) else {
        return;
    };
    let open = View {
        whose: None,
        ..view.clone()
    };
    if let Route::To { server, .. } = key.route(world, &open, &open.visible(world)) {
        not_visible(whose, server.name(), &key.value);
    }
}

/// The same of the path of a whole server, if there is one.
pub fn note_closed(world: &World, view: &View, server: &str) {
    let Some(whose) = view.whose.as_ref().filter(|_| audit::is_on()) else {
        return;
    };
    if world.position_named(server).is_some() {
        not_visible(whose, server, "");
    }
}

fn not_visible(whose: &Arc<Principal>, server: &str, name: &str) {
    let granted = whose.scopes.to_string();
    audit::note(Record {
        who: Some(whose),
        server,
        name,
        scopes_used: &granted,
        ..Record::denied(Event::AuthzDeny, Reason::NotVisible)
    });
}

/// Tells of a request whose client was told which scopes it needs. `name`: of the thing, if it
/// named one.
pub fn note_insufficient(who: &Arc<Principal>, wanted: &str, name: &str) {
    let granted = who.scopes.to_string();
    audit::note(Record {
        who: Some(who),
        name,
        scopes_used: &granted,
        scopes_missing: wanted,
        ..Record::denied(Event::AuthzDeny, Reason::InsufficientScope)
    });
    audit::scope_operation(
        Operation::InsufficientScopes,
        &Scoped {
            client: &who.client,
            requested: Some(wanted),
            granted: Some(&granted),
            error: "Insufficient scopes for requested tags",
            ..Scoped::default()
        },
    );
}

/// For a request on the path of one server.
pub fn of_scope(world: &World, view: &View) -> Option<String> {
    let Scope::Server(name) = &view.scope else {
        return None;
    };
    of_server(world, view, world.position_named(name)?)
}

/// Of the tags that open a server, the first: one is enough.
fn of_server(world: &World, view: &View, position: usize) -> Option<String> {
    let entry = &world.fixed.entries[position];
    if !entry.discoverable || view.opens(world, position) {
        return None;
    }
    let untagged = world.fixed.settings.auth.untagged_tag.as_ref();
    let tags = entry.tags.iter();
    let tags = tags.chain(untagged.filter(|_| entry.tags.is_empty()));
    let word = tags.filter_map(|tag| scope::of_tag(tag)).next();
    Some(word.unwrap_or_else(|| "tag:*".to_owned()))
}
