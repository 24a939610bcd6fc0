//! What a provider says when it is asked for a secret, and what is told when nobody has it.
//! No text here holds a value.

use std::fmt;

use crate::secrets::name;

#[derive(Clone, PartialEq, Eq)]
pub enum Answer {
    Found(String),
    /// It has no such secret, and why: the next provider is asked.
    Absent(String),
    /// It may have it and cannot say. Nobody else is asked: which value counts must not depend on
    /// what happens to be in reach.
    Trouble(String),
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Found(_) => f.write_str("Found(***)"),
            Answer::Absent(why) => write!(f, "Absent({why})"),
            Answer::Trouble(why) => write!(f, "Trouble({why})"),
        }
    }
}

/// One provider that did not give the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    pub provider: String,
    pub why: String,
}

/// Why there is no secret of this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub name: String,
    pub why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The text says what would be right.
    BadName(String),
    /// Each in its order.
    Nowhere(Vec<Tried>),
    /// The last one may have it.
    Trouble(Vec<Tried>),
    /// More names than the store takes.
    TooMany,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.why {
            // Whatever stands there may have been meant to be the secret itself.
            Why::BadName(_) => f.write_str("${SECRET:...} does not hold the name of a secret"),
            Why::TooMany => write!(f, "secret {name} is one too many"),
            Why::Nowhere(tried) if tried.is_empty() => {
                write!(
                    f,
                    "secret {name} cannot be looked up: no provider is configured"
                )
            }
            Why::Nowhere(tried) => {
                write!(f, "secret {name} is nowhere; asked ")?;
                list(f, tried)
            }
            Why::Trouble(tried) => {
                write!(f, "secret {name} cannot be read; asked ")?;
                list(f, tried)
            }
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, tried: &[Tried]) -> fmt::Result {
    for (index, one) in tried.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(f, "{comma}{} ({})", one.provider, one.why)?;
    }
    Ok(())
}

impl Missing {
    pub fn remedy(&self) -> String {
        let name = &self.name;
        match &self.why {
            Why::BadName(right) => format!("write {right}"),
            Why::TooMany => "use fewer secrets".into(),
            Why::Nowhere(_) => format!(
                "provide it to one of these, such as by {} in the environment, or by \
                 onemcp secret set {name}",
                name::variable(name)
            ),
            Why::Trouble(_) => "repair the last of these, or ask it later in \
                 gateway.secrets.providers"
                .into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Missing, Tried, Why};

    #[test]
    fn says_who_was_asked_and_never_a_value() {
        let tried = |provider: &str, why: &str| Tried {
            provider: provider.into(),
            why: why.into(),
        };
        let missing = |why| Missing {
            name: "api-key".into(),
            why,
        };
        let nowhere = Why::Nowhere(vec![
            tried("/run/secrets", "no such folder"),
            tried("environment", "API_KEY is not set"),
        ]);
        assert_eq!(
            missing(nowhere.clone()).to_string(),
            "secret api-key is nowhere; asked /run/secrets (no such folder), environment \
             (API_KEY is not set)"
        );
        assert!(missing(nowhere).remedy().contains("API_KEY"));
        let bad = Missing {
            name: "sk-live-123/456".into(),
            why: Why::BadName("letters".into()),
        };
        assert!(!format!("{bad} {}", bad.remedy()).contains("sk-live"));
        assert_eq!(
            format!("{:?}", Answer::Found("s3cret".into())),
            "Found(***)"
        );
    }
}
