//! Decoder of the chunked transfer coding, fed in pieces of any size. Pure.
//! Strict: 1 to 16 hexadecimal digits, CRLF only, extensions and trailers bounded and thrown
//! away. Absent on purpose: `httparse::parse_chunk_size`, which takes an empty line for the
//! last chunk.

use crate::base::limits::{CHUNK_EXTENSION_BYTES, CHUNK_SIZE_DIGITS, TRAILER_BYTES};
use crate::http::head::Refusal;
use crate::http::outbox::is_token_byte;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the digits of a size; so many were read.
    Size {
        digits: usize,
    },
    /// In the extension of a chunk; so many bytes were read.
    Extension {
        bytes: usize,
    },
    SizeLf,
    Data {
        left: usize,
    },
    DataCr,
    DataLf,
    /// At the start of a trailer line, in its name, in its value, or behind the CR that ends it.
    TrailerStart,
    TrailerName,
    Trailer,
    TrailerLf,
    LastLf,
    Done,
}

/// Where in a chunked body the decoder stands.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    size: u64,
    trailer_bytes: usize,
    max_bytes: usize,
}

const BAD_SIZE: Refusal = Refusal {
    status: 400,
    reason: "malformed chunk size",
};
const BAD_END: Refusal = Refusal {
    status: 400,
    reason: "chunk without CRLF at its end",
};
const BAD_EXTENSION: Refusal = Refusal {
    status: 400,
    reason: "malformed chunk extension",
};
const BAD_TRAILER: Refusal = Refusal {
    status: 400,
    reason: "malformed trailer",
};
pub(super) const BODY_TOO_BIG: Refusal = Refusal {
    status: 413,
    reason: "body too big",
};

