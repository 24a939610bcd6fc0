//! HTTP towards others: URLs, where a request may go, and the client that sends it.
//!
//! Knows nothing of MCP. Every wait runs on the thread of the caller and can be ended from
//! another one. Deliberately absent: cookies, compression, HTTP/2, retries.

pub mod egress;
pub mod proxy;
pub mod url;
