//! The operating system, where std is not enough.
