//! What a token may be for (RFC 8707): this gateway, or one of its endpoints. Pure.

use crate::net::url::Url;

/// The resource in the form in which a token names it, if it is ours. Only scheme and host are
/// the same in another case, and the usual port may be written.
pub fn is_ours(issuer: &str, asked: &str) -> Option<String> {
    if asked.contains('#') || asked.contains('?') {
        return None;
    }
    let (ours, asked) = (Url::parse(issuer).ok()?, Url::parse(asked).ok()?);
    if !ours.same_origin(&asked) {
        return None;
    }
    // The issuer has no slash at its end, but a path always has one at its beginning.
    let base = ours.path().trim_end_matches('/');
    let path = asked.path().strip_prefix(base)?;
    let is_server = |name: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.%~".contains(&byte);
        !name.is_empty() && name.bytes().all(fits) && name.bytes().any(|byte| byte != b'.')
    };
    let fits = match path {
        "" | "/" | "/mcp" | "/mcp/" | "/sse" => true,
        path => path.strip_prefix("/mcp/").is_some_and(is_server),
    };
    // Of `/` and nothing there is one form, so that a token and a check compare as strings.
    let path = path.trim_end_matches('/');
    fits.then(|| format!("{}{base}{path}", ours.origin()))
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn an_issuer_may_have_a_path() {
        let home = "https://h.example/gw";
        for (asked, expect) in [
            ("https://h.example/gw", Some("https://h.example/gw")),
            ("https://h.example/gw/mcp", Some("https://h.example/gw/mcp")),
            (
                "https://h.example/gw/mcp/git",
                Some("https://h.example/gw/mcp/git"),
            ),
            ("https://h.example/gwx/mcp", None),
            ("https://h.example/mcp", None),
            ("https://h.example", None),
            ("https://h.example/gw/gw/mcp", None),
        ] {
            assert_eq!(is_ours(home, asked).as_deref(), expect, "{asked}");
        }
    }
}
