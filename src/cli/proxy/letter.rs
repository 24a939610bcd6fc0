//! What HTTP wants beside a message: the headers of a session, or those that repeat what a
//! stateless request says. Values only.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cli::proxy::session::Session;
use crate::front::streamable::SESSION_HEADER;
use crate::model::mirror::Mirror;
use crate::upstream::remote::headers::Told;

pub(super) type Headers = Vec<(String, String)>;

pub(super) fn of_session(session: Option<&Session>) -> Headers {
    let Some(session) = session else {
        return Vec::new();
    };
    let header = |name: &str, value: &Option<String>| {
        value.as_ref().map(|value| (name.to_owned(), value.clone()))
    };
    let id = header(SESSION_HEADER, &session.id);
    let version = header("MCP-Protocol-Version", &session.version);
    id.into_iter().chain(version).collect()
}

/// Of a stateless request. `mirrored`: the arguments of tools that have a header, as far as they
/// are known.
pub(super) fn of_request(line: &str, mirrored: &HashMap<String, Arc<[Mirror]>>) -> Headers {
    let Some(told) = Told::read(line) else {
        return Vec::new();
    };
    let tool = told.name.as_ref().filter(|_| told.method == "tools/call");
    let mirrored = tool.and_then(|tool| mirrored.get(tool));
    told.headers(mirrored.map_or(&[], |mirrors| mirrors))
}
