//! What a provider says when it is asked for a secret, and what is told when nobody has it.
//! No text here holds a value.

use std::fmt;

use crate::base::limits;

#[derive(Clone, PartialEq, Eq)]
pub enum Answer {
    Found(String),
    /// It has no such secret, and why: the next provider is asked.
    Absent(String),
    /// It may have it and cannot say. Nobody else is asked: which value counts must not depend on
    /// what happens to be in reach.
    Trouble(String),
    /// The same, and not for this secret alone: there is no use in asking for others now.
    Away(String),
}

impl Answer {
    /// Why it cannot say whether it has the secret.
    pub fn trouble(&self) -> Option<&str> {
        match self {
            Answer::Trouble(why) | Answer::Away(why) => Some(why),
            Answer::Found(_) | Answer::Absent(_) => None,
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Found(_) => f.write_str("Found(***)"),
            Answer::Absent(why) => write!(f, "Absent({why})"),
            Answer::Trouble(why) => write!(f, "Trouble({why})"),
            Answer::Away(why) => write!(f, "Away({why})"),
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
    /// Fits behind the name of the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::BadName(right) => write!(f, "a name is {right}"),
            Why::TooMany => write!(f, "more than {} are used", limits::SECRETS),
            Why::Nowhere(tried) if tried.is_empty() => f.write_str("no provider is configured"),
            Why::Nowhere(tried) | Why::Trouble(tried) => list(f, tried),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, tried: &[Tried]) -> fmt::Result {
    for (index, one) in tried.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(f, "{comma}{}: {}", one.provider, one.why)?;
    }
    Ok(())
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
            name: "sk-live-123/456".into(),
            why,
        };
        let nowhere = missing(Why::Nowhere(vec![
            tried("/run/secrets", "no such folder"),
            tried("environment", "API_KEY is not set"),
        ]));
        assert_eq!(
            nowhere.to_string(),
            "/run/secrets: no such folder, environment: API_KEY is not set"
        );
        let bad = missing(Why::BadName("letters".into()));
        assert!(!bad.to_string().contains("sk-live"));
        assert_eq!(
            format!("{:?}", Answer::Found("s3cret".into())),
            "Found(***)"
        );
    }
}
