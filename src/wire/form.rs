//! `application/x-www-form-urlencoded`: queries and forms, read strictly and written. Pure.
//!
//! What is said twice is not said at all: the first reader must not check one value and the last
//! use the other. Deliberately absent: names with structure (`a[b]`) and other charsets.

use std::fmt;

use crate::base::limits::FORM_FIELDS;
use crate::wire::percent;

/// The fields of a form in their order; those without a value are left out (RFC 6749, 3.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    fields: Vec<(String, String)>,
    repeated: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadForm {
    /// Not what a form may hold: a byte, or a `%` without two digits.
    Encoding,
    /// More fields than we read.
    TooMany,
}

impl fmt::Display for BadForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadForm::Encoding => f.write_str("the parameters are not form-urlencoded text"),
            BadForm::TooMany => write!(f, "there are more than {FORM_FIELDS} parameters"),
        }
    }
}

impl Form {
    /// # Errors
    /// When a part of it cannot be read.
    pub fn parse(text: &[u8]) -> Result<Form, BadForm> {
        let mut form = Form::default();
        let mut seen: Vec<String> = Vec::new();
        for part in text.split(|byte| *byte == b'&') {
            if part.is_empty() {
                continue;
            }
            if seen.len() == FORM_FIELDS {
                return Err(BadForm::TooMany);
            }
            let equals = part.iter().position(|byte| *byte == b'=');
            let (name, value) = match equals {
                Some(at) => (&part[..at], &part[at + 1..]),
                None => (part, &part[part.len()..]),
            };
            let name = decode(name).ok_or(BadForm::Encoding)?;
            let value = decode(value).ok_or(BadForm::Encoding)?;
            if seen.contains(&name) {
                form.repeated.push(name.clone());
            } else if !value.is_empty() {
                form.fields.push((name.clone(), value));
            }
            seen.push(name);
        }
        Ok(form)
    }

    /// The value of `name`: none when it is missing, empty or given twice.
    pub fn get(&self, name: &str) -> Option<&str> {
        if self.is_repeated(name) {
            return None;
        }
        let found = self.fields.iter().find(|(field, _)| field == name)?;
        Some(&found.1)
    }

    pub fn is_repeated(&self, name: &str) -> bool {
        self.repeated.iter().any(|repeated| repeated == name)
    }

    /// The first name that was given twice.
    pub fn repeated(&self) -> Option<&str> {
        self.repeated.first().map(String::as_str)
    }

    /// Every field that has a value, in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.fields.iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A form of these fields, without those that have no value.
pub fn encode(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if value.is_empty() {
            continue;
        }
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(&percent::encode(name));
        text.push('=');
        text.push_str(&percent::encode(value));
    }
    text
}

/// UTF-8 without control characters, or nothing.
pub fn decode(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let is_form = text.bytes().all(|byte| byte.is_ascii_graphic());
    let text = percent::decode_form(text).filter(|_| is_form)?;
    let is_plain = !text.chars().any(char::is_control);
    is_plain.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::{BadForm, Form, encode};

    #[test]
    fn reads_what_forms_say() {
        let form = Form::parse(b"a=1&b=x%20y+z&c=&d&&e=%C3%A9%26%3D&f=a=b").unwrap();
        let fields: Vec<(&str, &str)> = form.fields().collect();
        let expect = [("a", "1"), ("b", "x y z"), ("e", "\u{e9}&="), ("f", "a=b")];
        assert_eq!(fields, expect);
        assert_eq!(form.repeated(), None);
        assert_eq!(Form::parse(b"").unwrap(), Form::default());
    }

    #[test]
    fn twice_is_not_at_all() {
        for text in ["a=1&a=2", "a=1&a=1", "a=1&a", "a&a=1", "a=1&%61=2"] {
            let form = Form::parse(text.as_bytes()).unwrap();
            assert_eq!(
                (form.get("a"), form.repeated()),
                (None, Some("a")),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_form() {
        let long = "a=1&".repeat(65);
        for (text, why) in [
            ("a=%", BadForm::Encoding),
            ("a=%4", BadForm::Encoding),
            ("a=%zz", BadForm::Encoding),
            ("a=%+1", BadForm::Encoding),
            ("a=%00", BadForm::Encoding),
            ("a=%0a", BadForm::Encoding),
            ("a=%7f", BadForm::Encoding),
            ("a=%ff", BadForm::Encoding),
            ("a=%C2%85", BadForm::Encoding),
            ("a=b c", BadForm::Encoding),
            ("a=\r\nb", BadForm::Encoding),
            ("a=\u{e9}", BadForm::Encoding),
            (&long, BadForm::TooMany),
        ] {
            assert_eq!(Form::parse(text.as_bytes()), Err(why), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let text = encode(&[("a b", "1&2=3"), ("none", ""), ("é", "%+~")]);
        assert_eq!(text, "a%20b=1%262%3D3&%C3%A9=%25%2B~");
        let form = Form::parse(text.as_bytes()).unwrap();
        assert_eq!(
            (form.get("a b"), form.get("é")),
            (Some("1&2=3"), Some("%+~"))
        );
    }
}
