//! How clients reach us: routes, sessions, event streams, health. Everything here runs on
//! connection threads, one for each client connection.

pub mod answer;
pub mod ask;
pub mod desk;
pub mod endpoints;
pub mod exchange;
pub mod face;
pub mod headers;
pub mod health;
pub mod listen;
pub mod output;
pub mod post;
pub mod request;
pub mod session;
pub mod sessions;
pub mod stateless;
pub mod stream;
pub mod streamable;
pub mod subscription;
