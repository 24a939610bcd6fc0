//! Servers behind the gateway: their processes, their messages, their supervision.
//!
//! Four threads for each process: the owner (starts, shakes hands, reads lists, restarts), the
//! writer, the reader and the stderr reader. A call goes from a connection thread straight to
//! the child's stdin and comes back from the reader thread; the owner only supervises.

pub mod agenda;
pub mod call;
pub mod caller;
pub mod calls;
pub mod checkup;
pub mod dependency;
pub mod event;
pub mod handshake;
pub mod inbound;
pub mod link;
pub mod listening;
pub mod liveness;
pub mod oauth;
pub mod outlet;
pub mod owner;
mod pause;
pub mod pending;
pub mod pool;
pub mod probe;
pub mod process;
mod program;
pub mod remote;
pub mod server;
#[cfg(test)]
mod server_tests;
pub mod signals;
pub mod stderr;
pub mod subscriber;
pub mod tasks;
pub mod traced;
pub mod verdict;
