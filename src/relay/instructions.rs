//! The `instructions` of the gateway: those of its servers, each under its name.

use crate::config::server::ServerConfig;
use crate::model::catalog::Visible;
use crate::relay::view::{Scope, View};
use crate::relay::world::World;
use crate::upstream::server::Server;

/// `None` when no visible server has anything to say.
pub fn merged(world: &World, view: &View, visible: &Visible) -> Option<String> {
    let servers = world.servers().iter().zip(&world.fixed.entries);
    let mut texts = servers
        .enumerate()
        .filter(|(position, _)| visible.has(*position))
        .filter_map(|(_, (server, entry))| Some((server, of_server(server, entry)?)))
        .peekable();
    if view.scope != Scope::All {
        return texts.next().map(|(_, text)| text);
    }
    texts.peek()?;
    let mut out = String::new();
    let naming = &world.fixed.settings.naming;
    if world
        .servers()
        .iter()
        .any(|server| naming.prefix_of(server.name()).is_some())
    {
        out.push_str(
            "Several MCP servers are reached through this gateway. Tools and prompts of a \
             server begin with its name.\n",
        );
    }
    for (server, text) in texts {
        out.push_str(&format!("\n## {}\n", server.name()));
        if let Some(prefix) = naming.prefix_of(server.name()) {
            out.push_str(&format!("Names begin with `{prefix}`.\n\n"));
        }
        out.push_str(text.trim());
        out.push('\n');
    }
    Some(out)
}

fn of_server(server: &Server, entry: &ServerConfig) -> Option<String> {
    let text = match &entry.instruction_override {
        Some(text) => text.clone(),
        None => server.hello()?.instructions?,
    };
    (!text.trim().is_empty()).then_some(text)
}
