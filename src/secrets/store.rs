//! The store: asks the providers of its `Spec` for one secret at a time.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::base::secret::Secret;
use crate::secrets::spec::Spec;

/// Nobody has the secret: who was asked, and why not. Never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub name: String,
    /// `provider: why`.
    pub tried: Vec<String>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.tried.join(", "))
    }
}

#[derive(Default)]
pub struct Store {
    spec: Mutex<Spec>,
}

impl Store {
    pub fn configure(&self, spec: &Spec) {
        *self.spec.lock().unwrap_or_else(PoisonError::into_inner) = spec.clone();
    }

    /// # Errors
    /// That no provider has it.
    pub fn get(&self, name: &str) -> Result<Secret, Missing> {
        let spec = self.spec.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let variable = name.chars().map(fits).collect::<String>();
        let variable = variable.to_ascii_uppercase();
        match spec.environment.get(&variable) {
            Some(value) => Ok(Secret::new(value.clone())),
            None => Err(Missing {
                name: name.to_owned(),
                tried: vec![format!("environment: {variable} is not set")],
            }),
        }
    }

    /// Files and folders that hold secrets, also those that are not there yet.
    pub fn watched(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Rises when a slow provider was asked anew and said something else.
    pub fn changes(&self) -> u64 {
        0
    }
}
