//! The public names of tools and prompts: `<server><separator><name>`.
//!
//! Pure and stable: a name depends on its server, its native name and the configuration, never
//! on which other servers exist. Deliberately absent: clashes that remain, as between tool `c`
//! of `a_1mcp_b` and tool `b_1mcp_c` of `a`; the catalogue refuses the later server. The way back
//! from a public name is a look-up in the catalogue, never a split at the separator.

use ring::digest;

use crate::base::limits;
use crate::wire::hex;

/// `_` and so many hex digits end a name that was changed or shortened.
const HASH_DIGITS: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    Always,
    Never,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    separator: String,
    prefix: Prefix,
    max_length: usize,
}

impl Default for Naming {
    fn default() -> Naming {
        Naming {
            separator: "_1mcp_".to_owned(),
            prefix: Prefix::Always,
            max_length: limits::PUBLIC_NAME_BYTES,
        }
    }
}

impl Naming {
    /// The error fits after "failed to " and names what to change.
    pub fn new(separator: &str, prefix: Prefix, max_length: usize) -> Result<Naming, String> {
        let legal = separator.chars().all(legal_in_name);
        if separator.is_empty() || separator.len() > limits::SEPARATOR_BYTES || !legal {
            return Err(format!(
                "use the separator {separator:?}: give 1 to {} characters of A-Z a-z 0-9 _ - .",
                limits::SEPARATOR_BYTES
            ));
        }
        let (least, most) = (limits::PUBLIC_NAME_BYTES_MIN, limits::PUBLIC_NAME_BYTES_MAX);
        if !(least..=most).contains(&max_length) {
            return Err(format!(
                "use names of at most {max_length} bytes: give a number from {least} to {most}"
            ));
        }
        Ok(Naming {
            separator: separator.to_owned(),
            prefix,
            max_length,
        })
    }

    /// What the names of a server's tools and prompts begin with; `None` without prefixes.
    pub fn prefix_of(&self, server: &str) -> Option<String> {
        matches!(self.prefix, Prefix::Always)
            .then(|| format!("{}{}", server_slug(server), self.separator))
    }
}

/// A server's name as it stands in public names and, besides the percent-encoded name, in paths.
pub fn server_slug(name: &str) -> String {
    name.chars()
        .map(|c| if legal_in_slug(c) { c } else { '_' })
        .collect()
}

/// The name under which clients see the tool or prompt `native` of `server`: at most
/// `max_length` characters of `[A-Za-z0-9_.-]`.
pub fn public_name(naming: &Naming, server: &str, native: &str) -> String {
    let legal: String = native
        .chars()
        .map(|c| if legal_in_name(c) { c } else { '_' })
        .collect();
    let changed = native.is_empty() || legal != native;
    let (slug, separator) = match naming.prefix {
        Prefix::Always => (server_slug(server), naming.separator.as_str()),
        Prefix::Never => (String::new(), ""),
    };
    let whole = format!("{slug}{separator}{legal}");
    // A plain name that looks as if it had a suffix gets one too: so a plain name never equals
    // the changed form of another one, not even one that was made up to do so.
    if !changed && whole.len() <= naming.max_length && !ends_like_suffix(&whole) {
        return whole;
    }
    // `Naming::new` leaves room for separator, suffix and a few characters besides.
    let room = naming.max_length - separator.len() - 1 - HASH_DIGITS;
    let (slug, legal) = shortened(&slug, &legal, room);
    format!("{slug}{separator}{legal}_{}", hash(server, native))
}

/// Cuts both to `room` in all; the native name says more, so the server gives way first, down to
/// a third. Both are ASCII.
fn shortened<'a>(slug: &'a str, legal: &'a str, room: usize) -> (&'a str, &'a str) {
    let slug_room = room
        .saturating_sub(legal.len())
        .max(room / 3)
        .min(slug.len());
    let legal_room = (room - slug_room).min(legal.len());
    (&slug[..slug_room], &legal[..legal_room])
}

/// The lengths go in first: no two pairs give the same bytes.
fn hash(server: &str, native: &str) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&(server.len() as u64).to_le_bytes());
    context.update(server.as_bytes());
    context.update(native.as_bytes());
    let bytes = context.finish();
    hex::encode(&bytes.as_ref()[..HASH_DIGITS / 2])
}

