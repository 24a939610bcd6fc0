//! The parameters of a request as the log shows them: secrets are masked in the values that they
//! mean, whatever escapes spell them, and values whose key names a secret are left out at any
//! depth. Pure but for the secrets that this process knows (`base::mask`).

use std::borrow::Cow;

use crate::base::limits;
use crate::base::mask::{MASK, masked};
use crate::base::secret::is_secret_name;
use crate::wire::json::{Scanner, quoted, string_value};
use crate::wire::message::FROM_CLIENT;

/// Names a secret by its words only: it is a number of the protocol.
const PROGRESS: &str = "progressToken";

/// Text of a client, without what it must not show, and then bounded: what was cut first could
/// show the beginning of a secret.
pub fn cut(text: &str) -> String {
    let text = masked(text);
    match text.char_indices().nth(limits::LOG_ARGUMENT_CHARS) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.into_owned(),
    }
}

/// JSON in the same way; the end of a text that is none is not shown.
pub fn shown(json: &str) -> String {
    cut(&harmless(json))
}

/// As much of it as is ever shown.
fn harmless(json: &str) -> String {
    let mut out = String::new();
    let mut rest = json;
    // Of whatever size characters are, that is enough.
    while out.len() <= 4 * limits::LOG_ARGUMENT_CHARS {
        let Some(quote) = rest.find('"') else {
            out.push_str(&masked(rest));
            break;
        };
        out.push_str(&masked(&rest[..quote]));
        let Some((literal, after)) = first_value(&rest[quote..]) else {
            break;
        };
        let Some(text) = string_value(literal) else {
            break;
        };
        rest = after;
        out.push_str(&value_shown(literal, &text));
        let Some(value) = after.trim_start().strip_prefix(':') else {
            continue;
        };
        if !is_secret_name(&text) || text == PROGRESS {
            continue;
        }
        let Some((hidden, after)) = first_value(value) else {
            break;
        };
        out.push(':');
        match hidden {
            // There is nothing to hide.
            "null" | "true" | "false" => out.push_str(hidden),
            _ => out.push_str(&quoted(MASK)),
        }
        rest = after;
    }
    out
}

/// A literal as it came, unless there is something in it that must not be seen.
fn value_shown<'a>(literal: &'a str, text: &str) -> Cow<'a, str> {
    // JSON within JSON: every step inwards is shorter, for its quotes are escaped.
    let is_json = text.starts_with(['{', '[']) && first_value(text).is_some();
    let safe = match is_json {
        true => Cow::Owned(harmless(text)),
        false => masked(text),
    };
    match safe == text {
        true => Cow::Borrowed(literal),
        false => Cow::Owned(quoted(&safe)),
    }
}

/// The value that `text` begins with, and what is behind it.
fn first_value(text: &str) -> Option<(&str, &str)> {
    let mut scanner = Scanner::new(text, FROM_CLIENT);
    let (start, end) = scanner.value(0).ok()?;
    Some((&text[start..end], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::{cut, shown};
    use crate::base::limits;
    use crate::base::mask::learn;

    #[test]
    fn secrets_are_masked_whatever_escapes_spell_them() {
        for secret in [
            "SEC\"RETargs1",
            "SEC\\RETargs2",
            "SEC\tRETargs3",
            "SECüRETargs4",
            "SEC\nRETargs5",
            "SEC/RETargs6",
            "plain-RETargs7",
        ] {
            learn(secret);
            let plain = serde_json::to_string(secret).expect("a literal");
            let units: String = secret
                .encode_utf16()
                .map(|unit| format!("\\u{unit:04X}"))
                .collect();
            let nested = serde_json::json!({ "k": secret }).to_string();
            let nested = serde_json::to_string(&nested).expect("a literal");
            for literal in [&plain, &format!("\"{units}\""), &nested] {
                let text = shown(&format!("{{\"k\": [1, {literal}], \"z\": 2}}"));
                assert!(!text.contains("RETargs"), "{text}");
                assert!(
                    text.contains("***") && text.ends_with("\"z\": 2}"),
                    "{text}"
                );
                assert!(!text.contains("SEC") && !text.contains("\\u00"), "{text}");
            }
        }
    }

    #[test]
    fn what_is_cut_shows_no_part_of_a_secret() {
        learn("cut-SECRET-abcdef123");
        for pad in limits::LOG_ARGUMENT_CHARS - 40..limits::LOG_ARGUMENT_CHARS + 4 {
            let pad = "P".repeat(pad);
            let text = shown(&format!("{{\"pad\":\"{pad}cut-SECRET-abcdef123\"}}"));
            assert!(!text.contains("cut"), "{text}");
            assert!(!cut(&format!("{pad}cut-SECRET-abcdef123")).contains("cut"));
        }
        let long = shown(&format!("[\"{}\"]", "ü".repeat(100_000)));
        assert_eq!(long.chars().count(), limits::LOG_ARGUMENT_CHARS + 3);
        let many = shown(&format!("[{}1]", "\"ü\",".repeat(100_000)));
        assert_eq!(many.chars().count(), limits::LOG_ARGUMENT_CHARS + 3);
    }

    #[test]
    fn values_of_keys_that_name_secrets_are_left_out_at_any_depth() {
        for (json, instead) in [
            (
                r#"{"a":{"password" : "hunter2", "b":[{"api_token":["x",{"y":1}]}]},"c":3}"#,
                r#"{"a":{"password":"***", "b":[{"api_token":"***"}]},"c":3}"#,
            ),
            (
                r#"{"Authorization":"Bearer x","pin_key":1234,"auth":null,"has_key":true}"#,
                r#"{"Authorization":"***","pin_key":"***","auth":null,"has_key":true}"#,
            ),
            (r#"{"p\u0061ssword":"x"}"#, r#"{"p\u0061ssword":"***"}"#),
            (
                r#"{"body":"{\"password\":\"x\",\"n\":1}"}"#,
                r#"{"body":"{\"password\":\"***\",\"n\":1}"}"#,
            ),
            (
                r#"{"_meta":{"progressToken":7},"x":"password","y":"\u00fc"}"#,
                r#"{"_meta":{"progressToken":7},"x":"password","y":"\u00fc"}"#,
            ),
            ("", ""),
            ("[1]", "[1]"),
            (r#"{"x":"not ended"#, r#"{"x":"#),
        ] {
            assert_eq!(shown(json), instead);
        }
    }

    #[test]
    fn deep_texts_within_texts_end() {
        let mut text = "x".to_owned();
        for _ in 0..12 {
            text = serde_json::to_string(&[text]).expect("an array");
        }
        shown(&text);
        shown(&"[\"".repeat(100_000));
    }
}
