//! Bounded lines from a byte stream (the stdio transport). An over-long line is skipped as it
//! streams by, while its top-level `id` is looked for, so that one call can be told; memory
//! stays at the bound whatever the peer sends.

use std::io::{self, Read};

/// What the stream gave next.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Without its line end (`\n` or `\r\n`).
    Text(&'a [u8]),
    /// A line of `bytes` bytes was thrown away; `id` is its top-level integer id, if it had one.
    /// `is_call`: it had a method, so that it answers nobody.
    TooLong {
        bytes: u64,
        id: Option<u64>,
        is_call: bool,
    },
}

/// Splits a reader into lines of at most `limit` bytes.
pub struct LineReader<R> {
    source: R,
    buffer: Vec<u8>,
    /// Unread bytes are `buffer[start..end]`.
    start: usize,
    end: usize,
    limit: usize,
    /// Lines in a row for which a small buffer would have done.
    short_lines: usize,
}

const FIRST_BYTES: usize = 16 * 1024;
const IDLE_BYTES: usize = 256 * 1024;
/// A large buffer is given back after so many short lines: large ones often come in a row, and
/// fresh memory for each of them costs more than the copy.
const SHORT_LINES: usize = 16;

impl<R: Read> LineReader<R> {
    pub fn new(source: R, limit: usize) -> LineReader<R> {
        LineReader {
            source,
            buffer: vec![0; FIRST_BYTES],
            start: 0,
            end: 0,
            limit,
            short_lines: 0,
        }
    }

    /// The next line, or `None` at the end of the stream. An unfinished last line is a line.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        let mut searched = self.start;
        loop {
            let newline = memchr::memchr(b'\n', &self.buffer[searched..self.end]);
            let unread = searched + newline.unwrap_or(self.end - searched) - self.start;
            if unread > self.limit {
                return self.skip_line().map(Some);
            }
            if let Some(found) = newline {
                let line = self.start..searched + found;
                self.start = searched + found + 1;
                self.short_lines = match line.len() > IDLE_BYTES / 2 {
                    true => 0,
                    false => self.short_lines + 1,
                };
                return Ok(Some(Line::Text(trim_return(&self.buffer[line]))));
            }
            searched = self.end - self.make_room();
            let got = self.fill()?;
            if got == 0 {
                let line = self.start..self.end;
                self.start = self.end;
                let text = trim_return(&self.buffer[line.clone()]);
                return Ok((!line.is_empty()).then_some(Line::Text(text)));
            }
        }
    }

    /// True when the next line is there already, whole.
    pub fn has_line(&self) -> bool {
        memchr::memchr(b'\n', &self.buffer[self.start..self.end]).is_some()
    }

    fn fill(&mut self) -> io::Result<usize> {
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(got) => {
                    self.end += got;
                    return Ok(got);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Moves unread bytes to the front and grows or shrinks the buffer as needed. Returns by how
    /// much offsets moved.
    fn make_room(&mut self) -> usize {
        let moved = self.start;
        if moved > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= moved;
            self.start = 0;
        }
        if self.end == 0 && self.buffer.len() > IDLE_BYTES && self.short_lines >= SHORT_LINES {
            self.buffer.truncate(IDLE_BYTES);
            self.buffer.shrink_to_fit();
        }
        if self.end == self.buffer.len() {
            let larger = (self.buffer.len() * 2)
                .min(self.limit + FIRST_BYTES)
                .max(self.end + 1);
            self.buffer.resize(larger, 0);
        }
        moved
    }

    fn skip_line(&mut self) -> io::Result<Line<'static>> {
        let mut finder = IdFinder::default();
        let mut bytes = 0u64;
        loop {
            let unread = &self.buffer[self.start..self.end];
            let newline = memchr::memchr(b'\n', unread);
            let part = &unread[..newline.unwrap_or(unread.len())];
            finder.feed(part);
            bytes += part.len() as u64;
            if let Some(found) = newline {
                self.start += found + 1;
                break;
            }
            self.start = 0;
            self.end = 0;
            if self.fill()? == 0 {
                break;
            }
        }
        Ok(Line::TooLong {
            bytes,
            id: finder.id(),
            is_call: finder.is_call(),
        })
    }
}

fn trim_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The top-level integer id of a line, even if the line is not JSON as a whole.
pub fn find_id(line: &[u8]) -> Option<u64> {
    let mut finder = IdFinder::default();
    finder.feed(line);
    finder.id()
}

