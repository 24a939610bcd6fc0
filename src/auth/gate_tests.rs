//! Tokens good and forged.
