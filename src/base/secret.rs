//! A string that never prints itself, and names that say that their value should not.

use std::fmt;

use crate::base::mask;

/// A value that must not reach a log, an error, health or `ps`. `Debug` and `Display` give `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: String) -> Secret {
        Secret(value)
    }

    /// One that is a secret for certain: it is masked wherever it would be logged.
    pub fn known(value: String) -> Secret {
        mask::learn(&value);
        Secret(value)
    }

    /// The value itself, for the one place that needs it (a child's environment, a header).
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Words of a name that say that its value is nobody's business.
const SECRET_WORDS: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "token",
    "key",
    "secret",
    "auth",
    "authorization",
    "cookie",
];

/// Whether a value of this name is to be hidden: `API_KEY`, `accessToken`, `X-Auth`.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let mut parts = name.split(['_', '-', '.']);
    parts.any(|part| SECRET_WORDS.iter().any(|word| part.ends_with(word)))
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn prints_stars_only() {
        let secret = Secret::new("hunter2".into());
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.expose(), "hunter2");
    }
}
