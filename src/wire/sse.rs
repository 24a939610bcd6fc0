//! Server-sent events (WHATWG HTML, "Server-sent events"): writing them, and reading them from
//! a stream that may break anywhere.

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
}

/// Collects lines into events. Feed it bytes in any pieces.
#[derive(Default)]
pub struct Parser {
    line: Vec<u8>,
    after_return: bool,
    event: Event,
    has_data: bool,
}

impl Parser {
    /// Takes `bytes` and returns the events that became complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut complete = Vec::new();
        for &byte in bytes {
            let after_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    complete.extend(self.end_line());
                }
                _ => self.line.push(byte),
            }
        }
        complete
    }

    /// Bytes held back: the caller's bound on one event.
    pub fn held_bytes(&self) -> usize {
        self.line.len() + self.event.data.len()
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            let has_data = std::mem::take(&mut self.has_data);
            let mut event = std::mem::take(&mut self.event);
            event.data.pop();
            return has_data.then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                self.has_data = true;
                self.event.data.push_str(value);
                self.event.data.push('\n');
            }
            "event" => self.event.name = value.to_owned(),
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            _ => {}
        }
        None
    }
}

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
}
