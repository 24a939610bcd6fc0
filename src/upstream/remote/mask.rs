//! What a server must not make us say: the values of its own entry that are secret. Servers echo
//! headers and URLs in their errors, and errors go to clients, to health and to the log. Pure.

use crate::base::ordered;
use crate::config::remote::RemoteSpec;
use crate::wire::json::quoted;

/// Shorter pieces are no secrets, and would blot out ordinary words.
const LEAST_BYTES: usize = 4;

/// The longest first, so that no part of one is left.
#[derive(Default)]
pub struct Mask(Vec<String>);

impl Mask {
    pub fn of(spec: &RemoteSpec) -> Mask {
        let mut pieces = Vec::new();
        for (_, value) in &spec.headers {
            let value = value.expose().trim();
            pieces.push(value.to_owned());
            // Without the scheme, as in "Bearer x".
            let words = value.split_whitespace().skip(1);
            pieces.extend(words.map(str::to_owned));
        }
        let whole = spec.url.split('#').next().unwrap_or_default();
        if let Some((_, query)) = whole.split_once('?') {
            pieces.push(query.to_owned());
            for pair in query.split('&') {
                let value = pair.split_once('=').map_or(pair, |(_, value)| value);
                pieces.push(value.to_owned());
                pieces.push(decoded(value));
            }
        }
        let authority = whole.split_once("://").map_or(whole, |(_, rest)| rest);
        let authority = authority.split(['/', '?']).next().unwrap_or_default();
        if let Some((user, _)) = authority.rsplit_once('@') {
            pieces.push(user.to_owned());
            pieces.extend(user.split(':').map(str::to_owned));
        }
        // As it looks inside JSON.
        let escaped = pieces.iter().map(|piece| {
            let text = quoted(piece);
            text[1..text.len() - 1].to_owned()
        });
        let escaped: Vec<String> = escaped.collect();
        pieces.extend(escaped);
        pieces.retain(|piece| piece.len() >= LEAST_BYTES);
        ordered::sort_by(&mut pieces, |one, other| {
            other.len().cmp(&one.len()).then_with(|| one.cmp(other))
        });
        pieces.dedup();
        Mask(pieces)
    }

    pub fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for piece in &self.0 {
            if text.contains(piece) {
                text = text.replace(piece, "***");
            }
        }
        text
    }
}

/// `%XX` as the bytes that it means; the text as it is when they are none.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'%')
            .then(|| {
                after
                    .get(..2)
                    .and_then(|code| std::str::from_utf8(code).ok())
            })
            .flatten()
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = match code {
            Some(_) => &after[2..],
            None => after,
        };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::Mask;
    use crate::base::secret::Secret;
    use crate::config::remote::{RemoteKind, RemoteSpec};
    use crate::net::proxy::ProxyChoice;

    #[test]
    fn hides_what_the_entry_holds_and_nothing_else() {
        let spec = RemoteSpec {
            kind: RemoteKind::Auto,
            url: "https://me:pass1@a.example/mcp?key=k%2Bey1&v=1".to_owned(),
            headers: vec![
                (
                    "Authorization".to_owned(),
                    Secret::new("Bearer tok\"en1".to_owned()),
                ),
                ("X".to_owned(), Secret::new("1".to_owned())),
            ],
            ca_file: None,
            proxy: ProxyChoice::None,
            oauth: None,
            handed_on: Vec::new(),
            within: None,
        };
        let mask = Mask::of(&spec);
        for (text, hidden) in [
            ("no Bearer tok\"en1!", "no ***!"),
            ("no tok\"en1!", "no ***!"),
            (r#"{"m":"no tok\"en1"}"#, r#"{"m":"no ***"}"#),
            ("at /mcp?key=k%2Bey1&v=1", "at /mcp?***"),
            ("k%2Bey1 or k+ey1", "*** or ***"),
            ("me:pass1 pass1", "*** ***"),
            (
                "Bearer of version 1 at a.example",
                "Bearer of version 1 at a.example",
            ),
        ] {
            assert_eq!(mask.hide(text), hidden);
        }
    }
}
