//! What a store says, in RESP2. Pure: bytes come from whoever calls. What is read is bounded in
//! bytes, members and depth, whatever the other side says.

use std::io::{Error, ErrorKind};

use crate::base::limits;
use crate::net::redis::Trouble;

/// What a store says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A text, also one of several lines.
    Text(String),
    Number(i64),
    Nothing,
    List(Vec<Answer>),
}

impl Answer {
    pub fn text(self) -> Option<String> {
        match self {
            Answer::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn list(self) -> Vec<Answer> {
        match self {
            Answer::List(list) => list,
            _ => Vec::new(),
        }
    }
}

/// Appends some more bytes, or says why there are none.
type More<'m> = &'m mut dyn FnMut(&mut Vec<u8>) -> Result<(), Error>;

/// Bytes that were received, as answers.
#[derive(Default)]
pub struct Replies {
    /// Read, but not used yet, from `at` on.
    input: Vec<u8>,
    at: usize,
    /// Bytes that the answer may still take.
    room: usize,
}

impl Replies {
    /// Nothing was received that no answer has used.
    pub fn is_empty(&self) -> bool {
        self.at == self.input.len()
    }

    /// Receives more.
    ///
    /// # Errors
    /// What `more` says.
    pub fn fill(&mut self, more: More<'_>) -> Result<(), Error> {
        self.input.drain(..self.at);
        self.at = 0;
        more(&mut self.input)
    }

    /// The next answer.
    ///
    /// # Errors
    /// Refused, or there is none that can be understood.
    pub fn answer(&mut self, more: More<'_>) -> Result<Answer, Trouble> {
        self.room = limits::SHARED_ANSWER_BYTES;
        self.read(limits::SHARED_DEPTH, more)
    }

    fn read(&mut self, depth: usize, more: More<'_>) -> Result<Answer, Trouble> {
        let line = self.line(more)?;
        // Four bytes of a list are a member, which takes more than that.
        self.room = self
            .room
            .checked_sub(size_of::<Answer>())
            .ok_or_else(strange)?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(strange)?;
        let number = || rest.parse::<i64>().map_err(|_| strange());
        match kind {
            "+" => Ok(Answer::Text(rest.to_owned())),
            "-" => Err(Trouble::Refused(code(rest))),
            ":" => number().map(Answer::Number),
            "$" => match number()? {
                -1 => Ok(Answer::Nothing),
                count => self.bulk(usize::try_from(count).map_err(|_| strange())?, more),
            },
            "*" if depth > 0 => match number()? {
                -1 => Ok(Answer::Nothing),
                count => {
                    let mut list = Vec::new();
                    for _ in 0..count {
                        // A member that is an error is none: nobody asks for such.
                        list.push(self.read(depth - 1, more)?);
                    }
                    Ok(Answer::List(list))
                }
            },
            _ => Err(strange()),
        }
    }

    fn bulk(&mut self, count: usize, more: More<'_>) -> Result<Answer, Trouble> {
        let whole = count.checked_add(2).filter(|whole| *whole <= self.room);
        let whole = whole.ok_or_else(strange)?;
        while self.input.len() - self.at < whole {
            self.fill(more).map_err(lost)?;
        }
        self.room -= whole;
        let bytes = &self.input[self.at..self.at + whole];
        let text = bytes.strip_suffix(b"\r\n").ok_or_else(strange)?;
        let text = String::from_utf8(text.to_vec()).map_err(|_| strange())?;
        self.at += whole;
        Ok(Answer::Text(text))
    }

    /// To its end, which is not given.
    fn line(&mut self, more: More<'_>) -> Result<String, Trouble> {
        let mut seen = 0;
        loop {
            let rest = &self.input[self.at..];
            if let Some(end) = rest[seen..].iter().position(|byte| *byte == b'\n') {
                let line = &rest[..seen + end];
                let line = line.strip_suffix(b"\r").ok_or_else(strange)?;
                let line = String::from_utf8(line.to_vec()).map_err(|_| strange())?;
                let whole = line.len() + 2;
                self.room = self.room.checked_sub(whole).ok_or_else(strange)?;
                self.at += whole;
                return Ok(line);
            }
            seen = rest.len();
            if seen > limits::SHARED_LINE_BYTES {
                return Err(strange());
            }
            self.fill(more).map_err(lost)?;
        }
    }
}

pub(super) fn lost(error: Error) -> Trouble {
    Trouble::Away(match error.kind() {
        ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
        _ => error.to_string(),
    })
}

fn strange() -> Trouble {
    Trouble::Away("what it says is no RESP2".to_owned())
}

/// The first word of an error. The rest may repeat what was sent, also a password.
fn code(text: &str) -> String {
    let word = text.split(' ').next().unwrap_or_default();
    let is_code = !word.is_empty() && word.len() <= 20;
    match is_code && word.bytes().all(|byte| byte.is_ascii_uppercase()) {
        true => word.to_owned(),
        false => "ERR".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::{Answer, Replies};
    use crate::base::limits;

    /// The answers in `bytes`, which come in one piece.
    fn first(bytes: &[u8]) -> Option<Answer> {
        let mut parts = std::iter::once(bytes);
        let mut replies = Replies::default();
        let answer = replies.answer(&mut |input| {
            let part = parts.next().ok_or(Error::from(ErrorKind::UnexpectedEof))?;
            input.extend_from_slice(part);
            Ok(())
        });
        answer.ok()
    }

    #[test]
    fn a_list_of_many_small_members_is_bounded_by_what_they_take() {
        let list = |count: usize| [format!("*{count}\r\n"), ":1\r\n".repeat(count)].concat();
        let Some(Answer::List(few)) = first(list(1000).as_bytes()) else {
            panic!("a thousand are not too many");
        };
        assert_eq!(few.len(), 1000);
        // In bytes it would fit.
        let many = list(limits::SHARED_ANSWER_BYTES / 8);
        assert!(many.len() < limits::SHARED_ANSWER_BYTES);
        assert_eq!(first(many.as_bytes()), None);
    }
}
