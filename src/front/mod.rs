//! How clients reach us: routes, sessions, event streams, health. Everything here runs on
//! connection threads, one for each client connection.

pub mod ask;
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
pub mod stream;
pub mod streamable;
