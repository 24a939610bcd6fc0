//! Bytes and messages: JSON text, JSON-RPC envelopes, lines, event streams. Sans-IO but for
//! the line reader, which takes any `Read`. Absent on purpose: a tree of values. Payloads stay
//! text and are spliced by offset, so that numbers, key order and unknown members survive.

pub mod base64;
pub mod challenge;
pub mod form;
pub mod hex;
pub mod jose;
pub mod json;
pub mod lines;
pub mod members;
pub mod message;
pub mod percent;
pub mod sse;
