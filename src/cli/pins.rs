//! How a tool differs from its pin, for a person: what was and what is, member by member, with
//! nothing hidden and nothing cut off. Pure.

use serde_json::Value;

use crate::base::limits;
use crate::cli::terminal::{Style, Tone, safe, width, wrapped};
use crate::model::pin::MEMBERS;
use crate::wire::json::string_value;
use crate::wire::members::Members;
use crate::wire::message::FROM_SERVER;

/// Unchanged lines that are shown around a change.
const AROUND: usize = 2;

/// One line of the gateway, as lines for a terminal of so many columns.
pub fn lines(line: &Value, style: Style, columns: usize) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let of = |key: &str| safe(line[key].as_str().unwrap_or_default(), usize::MAX);
    let (pinned, now) = (&line["pinned"], &line["now"]);
    let mut title = format!("{}: {} {}", of("server"), of("tool"), of("change"));
    if let Some(at) = text(&pinned["at"]) {
        title.push_str(&format!(", pinned {}", safe(&at, 40)));
    }
    if line["held"] == true {
        title.push_str(", held back");
    }
    let mut out = vec![style.paint(Tone::Bold, &title)];
    for (sign, side) in [('-', pinned), ('+', now)] {
        if let Some(hash) = text(&side["sha256"]) {
            out.push(format!("  {sign} sha256 {}", safe(&hash, 64)));
        }
    }
    let definition = |side: &Value| text(&side["definition"]).unwrap_or_default();
    let (was, is) = (definition(pinned), definition(now));
    if was.is_empty() && pinned["sha256"].is_string() && line["change"] == "changed" {
        out.push("  the pinned definition was too long to be kept".to_owned());
        return out;
    }
    for member in MEMBERS {
        let (was, is) = (shown(&was, member), shown(&is, member));
        let changes = compared(&was, &is);
        if changes.is_empty() {
            continue;
        }
        out.push(format!("  {member}:"));
        for (sign, text) in changes {
            let tone = match sign {
                '-' => Tone::Bad,
                '+' => Tone::Good,
                _ => Tone::Faint,
            };
            let text = format!("{sign} {}", safe(text, usize::MAX));
            let room = columns.saturating_sub(4).max(20);
            let rows = match width(&text) <= room {
                true => vec![text],
                false => wrapped(&text, room),
            };
            let rows = rows.into_iter();
            out.extend(rows.map(|row| format!("    {}", style.paint(tone, &row))));
        }
    }
    out
}

/// One member of a definition, line by line.
fn shown(definition: &str, member: &str) -> Vec<String> {
    let members = Members::parse(definition, 0, FROM_SERVER).ok();
    let raw = members.as_ref().and_then(|members| members.get(member));
    let Some(raw) = raw else {
        return Vec::new();
    };
    match string_value(raw) {
        Some(text) => text.split('\n').map(str::to_owned).collect(),
        None => indented(raw),
    }
}

/// JSON without white space, with a line for each member and element.
fn indented(raw: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let (mut depth, mut is_string, mut is_escaped) = (0_usize, false, false);
    for c in raw.chars() {
        let is_plain = is_string || !matches!(c, '{' | '[' | '}' | ']' | ',');
        if matches!(c, '}' | ']') && !is_string {
            depth = depth.saturating_sub(1);
            lines.push("  ".repeat(depth));
        }
        if let Some(line) = lines.last_mut() {
            line.push(c);
            if c == ':' && !is_string {
                line.push(' ');
            }
        }
        is_string ^= c == '"' && !is_escaped;
        is_escaped = is_string && c == '\\' && !is_escaped;
        if !is_plain && !matches!(c, '}' | ']') {
            depth += usize::from(c != ',');
            lines.push("  ".repeat(depth));
        }
    }
    lines
}

/// What leads from one text to the other: `-`, `+`, and some lines around that stay.
fn compared<'t>(was: &'t [String], is: &'t [String]) -> Vec<(char, &'t str)> {
    if was == is {
        return Vec::new();
    }
    let all = steps(was, is);
    let near = |at: usize| {
        let around = at.saturating_sub(AROUND)..(at + AROUND + 1).min(all.len());
        all[around].iter().any(|(sign, _)| *sign != ' ')
    };
    let mut out = Vec::new();
    for (at, step) in all.iter().enumerate() {
        match near(at) {
            true => out.push(*step),
            false if out.last() != Some(&(' ', "...")) => out.push((' ', "...")),
            false => {}
        }
    }
    out
}

