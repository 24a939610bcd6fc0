#![no_main]
//! What is sealed: cursors, ids of tasks, places, forms and the file of secrets. Nothing opens
//! that we did not seal, what we sealed comes back, and one changed byte shuts it.

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use onemcp::base::limits;
use onemcp::mcp::list::ListKind;
use onemcp::model::cursor::{Cursor, CursorKey};
use onemcp::model::order::Mark;
use onemcp::model::place::PlaceKey;
use onemcp::model::seal::SealKey;
use onemcp::model::task_id::{Holder, TaskId, TaskKey};
use onemcp::secrets::key::Key;
use onemcp::secrets::sealed::{Contents, opened};
use onemcp_fuzz::{bounded, first_line, led};

const MASTER: [u8; 32] = [7; 32];
const HOLDER: Holder<'_> = Holder::Session("s");

static CURSORS: LazyLock<CursorKey> = LazyLock::new(|| CursorKey::new(&[MASTER, [8; 32]]));
static TASKS: LazyLock<TaskKey> = LazyLock::new(|| TaskKey::new(&[MASTER], None));
static PLACES: LazyLock<PlaceKey> = LazyLock::new(|| PlaceKey::new(&[MASTER]));
static FORMS: LazyLock<SealKey> = LazyLock::new(|| SealKey::new(&MASTER).expect("a key"));
static FILE: LazyLock<Key> = LazyLock::new(Key::random);

fuzz_target!(|data: &[u8]| bounded(|| {
    let (seed, data) = led(data);
    file(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    foreign(text);
    let (one, other) = first_line(text);
    own(one, other, usize::from(seed));
}));

fn foreign(text: &str) {
    assert!(Cursor::open(text, &CURSORS).is_err(), "{text}");
    assert_eq!(TaskId::open(text, &TASKS, HOLDER), None);
    assert_eq!(PLACES.split(text), None);
    assert_eq!(FORMS.open(b"form", text), None);
    if let Some(key) = Key::parse(text) {
        assert!(Key::parse(&key.text()).is_some_and(|again| again.bytes() == key.bytes()));
    }
}

fn own(one: &str, other: &str, seed: usize) {
    let short = |text: &str, most: usize| -> String {
        let fits = text
            .char_indices()
            .take_while(|(at, c)| at + c.len_utf8() <= most);
        fits.map(|(_, c)| c).collect()
    };
    let server = short(one, limits::SERVER_NAME_BYTES);
    let cursor = Cursor {
        kind: ListKind::ALL[seed % 4],
        view: seed as u64,
        server: server.clone(),
        server_index: seed as u32,
        mark: Mark {
            name: short(other, 200),
            place: (seed as u64) << 40,
            index: u64::MAX,
        },
    };
    let text = cursor.seal(&CURSORS);
    assert_eq!(Cursor::open(&text, &CURSORS), Ok(cursor));
    assert!(Cursor::open(&changed(&text, seed), &CURSORS).is_err());

    let task = TaskId {
        server,
        process: seed as u64,
        native: short(other, limits::TASK_ID_BYTES),
    };
    let text = task.seal(&TASKS, HOLDER).expect("within bounds");
    assert!(text.len() <= limits::TASK_ID_SEALED_BYTES);
    assert_eq!(TaskId::open(&text, &TASKS, HOLDER), Some(task));
    assert_eq!(TaskId::open(&text, &TASKS, Holder::Session("t")), None);
    assert_eq!(TaskId::open(&changed(&text, seed), &TASKS, HOLDER), None);

    let text = PLACES.at(one, other).expect("sealed");
    assert_eq!(PLACES.split(&text), Some((one, other.to_owned())));
    let text = FORMS
        .seal(one.as_bytes(), other.as_bytes(), [seed as u8; 12])
        .expect("sealed");
    assert_eq!(
        FORMS.open(one.as_bytes(), &text).as_deref(),
        Some(other.as_bytes())
    );
    assert_eq!(FORMS.open(b"\0 another place", &text), None);
    assert_eq!(FORMS.open(one.as_bytes(), &changed(&text, seed)), None);
}

fn changed(text: &str, seed: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let at = seed * 31 % bytes.len();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).expect("ASCII")
}

fn file(data: &[u8]) {
    let path = Path::new("sealed.json");
    assert!(opened(data, path, &FILE).is_err(), "nobody sealed that");
    let mut contents = Contents::default();
    let value = String::from_utf8_lossy(data).into_owned();
    contents
        .set("name", value.clone())
        .expect("one is not too many");
    let bytes = contents.seal(&FILE).expect("sealed");
    let again = opened(&bytes, path, &FILE).expect("our own");
    assert_eq!(
        again.get("name").map(|entry| entry.value()),
        Some(value.as_str())
    );
    assert!(
        opened(&bytes, path, &Key::random()).is_err(),
        "opened by another key"
    );
}
