//! What happened, for the operator: the log, facts, and the audit log.

pub mod alert;
pub mod arguments;
pub mod audit;
pub mod context;
pub mod fact;
pub mod file;
pub mod level;
pub mod line;
pub mod log;
pub mod metrics;
pub mod otlp;
pub mod request;
pub mod ring;
pub mod server_files;
pub mod sink;
pub mod span;
