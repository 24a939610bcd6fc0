//! Books of pins on a disk of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::Pins;
use crate::base::limits;
use crate::mcp::list::ListKind;
use crate::model::listing::Item;
use crate::model::pin::Pinning;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("onemcp-pins-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn book(&self) -> PathBuf {
        self.0.join("state/pins.json")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> Pins {
    let pins = Pins {
        path: Some(path.to_owned()),
        state: std::sync::Mutex::default(),
    };
    pins.load(true);
    pins
}

fn tools(list: &[(&str, &str)]) -> Vec<Item> {
    let tool = |(name, text): &(&str, &str)| {
        let raw = format!(r#"{{"name":"{name}","description":"{text}"}}"#);
        Item::parse(&raw, ListKind::Tools).unwrap()
    };
    list.iter().map(tool).collect()
}

fn held(pins: &Pins, list: &[(&str, &str)]) -> Vec<String> {
    let verdict = pins.judge("s", Pinning::Block, &tools(list));
    verdict.held.iter().cloned().collect()
}

#[test]
fn a_change_is_told_once_and_again_when_it_is_another() {
    let folder = Folder::new();
    let pins = open(&folder.book());
    let changed = |text: &str| {
        let tools = tools(&[("a", text)]);
        pins.judge("s", Pinning::Warn, &tools).changed
    };
    assert_eq!(changed("x"), [""; 0]);
    assert_eq!(changed("y"), ["a"]);
    assert_eq!(changed("y"), [""; 0]);
    assert_eq!(changed("z"), ["a"]);
    assert_eq!(changed("x"), [""; 0]);
    assert_eq!(changed("z"), ["a"]);
}

#[test]
fn a_tool_that_goes_and_comes_back_is_the_same_or_held() {
    let folder = Folder::new();
    let pins = open(&folder.book());
    assert_eq!(held(&pins, &[("a", "x"), ("b", "x")]), [""; 0]);
    assert_eq!(held(&pins, &[("b", "x")]), [""; 0]);
    assert_eq!(held(&pins, &[("a", "x"), ("b", "x")]), [""; 0]);
    assert_eq!(held(&pins, &[("a", "y"), ("b", "x")]), ["a"]);
    // A server with nothing to offer is known, too.
    assert!(pins.judge("t", Pinning::Block, &[]).held.is_empty());
    let late = tools(&[("a", "x")]);
    assert_eq!(pins.judge("t", Pinning::Block, &late).held.len(), 1);
    // Of two with one name the first is offered, and judged.
    assert_eq!(held(&pins, &[("a", "x"), ("a", "y"), ("b", "x")]), [""; 0]);
    assert_eq!(held(&pins, &[("a", "y"), ("a", "x"), ("b", "x")]), ["a"]);
}

#[test]
fn gateways_that_share_a_book_add_to_it() {
    let folder = Folder::new();
    let (one, other) = (open(&folder.book()), open(&folder.book()));
    assert_eq!(held(&one, &[("a", "x")]), [""; 0]);
    // It did not see what the first one pinned when it opened the book.
    assert_eq!(held(&other, &[("a", "y"), ("b", "x")]), ["a", "b"]);
    other.judge("t", Pinning::Block, &tools(&[("c", "x")]));
    let third = open(&folder.book());
    assert_eq!(held(&third, &[("a", "x")]), [""; 0]);
    let changed = tools(&[("c", "y")]);
    assert_eq!(third.judge("t", Pinning::Block, &changed).held.len(), 1);
    let mode = fs::metadata(folder.book()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn every_cut_of_a_book_is_found_and_nothing_is_taken_for_good() {
    let folder = Folder::new();
    held(&open(&folder.book()), &[("a", "x"), ("é\\\"", "x\\n")]);
    let whole = fs::read(folder.book()).unwrap();
    for length in (0..whole.len() - 2).step_by(7) {
        fs::write(folder.book(), &whole[..length]).unwrap();
        let pins = open(&folder.book());
        assert_eq!(held(&pins, &[("a", "x")]), ["a"], "{length}");
        assert!(folder.0.join("state/pins.json.damaged").exists());
        // It stays so, until an operator says otherwise.
        assert_eq!(held(&open(&folder.book()), &[("a", "x")]), ["a"]);
    }
    fs::write(folder.book(), &whole).unwrap();
    assert_eq!(held(&open(&folder.book()), &[("a", "x")]), [""; 0]);
    fs::remove_file(folder.book()).unwrap();
    let pins = open(&folder.book());
    let items = tools(&[("a", "x")]);
    assert_eq!(held(&pins, &[("a", "x")]), ["a"]);
    assert!(
        pins.approve("s", Pinning::Block, &["b".into()], &items)
            .is_err()
    );
    let approved = pins.approve("s", Pinning::Block, &[], &items).unwrap();
    assert_eq!(approved.len(), 1);
    assert_eq!(held(&pins, &[("a", "x")]), [""; 0]);
    let unknown = pins.judge("t", Pinning::Block, &items);
    assert!(unknown.remark.unwrap().contains("lost"));
    pins.trust();
    assert!(pins.judge("t", Pinning::Block, &items).held.is_empty());
}

#[test]
fn a_book_that_cannot_be_written_is_kept_and_told_of() {
    let folder = Folder::new();
    fs::write(folder.0.join("state"), "in the way").unwrap();
    let pins = Pins {
        path: Some(folder.book()),
        state: std::sync::Mutex::default(),
    };
    assert_eq!(held(&pins, &[("a", "x")]), [""; 0]);
    let changed = tools(&[("a", "y")]);
    let verdict = pins.judge("s", Pinning::Block, &changed);
    assert_eq!(verdict.held.len(), 1);
    assert!(verdict.remark.unwrap().contains("pins are not saved"));
    let outcome = pins.approve("s", Pinning::Block, &[], &changed);
    assert!(outcome.is_err_and(|why| why.contains("until the gateway ends")));
    fs::remove_file(folder.0.join("state")).unwrap();
    pins.judge("t", Pinning::Block, &changed);
    assert_eq!(held(&open(&folder.book()), &[("a", "y")]), [""; 0]);
}

#[test]
fn what_has_no_room_is_never_taken_for_good() {
    let folder = Folder::new();
    let pins = open(&folder.book());
    let long = "n".repeat(limits::PIN_NAME_BYTES + 1);
    let text = "t".repeat(limits::PIN_TEXT_BYTES);
    let list = [("a", text.as_str()), (long.as_str(), "x")];
    assert!(held(&pins, &list).iter().eq([&long]));
    let differences = pins.differences("s", &tools(&[("a", "other")]));
    let pinned = differences[0].pinned.as_ref().unwrap();
    assert!(pinned.definition.is_none() && pinned.hash.len() == 64);
    assert!(
        pins.approve(
            "s",
            Pinning::Block,
            std::slice::from_ref(&long),
            &tools(&list)
        )
        .is_err()
    );
}

#[test]
fn what_is_approved_is_what_was_shown() {
    let folder = Folder::new();
    let pins = open(&folder.book());
    assert_eq!(held(&pins, &[("a", "x")]), [""; 0]);
    let (seen, other) = (tools(&[("a", "y")]), tools(&[("a", "z")]));
    assert_eq!(pins.show("s", &seen).len(), 1);
    let outcome = pins.approve("s", Pinning::Block, &[], &other);
    assert!(outcome.is_err_and(|why| why.contains("not as it was shown")));
    assert_eq!(held(&pins, &[("a", "z")]), ["a"]);
    // Nor does a tool come along that nobody has seen.
    let more = tools(&[("a", "y"), ("b", "x")]);
    assert!(pins.approve("s", Pinning::Block, &[], &more).is_err());
    pins.show("s", &other);
    assert!(pins.approve("s", Pinning::Block, &[], &other).is_ok());
    assert_eq!(held(&pins, &[("a", "z")]), [""; 0]);
}
