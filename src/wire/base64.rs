//! Base64 (RFC 4648), strict: each byte sequence has exactly one text, so a changed character is
//! always refused. The URL form has no padding (section 5), the standard form has it (section 4).

const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub fn encode_url(bytes: &[u8]) -> String {
    encode(bytes, URL)
}

pub fn encode_standard(bytes: &[u8]) -> String {
    let mut text = encode(bytes, STANDARD);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

pub fn decode_url(text: &[u8]) -> Option<Vec<u8>> {
    decode(text, URL)
}

pub fn decode_standard(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    if padding > 2 {
        return None;
    }
    decode(&text[..text.len() - padding], STANDARD)
}

fn encode(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for digit in 0..=chunk.len() {
            let value = (bits >> (18 - 6 * digit)) & 0x3F;
            text.push(char::from(alphabet[value as usize]));
        }
    }
    text
}

fn decode(text: &[u8], alphabet: &[u8; 64]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    for chunk in text.chunks(4) {
        let mut bits = 0_u32;
        for &character in chunk {
            bits = bits << 6 | digit(character, alphabet)?;
        }
        bits <<= 6 * (4 - chunk.len());
        let [_, three @ ..] = bits.to_be_bytes();
        let (taken, left) = three.split_at(chunk.len() - 1);
        if taken.is_empty() || left.iter().any(|&byte| byte != 0) {
            return None;
        }
        bytes.extend_from_slice(taken);
    }
    Some(bytes)
}

fn digit(character: u8, alphabet: &[u8; 64]) -> Option<u32> {
    let value = match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        last if last == alphabet[62] => 62,
        last if last == alphabet[63] => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::{decode_standard, decode_url, encode_standard, encode_url};

    /// RFC 4648 section 10.
    #[test]
    fn as_in_rfc_4648() {
        let table = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, text) in table {
            assert_eq!(encode_standard(plain.as_bytes()), text);
            assert_eq!(
                decode_standard(text.as_bytes()).as_deref(),
                Some(plain.as_bytes())
            );
            let bare = text.trim_end_matches('=');
            assert_eq!(encode_url(plain.as_bytes()), bare);
            assert_eq!(
                decode_url(bare.as_bytes()).as_deref(),
                Some(plain.as_bytes())
            );
        }
        assert_eq!(encode_url(&[0xFB, 0xFF]), "-_8");
        assert_eq!(encode_standard(&[0xFB, 0xFF]), "+/8=");
    }

    #[test]
    fn each_bytes_have_one_text() {
        for refused in ["A", "AB", "AAB", "AA==", "+/8", "A A", "é"] {
            assert_eq!(decode_url(refused.as_bytes()), None, "{refused}");
        }
        for refused in ["Zg", "Zg=", "Zh==", "====", "-_8=", "Z===", "Zg==Zg=="] {
            assert_eq!(decode_standard(refused.as_bytes()), None, "{refused}");
        }
    }
}
