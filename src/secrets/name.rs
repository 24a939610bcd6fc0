//! The name of a secret. It becomes part of file names, variables and URLs, so it is made of few
//! characters and never leads anywhere else. Pure.

use crate::base::limits;

/// # Errors
/// What would be right.
pub fn check(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_plain = name.chars().all(fits) && !name.starts_with(['.', '-']);
    if is_plain && !name.contains("..") && (1..=limits::SECRET_NAME_BYTES).contains(&name.len()) {
        return Ok(());
    }
    Err(format!(
        "1 to {} characters of A-Z a-z 0-9 - _ . that begin with none of - and .",
        limits::SECRET_NAME_BYTES
    ))
}

/// `api-key` as the name of an environment variable: `API_KEY`.
pub fn variable(name: &str) -> String {
    let upper = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    upper.collect::<String>().to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::{check, variable};

    #[test]
    fn a_name_leads_nowhere_else() {
        for good in [
            "a",
            "api-key",
            "db.password",
            "A_1",
            "9",
            "a.b-c_d",
            &"n".repeat(128),
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let long = "n".repeat(129);
        let bad = [
            "",
            ".",
            "..",
            "a/b",
            "../a",
            "/etc/passwd",
            "a..b",
            ".hidden",
            "-flag",
            "a b",
            "a\0b",
            "a\nb",
            "ü",
            "a%2fb",
            "a\\b",
            "~",
            "{name}",
            &long,
        ];
        for bad in bad {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn variables_are_spelled_in_capitals() {
        assert_eq!(variable("api-key"), "API_KEY");
        assert_eq!(variable("db.password"), "DB_PASSWORD");
        assert_eq!(variable("TOKEN"), "TOKEN");
    }
}
