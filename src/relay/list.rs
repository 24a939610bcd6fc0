//! Lists, answered from the catalogue and never by asking servers.

use crate::mcp::era::Era;
use crate::mcp::error::{INVALID_PARAMS, RpcError};
use crate::mcp::list::ListKind;
use crate::model::catalog::{Entry, Visible};
use crate::model::cursor::Cursor;
use crate::relay::view::View;
use crate::relay::world::World;
use crate::wire::json::push_quoted;

/// Room for what surrounds the entries: the member, and a cursor.
const LIST_EXTRA_BYTES: usize = 256;

/// One page as the raw JSON of a result, for a client of `era`. `cursor` is what it sent.
pub fn page(
    world: &World,
    view: &View,
    visible: &Visible,
    era: Era,
    kind: ListKind,
    cursor: Option<&str>,
) -> Result<String, RpcError> {
    let (server, position) = match cursor {
        None => (0, 0),
        Some(text) => resume(world, view, kind, text)?,
    };
    let own_names = view.has_own_names();
    let mut entries = world
        .catalog
        .entries_from(kind, visible, server, position)
        .peekable();
    let page: Vec<&Entry> = entries
        .by_ref()
        .take(world.fixed.settings.page_size)
        .collect();
    let bytes = |entry: &&Entry| entry.item.raw.len() + entry.public.len() + 1;
    // A list may be large: it is put together in one place, and not moved while it grows.
    let mut out = String::with_capacity(page.iter().map(bytes).sum::<usize>() + LIST_EXTRA_BYTES);
    out.push_str("{\"");
    out.push_str(kind.member());
    out.push_str("\":[");
    for (at, entry) in page.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        let name = if own_names {
            &entry.item.key
        } else {
            &entry.public
        };
        entry.item.write(era, name, &mut out);
    }
    out.push(']');
    if let (Some(last), true) = (page.last(), entries.peek().is_some())
        && let Some(next) = cursor_after(world, view, kind, last)
    {
        out.push_str(",\"nextCursor\":");
        push_quoted(&next, &mut out);
    }
    out.push('}');
    Ok(out)
}

fn cursor_after(world: &World, view: &View, kind: ListKind, last: &Entry) -> Option<String> {
    let offer = world.offers.get(last.server)?.as_ref()?;
    let mark = offer.orders[kind as usize].mark(last.position)?;
    let cursor = Cursor {
        kind,
        view: view.key(),
        server: world.servers()[last.server].name().to_owned(),
        server_index: last.server as u32,
        mark,
    };
    Some(cursor.seal(&world.fixed.cursor_key))
}

/// Where the list goes on: a server and a place in its list.
fn resume(
    world: &World,
    view: &View,
    kind: ListKind,
    text: &str,
) -> Result<(usize, usize), RpcError> {
    let cursor = Cursor::open(text, &world.fixed.cursor_key)
        .and_then(|cursor| cursor.expect(kind, view.key()))
        .map_err(|error| RpcError::new(INVALID_PARAMS, format!("failed to {error}")))?;
    let servers = world.servers();
    let at = servers
        .iter()
        .position(|server| server.name() == cursor.server);
    let Some(server) = at else {
        // The server left the configuration: what followed it now stands at its place.
        return Ok((cursor.server_index as usize, 0));
    };
    match world.offers.get(server).and_then(Option::as_ref) {
        Some(offer) => Ok((server, offer.orders[kind as usize].resume(&cursor.mark))),
        None => Ok((server + 1, 0)),
    }
}
