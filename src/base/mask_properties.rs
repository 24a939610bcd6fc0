//! Whatever text a secret stands in, and in whatever form, it is not there afterwards.

use proptest::collection::vec;
use proptest::prelude::{Strategy, prop_oneof};

use super::{Known, MASK, forms};
use crate::base::laws::for_all;

/// Much alike, so that one is often a part of another, or overlaps it. None has the mask in it.
fn secret() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[ab]{8,12}",
        2 => "[A-Za-z0-9+/=]{16,24}",
        1 => "Bearer [ab\"é]{8,12}",
        1 => "[ab\\\\\"\u{1}é%& ]{8,12}",
        1 => "[ab]{8,10}\n[ab]{8,10}",
    ]
}

fn masking(secrets: &[String]) -> Known {
    let mut known = Known::default();
    secrets
        .iter()
        .map(|secret| secret.trim())
        .for_each(|secret| {
            if secret.len() >= super::LEAST_BYTES && !known.has(secret) {
                known.add(secret);
            }
        });
    known
}

/// Where forms of secrets stand between other texts, cut at some place or whole.
fn text_with(secrets: &[String], pieces: &[(usize, usize, String, bool)]) -> String {
    let mut text = String::new();
    for (which, form, other, is_whole) in pieces {
        let secret = secrets[which % secrets.len()].trim();
        let all = forms(secret);
        if let Some(form) = all.get(form % all.len().max(1)) {
            let chars = form.chars().count();
            let shown = if *is_whole { chars } else { chars / 2 };
            text.extend(form.chars().take(shown));
        }
        text.push_str(other);
    }
    text
}

#[test]
fn no_form_of_a_secret_is_left() {
    let pieces = vec(
        (
            0..3_usize,
            0..12_usize,
            "[ab ]{0,3}",
            proptest::bool::weighted(0.8),
        ),
        1..5,
    );
    for_all((vec(secret(), 1..4), pieces), |(secrets, pieces)| {
        let known = masking(&secrets);
        let text = text_with(&secrets, &pieces);
        let masked = known.masked(&text);
        let learnt = secrets.iter().map(|secret| secret.trim());
        for form in learnt.filter(|secret| known.has(secret)).flat_map(forms) {
            assert!(
                !masked.contains(&form),
                "{form:?} of {text:?} in {masked:?}"
            );
        }
    });
}

#[test]
fn what_is_no_secret_stays_in_its_place() {
    for_all(
        (vec(secret(), 0..4), ".{0,30}", ".{0,30}"),
        |(secrets, before, after)| {
            let known = masking(&secrets);
            let all: Vec<String> = secrets.iter().flat_map(|one| forms(one.trim())).collect();
            let text = format!("{before}{after}");
            if !all.iter().any(|form| text.contains(form)) {
                assert_eq!(known.masked(&text), text);
            }
            // Twice is as good as once.
            let once = known.masked(&text).into_owned();
            assert_eq!(known.masked(&once), once);
            for secret in secrets
                .iter()
                .map(|secret| secret.trim())
                .filter(|one| known.has(one))
            {
                let text = format!("{before} \u{0} {secret} \u{0} {after}");
                let masked = known.masked(&text);
                // All of it, also where another secret begins like it.
                let whole = format!(" \u{0} {MASK} \u{0} ");
                assert!(masked.contains(&whole), "{secret:?} in {masked:?}");
            }
        },
    );
}
