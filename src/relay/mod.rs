//! What happens to one request: who may see what, where a name lives, what a list holds. Policy
//! as pure functions over a `World`; nothing here reads a socket or waits for a server.

pub mod bridge;
pub mod instructions;
pub mod list;
pub mod route;
pub mod view;
pub mod world;
