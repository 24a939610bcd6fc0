//! What a person's terminal shows: its size, colours, text from others made harmless, and a
//! picture that is drawn over the one before. The cursor is never hidden and no mode is changed,
//! so there is nothing to restore, whatever ends the command.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// Columns and rows, when nobody tells.
const USUAL: (usize, usize) = (80, 24);
const LEAST_COLUMNS: usize = 20;

/// How to write to one stream.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub colour: bool,
    /// The cursor can be moved.
    pub moves: bool,
}

impl Style {
    pub fn of(stream: &impl IsTerminal) -> Style {
        let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let is_dumb = given("TERM").is_none_or(|term| term == "dumb");
        let moves = stream.is_terminal() && !is_dumb;
        Style {
            colour: moves && given("NO_COLOR").is_none(),
            moves,
        }
    }

    pub fn paint(self, tone: Tone, text: &str) -> String {
        match (self.colour, tone) {
            (false, _) | (_, Tone::Plain) => text.to_owned(),
            (true, tone) => format!("\x1b[{}m{text}\x1b[0m", tone.code()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Bold,
    Faint,
    Good,
    Busy,
    Bad,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Tone::Plain => "0",
            Tone::Bold => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Busy => "33",
            Tone::Bad => "31",
        }
    }
}

/// Columns and rows of a terminal.
pub fn size(stream: impl AsFd) -> (usize, usize) {
    let number = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
    let (columns, rows) = match rustix::termios::tcgetwinsize(stream) {
        Ok(size) if size.ws_col > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (
            number("COLUMNS").unwrap_or(USUAL.0),
            number("LINES").unwrap_or(USUAL.1),
        ),
    };
    (
        columns.max(LEAST_COLUMNS),
        if rows == 0 { USUAL.1 } else { rows },
    )
}

/// A line that may be wider in bytes than on the screen.
pub struct Screen {
    /// Lines of the picture that is there.
    drawn: usize,
    style: Style,
}

impl Screen {
    pub fn new(style: Style) -> Screen {
        Screen { drawn: 0, style }
    }

