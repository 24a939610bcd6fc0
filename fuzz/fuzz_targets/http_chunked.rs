#![no_main]
//! A chunked body, against a decoder of the whole text in some lines: in pieces as at once, never
//! more than announced, and what was encoded comes back.

use libfuzzer_sys::fuzz_target;
use onemcp::http::Chunked;
use onemcp_fuzz::{bounded, led, pieces};

const MOST_BYTES: usize = 1 << 16;

/// Body, bytes used, whether it is at its end; or the status of the refusal.
type Outcome = Result<(Vec<u8>, usize, bool), u16>;

fuzz_target!(|data: &[u8]| bounded(|| {
    let (seed, data) = led(data);
    let at_once = decode(std::iter::once(data));
    assert_eq!(decode(pieces(data, seed)), at_once);
    if let Ok((body, used, is_done)) = &at_once {
        assert!(*used <= data.len() && body.len() <= MOST_BYTES.min(data.len()));
        if *is_done {
            let expected = reference(&data[..*used]).expect("the reference takes what we take");
            assert_eq!(*body, expected);
        }
    }
    let (encoded, end) = encode(data, seed);
    let whole = decode(pieces(&encoded, seed));
    assert_eq!(whole, Ok((data.to_vec(), end, true)), "what was encoded");
}));

fn decode<'p>(parts: impl Iterator<Item = &'p [u8]>) -> Outcome {
    let (mut chunked, mut body, mut used) = (Chunked::new(MOST_BYTES), Vec::new(), 0);
    for part in parts {
        let taken = chunked
            .feed(part, &mut body)
            .map_err(|refusal| refusal.status)?;
        used += taken;
        if chunked.is_done() {
            break;
        }
        assert_eq!(taken, part.len(), "bytes were left though the body goes on");
    }
    Ok((body, used, chunked.is_done()))
}

/// RFC 9112, 7.1, on the text of one whole body.
fn reference(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (line, after) = line(rest)?;
        let digits = line.split(|byte| *byte == b';').next()?;
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        rest = after;
        if size == 0 {
            break;
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest[size..].strip_prefix(b"\r\n")?;
    }
    loop {
        let (trailer, after) = line(rest)?;
        rest = after;
        if trailer.is_empty() {
            return rest.is_empty().then_some(body);
        }
    }
}

fn line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.windows(2).position(|two| two == b"\r\n")?;
    Some((&text[..end], &text[end + 2..]))
}

/// The next request follows: it is none of ours. With the length of the body itself.
fn encode(data: &[u8], seed: u8) -> (Vec<u8>, usize) {
    let mut encoded = Vec::new();
    for piece in pieces(data, seed) {
        encoded.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        encoded.extend_from_slice(piece);
        encoded.extend_from_slice(b"\r\n");
    }
    encoded.extend_from_slice(b"0;last\r\nx: y\r\n\r\n");
    let end = encoded.len();
    encoded.extend_from_slice(b"GET / HTTP/1.1\r\n");
    (encoded, end)
}
