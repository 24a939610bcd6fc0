//! The one integration binary.

#[cfg(test)]
mod codes;
#[cfg(test)]
mod fidelity;
#[cfg(test)]
mod process;
#[cfg(test)]
mod support;
