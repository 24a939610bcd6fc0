//! The exit codes of every command, also those that a gateway decides for one
//! (docs/operations.md, Control).

/// What was asked about is false, or a tool said that it failed.
pub const EXIT_FALSE: u8 = 1;
/// The command line is wrong.
pub const EXIT_USAGE: u8 = 64;
/// No gateway or server can be reached.
pub const EXIT_UNREACHABLE: u8 = 69;
pub const EXIT_TIMEOUT: u8 = 75;
pub const EXIT_REFUSED: u8 = 77;
pub const EXIT_CONFIGURATION: u8 = 78;
