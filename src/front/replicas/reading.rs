//! The answer of another replica, read from the bytes that have come: its head, and the pieces of
//! a body whose length nobody knows. What it says is ours, and is checked like anybody's. Pure.

use crate::base::limits;
use crate::front::replicas::hop::NAME_HEADER;
use crate::http::Chunked;

/// It is no answer of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Garbled;

/// The head of an answer.
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Body,
    /// Bytes of the head.
    pub length_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    Length(usize),
    Chunked,
}

impl Answer {
    /// `Ok(None)`: not all of it is there.
    pub fn read(bytes: &[u8]) -> Result<Option<Answer>, Garbled> {
        let mut fields = [httparse::EMPTY_HEADER; limits::HEADERS];
        let mut response = httparse::Response::new(&mut fields);
        let length_bytes = match response.parse(bytes).map_err(|_| Garbled)? {
            httparse::Status::Complete(length_bytes) => length_bytes,
            httparse::Status::Partial if bytes.len() > limits::HEAD_BYTES => return Err(Garbled),
            httparse::Status::Partial => return Ok(None),
        };
        let mut answer = Answer {
            status: response.code.ok_or(Garbled)?,
            headers: Vec::new(),
            body: Body::Length(0),
            length_bytes,
        };
        for field in response.headers.iter() {
            let value = str::from_utf8(field.value).map_err(|_| Garbled)?.trim();
            match field.name.to_ascii_lowercase().as_str() {
                "transfer-encoding" => answer.body = Body::Chunked,
                "content-length" => {
                    let length = value.parse().map_err(|_| Garbled)?;
                    if length > limits::REPLICA_ANSWER_BYTES {
                        return Err(Garbled);
                    }
                    answer.body = Body::Length(length);
                }
                "connection" | "date" => {}
                _ => answer
                    .headers
                    .push((field.name.to_owned(), value.to_owned())),
            }
        }
        Ok(Some(answer))
    }

    /// Those that are for the client.
    pub fn headers(&self) -> Vec<(&str, &str)> {
        let headers = self.headers.iter();
        let headers = headers.filter(|(name, _)| !name.eq_ignore_ascii_case(NAME_HEADER));
        headers.map(|(name, value)| (&**name, &**value)).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| &**value)
    }
}

/// Pieces of a body, one after the other.
pub struct Piece {
    chunked: Chunked,
    data: Vec<u8>,
}

impl Default for Piece {
    fn default() -> Piece {
        Piece {
            // The client takes each piece before the next is read: only one is ever held.
            chunked: Chunked::new(limits::REPLICA_ANSWER_BYTES),
            data: Vec::new(),
        }
    }
}

impl Piece {
    pub fn is_done(&self) -> bool {
        self.chunked.is_done()
    }

    /// The data in `bytes`, which are taken.
    pub fn take(&mut self, bytes: &mut Vec<u8>) -> Result<&[u8], Garbled> {
        self.data.clear();
        self.chunked
            .feed(bytes, &mut self.data)
            .map_err(|_| Garbled)?;
        bytes.clear();
        Ok(&self.data)
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Body, Piece};

    fn body_of(text: &str) -> Option<(u16, Body)> {
        let answer = Answer::read(text.as_bytes()).ok()??;
        Some((answer.status, answer.body))
    }

    #[test]
    fn reads_heads_and_nothing_else() {
        let streamed = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\
            onemcp-replica: z\r\n\r\n1\r\n";
        assert_eq!(body_of(streamed), Some((200, Body::Chunked)));
        let whole = "HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\n";
        assert_eq!(body_of(whole), Some((404, Body::Length(12))));
        assert_eq!(
            body_of("HTTP/1.1 202 Accepted\r\n\r\n"),
            Some((202, Body::Length(0)))
        );
        for end in 0..whole.len() {
            assert!(
                matches!(Answer::read(&whole.as_bytes()[..end]), Ok(None)),
                "{end}"
            );
        }
        for bad in [
            "x",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        ] {
            assert!(Answer::read(bad.as_bytes()).is_err(), "{bad}");
        }
        let answer = Answer::read(streamed.as_bytes())
            .expect("good")
            .expect("whole");
        assert_eq!(answer.headers(), [("X", "y")]);
        assert_eq!(answer.header("x"), Some("y"));
    }

    #[test]
    fn pieces_come_as_they_are_cut() {
        let (mut pieces, mut all) = (Piece::default(), Vec::new());
        for byte in b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n" {
            all.extend_from_slice(pieces.take(&mut vec![*byte]).expect("good"));
        }
        assert_eq!((all.as_slice(), pieces.is_done()), (&b"abcde"[..], true));
        assert!(Piece::default().take(&mut b"zz\r\n".to_vec()).is_err());
    }
}
