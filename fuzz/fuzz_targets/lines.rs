#![no_main]
//! Lines of a pipe, against a split of the whole: in any pieces, with any bound, nothing is lost
//! and nothing is held beyond the bound.

use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;
use onemcp::wire::lines::{Line, LineReader, find_id};
use onemcp_fuzz::{bounded, led, pieces};

/// Gives its pieces one by one, and is interrupted now and then.
struct Pieces<'a>(Vec<&'a [u8]>, usize);

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.1 += 1;
        if self.1.is_multiple_of(5) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let Some(piece) = self.0.pop() else {
            return Ok(0);
        };
        let count = piece.len().min(out.len());
        out[..count].copy_from_slice(&piece[..count]);
        if count < piece.len() {
            self.0.push(&piece[count..]);
        }
        Ok(count)
    }
}

fuzz_target!(|data: &[u8]| bounded(|| {
    let (seed, data) = led(data);
    let (small, data) = led(data);
    for limit in [usize::from(small), 1 << 20] {
        assert_eq!(read(data, seed, limit), expected(data, limit));
    }
}));

fn read(data: &[u8], seed: u8, limit: usize) -> Vec<Result<Vec<u8>, (u64, Option<u64>)>> {
    let mut parts: Vec<&[u8]> = pieces(data, seed).collect();
    parts.reverse();
    let (mut reader, mut found) = (LineReader::new(Pieces(parts, 0), limit), Vec::new());
    loop {
        let is_there = reader.has_line();
        match reader.next_line().expect("interruptions are none of ours") {
            None => {
                assert!(!is_there);
                return found;
            }
            Some(Line::Text(text)) => found.push(Ok(text.to_vec())),
            Some(Line::TooLong { bytes, id, .. }) => found.push(Err((bytes, id))),
        }
    }
}

fn expected(data: &[u8], limit: usize) -> Vec<Result<Vec<u8>, (u64, Option<u64>)>> {
    let mut lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    let judged = lines.into_iter().map(|line| match line.len() > limit {
        true => Err((line.len() as u64, find_id(line))),
        false => Ok(line.strip_suffix(b"\r").unwrap_or(line).to_vec()),
    });
    judged.collect()
}
