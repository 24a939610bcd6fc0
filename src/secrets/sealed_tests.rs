use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Contents, SealedError, admit, edit, open, rotate};
use crate::base::limits;
use crate::secrets::key::Key;
use crate::secrets::replace::Turn;
use crate::secrets::store::testing::Folder;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn set(path: &Path, key: &Key, name: &str, value: &str) {
    edit(path, key, soon(), |contents| {
        contents.set(name, value.into())
    })
    .unwrap();
}

fn value(path: &Path, key: &Key, name: &str) -> Option<String> {
    let contents = open(path, key).unwrap().unwrap();
    contents.get(name).map(|entry| entry.value().to_owned())
}

#[test]
fn what_was_set_is_there_and_the_file_shows_nothing() {
    let folder = Folder::new("sealed");
    let path = folder.path("state/secrets.sealed");
    let key = Key::random();
    assert!(open(&path, &key).unwrap().is_none());
    set(&path, &key, "api-key", "hunter2-canary");
    set(&path, &key, "db", "two\nlines");
    assert_eq!(
        value(&path, &key, "api-key").as_deref(),
        Some("hunter2-canary")
    );
    assert_eq!(value(&path, &key, "db").as_deref(), Some("two\nlines"));
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        !text.contains("hunter2") && !text.contains("api-key"),
        "{text}"
    );
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let removed = edit(&path, &key, soon(), |contents| Ok(contents.remove("db"))).unwrap();
    assert!(removed);
    assert_eq!(value(&path, &key, "db"), None);
    let contents = open(&path, &key).unwrap().unwrap();
    assert!(!format!("{contents:?}").contains("hunter2"));
}

#[test]
fn a_link_stays_a_link() {
    let folder = Folder::new("sealed-link");
    let (path, real) = (folder.path("secrets.sealed"), folder.path("real"));
    let (key_file, real_key) = (folder.path("key"), folder.path("real-key"));
    std::os::unix::fs::symlink("real", &path).unwrap();
    std::os::unix::fs::symlink("real-key", &key_file).unwrap();
    let key = Key::random();
    set(&path, &key, "a", "one");
    set(&path, &key, "a", "two");
    assert_eq!(value(&real, &key, "a").as_deref(), Some("two"));
    let new = rotate(&path, &key_file, &key, soon()).unwrap();
    assert_eq!(value(&real, &new, "a").as_deref(), Some("two"));
    assert!(path.is_symlink() && key_file.is_symlink() && real_key.is_file());
}

#[test]
fn another_key_or_a_changed_byte_opens_nothing_and_a_failed_change_writes_nothing() {
    let folder = Folder::new("sealed-wrong");
    let path = folder.path("secrets.sealed");
    let key = Key::random();
    set(&path, &key, "a", "value");
    let other = Key::random();
    let error = open(&path, &other).unwrap_err();
    assert!(
        error.contains(&key.id()) && error.contains(&other.id()),
        "{error}"
    );
    let before = fs::read(&path).unwrap();
    let failed: Result<(), SealedError> = edit(&path, &key, soon(), |_| Err("no".into()));
    assert_eq!(failed, Err(SealedError::Broken("no".into())));
    assert!(edit(&path, &other, soon(), |_| Ok(())).is_err());
    assert_eq!(fs::read(&path).unwrap(), before);
    for at in 0..before.len() {
        let mut changed = before.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        // White space between the members may change; nothing else may.
        if let Ok(Some(contents)) = open(&path, &key) {
            assert_eq!(
                contents.get("a").map(|entry| entry.value()),
                Some("value"),
                "{at}"
            );
        }
    }
    for text in [
        "",
        "{}",
        "[]",
        "\0\0",
        "{\"format\":\"onemcp-sealed-9\",\"keys\":[]}",
    ] {
        fs::write(&path, text).unwrap();
        assert!(open(&path, &key).is_err(), "{text:?}");
    }
}

#[test]
fn a_busy_file_is_waited_for_up_to_the_deadline() {
    let folder = Folder::new("sealed-busy");
    let path = folder.path("secrets.sealed");
    let turn = Turn::wait(&path, soon()).unwrap();
    let key = Key::random();
    let at_once = Instant::now() + Duration::from_millis(10);
    let busy = edit(&path, &key, at_once, |_| Ok(())).unwrap_err();
    assert!(matches!(busy, SealedError::Busy(_)), "{busy:?}");
    drop(turn);
    edit(&path, &key, soon(), |_| Ok(())).unwrap();
}

#[test]
fn bounds_are_kept() {
    let mut contents = Contents::default();
    for number in 0..limits::SECRETS {
        contents.set(&number.to_string(), "x".into()).unwrap();
    }
    assert!(contents.set("more", "x".into()).is_err());
    contents.set("0", "again".into()).unwrap();
}

#[test]
fn a_new_key_takes_over_in_place() {
    let folder = Folder::new("sealed-rotate");
    let (path, key_file) = (folder.path("secrets.sealed"), folder.path("key"));
    let old = Key::random();
    fs::write(&key_file, old.text()).unwrap();
    set(&path, &old, "a", "value");
    let new = rotate(&path, &key_file, &old, soon()).unwrap();
    assert_eq!(
        Key::parse(&fs::read_to_string(&key_file).unwrap()),
        Some(new.clone())
    );
    assert_eq!(value(&path, &new, "a").as_deref(), Some("value"));
    assert!(open(&path, &old).is_err());
}

#[test]
fn while_keys_change_both_open_and_the_next_change_shuts_the_old_one_out() {
    let folder = Folder::new("sealed-admit");
    let path = folder.path("secrets.sealed");
    let (old, new) = (Key::random(), Key::random());
    set(&path, &old, "a", "1");
    admit(&path, &old, &new, soon()).unwrap();
    assert_eq!(value(&path, &old, "a").as_deref(), Some("1"));
    assert_eq!(value(&path, &new, "a").as_deref(), Some("1"));
    // A change with the old key does not shut out the one that is to come.
    set(&path, &old, "a", "2");
    assert_eq!(value(&path, &new, "a").as_deref(), Some("2"));
    set(&path, &new, "a", "3");
    assert_eq!(value(&path, &new, "a").as_deref(), Some("3"));
    assert!(open(&path, &old).is_err());
}
