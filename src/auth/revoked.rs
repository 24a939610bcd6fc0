//! What was revoked before its time.

#[derive(Debug, Default)]
pub struct Revoked {}
