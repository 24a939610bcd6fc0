//! Who may come in: the operator and the pages on which clients are let in.

pub mod operator;
pub mod pages;