fn ends_like_suffix(name: &str) -> bool {
    let Some((_, tail)) = name.rsplit_once('_') else {
        return false;
    };
    tail.len() == HASH_DIGITS && tail.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn legal_in_slug(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn legal_in_name(c: char) -> bool {
    legal_in_slug(c) || c == '.'
}

#[cfg(test)]
#[path = "naming_properties.rs"]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn names_as_documented() {
        let cases = [
            ("fs", "read_file", "fs_1mcp_read_file"),
            ("github.com/x/y", "search", "github_com_x_y_1mcp_search"),
            (
                "Sequential Thinking",
                "think",
                "Sequential_Thinking_1mcp_think",
            ),
            ("a", "v1.read-file", "a_1mcp_v1.read-file"),
            ("é", "x", "__1mcp_x"),
        ];
        for (server, native, expect) in cases {
            assert_eq!(public_name(&Naming::default(), server, native), expect);
        }
        let never = Naming::new("__", Prefix::Never, 64).unwrap();
        assert_eq!(public_name(&never, "fs", "read"), "read");
        let dotted = Naming::new(".", Prefix::Always, 64).unwrap();
        assert_eq!(public_name(&dotted, "fs", "read"), "fs.read");
    }

    /// The very text of changed names is a contract: clients keep them in allow-lists.
    #[test]
    fn changed_names_are_stable() {
        let long_tool = "t".repeat(80);
        let long_server = "s".repeat(80);
        let cases = [
            ("fs", "read file", "fs_1mcp_read_file_"),
            ("fs", "読む", "fs_1mcp____"),
            ("fs", "", "fs_1mcp__"),
            ("fs", "x_0123456789ab", "fs_1mcp_x_0123456789ab_"),
            ("server", &long_tool, "server_1mcp_tttt"),
            (
                &long_server,
                "tool",
                &format!("{}_1mcp_tool_", "s".repeat(41)),
            ),
            (
                &long_server,
                &long_tool,
                &format!("{}_1mcp_tttt", "s".repeat(15)),
            ),
        ];
        for (server, native, start) in cases {
            let name = public_name(&Naming::default(), server, native);
            assert!(name.starts_with(start), "{name} {start}");
            assert!(ends_like_suffix(&name) && name.len() <= 64, "{name}");
        }
        let name = public_name(&Naming::default(), "fs", "read file");
        assert_eq!(name, "fs_1mcp_read_file_589733a3d698");
    }

    #[test]
    fn settings_are_checked() {
        let cases = [
            ("_1mcp_", 64, true),
            ("-", 32, true),
            ("", 64, false),
            ("/", 64, false),
            ("_____________", 64, false),
            ("_", 31, false),
            ("_", 257, false),
        ];
        for (separator, length, good) in cases {
            let found = Naming::new(separator, Prefix::Always, length);
            assert_eq!(found.is_ok(), good, "{separator:?} {length}");
        }
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.0 >> 33) as usize % bound
        }

        /// Few pieces, so that pairs come close to each other.
        fn text(&mut self, most: usize) -> String {
            const PIECES: [&str; 12] = [
                "a",
                "b",
                "_",
                "_1mcp_",
                ".",
                "-",
                " ",
                "é",
                "\0",
                "/",
                "aaaaaaaaaaaaaaaa",
                "_0f",
            ];
            let count = 1 + self.below(most);
            (0..count)
                .map(|_| PIECES[self.below(PIECES.len())])
                .collect()
        }
    }

    #[test]
    fn distinct_pairs_have_distinct_names() {
        for naming in [
            Naming::default(),
            Naming::new("_", Prefix::Always, 32).unwrap(),
            Naming::new("_", Prefix::Never, 40).unwrap(),
        ] {
            let mut random = Random(7);
            let mut owners: HashMap<String, (String, String)> = HashMap::new();
            for _ in 0..100_000 {
                let server = random.text(4);
                let mut native = random.text(8);
                if random.below(8) == 0 {
                    // A forger: takes the public name of another pair for its own native name.
                    let other = random.text(4);
                    native = public_name(&naming, &server, &other);
                    let prefix = format!("{}{}", server_slug(&server), naming.separator);
                    native = native
                        .strip_prefix(&prefix)
                        .map(str::to_owned)
                        .unwrap_or(native);
                }
                let name = public_name(&naming, &server, &native);
                assert!(name.len() <= naming.max_length, "{name}");
                assert!(name.chars().all(legal_in_name), "{name}");
                let pair = (server, native);
                let owner = owners.entry(name.clone()).or_insert_with(|| pair.clone());
                // What may meet are plain names that are the same text before any change.
                if *owner != pair {
                    assert_eq!(
                        plain(&naming, owner),
                        Some(name.clone()),
                        "{owner:?} {pair:?}"
                    );
                    assert_eq!(
                        plain(&naming, &pair),
                        Some(name.clone()),
                        "{owner:?} {pair:?}"
                    );
                }
            }
        }
    }

    fn plain(naming: &Naming, (server, native): &(String, String)) -> Option<String> {
        native
            .chars()
            .all(legal_in_name)
            .then(|| match naming.prefix {
                Prefix::Always => format!("{}{}{native}", server_slug(server), naming.separator),
                Prefix::Never => native.clone(),
            })
    }

    /// Without the suffix rule the forger's plain name would meet the changed name.
    #[test]
    fn forged_suffix_does_not_meet_its_model() {
        let naming = Naming::default();
        let changed = public_name(&naming, "s", "read file");
        let forged = changed.strip_prefix("s_1mcp_").unwrap();
        assert_ne!(public_name(&naming, "s", forged), changed);
    }
}
