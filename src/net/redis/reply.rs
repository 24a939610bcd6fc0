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
