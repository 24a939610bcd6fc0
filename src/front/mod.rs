//! How clients reach us: routes, sessions, event streams, channels, health. Everything here runs
//! on connection threads, one for each client connection, or on the `call` workers of channels.

pub mod answer;
pub mod ask;
pub mod channel;
pub mod desk;
pub mod endpoints;
pub mod exchange;
pub mod face;
pub mod flight;
pub mod headers;
pub mod health;
pub mod inputs;
pub mod listen;
pub mod output;
pub mod parking;
pub mod pipes;
pub mod post;
pub mod request;
pub mod rounds;
pub mod session;
pub mod session_tasks;
pub mod sessions;
pub mod sse;
pub mod standing;
pub mod stateless;
pub mod stdio;
pub mod stream;
pub mod streamable;
pub mod subscription;
pub mod talk;
pub mod talks;
pub mod tasks;
pub mod watched;
pub mod workers;
