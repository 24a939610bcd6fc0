//! What operators ask about pins on the control socket: how tools differ, and that they are good
//! as they are.

use std::time::Instant;

use serde_json::{Value, json};

use crate::base::exit::EXIT_FALSE;
use crate::base::limits;
use crate::base::template::filled;
use crate::gateway::control::Desk;
use crate::gateway::conversation::Conversation;
use crate::gateway::operator::Refused;
use crate::gateway::orders::{Done, Stop};
use crate::gateway::pins::{Difference, pinning};
use crate::mcp::list::ListKind;
use crate::model::listing::Item;
use crate::model::pin::{self, Pinning};
use crate::relay::world::World;
use crate::upstream::event::Event;

/// A server whose tools are pinned.
struct Pinned<'w> {
    name: &'w str,
    mode: Pinning,
    /// `None` while it has not listed any.
    tools: Option<&'w [Item]>,
}

fn at(world: &World, position: usize) -> Pinned<'_> {
    let entry = &world.fixed.entries[position];
    let offer = world.offers[position].as_ref();
    Pinned {
        name: &entry.name,
        mode: pinning(entry, &world.fixed.settings),
        tools: offer.map(|offer| offer.listing.of(ListKind::Tools).as_slice()),
    }
}

/// The one that is named, or every one whose tools are pinned.
fn chosen<'w>(
    desk: &Desk,
    world: &'w World,
    name: Option<&str>,
) -> Result<Vec<Pinned<'w>>, Refused> {
    let refused = |error: String| Err(Refused::new(EXIT_FALSE, error));
    let Some(name) = name else {
        let all = (0..world.servers().len()).map(|position| at(world, position));
        return Ok(all.filter(|one| one.mode != Pinning::Off).collect());
    };
    let server = desk.operator.server(name)?;
    let position = world.fixed.position(server.id.slot);
    let Some(one) = position.map(|position| at(world, position)) else {
        return refused(format!("{name:?} has just left the configuration"));
    };
    match (one.mode, one.tools) {
        (Pinning::Off, _) => refused(format!(
            "tools of {name:?} are not pinned; write \"toolPins\": \"warn\" or \"block\""
        )),
        (_, None) => refused(format!(
            "{name:?} has not listed its tools; onemcp status shows why"
        )),
        _ => Ok(vec![one]),
    }
}

/// One line for each tool that is not as it was pinned.
pub fn tell(desk: &Desk, talk: &Conversation<'_>, name: Option<&str>) -> Done {
    let world = desk.operator.hub.world();
    let mut count = 0;
    for server in chosen(desk, &world, name)? {
        let Some(tools) = server.tools else { continue };
        for one in desk.operator.pins.show(server.name, tools) {
            count += 1;
            say(talk, &server, &one)?;
        }
    }
    Ok(json!({"differences": count}))
}

fn say(talk: &Conversation<'_>, server: &Pinned<'_>, one: &Difference) -> Result<(), Stop> {
    let line = line(server, one, true);
    // A definition too long to be told is known by its hash.
    let outcome = talk.say(&line).or_else(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => talk.say(&self::line(server, one, false)),
        _ => Err(error),
    });
    Ok(outcome?)
}

fn line(server: &Pinned<'_>, one: &Difference, is_whole: bool) -> Value {
    let change = match (&one.pinned, &one.now) {
        (Some(_), Some(_)) => "changed",
        (None, _) => "new",
        (Some(_), None) => "gone",
    };
    let text = |text: Option<&String>| json!(text.filter(|_| is_whole));
    let pinned = one.pinned.as_ref();
    filled(
        r#"{
            "kind": "pin",
            "server": "$server",
            "tool": "$tool",
            "change": "$change",
            "held": "$held",
            "pinned": {"sha256": "$was", "at": "$at", "definition": "$before"},
            "now": {"sha256": "$is", "definition": "$now"}
        }"#,
        &[
            ("server", server.name.into()),
            ("tool", one.tool.as_str().into()),
            ("change", change.into()),
            (
                "held",
                (server.mode == Pinning::Block && one.now.is_some()).into(),
            ),
            ("was", json!(pinned.map(|known| known.hash.as_str()))),
            ("at", json!(pinned.map(|known| known.at.as_str()))),
            (
                "before",
                text(pinned.and_then(|known| known.definition.as_ref())),
            ),
            ("is", json!(one.now.as_deref().map(pin::hash))),
            ("now", text(one.now.as_ref())),
        ],
    )
}

/// Returns when clients see what was approved.
pub fn approve(desk: &Desk, talk: &Conversation<'_>, name: Option<&str>, tools: &[String]) -> Done {
    let operator = &desk.operator;
    let world = operator.hub.world();
    let mut count = 0;
    for server in chosen(desk, &world, name)? {
        let Some(items) = server.tools else { continue };
        let approved = operator
            .pins
            .approve(server.name, server.mode, tools, items);
        let approved = approved.map_err(|error| Refused::new(EXIT_FALSE, error));
        for one in approved? {
            count += 1;
            talk.say(&line(&server, &one, false))?;
        }
    }
    if name.is_none() {
        operator.pins.trust();
    }
    let before = world.generation;
    // At the end of the gateway nobody takes it.
    if operator.events.send(Event::Approved).is_ok() {
        let soon = Instant::now() + limits::CONTROL_WRITE;
        operator
            .hub
            .wait_for(soon, |world| world.generation > before);
    }
    Ok(json!({"approved": count}))
}
