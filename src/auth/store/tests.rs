use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use crate::auth::pace::Pace;
use crate::auth::store::{Space, Store, StoreError};
use crate::net::redis::spec::Spec;
use crate::net::redis::{Redis, RedisServer};
use crate::secrets::store::testing::Folder;

const THINGS: Space = Space {
    name: "things",
    limit: 3,
};
const OTHERS: Space = Space {
    name: "others",
    limit: 10_000,
};
const LONG: Duration = Duration::from_secs(1000);

/// All kinds, each with what lives as long: a folder, and a server where there is one.
fn stores(name: &str) -> Vec<(Store, (Folder, Option<RedisServer>))> {
    let folder = Folder::new(name);
    let files = Store::open(&folder.path("state")).unwrap();
    let none = Folder::new(&format!("{name}-none"));
    let mut stores = vec![(Store::memory(), (none, None)), (files, (folder, None))];
    if let Some(server) = RedisServer::start(&[]) {
        let shared = Redis::new(Spec::parse(&server.url()).unwrap()).unwrap();
        let none = Folder::new(&format!("{name}-shared"));
        stores.push((Store::Shared(Arc::new(shared)), (none, Some(server))));
    }
    stores
}

#[test]
fn values_are_put_found_and_taken() {
    for (store, _folder) in stores("auth-store") {
        store.put(THINGS, "a", "1", LONG).unwrap();
        store.put(THINGS, "a", "two\nlines", LONG).unwrap();
        assert_eq!(
            store.get(THINGS, "a").unwrap().as_deref(),
            Some("two\nlines")
        );
        assert_eq!(store.get(OTHERS, "a").unwrap(), None);
        assert_eq!(store.put_new(THINGS, "a", "3", LONG), Ok(false));
        assert_eq!(store.put_new(THINGS, "b", "4", LONG), Ok(true));
        assert_eq!(store.values(THINGS).unwrap().len(), 2);
        assert_eq!(store.values(THINGS).unwrap().len(), 2);
        assert_eq!(
            store.take(THINGS, "a").unwrap().as_deref(),
            Some("two\nlines")
        );
        assert_eq!(
            (
                store.take(THINGS, "a").unwrap(),
                store.get(THINGS, "a").unwrap()
            ),
            (None, None)
        );
        store.put(THINGS, "ended", "5", Duration::ZERO).unwrap();
        assert_eq!(store.get(THINGS, "ended").unwrap(), None);
        store.put(THINGS, "ended", "6", LONG).unwrap();
        assert_eq!(store.get(THINGS, "ended").unwrap().as_deref(), Some("6"));
    }
}

#[test]
fn a_space_has_its_limit_and_what_ended_makes_room() {
    for (store, _folder) in stores("auth-limit") {
        for key in ["a", "b", "c"] {
            store.put(THINGS, key, key, LONG).unwrap();
        }
        let full = Err(StoreError::Full("things"));
        assert_eq!(store.put(THINGS, "d", "d", LONG), full);
        assert_eq!(store.put(OTHERS, "d", "d", LONG), Ok(()));
        assert_eq!(store.take(THINGS, "b").unwrap().as_deref(), Some("b"));
        assert_eq!(store.put(THINGS, "d", "d", LONG), Ok(()));
    }
}

/// Each gateway counted for itself.
#[test]
fn gateways_that_share_a_store_count_tries_together() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let pace = || {
        let redis = Redis::new(Spec::parse(&server.url()).unwrap()).unwrap();
        let store = Arc::new(Store::Shared(Arc::new(redis)));
        Pace::new(3, Duration::from_secs(3000), 3).sharing(&store, "things")
    };
    let (one, two, now) = (pace(), pace(), Instant::now());
    assert_eq!([one.take("a", now), two.take("a", now)], [Ok(()), Ok(())]);
    assert_eq!([one.take("a", now), one.take("b", now)], [Ok(()), Ok(())]);
    let wait = two.take("a", now).unwrap_err();
    assert!(wait > Duration::from_secs(900) && wait <= Duration::from_secs(1000));
    assert_eq!(two.take("b", now), Ok(()));
    // Away: each counts for itself.
    drop(server);
    assert_eq!(two.take("a", now), Ok(()));
    assert!(two.take("a", now).is_err());
}

#[test]
fn keys_are_nowhere_in_the_folder_and_files_are_private() {
    let folder = Folder::new("auth-private");
    let place = folder.path("state");
    let store = Store::open(&place).unwrap();
    store.put(OTHERS, "s3cret-key", "value", LONG).unwrap();
    let mut seen = 0;
    for file in std::fs::read_dir(place.join("others")).unwrap().flatten() {
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(!text.contains("s3cret") && text.ends_with("\nvalue"));
        assert!(!file.file_name().to_string_lossy().contains("s3cret"));
        seen += 1;
    }
    assert_eq!(seen, 1);
    let again = Store::open(&place).unwrap();
    assert_eq!(
        again.get(OTHERS, "s3cret-key").unwrap().as_deref(),
        Some("value")
    );
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Store::open(&place).is_err());
}

#[test]
fn what_is_no_value_is_not_there() {
    let folder = Folder::new("auth-broken");
    let place = folder.path("state");
    let store = Store::open(&place).unwrap();
    for broken in ["", "x", "12", "x\ny", "\n", "-1\nvalue"] {
        store.put(OTHERS, "a", "value", LONG).unwrap();
        let file = std::fs::read_dir(place.join("others"))
            .unwrap()
            .flatten()
            .next();
        std::fs::write(file.unwrap().path(), broken).unwrap();
        assert_eq!(store.get(OTHERS, "a").unwrap(), None, "{broken:?}");
    }
}

#[test]
fn of_twenty_at_once_one_succeeds() {
    for (store, _folder) in stores("auth-race") {
        for round in 0..25 {
            let key = format!("k{round}");
            store.put(OTHERS, &key, "v", LONG).unwrap();
            let barrier = Barrier::new(20);
            let count = |act: &(dyn Fn() -> bool + Sync)| {
                std::thread::scope(|scope| {
                    let act_together = || {
                        barrier.wait();
                        act()
                    };
                    let threads: Vec<_> = (0..20).map(|_| scope.spawn(act_together)).collect();
                    let wins = threads.into_iter().map(|one| one.join().unwrap());
                    wins.filter(|won| *won).count()
                })
            };
            assert_eq!(count(&|| store.take(OTHERS, &key).unwrap().is_some()), 1);
            assert_eq!(
                count(&|| store.put_new(OTHERS, &key, "w", LONG).unwrap()),
                1
            );
        }
    }
}
