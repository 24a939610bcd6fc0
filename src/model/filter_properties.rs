//! Tag expressions: what is printed is read back as the same, and they mean what logic says.

use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::sample::{select, subsequence};

use super::{TagExpression, joined};
use crate::base::laws::for_all;

const TAGS: [&str; 6] = ["a", "b-c", "d.1", "e_", "nota", "or-"];

/// As one may be written: operators in all their forms, and parentheses that nobody needs.
#[derive(Debug, Clone)]
enum Written {
    Tag(&'static str),
    Not(&'static str, Box<Written>),
    Join(&'static str, Box<Written>, Box<Written>),
    Enclosed(Box<Written>),
}

impl Written {
    fn text(&self) -> String {
        match self {
            Written::Tag(tag) => (*tag).to_owned(),
            Written::Not(operator, inner) => format!("{operator}{}", inner.tight()),
            Written::Join(operator, one, other) => {
                format!("{}{operator}{}", one.tight(), other.tight())
            }
            Written::Enclosed(inner) => format!("( {} )", inner.text()),
        }
    }

    fn tight(&self) -> String {
        match self {
            Written::Join(..) => format!("({})", self.text()),
            _ => self.text(),
        }
    }

    fn holds(&self, tags: &[String]) -> bool {
        match self {
            Written::Tag(wanted) => tags.iter().any(|tag| tag.eq_ignore_ascii_case(wanted)),
            Written::Not(_, inner) => !inner.holds(tags),
            Written::Join("," | "||" | " or " | " OR ", one, other) => {
                one.holds(tags) || other.holds(tags)
            }
            Written::Join(_, one, other) => one.holds(tags) && other.holds(tags),
            Written::Enclosed(inner) => inner.holds(tags),
        }
    }
}

fn written() -> impl Strategy<Value = Written> {
    let leaf = select(&TAGS[..]).prop_map(Written::Tag);
    leaf.prop_recursive(5, 24, 2, |inner| {
        let not = select(&["!", "-", "not ", "NOT "][..]);
        let join = select(&[",", "||", " or ", " OR ", "+", "&&", " and ", " AND "][..]);
        prop_oneof![
            (not, inner.clone()).prop_map(|(o, one)| Written::Not(o, Box::new(one))),
            (join, inner.clone(), inner.clone()).prop_map(|(o, one, two)| Written::Join(
                o,
                Box::new(one),
                Box::new(two)
            )),
            inner.prop_map(|one| Written::Enclosed(Box::new(one))),
        ]
    })
}

fn tags() -> impl Strategy<Value = Vec<String>> {
    let some = subsequence(TAGS.to_vec(), 0..=TAGS.len());
    (some, any::<bool>()).prop_map(|(tags, is_upper)| {
        let cased = |tag: &str| match is_upper {
            true => tag.to_uppercase(),
            false => tag.to_owned(),
        };
        tags.into_iter().map(cased).collect()
    })
}

#[test]
fn means_what_is_written_and_is_read_back_as_printed() {
    for_all((written(), tags()), |(written, tags)| {
        let text = written.text();
        let parsed = TagExpression::parse(&text).expect(&text);
        assert_eq!(parsed.matches(&tags), written.holds(&tags), "{text}");
        let printed = parsed.to_string();
        assert_eq!(
            TagExpression::parse(&printed),
            Ok(parsed),
            "{text}: {printed}"
        );
    });
}

#[test]
fn obeys_the_laws_of_logic() {
    let parsed = written().prop_map(|one| TagExpression::parse(&one.text()).expect("one"));
    let parsed = parsed.boxed();
    let all = (parsed.clone(), parsed.clone(), parsed, tags());
    for_all(all, |(one, two, three, tags)| {
        let not = |inner: &TagExpression| TagExpression::Not(Box::new(inner.clone()));
        let and = |parts: &[&TagExpression]| {
            joined(
                parts.iter().map(|part| (*part).clone()).collect(),
                TagExpression::And,
            )
        };
        let or = |parts: &[&TagExpression]| {
            joined(
                parts.iter().map(|part| (*part).clone()).collect(),
                TagExpression::Or,
            )
        };
        for (left, right) in [
            (not(&not(&one)), one.clone()),
            (not(&and(&[&one, &two])), or(&[&not(&one), &not(&two)])),
            (not(&or(&[&one, &two])), and(&[&not(&one), &not(&two)])),
            (and(&[&one, &two]), and(&[&two, &one])),
            (
                or(&[&one, &or(&[&two, &three])]),
                or(&[&or(&[&one, &two]), &three]),
            ),
            (
                and(&[&one, &or(&[&two, &three])]),
                or(&[&and(&[&one, &two]), &and(&[&one, &three])]),
            ),
            (or(&[&one, &and(&[&one, &two])]), one.clone()),
        ] {
            assert_eq!(
                left.matches(&tags),
                right.matches(&tags),
                "{left} and {right}"
            );
            // What was put together is in its normal form, so it is read back, too.
            assert_eq!(TagExpression::parse(&left.to_string()).ok(), Some(left));
        }
    });
}

#[test]
fn any_text_is_an_expression_or_has_a_place_where_it_is_wrong() {
    let piece = select(
        &[
            "a", "b-c", "(", ")", ",", "+", "!", "-", " or ", " and ", "|", "é",
        ][..],
    );
    for_all(proptest::collection::vec(piece, 0..12), |pieces| {
        let text = pieces.concat();
        match TagExpression::parse(&text) {
            Ok(parsed) => assert_eq!(TagExpression::parse(&parsed.to_string()), Ok(parsed)),
            Err(error) => assert!((1..=text.chars().count() + 1).contains(&error.position)),
        }
    });
}
