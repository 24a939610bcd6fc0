//! HTTP towards others: where a request may go, and the client that sends it.
//!
//! Knows nothing of MCP. Everything runs on the thread of the caller; another thread can end
//! it at once (`stop`). `url`, `egress` and `error` are pure. Deliberately absent: cookies,
//! compression, HTTP/2, retries, and redirects to another origin.
//!
//! ureq drives the protocol. Names, addresses, sockets and every wait are ours: it asks
//! `connect` for a connection and reads and writes through `socket`, which look up in `wait`
//! what the running request may take. `redis` speaks to a store instead, on the same sockets.

pub mod certificate;
pub mod client;
mod connect;
pub mod dial;
pub mod dns;
pub mod dns_message;
pub mod egress;
pub mod error;
mod lookup;
pub mod proxy;
pub mod redis;
mod socket;
pub mod stop;
pub mod url;
mod wait;

#[cfg(test)]
mod tests;
