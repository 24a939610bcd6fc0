//! Error texts for health: no secret that is known is in them, nor what is left of one.

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};

use super::{KNOWN_BYTES, SHOWN, redacted};
use crate::base::laws::for_all;

/// Some begin as others do.
fn secrets() -> impl Strategy<Value = Vec<String>> {
    let pairs = vec(("[a-z0-9]{6,12}", "[-a-z0-9]{6,12}", any::<bool>()), 1..4);
    pairs.prop_map(|pairs| {
        let both = pairs.into_iter().flat_map(|(one, rest, is_first)| {
            let longer = format!("{one}{rest}");
            match is_first {
                true => [one, longer],
                false => [longer, one],
            }
        });
        both.collect()
    })
}

#[test]
fn no_secret_is_left_nor_a_part_of_one() {
    let around = ("[A-Z .,]{0,12}", "[A-Z .,]{0,12}");
    for_all((secrets(), around), |(secrets, (before, after))| {
        for secret in &secrets {
            let text = format!("{before} {secret} {after}");
            let shown = redacted(&text, secrets.iter().map(String::as_str));
            for at in 0..=secret.len() - KNOWN_BYTES {
                let part = &secret[at..at + KNOWN_BYTES];
                assert!(
                    !shown.contains(part),
                    "{part:?} of {secrets:?} in {shown:?}"
                );
            }
        }
    });
}

#[test]
fn credentials_are_hidden_by_what_stands_before_them() {
    let mark = proptest::sample::select(
        &[
            "token=",
            "Bearer ",
            "api_key: ",
            "Authorization: Bearer ",
            "\"password\":\"",
            "sk-",
        ][..],
    );
    let all = ("[A-Z .,]{0,12}", mark, "[a-z0-9]{8,20}", "[A-Z ]{0,12}");
    for_all(all, |(before, mark, secret, after)| {
        let text = format!("{before} {mark}{secret} {after}");
        let shown = redacted(&text, []);
        assert!(!shown.contains(&secret), "{text:?} is shown as {shown:?}");
    });
}

#[test]
fn any_text_is_cut_and_harmless() {
    for_all((".{0,60}", 0..8_usize), |(text, times)| {
        let shown = redacted(&text.repeat(times), ["known-secret"]);
        assert!(shown.chars().count() <= SHOWN);
    });
}
