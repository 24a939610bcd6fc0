//! What happened, for the operator: the log. (Audit, metrics and alerts come here too.)

pub mod log;
pub mod metrics;
