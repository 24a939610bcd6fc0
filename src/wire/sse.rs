//! Server-sent events (WHATWG HTML, "Server-sent events"): writing them, and reading them from
//! a stream that may break anywhere.

use crate::wire::lines::IdFinder;

/// Appends one event. `data` must hold no line break (JSON text after `blank_line_breaks`).
pub fn write_event(id: Option<&str>, retry_ms: Option<u64>, data: &[u8], out: &mut Vec<u8>) {
    out.reserve(data.len() + 64);
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id.as_bytes());
        out.push(b'\n');
    }
    if let Some(retry) = retry_ms {
        out.extend_from_slice(format!("retry: {retry}\n").as_bytes());
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}

/// A comment, which clients ignore: keeps the connection open and finds a client that is gone.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Event {
    /// `message` unless the stream says otherwise.
    pub name: String,
    pub data: String,
    pub id: Option<String>,
    /// Set when the data was longer than the bound: it was skipped.
    pub skipped: Option<Skipped>,
}

/// What is known of data that was too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    pub bytes: u64,
    /// The top-level integer `id`, if the data had one.
    pub id: Option<u64>,
    /// It had a method, so that it answers nobody.
    pub is_call: bool,
}

/// Collects lines into events. Feed it bytes in any pieces.
pub struct Parser {
    limit: usize,
    line: Vec<u8>,
    /// No line has ended yet: a byte order mark may stand before the first one.
    at_start: bool,
    after_return: bool,
    event: Event,
    has_data: bool,
    /// Of data that is being skipped.
    skipping: Option<(u64, IdFinder)>,
    rest_of_line: Rest,
    last_id: Option<String>,
    retry_ms: Option<u64>,
}

/// What becomes of the rest of the line at hand: one that is too long is not kept.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Rest {
    #[default]
    Kept,
    /// It is data.
    Skipped,
    /// It is not, and nobody wants it.
    Ignored,
}

impl Default for Parser {
    fn default() -> Parser {
        Parser::new(usize::MAX)
    }
}

impl Parser {
    /// `limit`: bytes of the data of one event; of longer ones only the id is read.
    pub fn new(limit: usize) -> Parser {
        Parser {
            limit,
            line: Vec::new(),
            at_start: true,
            after_return: false,
            event: Event::default(),
            has_data: false,
            skipping: None,
            rest_of_line: Rest::Kept,
            last_id: None,
            retry_ms: None,
        }
    }

