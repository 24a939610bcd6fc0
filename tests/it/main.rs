//! The one integration binary.

#[cfg(test)]
mod cli;
#[cfg(test)]
mod cli_support;
#[cfg(test)]
mod codes;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod fidelity;
#[cfg(test)]
mod process;
#[cfg(test)]
mod repo;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tidy;
