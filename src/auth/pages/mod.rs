//! What people see: the pages on which an operator signs in and lets a client in. Plain HTML
//! without scripts; every form is sealed for the browser that asked for it.

pub mod cookie;
pub mod html;
pub mod seal;
