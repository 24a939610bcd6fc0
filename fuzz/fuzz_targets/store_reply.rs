#![no_main]
//! What a shared store says (RESP2): in pieces as at once, bounded, and what is written by the
//! rules comes back; one answer leaves the bytes of the next alone.

use std::io::{Error, ErrorKind};

use libfuzzer_sys::fuzz_target;
use onemcp::base::limits;
use onemcp::net::redis::reply::Replies;
use onemcp::net::redis::{Answer, Trouble};
use onemcp_fuzz::{bounded, led, pieces};

fuzz_target!(|data: &[u8]| bounded(|| {
    let (seed, data) = led(data);
    let at_once = read(std::iter::once(data));
    let in_pieces = read(pieces(data, seed));
    assert_eq!(in_pieces, at_once);
    for found in at_once.iter().flatten() {
        assert!(depth(found) <= limits::SHARED_DEPTH + 1);
        let mut bytes = Vec::new();
        write(found, &mut bytes);
        let again = read(pieces(&bytes, seed));
        assert_eq!(again.first(), Some(&Ok(found.clone())));
        assert_eq!(again.len(), 2, "bytes were left");
    }
    let text = String::from_utf8_lossy(data).into_owned();
    let made = Answer::List(vec![
        Answer::Text(text),
        Answer::Nothing,
        Answer::Number(-7),
    ]);
    let mut bytes = Vec::new();
    write(&made, &mut bytes);
    assert_eq!(read(pieces(&bytes, seed)).first(), Some(&Ok(made)));
}));

/// All answers, and the trouble that ends them.
fn read<'p>(mut parts: impl Iterator<Item = &'p [u8]>) -> Vec<Result<Answer, Trouble>> {
    let (mut replies, mut all) = (Replies::default(), Vec::new());
    loop {
        let answer = replies.answer(&mut |input| {
            let part = parts.next().ok_or(Error::from(ErrorKind::UnexpectedEof))?;
            input.extend_from_slice(part);
            Ok(())
        });
        let goes_on = match &answer {
            Ok(_) => true,
            Err(Trouble::Refused(code)) => {
                assert!((1..=20).contains(&code.len()) && code.is_ascii());
                // Within a list the rest of it would follow: nobody reads on there either.
                false
            }
            Err(Trouble::Away(_)) => false,
        };
        all.push(answer);
        if !goes_on {
            return all;
        }
    }
}

fn depth(answer: &Answer) -> usize {
    match answer {
        Answer::List(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        _ => 1,
    }
}

fn write(answer: &Answer, out: &mut Vec<u8>) {
    match answer {
        Answer::Text(text) => {
            out.extend_from_slice(format!("${}\r\n{text}\r\n", text.len()).as_bytes());
        }
        Answer::Number(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
        Answer::Nothing => out.extend_from_slice(b"$-1\r\n"),
        Answer::List(list) => {
            out.extend_from_slice(format!("*{}\r\n", list.len()).as_bytes());
            list.iter().for_each(|member| write(member, out));
        }
    }
}
