//! `gateway.discovery` with the type `docker`: containers of Docker or Podman that bear a label.
//!
//! Deliberately absent: engines on another host. Their socket is the key to that whole host.

use std::path::PathBuf;

use crate::config::discovery::Parts;
use crate::config::document::Notes;

pub const KEYS: &[&str] = &["socket", "label", "networks", "reach"];

const SOCKET: &str = "/var/run/docker.sock";
const LABEL: &str = "onemcp.enable=true";

#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// As it is written; a relative one starts in the folder of the configuration.
    pub socket: PathBuf,
    /// `key=value`, or the key alone.
    pub label: String,
    /// Names of the engine's networks in which servers may be; the first that fits counts. Of any
    /// when there is none here.
    pub networks: Vec<String>,
    /// They are reached at the ports that the engine publishes on this host.
    pub is_published: bool,
}

/// `None` when it cannot be carried out, which was noted.
pub fn read(parts: &Parts<'_, '_>, notes: &mut Notes) -> Option<Spec> {
    let is_published = match parts.text("reach", notes).as_deref() {
        None | Some("network") => false,
        Some("published") => true,
        Some(_) => {
            let remedy = "write \"network\" or \"published\"";
            parts.refuse("reach", "is no way to a container", remedy, notes);
            return None;
        }
    };
    let socket = parts.text("socket", notes);
    let label = parts.text("label", notes);
    Some(Spec {
        socket: socket.map_or_else(|| PathBuf::from(SOCKET), PathBuf::from),
        label: label.unwrap_or_else(|| LABEL.to_owned()),
        networks: parts.words("networks", notes),
        is_published,
    })
}
