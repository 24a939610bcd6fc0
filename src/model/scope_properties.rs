//! Scopes as a set algebra: whatever is done to them, nobody comes to see more.

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::{select, subsequence};

use super::{Reach, Scopes, of_tool};
use crate::base::laws::for_all;

const TAGS: [&str; 3] = ["a", "b", "c-1"];
const NAMES: [&str; 4] = ["s", "t x", "a/b", "%2F"];

/// What somebody wants to see: an entry of a server with tags.
#[derive(Debug, Clone)]
struct Wanted {
    server: &'static str,
    tags: Vec<String>,
    /// A tool, and whether it only reads; else a prompt or a resource.
    tool: Option<(&'static str, bool)>,
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let tags = subsequence(TAGS.to_vec(), 0..=TAGS.len());
    let tool = proptest::option::weighted(0.8, (select(&NAMES[..]), any::<bool>()));
    (select(&NAMES[..]), tags, tool).prop_map(|(server, tags, tool)| Wanted {
        server,
        tags: tags.into_iter().map(str::to_owned).collect(),
        tool,
    })
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => select(&TAGS[..]).prop_map(|tag| format!("tag:{tag}")),
        3 => (select(&NAMES[..]), select(&NAMES[..])).prop_map(|(s, t)| of_tool(s, t)),
        1 => Just("tag:*".to_owned()),
        2 => Just("read".to_owned()),
    ]
}

fn scopes() -> impl Strategy<Value = Scopes> {
    let words = proptest::collection::vec(word(), 0..6);
    words.prop_map(|words| Scopes::parse(&words.join(" ")).expect("scopes"))
}

fn shows(scopes: &Scopes, wanted: &Wanted) -> bool {
    match (scopes.reach(wanted.server, &wanted.tags), wanted.tool) {
        (Reach::Nothing, _) | (Reach::Tools { .. }, None) => false,
        (Reach::Whole, _) | (Reach::ReadOnly, None) => true,
        (Reach::ReadOnly, Some((_, reads_only))) => reads_only,
        (Reach::Tools { names, read_only }, Some((tool, reads_only))) => {
            names.iter().any(|name| name == tool) && (reads_only || !read_only)
        }
    }
}

#[test]
fn what_both_open_is_open_to_each() {
    for_all((scopes(), scopes(), wanted()), |(one, other, wanted)| {
        let both = one.and(&other);
        let may = shows(&one, &wanted) && shows(&other, &wanted);
        assert!(may || !shows(&both, &wanted), "{both} shows {wanted:?}");
        assert!(one.includes(&both), "{one} does not include {both}");
        assert_eq!(both, other.and(&one));
        assert_eq!(both.and(&one), both);
        assert_eq!(one.and(&one), one);
    });
}

#[test]
fn what_either_opens_is_open_to_one() {
    for_all((scopes(), scopes(), wanted()), |(one, other, wanted)| {
        let either = one.or(&other);
        let may = shows(&one, &wanted) || shows(&other, &wanted);
        assert!(may || !shows(&either, &wanted), "{either} shows {wanted:?}");
        assert_eq!(one.or(&one), one);
        assert_eq!(one.or(&Scopes::default()), one);
    });
}

#[test]
fn what_is_included_shows_no_more() {
    let all = (scopes(), scopes(), scopes(), wanted());
    for_all(all, |(wide, narrow, narrower, wanted)| {
        let like = narrow.clone().narrowed_like(&wide);
        assert!(shows(&narrow, &wanted) || !shows(&like, &wanted));
        for part in [&narrow, &like] {
            if wide.includes(part) {
                assert!(shows(&wide, &wanted) || !shows(part, &wanted), "{part}");
            }
        }
        if wide.includes(&narrow) && narrow.includes(&narrower) {
            assert!(wide.includes(&narrower) || narrower.words().all(|word| word == "read"));
        }
        assert!(wide.includes(&wide) && wide.includes(&Scopes::default()));
    });
}

#[test]
fn what_is_printed_is_read_back() {
    for_all(scopes(), |scopes| {
        assert_eq!(Scopes::parse(&scopes.to_string()).as_ref(), Ok(&scopes));
        assert_eq!(Scopes::known_of(&format!("openid {scopes} x")), scopes);
    });
}

#[test]
fn no_text_opens_what_it_does_not_name() {
    for_all((".{0,40}", wanted()), |(text, wanted)| {
        let scopes = Scopes::known_of(&text);
        let is_named = text.contains("tag:") || text.contains("tool:");
        assert!(is_named || !shows(&scopes, &wanted), "{text:?}");
    });
}
