//! Percent-encoding (RFC 3986 2.1), and what forms make of it. Pure.

/// Decodes `%XX`. `None` when the result is not UTF-8 or an escape is broken.
pub fn decode(text: &str) -> Option<String> {
    decoded(text, false)
}

/// The same, and `+` is a space.
pub fn decode_form(text: &str) -> Option<String> {
    decoded(text, true)
}

fn decoded(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                out.push((high * 16 + low) as u8);
            }
            b'+' if plus_is_space => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

/// Escapes all but the unreserved characters.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                out.push('%');
                for half in [byte >> 4, byte & 15] {
                    out.push(char::from(b"0123456789ABCDEF"[usize::from(half)]));
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{decode, decode_form, encode};

    #[test]
    fn decodes_percent_escapes() {
        assert_eq!(decode_form("a%2Cb+c").as_deref(), Some("a,b c"));
        assert_eq!(decode("a+b%20c%C3%A9").as_deref(), Some("a+b cé"));
        for broken in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }

    #[test]
    fn what_was_encoded_is_decoded_as_it_was() {
        for text in ["", "plain-._~", "a b+c/é%41?&=#", "\u{0}\u{7f}\n"] {
            let encoded = encode(text);
            assert!(
                encoded.bytes().all(|byte| byte.is_ascii_graphic()),
                "{encoded}"
            );
            assert_eq!(decode(&encoded).as_deref(), Some(text));
            assert_eq!(decode_form(&encoded).as_deref(), Some(text));
        }
    }
}
