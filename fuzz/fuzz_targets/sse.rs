#![no_main]
//! An event stream, against a reading of the whole text by the words of the standard: in pieces
//! as at once, bounded in what it holds, and what we write comes back. An id counts from the end
//! of its event on: who comes back before gets that event again.

use libfuzzer_sys::fuzz_target;
use onemcp::wire::sse::{Event, Parser, write_event};
use onemcp_fuzz::{bounded, led, pieces};

const SMALL_BYTES: usize = 40;

fuzz_target!(|data: &[u8]| bounded(|| {
    let (seed, data) = led(data);
    let (events, last_id) = read(usize::MAX, std::iter::once(data));
    assert_eq!(
        read(usize::MAX, pieces(data, seed)),
        (events.clone(), last_id.clone())
    );
    let told: Vec<(String, String)> = events
        .iter()
        .map(|event| (event.name.clone(), event.data.clone()))
        .collect();
    assert_eq!((told, last_id), reference(&String::from_utf8_lossy(data)));
    small(data, seed, &events);
    written(data, seed);
}));

fn read<'p>(limit: usize, parts: impl Iterator<Item = &'p [u8]>) -> (Vec<Event>, Option<String>) {
    let (mut parser, mut events) = (Parser::new(limit), Vec::new());
    for part in parts {
        events.extend(parser.feed(part));
        let most = limit.saturating_mul(2).saturating_add(part.len() + 32);
        assert!(
            parser.held_bytes() <= most,
            "{} bytes are held",
            parser.held_bytes()
        );
    }
    let last_id = parser.last_id().map(str::to_owned);
    (events, last_id)
}

/// With a bound the same events come, and those within it are whole.
fn small(data: &[u8], seed: u8, events: &[Event]) {
    let (bounded, _) = read(SMALL_BYTES, std::iter::once(data));
    assert_eq!(read(SMALL_BYTES, pieces(data, seed)).0, bounded);
    for event in &bounded {
        match &event.skipped {
            Some(skipped) => assert!(event.data.is_empty() && skipped.bytes > 0),
            None => assert!(event.data.len() <= SMALL_BYTES),
        }
    }
    let is_short = |event: &&Event| event.data.len() + event.name.len() < SMALL_BYTES;
    if data
        .split(|byte| b"\r\n".contains(byte))
        .all(|line| line.len() <= SMALL_BYTES)
    {
        assert_eq!(bounded.len(), events.len());
        for (one, other) in events.iter().zip(&bounded).filter(|(one, _)| is_short(one)) {
            assert_eq!(one, other);
        }
    }
}

fn written(data: &[u8], seed: u8) {
    let plain = |byte: &&u8| !b"\r\n\0".contains(byte);
    let line: Vec<u8> = data.iter().filter(plain).copied().collect();
    let text = String::from_utf8_lossy(&line).into_owned();
    let mut bytes = Vec::new();
    write_event(Some("7-1"), Some(3000), text.as_bytes(), &mut bytes);
    let (events, last_id) = read(usize::MAX, pieces(&bytes, seed));
    assert_eq!((events.len(), last_id.as_deref()), (1, Some("7-1")));
    assert_eq!(events[0].data, text);
}

/// WHATWG HTML, 9.2.6, without pieces and without bounds.
fn reference(text: &str) -> (Vec<(String, String)>, Option<String>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    // What follows the last line end is no line.
    lines.pop();
    let (mut events, mut data, mut name) = (Vec::new(), String::new(), String::new());
    let (mut id_buffer, mut last_id) = (None, None);
    for line in lines {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                last_id = id_buffer.clone();
                if !data.is_empty() {
                    data.pop();
                    events.push((std::mem::take(&mut name), std::mem::take(&mut data)));
                }
                name.clear();
            }
            "data" => {
                data.push_str(value);
                data.push('\n');
            }
            "event" => value.clone_into(&mut name),
            "id" if !value.contains('\0') => id_buffer = Some(value.to_owned()),
            _ => {}
        }
    }
    (events, last_id)
}