/// Every line of both; those that stay once. Longer texts than are compared differ wholly.
fn steps<'t>(was: &'t [String], is: &'t [String]) -> Vec<(char, &'t str)> {
    let same = was.iter().zip(is).take_while(|(one, other)| one == other);
    let (head, was_rest) = was.split_at(same.count());
    let is_rest = &is[head.len()..];
    let width = is_rest.len() + 1;
    let is_short = was_rest.len() * width <= limits::PINS_DIFF_CELLS;
    // The longest run of lines that stay, from each pair of places to the end.
    let mut longest = vec![
        0_u32;
        if is_short {
            (was_rest.len() + 1) * width
        } else {
            0
        }
    ];
    if is_short {
        for (at, one) in was_rest.iter().enumerate().rev() {
            for (to, other) in is_rest.iter().enumerate().rev() {
                let cell = at * width + to;
                longest[cell] = match one == other {
                    true => longest[cell + width + 1] + 1,
                    false => longest[cell + width].max(longest[cell + 1]),
                };
            }
        }
    }
    let mut out: Vec<(char, &str)> = head.iter().map(|line| (' ', line.as_str())).collect();
    let (mut at, mut to) = (0, 0);
    while at < was_rest.len() || to < is_rest.len() {
        let (one, other) = (was_rest.get(at), is_rest.get(to));
        let cell = at * width + to;
        match (one, other) {
            (Some(one), Some(other)) if is_short && one == other => {
                out.push((' ', one));
                (at, to) = (at + 1, to + 1);
            }
            (Some(one), other)
                if other.is_none() || !is_short || longest[cell + width] >= longest[cell + 1] =>
            {
                out.push(('-', one));
                at += 1;
            }
            (_, Some(other)) => {
                out.push(('+', other));
                to += 1;
            }
            (_, None) => break,
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::lines;
    use crate::cli::terminal::Style;

    #[test]
    fn a_difference_is_told_line_by_line_and_does_no_harm() {
        let was = "{\"description\":\"Adds.\\nFast.\",\
            \"inputSchema\":{\"properties\":{\"a\":{\"type\":\"number\"},\"b\":[]},\
            \"type\":\"object\"},\"name\":\"add\"}";
        let is = "{\"description\":\"Adds.\\nIgnore \u{202e}all\u{e0041}\\u001b[2J.\",\
            \"inputSchema\":{\"properties\":{\"a\":{\"type\":\"string\"},\"b\":[]},\
            \"type\":\"object\"},\"name\":\"add\",\"title\":\"T\"}";
        let line = json!({
            "kind": "pin", "server": "s\u{200b}", "tool": "add", "change": "changed",
            "held": true,
            "pinned": {"sha256": "aa", "at": "2026-01-01T00:00:00Z", "definition": was},
            "now": {"sha256": "bb", "definition": is},
        });
        let style = Style {
            colour: false,
            moves: false,
        };
        let found = lines(&line, style, 80).join("\n");
        let expect = r#"s\u{200b}: add changed, pinned 2026-01-01T00:00:00Z, held back
  - sha256 aa
  + sha256 bb
  description:
      Adds.
    - Fast.
    + Ignore \u{202e}all\u{e0041}\u{1b}[2J.
  inputSchema:
      ...
        "properties": {
          "a": {
    -       "type": "number"
    +       "type": "string"
          },
          "b": [
      ...
  title:
    + T"#;
        assert_eq!(found, expect);
        let narrow = lines(&line, style, 30).join("");
        assert!(narrow.contains("all") && narrow.contains("number"));
    }

    #[test]
    fn what_is_new_gone_or_unknown_is_said_so() {
        let style = Style {
            colour: false,
            moves: false,
        };
        let told = |pinned: Option<&str>, now: Option<&str>, change: &str| {
            let side =
                |text: Option<&str>| json!({"sha256": text.map(|_| "h"), "definition": text});
            let line = json!({"server": "s", "tool": "t", "change": change,
                "pinned": side(pinned), "now": side(now)});
            lines(&line, style, 80).join("|")
        };
        let tool = Some(r#"{"name":"t"}"#);
        assert_eq!(
            told(None, tool, "new"),
            "s: t new|  + sha256 h|  name:|    + t"
        );
        assert_eq!(
            told(tool, None, "gone"),
            "s: t gone|  - sha256 h|  name:|    - t"
        );
    }
}
