//! Public names: legal, bounded, and each leads back to one entry of one server.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::sample::select;

use super::{Naming, Prefix, legal_in_name, public_name, server_slug};
use crate::base::laws::for_all;
use crate::mcp::list::ListKind;
use crate::model::catalog::{Catalog, Source, Visible};
use crate::model::listing::{Item, Listing};
use crate::wire::json::quoted;

fn naming() -> impl Strategy<Value = Naming> {
    let separator = prop_oneof![
        select(&["_1mcp_", "_", "-", "."][..]).prop_map(str::to_owned),
        "[a_.-]{1,12}"
    ];
    let length = prop_oneof![32..=40_usize, 64..=64_usize, 200..=256_usize];
    (separator, any::<bool>(), length).prop_map(|(separator, is_always, length)| {
        let prefix = match is_always {
            true => Prefix::Always,
            false => Prefix::Never,
        };
        Naming::new(&separator, prefix, length).expect("a naming")
    })
}

/// Names that are much alike, so that those that become the same are often met.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ab_.é -]{1,4}",
        2 => "[ab]{0,3}_1mcp_[ab]{0,3}",
        1 => "[ab]{26,34}[_é]{0,2}[a-f0-9]{12}",
        1 => "a{20,70}[ab]?",
        1 => ".{1,20}",
    ]
}

#[test]
fn names_are_legal_bounded_and_steady() {
    for_all((naming(), name(), name()), |(naming, server, native)| {
        let public = public_name(&naming, &server, &native);
        assert!((1..=naming.max_length).contains(&public.len()), "{public}");
        assert!(public.chars().all(legal_in_name), "{public}");
        assert_eq!(public, public_name(&naming, &server, &native));
        if let Some(prefix) = naming.prefix_of(&server) {
            let is_whole = format!("{prefix}{native}") == public;
            assert!(is_whole || public.len() > 12, "{public}");
        }
        assert!(server_slug(&server).is_ascii());
    });
}

#[test]
fn two_entries_of_one_server_never_have_one_name() {
    for_all(
        (naming(), name(), name(), name()),
        |(naming, server, one, other)| {
            if one != other {
                let names = [&one, &other].map(|native| public_name(&naming, &server, native));
                assert_ne!(names[0], names[1], "{one:?} and {other:?} of {server:?}");
            }
        },
    );
}

#[test]
fn two_servers_of_one_name_each_have_names_of_their_own() {
    for_all((name(), name(), name()), |(one, other, native)| {
        // A separator in neither: then only the slugs could make them the same.
        let naming = Naming::default();
        let slugs = [server_slug(&one), server_slug(&other)];
        let has_mark = |text: &String| text.contains('_');
        if slugs[0] != slugs[1] && !slugs.iter().any(has_mark) && !has_mark(&native) {
            let names = [&one, &other].map(|server| public_name(&naming, server, &native));
            assert_ne!(names[0], names[1]);
        }
    });
}

fn listing(natives: &[String]) -> Listing {
    let mut listing = Listing::default();
    let tool = |name: &String| {
        let raw = format!("{{\"name\":{}}}", quoted(name));
        Item::parse(&raw, ListKind::Tools)
    };
    let tools = natives.iter().filter_map(tool).collect();
    listing.set(ListKind::Tools, tools, None);
    listing
}

#[test]
fn a_public_name_leads_back_to_its_entry() {
    let servers = vec((name(), vec(name(), 1..5)), 1..4);
    for_all((naming(), servers), |(naming, servers)| {
        let listings: Vec<Listing> = servers.iter().map(|(_, names)| listing(names)).collect();
        let (nothing, texts) = (BTreeSet::new(), BTreeMap::new());
        let named = servers.iter().zip(&listings).enumerate();
        let sources = named.map(|(index, ((name, _), listing))| Source {
            index,
            name,
            listing: Some(listing),
            disabled_tools: &nothing,
            held_tools: &nothing,
            strips: false,
            description_overrides: &texts,
        });
        let catalog = Catalog::build(&sources.collect::<Vec<_>>(), &naming);
        let mut seen = HashMap::new();
        for entry in catalog.entries(ListKind::Tools, &Visible::All) {
            let found = catalog.by_public(ListKind::Tools, &entry.public, &Visible::All);
            let found = found.map(|found| (found.server, found.item.key.clone()));
            assert_eq!(found, Some((entry.server, entry.item.key.clone())));
            let native = catalog.by_native(ListKind::Tools, entry.server, &entry.item.key);
            assert_eq!(native.map(|native| &native.public), Some(&entry.public));
            let before = seen.insert(entry.public.clone(), entry.server);
            assert_eq!(before, None, "{} is shown twice", entry.public);
        }
    });
}
