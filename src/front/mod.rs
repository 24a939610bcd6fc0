//! How clients reach us: routes, sessions, event streams, channels, health. Everything here runs
//! on connection threads, one for each client connection, or on the `call` workers of channels.

pub mod ask;
pub mod channel;
pub mod desk;
pub mod endpoints;
pub mod exchange;
pub mod face;
pub mod health;
pub mod listen;
pub mod parking;
pub mod request;
pub mod session;
pub mod sessions;
pub mod sse;
pub mod stream;
pub mod streamable;
pub mod talk;
pub mod talks;
pub mod workers;
