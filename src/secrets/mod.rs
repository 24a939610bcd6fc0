//! Secrets: where the values behind `${SECRET:name}` come from. Who uses a secret is the business
//! of `config`, and so is what follows from a change.

pub mod spec;
pub mod store;
