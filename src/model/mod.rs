//! The domain as values and pure functions: no IO, no clock, no threads. `now` is an argument.

pub mod backoff;
pub mod catalog;
pub mod cursor;
pub mod filter;
pub mod hint;
pub mod listing;
pub mod mirror;
pub mod naming;
pub mod order;
pub mod password;
pub mod pin;
pub mod place;
pub mod principal;
pub mod rotating;
pub mod scope;
pub mod seal;
pub mod steady;
pub mod task_id;
pub mod uri_template;
pub mod visible_text;
