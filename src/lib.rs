//! onemcp: one endpoint for all MCP servers.
//!
//! Dependency order, outermost first; a module may use only modules to its right
//! (`tests/it/tidy.rs` fails on a wrong arrow): `cli > gateway > front > auth > relay >
//! upstream > journal > config > secrets > model > mcp > http > net > wire > base`.

pub mod auth;
pub mod base;
pub mod cli;
pub mod config;
pub mod front;
pub mod gateway;
pub mod http;
pub mod journal;
pub mod mcp;
pub mod model;
pub mod net;
pub mod relay;
pub mod secrets;
pub mod upstream;
pub mod wire;