/// Finds the integer member `id` of the outermost object in text that streams by.
#[derive(Default)]
pub(crate) struct IdFinder {
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// The last string seen directly inside the outermost object, cut at a few bytes.
    key: Vec<u8>,
    collecting: bool,
    digits: Vec<u8>,
    found: Option<u64>,
    has_method: bool,
}

impl IdFinder {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.step(byte);
        }
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            self.step_in_string(byte);
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                if self.depth == 1 {
                    self.key.clear();
                }
                self.collecting = false;
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.finish();
                self.depth = self.depth.saturating_sub(1);
            }
            b':' if self.depth == 1 => {
                self.collecting = self.key == b"id";
                self.has_method |= self.key == b"method";
                self.digits.clear();
            }
            b',' => self.finish(),
            b'0'..=b'9' if self.collecting && self.digits.len() < 20 => self.digits.push(byte),
            _ => {}
        }
    }

    fn step_in_string(&mut self, byte: u8) {
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = true;
        } else if byte == b'"' {
            self.in_string = false;
            return;
        }
        if self.depth == 1 && self.key.len() < 8 {
            self.key.push(byte);
        }
    }

    fn finish(&mut self) {
        if self.collecting && self.depth == 1 {
            let text = std::str::from_utf8(&self.digits).unwrap_or_default();
            self.found = self.found.or(text.parse().ok());
            self.collecting = false;
        }
    }

    /// A request or a notification: its id, if any, is the sender's own.
    pub(crate) fn is_call(&self) -> bool {
        self.has_method
    }

    pub(crate) fn id(&self) -> Option<u64> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::{IdFinder, Line, LineReader};
    use std::io::{self, Read};

    /// Gives its bytes in pieces of `step`.
    struct Pieces<'a> {
        bytes: &'a [u8],
        step: usize,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.step.min(out.len()).min(self.bytes.len());
            out[..count].copy_from_slice(&self.bytes[..count]);
            self.bytes = &self.bytes[count..];
            Ok(count)
        }
    }

    fn lines(bytes: &[u8], step: usize, limit: usize) -> Vec<String> {
        let mut reader = LineReader::new(Pieces { bytes, step }, limit);
        let mut found = Vec::new();
        while let Some(line) = reader.next_line().expect("no IO error") {
            found.push(match line {
                Line::Text(text) => String::from_utf8_lossy(text).into_owned(),
                Line::TooLong { bytes, id, is_call } => {
                    format!("too long {bytes} {:?}", id.filter(|_| !is_call))
                }
            });
        }
        found
    }

    #[test]
    fn splits_at_every_split_point() {
        let text = b"one\r\n\ntwo\nlast";
        for step in 1..=text.len() {
            assert_eq!(
                lines(text, step, 100),
                ["one", "", "two", "last"],
                "step {step}"
            );
        }
    }

    #[test]
    fn skips_long_lines_and_names_their_id() {
        let filler = "x".repeat(50_000);
        let text = format!(
            "{{\"id\":1,\"result\":\"{filler}\"}}\nok\n\
             {{\"result\":{{\"id\":9,\"t\":\"\\\"{filler}\"}},\"jsonrpc\":\"2.0\",\"id\": 42}}\n\
             end\n{filler}\n"
        );
        for step in [1000, 4096, 70_000] {
            let found = lines(text.as_bytes(), step, 20_000);
            assert_eq!(found.len(), 5, "{found:?}");
            assert!(found[0].ends_with("Some(1)"), "{found:?}");
            assert_eq!(found[1], "ok");
            assert!(found[2].ends_with("Some(42)"), "{found:?}");
            assert_eq!(found[3], "end");
            assert!(found[4].ends_with("None"), "{found:?}");
        }
    }

    #[test]
    fn grows_to_the_limit_only() {
        let text = format!("{}\n", "x".repeat(100_000));
        assert_eq!(lines(text.as_bytes(), 8192, 100_000)[0].len(), 100_000);
        assert!(lines(text.as_bytes(), 8192, 99_999)[0].starts_with("too long 100000"));
    }

    #[test]
    fn ignores_ids_that_are_not_top_level_integers() {
        for text in [
            "{\"a\":{\"id\":5}}",
            "{\"id\":\"5\"}",
            "[{\"x\":1}]",
            "{\"idx\":5}",
            "\"id\":5",
        ] {
            let mut finder = IdFinder::default();
            finder.feed(text.as_bytes());
            assert_eq!(finder.id(), None, "{text}");
        }
    }
}
