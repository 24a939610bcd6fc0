//! Bytes as hexadecimal digits: written in lower case, read in either. Pure.

pub fn encode(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(2 * bytes.len());
    push(&mut text, bytes);
    // Digits are always text.
    String::from_utf8(text).unwrap_or_default()
}

/// In pieces, not digit by digit: lines of the audit log have many of them.
pub fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    for part in bytes.chunks(32) {
        let mut whole = [0; 32];
        whole[..part.len()].copy_from_slice(part);
        out.extend_from_slice(&digits_of(&whole)[..2 * part.len()]);
    }
}

/// The digits of so much as a SHA-256 has.
pub fn digits_of(bytes: &[u8; 32]) -> [u8; 64] {
    let mut text = [0; 64];
    let words = bytes.as_chunks::<4>().0.iter();
    for (place, word) in text.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *place = digits(*word);
    }
    text
}

#[inline]
fn digits(word: [u8; 4]) -> [u8; 8] {
    // One half of a byte in each byte, in their order.
    let spread = u64::from(u32::from_be_bytes(word));
    let spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    let spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // Each from ten on becomes a letter.
    let letters = ((spread + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    let to_letter = u64::from(b'a' - b'0' - 10);
    (spread + 0x3030_3030_3030_3030 + letters * to_letter).to_be_bytes()
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
        assert_eq!(decode(&text.to_uppercase()), Some(bytes.clone()));
        for length in (0..9).chain([31, 32, 33, 100]) {
            let some = &bytes[7..7 + length];
            assert_eq!(decode(&encode(some)).as_deref(), Some(some));
        }
        assert_eq!(decode(""), Some(Vec::new()));
        for bad in ["0", "0g", "+f", " 0", "é", "000"] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }
}
