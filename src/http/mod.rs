//! The network-facing HTTP/1.1 listener: our own loop, one bounded thread per connection.
//!
//! `Server` accepts, `connection` runs one connection on its own thread, `Head` is what the
//! strict parser accepted, `Responder` writes exactly one answer per request, and
//! `HostPolicy` decides about Host and Origin. The next request of a connection is parsed
//! only after the answer to the one before is written.
//!
//! With `Tls` a connection is greeted first, on its own thread; what follows is the same.
//!
//! Absent on purpose: HTTP/2, upgrades, compression, routing and authentication (the
//! `Handler` decides those), decoding of paths, and any lock on the way of a request.

mod accept;
mod authority;
mod chunked;
mod connection;
mod guard;
mod head;
mod outbox;
mod pipe;
mod registry;
mod respond;
mod secure;
mod server;
mod socket;
mod tls;
mod trusted;

#[cfg(test)]
mod behaviour_tests;
#[cfg(test)]
mod framing_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tls_tests;

pub use authority::Authority;
pub use chunked::Chunked;
pub use guard::{Checked, HostPolicy, cors_headers, valid_origin};
pub use head::{Fields, Framing, Head, Method, Parsed, Refusal, no_fields};
pub use respond::{Reply, Responder};
pub use server::{Admit, Handler, Peer, Server, ServerOptions};
pub use tls::{Tls, TlsFiles, TlsNews};
pub use trusted::{Client, Trusted};
