//! The one integration binary.

#[cfg(test)]
mod docs;
#[cfg(test)]
mod process;
#[cfg(test)]
mod repo;
#[cfg(test)]
mod tidy;
