#![no_main]
//! Forms, queries, and the codings of bytes as text, against the crate `url`: what we take it
//! reads as the same fields, and every coding has one text for each sequence of bytes.

use libfuzzer_sys::fuzz_target;
use onemcp::wire::form::{self, Form};
use onemcp::wire::{base64, hex, percent};
use onemcp_fuzz::{bounded, first_line};

fuzz_target!(|data: &[u8]| bounded(|| {
    codings(data);
    if let Ok(form) = Form::parse(data) {
        let theirs: Vec<(String, String)> = url::form_urlencoded::parse(data)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        for (name, value) in &theirs {
            let count = theirs.iter().filter(|(other, _)| other == name).count();
            let expected = (count == 1 && !value.is_empty()).then_some(value.as_str());
            assert_eq!(form.get(name), expected, "{name}");
            assert_eq!(form.is_repeated(name), count > 1);
        }
        for (name, value) in form.fields() {
            assert!(
                theirs
                    .iter()
                    .any(|(one, other)| one == name && other == value)
            );
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        written(text);
    }
}));

fn written(text: &str) {
    let (name, value) = first_line(text);
    let has_control = |text: &str| text.chars().any(char::is_control);
    let encoded = form::encode(&[(name, value), ("b", "2 &=+%")]);
    let form = Form::parse(encoded.as_bytes());
    if has_control(name) || has_control(value) && !value.is_empty() {
        return;
    }
    let form = form.expect("what we write we read");
    if name != "b" {
        assert_eq!(form.get(name), (!value.is_empty()).then_some(value));
        assert_eq!(form.get("b"), Some("2 &=+%"));
    }
    assert_eq!(
        percent::decode(&percent::encode(text)).as_deref(),
        Some(text)
    );
    assert_eq!(
        percent::decode_form(&percent::encode(text)).as_deref(),
        Some(text)
    );
}

fn codings(data: &[u8]) {
    assert_eq!(
        base64::decode_url(base64::encode_url(data).as_bytes()).as_deref(),
        Some(data)
    );
    let standard = base64::encode_standard(data);
    assert_eq!(
        base64::decode_standard(standard.as_bytes()).as_deref(),
        Some(data)
    );
    assert_eq!(hex::decode(&hex::encode(data)).as_deref(), Some(data));
    if let Some(bytes) = base64::decode_url(data) {
        assert_eq!(base64::encode_url(&bytes).as_bytes(), data);
    }
    if let Some(bytes) = base64::decode_standard(data) {
        assert_eq!(base64::encode_standard(&bytes).as_bytes(), data);
    }
    if let Some(bytes) = std::str::from_utf8(data).ok().and_then(hex::decode) {
        assert!(hex::encode(&bytes).as_bytes().eq_ignore_ascii_case(data));
    }
}