impl Chunked {
    pub fn new(max_bytes: usize) -> Self {
        Self {
            state: State::Size { digits: 0 },
            size: 0,
            trailer_bytes: 0,
            max_bytes,
        }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Appends the data in `input` to `body`; says how many bytes of `input` belong to it.
    pub fn feed(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<usize, Refusal> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if let State::Data { left } = self.state {
                let taken = left.min(input.len() - at);
                body.extend_from_slice(&input[at..at + taken]);
                at += taken;
                let left = left - taken;
                self.state = if left == 0 {
                    State::DataCr
                } else {
                    State::Data { left }
                };
            } else {
                self.state = self.step(input[at], body.len())?;
                at += 1;
            }
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8, body_bytes: usize) -> Result<State, Refusal> {
        match (self.state, byte) {
            (State::Size { digits }, _) => self.size_byte(byte, digits),
            (State::Extension { .. }, b'\r') => Ok(State::SizeLf),
            (State::Extension { bytes }, b'\t' | b' '..=b'~') if bytes < CHUNK_EXTENSION_BYTES => {
                Ok(State::Extension { bytes: bytes + 1 })
            }
            (State::Extension { .. }, _) => Err(BAD_EXTENSION),
            (State::SizeLf, b'\n') => self.start_of_chunk(body_bytes),
            (State::SizeLf, _) => Err(BAD_SIZE),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => {
                self.size = 0;
                Ok(State::Size { digits: 0 })
            }
            (State::DataCr | State::DataLf, _) => Err(BAD_END),
            (State::TrailerStart, b'\r') => Ok(State::LastLf),
            (State::Trailer, b'\r') => Ok(State::TrailerLf),
            (State::TrailerStart | State::TrailerName | State::Trailer, _) => {
                self.trailer_byte(byte)
            }
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            (State::LastLf, b'\n') => Ok(State::Done),
            (State::TrailerLf | State::LastLf, _) => Err(BAD_TRAILER),
            (State::Data { .. } | State::Done, _) => Ok(self.state),
        }
    }

    fn size_byte(&mut self, byte: u8, digits: usize) -> Result<State, Refusal> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b';' if digits > 0 => return Ok(State::Extension { bytes: 0 }),
            b'\r' if digits > 0 => return Ok(State::SizeLf),
            _ => return Err(BAD_SIZE),
        };
        if digits == CHUNK_SIZE_DIGITS {
            return Err(BAD_SIZE);
        }
        // Sixteen digits of four bits fit.
        self.size = self.size << 4 | u64::from(digit);
        Ok(State::Size { digits: digits + 1 })
    }

    fn start_of_chunk(&self, body_bytes: usize) -> Result<State, Refusal> {
        if self.size == 0 {
            return Ok(State::TrailerStart);
        }
        let room = self.max_bytes.saturating_sub(body_bytes);
        match usize::try_from(self.size) {
            Ok(left) if left <= room => Ok(State::Data { left }),
            _ => Err(BODY_TOO_BIG),
        }
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<State, Refusal> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES {
            return Err(Refusal::new(431, "trailer too big"));
        }
        match (self.state, byte) {
            (State::Trailer, b'\t' | b' '..=b'~') => Ok(State::Trailer),
            (State::TrailerName, b':') => Ok(State::Trailer),
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => {
                Ok(State::TrailerName)
            }
            _ => Err(BAD_TRAILER),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::base::limits::{CHUNK_EXTENSION_BYTES, TRAILER_BYTES};
    use crate::http::chunked::Chunked;

    fn decode(input: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), u16> {
        let (mut chunked, mut body, mut used) = (Chunked::new(32), Vec::new(), 0);
        for part in input.chunks(piece) {
            used += chunked
                .feed(part, &mut body)
                .map_err(|refusal| refusal.status)?;
        }
        Ok((body, used, chunked.is_done()))
    }

    #[test]
    fn good_bodies_decode_in_pieces_of_any_size() {
        let long_extension = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(CHUNK_EXTENSION_BYTES));
        for (input, body) in [
            ("0\r\n\r\n", ""),
            ("3\r\nabc\r\n0\r\n\r\n", "abc"),
            (
                "3;a=b\r\nabc\r\n2;\"q\"\r\nde\r\n00;z\r\nX: y\r\nZ: 1\r\n\r\n",
                "abcde",
            ),
            ("A\r\n0123456789\r\n0000000000000000\r\n\r\n", "0123456789"),
            (
                "20\r\n0123456789abcdef0123456789abcdef\r\n0\r\n\r\n",
                "0123456789abcdef0123456789abcdef",
            ),
            (&long_extension, "a"),
        ] {
            let next = format!("{input}GET /next");
            for piece in 1..=next.len() {
                let expected = Ok((body.as_bytes().to_vec(), input.len(), true));
                assert_eq!(
                    decode(next.as_bytes(), piece),
                    expected,
                    "{input:?} by {piece}"
                );
            }
            for end in 0..input.len() {
                let cut = decode(&input.as_bytes()[..end], 1);
                assert!(
                    matches!(cut, Ok((_, _, false))),
                    "{input:?} cut at {end}: {cut:?}"
                );
            }
        }
    }

    #[test]
    fn bad_bodies_are_refused() {
        let long_extension = format!("1;{}\r\n", "x".repeat(CHUNK_EXTENSION_BYTES + 1));
        let long_trailer = format!("0\r\nX: {}\r\n", "x".repeat(TRAILER_BYTES));
        for (input, status) in [
            ("\r\n", 400),
            (" 1\r\n", 400),
            ("1 \r\n", 400),
            ("+1\r\n", 400),
            ("-1\r\n", 400),
            ("0x1\r\n", 400),
            ("1\n", 400),
            ("1\rx", 400),
            ("g\r\n", 400),
            ("1_0\r\n", 400),
            (";a\r\n", 400),
            ("1\r\nab", 400),
            ("1\r\na\n", 400),
            ("1\r\na\rx", 400),
            ("1;a\nb\r\n", 400),
            ("1;\u{1}\r\n", 400),
            ("1;\0\r\n", 400),
            ("1;\u{e9}\r\n", 400),
            ("00000000000000001\r\n", 400),
            ("ffffffffffffffff\r\n", 413),
            ("21\r\n", 413),
            ("20\r\n0123456789abcdef0123456789abcdef\r\n1\r\n", 413),
            ("0\r\n X: y\r\n", 400),
            ("0\r\nno colon\r\n", 400),
            ("0\r\nX : y\r\n", 400),
            ("0\r\n: y\r\n", 400),
            ("0\r\nX\r\n", 400),
            ("0\r\nX: y\n", 400),
            ("0\r\nX: \0\r\n", 400),
            ("0\r\n\rx", 400),
            ("0\r\n\n", 400),
            (&long_extension, 400),
            (&long_trailer, 431),
            ("1,1\r\n", 400),
            ("1\t\r\n", 400),
        ] {
            for piece in [1, input.len()] {
                assert_eq!(
                    decode(input.as_bytes(), piece).err(),
                    Some(status),
                    "{input:?}"
                );
            }
        }
    }
}
