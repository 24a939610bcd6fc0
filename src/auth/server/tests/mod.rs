//! What is refused, row by row, each with its exact answer; and races.

mod authorize;
mod client_auth;
mod documents;
mod fetching;
mod grants;
mod races;
mod registration;
mod rig;
mod uris;
