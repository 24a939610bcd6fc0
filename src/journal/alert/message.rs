//! One alert: what is told, to whoever is told. Pure.

use std::time::SystemTime;

use crate::config::alerts::rule::{Rule, Severity};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A trouble began, or goes on.
    Triggered,
    /// It is over.
    Resolved,
    /// It has no end that could be told.
    Notice,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Triggered => "triggered",
            State::Resolved => "resolved",
            State::Notice => "notice",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Of this message: the same each time it is sent again.
    pub id: String,
    /// Of the trouble: the same for its begin and its end.
    pub key: String,
    /// Its name.
    pub rule: &'static str,
    pub state: State,
    pub severity: Severity,
    /// A server, a sink, a file: whom it is about, if anybody in particular.
    pub subject: String,
    /// One line.
    pub title: String,
    /// May be empty.
    pub detail: String,
    /// How often it happened since the last message about it.
    pub count: u64,
    /// When the trouble began.
    pub since: SystemTime,
    pub at: SystemTime,
}

impl Alert {
    /// The server that it is about.
    pub fn server(&self) -> Option<&str> {
        let is_server = match Rule::parse(self.rule)? {
            Rule::ServerDown | Rule::ServerRecovered | Rule::CrashLoop => true,
            rule => rule == Rule::ToolsChanged,
        };
        is_server.then_some(self.subject.as_str())
    }
}

/// One line of at most so many bytes: what others wrote becomes harmless text.
pub fn one_line(text: &str, most_bytes: usize) -> String {
    let mut line = String::with_capacity(text.len().min(most_bytes));
    for c in text.chars() {
        let c = match c {
            c if c.is_control() || "\u{2028}\u{2029}\u{feff}".contains(c) => ' ',
            // Those that turn the direction of writing.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => ' ',
            c => c,
        };
        if line.len() + c.len_utf8() > most_bytes.saturating_sub(3) {
            line.push_str("...");
            return line;
        }
        line.push(c);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn lines_are_harmless_and_bounded() {
        assert_eq!(one_line("a\nb\u{1b}[31m\u{202e}c", 100), "a b [31m c");
        assert_eq!(one_line("abcdefgh", 8), "abcde...");
        assert_eq!(one_line("üüüüüü", 9), "üüü...");
        assert_eq!(one_line("", 8), "");
    }
}
