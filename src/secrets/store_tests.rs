use std::fs;
use std::time::{Duration, Instant};

use super::Store;
use super::testing::{Folder, variables};
use crate::secrets::answer::Why;
use crate::secrets::command::CommandSpec;
use crate::secrets::key::{Key, KeySource};
use crate::secrets::sealed;
use crate::secrets::spec::{Source, Spec};

fn text(store: &Store, name: &str) -> String {
    match store.get(name) {
        Ok(secret) => secret.expose().to_owned(),
        Err(missing) => format!("missing: {missing}"),
    }
}

/// A folder, the environment and a sealed file, in the usual order.
fn usual(folder: &Folder) -> Spec {
    fs::create_dir_all(folder.path("mounted")).unwrap();
    let key = Key::random();
    fs::write(folder.path("key"), key.text()).unwrap();
    let all = variables(&[("BOTH", "environment"), ("ONLY_ENV", "environment")]);
    let key = KeySource::new(Some(folder.path("key")), &all);
    let sealed = Some((folder.path("secrets.sealed"), key));
    let mounted = folder.path("mounted");
    let mut spec = Spec::usual(all, &folder.0, Some(&mounted), sealed);
    // What this machine mounts is not part of the test.
    spec.sources
        .retain(|source| *source != Source::Directory("/run/secrets".into()));
    spec
}

fn seal(folder: &Folder, name: &str, value: &str) {
    let key = Key::parse(&fs::read_to_string(folder.path("key")).unwrap()).unwrap();
    let soon = Instant::now() + Duration::from_secs(5);
    let path = folder.path("secrets.sealed");
    sealed::edit(&path, &key, soon, |contents| {
        contents.set(name, value.into())
    })
    .unwrap();
}

#[test]
fn the_first_that_has_it_counts_and_the_order_can_be_turned_round() {
    let folder = Folder::new("store-order");
    let spec = usual(&folder);
    fs::write(folder.path("mounted/both"), "folder").unwrap();
    seal(&folder, "both", "sealed");
    seal(&folder, "only-sealed", "sealed");
    let store = Store::default();
    store.configure(&spec);
    assert_eq!(text(&store, "both"), "folder");
    assert_eq!(text(&store, "only-env"), "environment");
    assert_eq!(text(&store, "only-sealed"), "sealed");
    let mut turned = spec;
    turned.sources.reverse();
    store.configure(&turned);
    assert_eq!(text(&store, "both"), "sealed");
}

#[test]
fn a_missing_one_names_everybody_who_was_asked() {
    let folder = Folder::new("store-missing");
    let store = Store::default();
    store.configure(&usual(&folder));
    let missing = store.get("api-key").unwrap_err();
    let told = missing.to_string();
    for part in ["mounted", "API_KEY", "secrets.sealed"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let bad = store.get("../../etc/passwd").unwrap_err();
    assert!(matches!(bad.why, Why::BadName(_)));
}

#[test]
fn trouble_ends_the_search() {
    let folder = Folder::new("store-trouble");
    let spec = usual(&folder);
    fs::write(folder.path("mounted/both"), "").unwrap();
    let store = Store::default();
    store.configure(&spec);
    let missing = store.get("both").unwrap_err();
    assert!(matches!(missing.why, Why::Trouble(_)), "{missing}");
    seal(&folder, "sealed", "x");
    fs::write(folder.path("key"), Key::random().text()).unwrap();
    store.configure(&spec);
    assert!(text(&store, "sealed").contains("was sealed by the key"));
}

#[test]
fn every_file_that_decides_is_watched_also_those_to_come() {
    let folder = Folder::new("store-watched");
    let store = Store::default();
    let spec = usual(&folder);
    store.configure(&spec);
    assert!(store.watched().is_empty());
    let _ = store.get("a");
    let watched = store.watched();
    for path in ["mounted/a", "secrets.sealed", "key"] {
        assert!(watched.contains(&folder.path(path)), "{path}: {watched:?}");
    }
    store.configure(&spec);
    assert!(store.watched().is_empty(), "nobody asks any more");
}

/// A command that gives what is in a file, and counts its runs.
fn slow(folder: &Folder) -> Spec {
    let script = format!(
        "echo x >> {0}/runs; [ -e {0}/hangs ] && sleep 60; \
         [ ! -e {0}/down ] && cat {0}/value",
        folder.0.display()
    );
    let words = ["sh", "-c", &script].map(str::to_owned).into();
    let command = CommandSpec {
        words,
        env: vec![("PATH".into(), std::env::var("PATH").unwrap_or_default())],
        timeout: Duration::from_secs(20),
    };
    Spec {
        sources: vec![Source::Command(command)],
        ..Spec::default()
    }
}

#[test]
fn slow_ones_are_asked_once_and_changes_are_counted() {
    let folder = Folder::new("store-slow");
    let runs = || {
        fs::read_to_string(folder.path("runs"))
            .unwrap()
            .lines()
            .count()
    };
    let spec = slow(&folder);
    fs::write(folder.path("value"), "one").unwrap();
    let store = Store::default();
    for _ in 0..3 {
        store.configure(&spec);
        assert_eq!(text(&store, "key"), "one");
    }
    assert_eq!(runs(), 1);
    store.refresh();
    assert_eq!((store.changes(), runs()), (0, 2));
    fs::write(folder.path("value"), "two").unwrap();
    assert_eq!(text(&store, "key"), "one");
    store.refresh();
    assert_eq!((store.changes(), text(&store, "key")), (1, "two".into()));
    // Away: what was found holds, and is taken up again without a change.
    fs::write(folder.path("down"), "").unwrap();
    store.refresh();
    assert_eq!((store.changes(), text(&store, "key")), (1, "two".into()));
    fs::remove_file(folder.path("down")).unwrap();
    store.refresh();
    assert_eq!(store.changes(), 1);
    // Who asks for the newest gets it at the next load.
    fs::write(folder.path("value"), "three").unwrap();
    store.doubt();
    store.configure(&spec);
    assert_eq!(text(&store, "key"), "three");
}

#[test]
fn one_that_hangs_is_not_asked_for_each_name_and_is_tried_again() {
    let folder = Folder::new("store-down");
    let mut spec = slow(&folder);
    if let Some(Source::Command(command)) = spec.sources.first_mut() {
        command.timeout = Duration::from_millis(2000);
    }
    fs::write(folder.path("value"), "one").unwrap();
    fs::write(folder.path("hangs"), "").unwrap();
    let store = Store::default();
    store.configure(&spec);
    for name in ["a", "b", "c"] {
        assert!(store.get(name).is_err());
    }
    let runs = fs::read_to_string(folder.path("runs")).unwrap();
    assert_eq!(runs.lines().count(), 1);
    fs::remove_file(folder.path("hangs")).unwrap();
    store.refresh();
    assert_eq!(store.changes(), 1);
    store.configure(&spec);
    assert_eq!(text(&store, "b"), "one");
}

#[test]
fn what_a_command_lacks_does_not_keep_it_from_giving_the_rest() {
    let folder = Folder::new("store-lacks");
    let words = ["sh", "-c", "[ \"$1\" = there ] && echo x", "sh", "{name}"];
    let mut spec = slow(&folder);
    if let Some(Source::Command(command)) = spec.sources.first_mut() {
        command.words = words.map(str::to_owned).into();
    }
    let store = Store::default();
    store.configure(&spec);
    assert!(store.get("not").is_err());
    assert_eq!(text(&store, "there"), "x");
}
