//! What a server asks for in `WWW-Authenticate` (RFC 9110, section 11.6.1): the parameters of its
//! Bearer challenge (RFC 6750, RFC 9728). Pure. Deliberately absent: other schemes.

/// The Bearer challenge of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Names in lower case, each once.
    params: Vec<(String, String)>,
}

impl Challenge {
    /// The first Bearer challenge in a header, which may hold several of any scheme.
    pub fn bearer(header: &str) -> Option<Challenge> {
        let mut found: Option<Vec<(String, String)>> = None;
        let mut rest = header;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let (word, after) = token(rest)?;
            match param(word, after)? {
                Some((param, after)) => {
                    if let Some(params) = &mut found {
                        params.push(param);
                    }
                    rest = after;
                }
                // Another scheme ends the challenge.
                None if found.is_some() => break,
                None => {
                    found = word.eq_ignore_ascii_case("bearer").then(Vec::new);
                    rest = without_token68(after);
                }
            }
            if rest.trim_matches([' ', '\t', ',']).is_empty() {
                break;
            }
        }
        let params = found?;
        // What is said twice could be read in two ways.
        let is_single = |name: &str| params.iter().filter(|(other, _)| other == name).count() == 1;
        let single = params.iter().filter(|(name, _)| is_single(name));
        Some(Challenge {
            params: single.cloned().collect(),
        })
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut params = self.params.iter();
        let (_, value) = params.find(|(other, _)| other == name)?;
        (!value.is_empty()).then_some(value)
    }

    /// Where the server describes itself as a protected resource.
    pub fn resource_metadata(&self) -> Option<&str> {
        self.get("resource_metadata")
    }

    /// What a token must be good for, in words with spaces between.
    pub fn scope(&self) -> Option<&str> {
        self.get("scope")
    }

    /// The token is good, and not for this.
    pub fn wants_more_scope(&self) -> bool {
        self.get("error") == Some("insufficient_scope")
    }
}

fn token(text: &str) -> Option<(&str, &str)> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !fits(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

type Param<'a> = ((String, String), &'a str);

/// `name = value`, and what follows; nothing when the word is no name of a parameter. `None`:
/// the value cannot be read.
fn param<'a>(name: &str, after: &'a str) -> Option<Option<Param<'a>>> {
    let Some(value) = after.trim_start_matches([' ', '\t']).strip_prefix('=') else {
        return Some(None);
    };
    let value = value.trim_start_matches([' ', '\t']);
    let (value, rest) = match value.strip_prefix('"') {
        Some(quoted) => unquoted(quoted)?,
        None => token(value).map(|(value, rest)| (value.to_owned(), rest))?,
    };
    Some(Some(((name.to_ascii_lowercase(), value), rest)))
}

/// Up to the closing quotation mark.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(c),
        }
    }
    None
}

/// Behind a scheme there may be one word instead of parameters.
fn without_token68(text: &str) -> &str {
    let Some(word) = text.strip_prefix([' ', '\t']) else {
        return text;
    };
    let word = word.trim_start_matches([' ', '\t']);
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    let end = word.find(|c| !fits(c)).unwrap_or(word.len());
    let rest = word[end..].trim_start_matches('=');
    match rest.trim_start_matches([' ', '\t']) {
        after if end > 0 && (after.is_empty() || after.starts_with(',')) => after,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::Challenge;

    #[test]
    fn a_bearer_challenge_is_found_among_others() {
        for (header, metadata, scope) in [
            ("Bearer", None, None),
            ("bearer scope=a", None, Some("a")),
            (
                r#"Bearer resource_metadata="https://a/b", scope="a b""#,
                Some("https://a/b"),
                Some("a b"),
            ),
            (
                r#"Basic realm="x, Bearer scope=no", Bearer SCOPE = "y""#,
                None,
                Some("y"),
            ),
            (
                r#"Negotiate abc/==, Bearer scope="q\"z""#,
                None,
                Some("q\"z"),
            ),
            (r#"Bearer scope="a", Basic scope="b""#, None, Some("a")),
            (r#"Bearer scope="a", scope="b", realm="r""#, None, None),
            (r#"Bearer abc==, Digest scope="a""#, None, None),
            (r#"Bearer scope="""#, None, None),
        ] {
            let found = Challenge::bearer(header).expect(header);
            assert_eq!(found.resource_metadata(), metadata, "{header}");
            assert_eq!(found.scope(), scope, "{header}");
        }
        let more = r#"Bearer error="insufficient_scope", scope="a""#;
        assert!(Challenge::bearer(more).expect(more).wants_more_scope());
    }

    #[test]
    fn what_is_no_bearer_challenge() {
        for header in [
            "",
            ",",
            "Basic realm=\"Bearer\"",
            "Bearerish scope=a",
            "Bearer scope=\"open",
            "scope=\"a\"",
            "\u{e9} Bearer",
            "Bearer \\",
        ] {
            assert_eq!(Challenge::bearer(header), None, "{header}");
        }
    }
}
