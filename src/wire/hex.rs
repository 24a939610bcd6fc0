//! Bytes as hexadecimal digits: written in lower case, read in either. Pure.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    push(&mut text, bytes);
    text
}

/// In pieces, not digit by digit: lines of the audit log have many of them.
pub fn push(out: &mut String, bytes: &[u8]) {
    let mut text = [0; 64];
    for part in bytes.chunks(text.len() / 2) {
        for (pair, byte) in text.chunks_exact_mut(2).zip(part) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        // Digits are always text.
        out.push_str(std::str::from_utf8(&text[..2 * part.len()]).unwrap_or_default());
    }
}

/// `None`: it has something else in it, or half a byte.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = pairs
        .iter()
        .map(|[high, low]| Some((digit(*high)? * 16 + digit(*low)?) as u8));
    rest.is_empty().then(|| pairs.collect())?
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn what_was_written_is_read() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = encode(&bytes);
        assert!(
            text.starts_with("000102") && text.ends_with("fdfeff"),
            "{text}"
        );
        assert_eq!(decode(&text), Some(bytes.clone()));
        assert_eq!(decode(&text.to_uppercase()), Some(bytes));
        assert_eq!(decode(""), Some(Vec::new()));
        for bad in ["0", "0g", "+f", " 0", "é", "000"] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }
}