    /// Draws `lines`, each no wider than the terminal, over the picture before. What does not
    /// fit is left out and counted: the cursor cannot go back beyond the first row.
    pub fn draw(&mut self, out: &mut dyn Write, lines: &[String], rows: usize) -> io::Result<()> {
        let mut text = String::new();
        if !self.style.moves {
            text.push_str(if self.drawn > 0 { "\n" } else { "" });
            lines
                .iter()
                .for_each(|line| text.push_str(&format!("{line}\n")));
            self.drawn = lines.len();
            out.write_all(text.as_bytes())?;
            return out.flush();
        }
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        let room = rows.saturating_sub(1).max(1);
        let shown = match lines.len() <= room {
            true => lines.len(),
            false => room - 1,
        };
        for line in &lines[..shown] {
            text.push_str(&format!("{line}\x1b[K\n"));
        }
        self.drawn = shown;
        if shown < lines.len() {
            text.push_str(&format!("({} more lines)\x1b[K\n", lines.len() - shown));
            self.drawn += 1;
        }
        text.push_str("\x1b[J");
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// Text from others, at most so many columns wide: nothing in it moves the cursor, changes the
/// direction of writing or hides. What is cut off shows as `…`.
pub fn safe(text: &str, columns: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    // Marks that take no column pile up on one place.
    let most_chars = columns.saturating_mul(4);
    let mut rest = text.chars().peekable();
    let mut count = 0;
    while let Some(c) = rest.next() {
        let piece = match is_harmless(c) {
            true => c.to_string(),
            false => c.escape_unicode().to_string(),
        };
        let wide: usize = piece.chars().map(width_of).sum();
        // The last column is kept for the sign that there is more.
        let room = columns - usize::from(rest.peek().is_some());
        count += 1;
        if used + wide > room || count > most_chars {
            if used < columns {
                out.push('…');
            }
            return out;
        }
        out.push_str(&piece);
        used += wide;
    }
    out
}

fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Columns of a character, as terminals agree for nearly all of them.
fn width_of(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}'
        | '\u{483}'..='\u{489}'
        | '\u{591}'..='\u{5bd}'
        | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{fe20}'..='\u{fe2f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f680}'..='\u{1f6ff}'
        | '\u{1f900}'..='\u{1f9ff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// A text that is `safe` in lines no wider than so many columns, broken between words.
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        match line.is_empty() || width(line) + 1 + width(word) <= columns {
            true => {
                line.push_str(if line.is_empty() { "" } else { " " });
                line.push_str(word);
            }
            false => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Columns of a text that is `safe`.
pub fn width(text: &str) -> usize {
    text.chars().map(width_of).sum()
}

/// Fills up with blanks on the right.
pub fn padded(text: &str, columns: usize) -> String {
    let blanks = columns.saturating_sub(width(text));
    format!("{text}{}", " ".repeat(blanks))
}

/// A length of time in a few characters: `7s`, `3m12s`, `2h05m`, `4d03h`.
pub fn brief(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days}d{:02}h", hours % 24),
        () if hours > 0 => format!("{hours}h{:02}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m{:02}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Screen, Style, Tone, brief, padded, safe, width, wrapped};

    #[test]
    fn text_of_others_is_harmless_and_bounded() {
        assert_eq!(safe("plain", 10), "plain");
        assert_eq!(safe("abcdef", 4), "abc…");
        assert_eq!(safe("abcd", 4), "abcd");
        assert_eq!(safe("\x1b[2J", 20), "\\u{1b}[2J");
        assert_eq!(safe("a\u{202e}b", 20), "a\\u{202e}b");
        assert_eq!(safe("日本語", 5), "日本…");
        assert_eq!(safe("日本語", 6), "日本語");
        assert_eq!(safe("", 3), "");
        for columns in 1..20 {
            for text in ["\r\n\t", "日本語日本語", "x\u{301}y", "\u{1f600}\u{1f600}"] {
                let shown = safe(text, columns);
                assert!(width(&shown) <= columns, "{shown:?} {columns}");
            }
        }
        let pile: String = std::iter::once('a').chain(['\u{301}'; 1000]).collect();
        assert!(safe(&pile, 10).chars().count() < 50);
    }

    #[test]
    fn a_second_picture_lies_on_the_first() {
        let style = Style {
            colour: false,
            moves: true,
        };
        let mut screen = Screen::new(style);
        let lines = |count: usize| -> Vec<String> { (0..count).map(|n| n.to_string()).collect() };
        let mut out = Vec::new();
        screen.draw(&mut out, &lines(2), 10).unwrap();
        screen.draw(&mut out, &lines(20), 5).unwrap();
        screen.draw(&mut out, &lines(1), 5).unwrap();
        let text = String::from_utf8(out).unwrap();
        let expected = "0\x1b[K\n1\x1b[K\n\x1b[J\x1b[2A0\x1b[K\n1\x1b[K\n2\x1b[K\n\
                        (17 more lines)\x1b[K\n\x1b[J\x1b[4A0\x1b[K\n\x1b[J";
        assert_eq!(text, expected);
    }

    #[test]
    fn long_texts_are_broken_between_words() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped("one", 2), ["one"]);
        assert_eq!(wrapped("", 5), [""]);
    }

    #[test]
    fn times_and_columns() {
        let text = |seconds| brief(Duration::from_secs(seconds));
        assert_eq!(
            (text(0), text(59), text(192)),
            ("0s".into(), "59s".into(), "3m12s".into())
        );
        assert_eq!(
            (text(7500), text(270_000)),
            ("2h05m".into(), "3d03h".into())
        );
        assert_eq!(padded("日", 4), "日  ");
        let plain = Style {
            colour: false,
            moves: false,
        };
        assert_eq!(plain.paint(Tone::Bad, "x"), "x");
        let bright = Style {
            colour: true,
            ..plain
        };
        assert_eq!(bright.paint(Tone::Bad, "x"), "\x1b[31mx\x1b[0m");
    }
}
