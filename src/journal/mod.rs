//! What happened, for the operator: the log, and facts. (Audit comes here too.)

pub mod context;
pub mod fact;
pub mod log;
pub mod metrics;
pub mod otlp;
pub mod span;
