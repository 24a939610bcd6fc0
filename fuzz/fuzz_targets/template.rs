#![no_main]
//! Templates of a configuration: text without an expression stays, a value is put in as it is and
//! never read again, a default counts only where there is nothing, and the work is bounded.

use libfuzzer_sys::fuzz_target;
use onemcp::config::expand::{Lack, Wanted, expand, variable_for};
use onemcp_fuzz::bounded;

/// Holds what would be expanded if a value were read again.
const VALUE: &str = "${B:-x}$B$${C}}";

fn lookup(wanted: Wanted<'_>) -> Result<String, Lack> {
    match wanted {
        Wanted::Variable("A" | "HOME") | Wanted::Secret("a") | Wanted::File("a") => {
            Ok(VALUE.to_owned())
        }
        Wanted::Variable("EMPTY") => Ok(String::new()),
        Wanted::Secret("away") => Err(Lack::Unsure("why".into())),
        Wanted::Secret(name) if !is_good(name) => Err(Lack::BadName("how".into())),
        _ => Err(Lack::Absent("why".into())),
    }
}

/// As the store judges the name of a secret, which is shown: no value is in it by accident.
fn is_good(name: &str) -> bool {
    name.bytes()
        .all(|byte| b"._-".contains(&byte) || byte.is_ascii_alphanumeric())
}

fuzz_target!(|data: &[u8]| bounded(|| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let out = expand(text, &lookup);
    if !text.contains('$') {
        assert_eq!(out.text, text);
        assert!(out.failures.is_empty() && out.kept.is_empty());
    }
    assert!(out.text.len() <= text.len() * VALUE.len());
    assert!(out.failures.len() + out.kept.len() <= text.matches('$').count());
    for failure in &out.failures {
        assert!(!failure.message().is_empty() && !failure.remedy().is_empty());
        // Those that quote a value would show a secret.
        assert!(
            !failure.message().contains(VALUE) || text.contains(VALUE),
            "{failure:?}"
        );
    }
    literal(text);
    around(text);
    assert!(
        variable_for(text)
            .bytes()
            .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
    );
}));

/// Every `${` written as `$${`, and no `$` alone: then it is all text.
fn literal(text: &str) {
    let plain = text.replace('$', "");
    let written = plain.replace('{', "$${");
    let out = expand(&written, &lookup);
    assert_eq!(out.text, plain.replace('{', "${"));
    assert!(out.failures.is_empty() && out.kept.is_empty());
}

/// What stands before and behind an expression does not touch it.
fn around(text: &str) {
    let plain: String = text.chars().filter(|c| !"${}:".contains(*c)).collect();
    for (written, value) in [
        ("${A}", VALUE),
        ("${env:A}", VALUE),
        ("${SECRET:a}", VALUE),
        ("${NOT_SET:-${A}}", VALUE),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY}", ""),
    ] {
        let out = expand(&format!("{plain}{written}{plain}"), &lookup);
        assert_eq!(out.text, format!("{plain}{value}{plain}"));
        assert!(out.failures.is_empty(), "{:?}", out.failures);
    }
    let out = expand(&format!("${{NOT_SET:-{plain}}}"), &lookup);
    assert_eq!(out.text, plain);
}
