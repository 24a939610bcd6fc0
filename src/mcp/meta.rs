//! Keys of `_meta` that the protocol reserves (basic/index of 2026-07-28), and what a stateless
//! request says about who sends it.

use crate::mcp::era::STATELESS;

/// All of them begin so; what stands behind is the protocol's, not a server's.
pub const RESERVED: &str = "io.modelcontextprotocol/";

pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
/// Session era, with the experimental tasks of 2025-11-25.
pub const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";
/// The name of the extension, among the capabilities' `extensions`.
pub const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// What every stateless request must carry, as the members of its `_meta` without braces.
/// `capabilities` and `info` are the sender's, as raw JSON objects.
pub fn of_request(capabilities: &str, info: &str) -> String {
    format!(
        "\"{PROTOCOL_VERSION}\":\"{STATELESS}\",\"{CLIENT_CAPABILITIES}\":{capabilities},\
         \"{CLIENT_INFO}\":{info}"
    )
}