    /// Takes `bytes` and returns the events that became complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut complete = Vec::new();
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            if std::mem::take(&mut self.after_return) && first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.collect(rest);
                break;
            };
            self.collect(&rest[..end]);
            self.after_return = rest[end] == b'\r';
            rest = &rest[end + 1..];
            complete.extend(self.end_line());
        }
        complete
    }

    /// Bytes held back: the caller's bound on one event.
    pub fn held_bytes(&self) -> usize {
        self.line.len() + self.event.data.len()
    }

    /// The id that the stream gave last, with data or without. It counts from the end of its event
    /// on: who comes back with the id of one that was cut would never get it.
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// How long the stream wants a reader to wait before it comes back.
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    fn collect(&mut self, part: &[u8]) {
        match self.rest_of_line {
            Rest::Kept => self.line.extend_from_slice(part),
            Rest::Skipped => self.skip(part),
            Rest::Ignored => {}
        }
        if self.line.len() <= self.limit.saturating_add(FIELD_BYTES) {
            return;
        }
        let line = self.take_line();
        self.rest_of_line = Rest::Ignored;
        if let Some(data) = line.strip_prefix(b"data:") {
            self.rest_of_line = Rest::Skipped;
            self.begin_to_skip();
            self.skip(data);
        }
    }

    fn take_line(&mut self) -> Vec<u8> {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.at_start) && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        line
    }

    fn begin_to_skip(&mut self) {
        let data = std::mem::take(&mut self.event.data);
        self.skipping.get_or_insert_default();
        self.skip(data.as_bytes());
    }

    fn skip(&mut self, part: &[u8]) {
        if let Some((bytes, finder)) = &mut self.skipping {
            *bytes += part.len() as u64;
            finder.feed(part);
        }
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = self.take_line();
        if std::mem::take(&mut self.rest_of_line) != Rest::Kept {
            return None;
        }
        if line.is_empty() {
            return self.end_event();
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" if self.skipping.is_some() => self.skip(value.as_bytes()),
            "data" => self.add_data(value),
            "event" => self.event.name = value.to_owned(),
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry_ms = value.parse().ok().or(self.retry_ms);
            }
            _ => {}
        }
        None
    }

    fn add_data(&mut self, value: &str) {
        self.has_data = true;
        self.event.data.push_str(value);
        self.event.data.push('\n');
        if self.event.data.len() > self.limit.saturating_add(1) {
            self.begin_to_skip();
        }
    }

    fn end_event(&mut self) -> Option<Event> {
        let has_data = std::mem::take(&mut self.has_data);
        let mut event = std::mem::take(&mut self.event);
        self.last_id = event.id.clone().or(self.last_id.take());
        event.data.pop();
        if let Some((bytes, finder)) = self.skipping.take() {
            event.data.clear();
            event.skipped = Some(Skipped {
                bytes,
                id: finder.id(),
                is_call: finder.is_call(),
            });
            return Some(event);
        }
        has_data.then_some(event)
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Room for a field's name beside its value.
const FIELD_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::{Parser, write_event};

    #[test]
    fn reads_what_it_writes_at_every_split_point() {
        let mut bytes = b": hello\r\n\r\n".to_vec();
        write_event(Some("1-2"), Some(1000), b"{\"a\":1}", &mut bytes);
        write_event(None, None, b"", &mut bytes);
        bytes.extend_from_slice(b"event: endpoint\rdata: one\rdata:two\r\r");
        for split in 0..bytes.len() {
            let mut parser = Parser::default();
            let mut events = parser.feed(&bytes[..split]);
            events.extend(parser.feed(&bytes[split..]));
            assert_eq!(events.len(), 3, "split {split}: {events:?}");
            assert_eq!(events[0].id.as_deref(), Some("1-2"));
            assert_eq!(events[0].data, "{\"a\":1}");
            assert_eq!(events[1].data, "");
            assert_eq!(events[2].name, "endpoint");
            assert_eq!(events[2].data, "one\ntwo");
        }
    }

    #[test]
    fn the_id_of_an_event_that_was_cut_does_not_count() {
        let mut parser = Parser::default();
        parser.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n");
        assert_eq!(
            parser.last_id(),
            Some("1"),
            "the second event has no end yet"
        );
        assert_eq!(parser.feed(b"\n").len(), 1);
        assert_eq!(parser.last_id(), Some("2"));
        parser.feed(b"id: 3\n\n");
        assert_eq!(parser.last_id(), Some("3"), "an event without data");
    }

    #[test]
    fn a_byte_order_mark_hides_no_event() {
        let mut parser = Parser::new(8);
        let text = format!("\u{feff}data: {}\n\n", "x".repeat(40));
        assert_eq!(parser.feed(text.as_bytes()).len(), 1, "a long one");
        let text = "\u{feff}data: a\n\n\u{feff}data: b\n\n".as_bytes();
        for split in 0..text.len() {
            let mut parser = Parser::default();
            let mut events = parser.feed(&text[..split]);
            events.extend(parser.feed(&text[split..]));
            let data: Vec<&str> = events.iter().map(|event| event.data.as_str()).collect();
            // Only in front of everything it is none of the text.
            assert_eq!(data, ["a"], "split {split}");
        }
    }

    #[test]
    fn a_long_comment_within_a_skipped_event_is_none_of_its_data() {
        let long = format!("{{\"x\":\"{}\"", "y".repeat(100));
        let text = format!("data: {long}\n: {long}, \"id\":8\ndata: ,\"id\":7}}\n\n");
        for size in [1, 7, text.len()] {
            let mut parser = Parser::new(40);
            let pieces = text.as_bytes().chunks(size);
            let events: Vec<_> = pieces.flat_map(|piece| parser.feed(piece)).collect();
            let skipped = events[0].skipped.as_ref().unwrap();
            assert_eq!(skipped.id, Some(7), "in pieces of {size}");
            assert_eq!(
                skipped.bytes,
                long.len() as u64 + 1 + 8,
                "in pieces of {size}"
            );
        }
    }

    #[test]
    fn an_event_beyond_the_bound_is_skipped_and_its_id_is_found() {
        let long = format!("{{\"id\":7,\"x\":\"{}\"}}", "y".repeat(200));
        let text = format!(
            "data: {long}\n\n: {long}\nid: 1\nretry: 250\n\ndata: {}\ndata: {}\n\ndata: ok\n\n",
            &long[..50],
            &long[50..]
        );
        for split in 0..text.len() {
            let mut parser = Parser::new(100);
            let mut events = parser.feed(&text.as_bytes()[..split]);
            events.extend(parser.feed(&text.as_bytes()[split..]));
            let ids: Vec<_> = events
                .iter()
                .map(|event| event.skipped.as_ref().map(|skipped| skipped.id))
                .collect();
            assert_eq!(ids, [Some(Some(7)), Some(Some(7)), None], "split {split}");
            assert_eq!(events[2].data, "ok");
            assert_eq!(parser.last_id(), Some("1"));
            assert_eq!(parser.retry_ms(), Some(250));
            assert_eq!(parser.held_bytes(), 0);
        }
    }
}
