//! Names that servers make up to be taken for others: each public name leads to one tool of one
//! server, or to nobody, and the order in which servers come has no say in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Catalog, Clash, Source, Visible};
use crate::mcp::list::ListKind;
use crate::model::listing::{Item, Listing};
use crate::model::naming::{Naming, Prefix, public_name};
use crate::wire::json::quoted;

const SERVERS: [&str; 8] = [
    "github",
    "a",
    "a_1mcp_b",
    "a.1mcp.b",
    "a_1mcp_",
    "github_1mcp_",
    "git hub",
    "git_hub",
];

/// Two hundred names: the public names of others, pieces of them, and texts that become alike.
fn names() -> Vec<String> {
    let naming = Naming::default();
    let plain = [
        "create_issue",
        "c",
        "b_1mcp_c",
        "_1mcp_c",
        "1mcp_c",
        "x y",
        "x_y",
        "x\u{200b}y",
    ];
    let mut names: Vec<String> = plain.map(str::to_owned).to_vec();
    for server in SERVERS {
        for native in plain {
            let public = public_name(&naming, server, native);
            let prefix = naming.prefix_of(server).unwrap_or_default();
            let rest = public.strip_prefix(&prefix).unwrap_or(&public).to_owned();
            names.extend([public, rest, format!("{prefix}{native}")]);
        }
    }
    names.extend(["é", "e\u{301}", "\u{2067}c", "", " ", "c ", "C", "tool/c"].map(str::to_owned));
    names.extend((24..140).map(|length| "c".repeat(length)));
    let mut seen = BTreeSet::new();
    names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
    names.truncate(200);
    assert_eq!(names.len(), 200);
    names
}

fn listing(names: &[String]) -> Listing {
    let tool = |name: &String| {
        let raw = format!("{{\"name\":{}}}", quoted(name));
        Item::parse(&raw, ListKind::Tools).unwrap()
    };
    let mut listing = Listing::default();
    listing.set(ListKind::Tools, names.iter().map(tool).collect(), None);
    listing
}

/// Public names, and whom they lead to.
type Owners = BTreeMap<String, (usize, String)>;

fn built(listings: &[Option<Listing>], naming: &Naming) -> (Catalog, Owners) {
    let (nothing, texts) = (BTreeSet::new(), BTreeMap::new());
    let sources = listings.iter().enumerate().map(|(index, listing)| Source {
        index,
        name: SERVERS[index],
        listing: listing.as_ref(),
        disabled_tools: &nothing,
        held_tools: &nothing,
        strips: false,
        description_overrides: &texts,
    });
    let catalog = Catalog::build(&sources.collect::<Vec<_>>(), naming);
    let mut owners = BTreeMap::new();
    for entry in catalog.entries(ListKind::Tools, &Visible::All) {
        let pair = (entry.server, entry.item.key.to_string());
        let before = owners.insert(entry.public.to_string(), pair.clone());
        assert_eq!(before, None, "{} is listed twice", entry.public);
        let found = catalog.by_public(ListKind::Tools, &entry.public, &Visible::All);
        let found = found.map(|found| (found.server, found.item.key.to_string()));
        assert_eq!(found, Some(pair), "{}", entry.public);
    }
    (catalog, owners)
}

#[test]
fn names_made_up_for_it_lead_to_one_tool_or_to_nobody() {
    let names = names();
    for naming in [
        Naming::default(),
        Naming::new("_", Prefix::Always, 32).unwrap(),
        Naming::new("_", Prefix::Never, 64).unwrap(),
    ] {
        let all = vec![Some(listing(&names)); SERVERS.len()];
        let (catalog, owners) = built(&all, &naming);
        let mut tools: HashMap<&(usize, String), &String> = HashMap::new();
        for (public, pair) in &owners {
            assert_eq!(tools.insert(pair, public), None, "{pair:?} has two names");
        }
        // Whoever is not listed was refused for one that stands before it in the configuration.
        let refused: HashMap<(usize, &str), &Clash> = catalog
            .clashes
            .iter()
            .map(|clash| ((clash.refused, clash.public.as_str()), clash))
            .collect();
        for (index, server) in SERVERS.iter().enumerate() {
            for name in &names {
                let public = public_name(&naming, server, name);
                if tools.contains_key(&(index, name.clone())) {
                    continue;
                }
                let clash = refused.get(&(index, public.as_str()));
                let clash = clash.unwrap_or_else(|| panic!("{server} {name:?} is lost"));
                assert!(clash.kept < index || names_meet(&naming, server, &names, name));
                assert_eq!(owners[&public].0, clash.kept, "{public}");
            }
        }
    }
}

/// Two tools of one server that are called alike: the first keeps the name.
fn names_meet(naming: &Naming, server: &str, names: &[String], name: &str) -> bool {
    let public = public_name(naming, server, name);
    let same = |other: &&String| public_name(naming, server, other) == public;
    names.iter().filter(same).count() > 1
}

#[test]
fn the_order_in_which_servers_come_has_no_say() {
    let names = names();
    let naming = Naming::default();
    let all = vec![Some(listing(&names)); SERVERS.len()];
    let (_, expect) = built(&all, &naming);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..20 {
        let mut order: Vec<usize> = (0..SERVERS.len()).collect();
        for at in (1..order.len()).rev() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            order.swap(at, (state >> 33) as usize % (at + 1));
        }
        let mut come: Vec<Option<Listing>> = vec![None; SERVERS.len()];
        for server in order {
            come[server] = all[server].clone();
            let (_, owners) = built(&come, &naming);
            // At no moment does a name lead to another tool than in the end.
            for (public, pair) in owners {
                assert_eq!(expect.get(&public), Some(&pair), "{public}");
            }
        }
        assert_eq!(built(&come, &naming).1, expect);
    }
}
