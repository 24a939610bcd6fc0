#![no_main]
//! Filter expressions: what is printed is read as the same, and all tables of truth agree with
//! the laws of logic and with a reading of the list form by hand.

use libfuzzer_sys::fuzz_target;
use onemcp::base::limits;
use onemcp::model::filter::TagExpression;
use onemcp_fuzz::bounded;

fuzz_target!(|data: &[u8]| bounded(|| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    list(text);
    match TagExpression::parse(text) {
        Err(error) => {
            assert!(
                (1..=text.chars().count() + 1).contains(&error.position),
                "{error}"
            );
        }
        Ok(expression) => {
            assert!(text.len() <= limits::FILTER_BYTES);
            let printed = expression.to_string();
            // Printed operators are longer than some that are written.
            if printed.len() <= limits::FILTER_BYTES {
                assert_eq!(
                    TagExpression::parse(&printed).as_ref(),
                    Ok(&expression),
                    "{text}"
                );
            }
            logic(text, &expression);
        }
    }
}));

fn logic(text: &str, expression: &TagExpression) {
    let mut names = Vec::new();
    tags(expression, &mut names);
    names.sort();
    names.dedup();
    assert!(!names.is_empty() && names.len() <= limits::FILTER_TAGS);
    names.truncate(5);
    let written = |text: String| TagExpression::parse(&text).ok();
    let negated = written(format!("!({text})"));
    let both = written(format!("({text})+!({text})"));
    let either = written(format!("({text}),!({text})"));
    for world in 0..1_u32 << names.len() {
        let present = names
            .iter()
            .enumerate()
            .filter(|(at, _)| world >> at & 1 == 1);
        let present: Vec<String> = present.map(|(_, name)| name.to_uppercase()).collect();
        let holds = expression.matches(&present);
        assert_eq!(holds, truth(expression, &present));
        assert!(
            negated
                .as_ref()
                .is_none_or(|other| other.matches(&present) != holds)
        );
        assert!(both.as_ref().is_none_or(|other| !other.matches(&present)));
        assert!(either.as_ref().is_none_or(|other| other.matches(&present)));
    }
}

fn tags(expression: &TagExpression, names: &mut Vec<String>) {
    match expression {
        TagExpression::Tag(name) => names.push(name.clone()),
        TagExpression::Not(inner) => tags(inner, names),
        TagExpression::And(parts) | TagExpression::Or(parts) => {
            assert!(parts.len() > 1);
            parts.iter().for_each(|part| tags(part, names));
        }
    }
}

fn truth(expression: &TagExpression, present: &[String]) -> bool {
    match expression {
        TagExpression::Tag(name) => present.iter().any(|tag| tag.to_lowercase() == *name),
        TagExpression::Not(inner) => !truth(inner, present),
        TagExpression::And(parts) => !parts.iter().any(|part| !truth(part, present)),
        TagExpression::Or(parts) => parts.iter().any(|part| truth(part, present)),
    }
}

fn list(text: &str) {
    if let Ok(expression) = TagExpression::any_of_list(text) {
        for tag in text.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
            assert!(expression.matches(&[tag.to_owned()]), "{tag:?} of {text:?}");
        }
        assert!(!expression.matches(&["\0 no tag".to_owned()]));
    }
}
