//! Which servers a view shows: boolean expressions over their tags.
//!
//! `or`: `,` `||` `or`; `and`: `+` `&&` `and`; `not`: `!` `not` and a leading `-`; parentheses.
//! `not` binds tighter than `and`, `and` tighter than `or`. Values without an owner: any thread
//! may parse and evaluate. Deliberately absent: presets and URL decoding; the caller has decoded.

use std::fmt;

use crate::base::limits;

/// An expression in its normal form: `And` and `Or` have at least two members and never hold
/// one of their own kind; tags are lower-case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TagExpression {
    Tag(String),
    Not(Box<TagExpression>),
    And(Vec<TagExpression>),
    Or(Vec<TagExpression>),
}

/// Why a text is not an expression, and at which character (counted from 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    pub position: usize,
    pub problem: String,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "parse the tag filter at character {}: {}",
            self.position, self.problem
        )
    }
}

impl std::error::Error for FilterError {}

impl TagExpression {
    pub fn parse(text: &str) -> Result<TagExpression, FilterError> {
        check_size(text)?;
        let mut parser = Parser {
            tokens: tokenize(text)?,
            next: 0,
            depth: 0,
            tags: 0,
        };
        let expression = parser.or()?;
        let (position, token) = parser.peek();
        match token {
            Token::End => Ok(expression),
            Token::Close => Err(error(position, "this \")\" closes nothing; remove it")),
            _ => Err(error(
                position,
                "an operator is missing here; write , for or, + for and (%2B in a URL)",
            )),
        }
    }

    /// The `tags=a,b` form: any of the listed tags. Unlike in an expression a tag may hold any
    /// printable character here, since servers may be tagged so.
    pub fn any_of_list(text: &str) -> Result<TagExpression, FilterError> {
        check_size(text)?;
        let mut tags: Vec<TagExpression> = Vec::new();
        let mut position = 1;
        for item in text.split(',') {
            let tag = item.trim();
            if tag.chars().any(char::is_control) {
                return Err(error(
                    position,
                    "a tag holds a control character; remove it",
                ));
            }
            if !tag.is_empty() {
                check_tag(tag, tags.len(), position)?;
                tags.push(TagExpression::Tag(tag.to_lowercase()));
            }
            position += item.chars().count() + 1;
        }
        if tags.is_empty() {
            return Err(error(
                1,
                "no tag is given; name at least one, such as tags=web,db",
            ));
        }
        Ok(joined(tags, TagExpression::Or))
    }

    /// Whether a server with these tags is shown; upper and lower case are the same.
    pub fn matches(&self, tags: &[String]) -> bool {
        match self {
            TagExpression::Tag(wanted) => tags.iter().any(|tag| same_tag(tag, wanted)),
            TagExpression::Not(inner) => !inner.matches(tags),
            TagExpression::And(parts) => parts.iter().all(|part| part.matches(tags)),
            TagExpression::Or(parts) => parts.iter().any(|part| part.matches(tags)),
        }
    }
}

fn same_tag(tag: &str, lower: &str) -> bool {
    tag.eq_ignore_ascii_case(lower) || (!tag.is_ascii() && tag.to_lowercase() == lower)
}

/// With as few parentheses as needed; parsing it again gives the same expression.
impl fmt::Display for TagExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TagExpression::Tag(tag) => f.write_str(tag),
            TagExpression::Not(inner) => {
                f.write_str("!")?;
                write_part(f, inner, matches!(**inner, Self::And(_) | Self::Or(_)))
            }
            TagExpression::And(parts) => write_joined(f, parts, " and "),
            TagExpression::Or(parts) => write_joined(f, parts, " or "),
        }
    }
}

fn write_joined(
    f: &mut fmt::Formatter<'_>,
    parts: &[TagExpression],
    operator: &str,
) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(operator)?;
        }
        let inside_and = operator == " and ";
        write_part(f, part, inside_and && matches!(part, TagExpression::Or(_)))?;
    }
    Ok(())
}

fn write_part(f: &mut fmt::Formatter<'_>, part: &TagExpression, enclose: bool) -> fmt::Result {
    if enclose {
        write!(f, "({part})")
    } else {
        write!(f, "{part}")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Tag(String),
    Or,
    And,
    Not,
    Open,
    Close,
    End,
}

fn tokenize(text: &str) -> Result<Vec<(usize, Token)>, FilterError> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&first) = chars.get(at) {
        let doubled = chars.get(at + 1) == Some(&first);
        let (length, token) = match first {
            c if c.is_whitespace() => {
                at += 1;
                continue;
            }
            ',' => (1, Token::Or),
            '|' if doubled => (2, Token::Or),
            '+' => (1, Token::And),
            '&' if doubled => (2, Token::And),
            // Only in front: inside a tag it is a character like any other.
            '!' | '-' => (1, Token::Not),
            '(' => (1, Token::Open),
            ')' => (1, Token::Close),
            '|' | '&' => {
                let problem = format!("a single {first} means nothing; write {first}{first}");
                return Err(error(at + 1, &problem));
            }
            c if in_tag(c) => {
                let length = chars[at..].iter().take_while(|&&c| in_tag(c)).count();
                (length, word(chars[at..at + length].iter().collect()))
            }
            c => {
                let problem = format!(
                    "{c:?} cannot be in a tag; use letters, digits, \"_\", \".\" and \"-\""
                );
                return Err(error(at + 1, &problem));
            }
        };
        tokens.push((at + 1, token));
        at += length;
    }
    tokens.push((at + 1, Token::End));
    Ok(tokens)
}

fn in_tag(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

fn word(text: String) -> Token {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "or" => Token::Or,
        "and" => Token::And,
        "not" => Token::Not,
        _ => Token::Tag(lower),
    }
}

struct Parser {
    /// Each with the position of its first character; the last one is `End`.
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
    tags: usize,
}

impl Parser {
    fn peek(&self) -> (usize, Token) {
        // `End` is never taken, so there is always a last token to fall back to.
        self.tokens
            .get(self.next)
            .cloned()
            .unwrap_or((1, Token::End))
    }

    fn take(&mut self, wanted: &Token) -> bool {
        let found = self.peek().1 == *wanted;
        self.next += usize::from(found);
        found
    }

    fn or(&mut self) -> Result<TagExpression, FilterError> {
        let mut parts = vec![self.and()?];
        while self.take(&Token::Or) {
            parts.push(self.and()?);
        }
        Ok(joined(parts, TagExpression::Or))
    }

    fn and(&mut self) -> Result<TagExpression, FilterError> {
        let mut parts = vec![self.unary()?];
        while self.take(&Token::And) {
            parts.push(self.unary()?);
        }
        Ok(joined(parts, TagExpression::And))
    }

    fn unary(&mut self) -> Result<TagExpression, FilterError> {
        let (position, token) = self.peek();
        match token {
            Token::Tag(tag) => {
                check_tag(&tag, self.tags, position)?;
                self.tags += 1;
                self.next += 1;
                Ok(TagExpression::Tag(tag))
            }
            Token::Not => {
                self.next += 1;
                let inner = self.nested(position, Parser::unary)?;
                Ok(TagExpression::Not(Box::new(inner)))
            }
            Token::Open => {
                self.next += 1;
                let inner = self.nested(position, Parser::or)?;
                if self.take(&Token::Close) {
                    return Ok(inner);
                }
                let problem = format!("the \"(\" at character {position} is not closed");
                Err(error(self.peek().0, &problem))
            }
            Token::End => Err(error(position, "a tag is missing at the end")),
            Token::Or | Token::And | Token::Close => Err(error(position, "a tag is missing here")),
        }
    }

    fn nested(
        &mut self,
        position: usize,
        rule: fn(&mut Parser) -> Result<TagExpression, FilterError>,
    ) -> Result<TagExpression, FilterError> {
        if self.depth == limits::FILTER_DEPTH {
            let problem = format!("nested deeper than {}; simplify", limits::FILTER_DEPTH);
            return Err(error(position, &problem));
        }
        self.depth += 1;
        let inner = rule(self);
        self.depth -= 1;
        inner
    }
}

/// Several parts under one operator, with parts of the same kind opened up; one part as it is.
fn joined(
    mut parts: Vec<TagExpression>,
    operator: fn(Vec<TagExpression>) -> TagExpression,
) -> TagExpression {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let is_or = matches!(operator(Vec::new()), TagExpression::Or(_));
    let mut flat = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            TagExpression::Or(inner) if is_or => flat.extend(inner),
            TagExpression::And(inner) if !is_or => flat.extend(inner),
            other => flat.push(other),
        }
    }
    operator(flat)
}

fn check_size(text: &str) -> Result<(), FilterError> {
    if text.len() <= limits::FILTER_BYTES {
        return Ok(());
    }
    let problem = format!(
        "{} bytes, the limit is {}",
        text.len(),
        limits::FILTER_BYTES
    );
    Err(error(1, &problem))
}

fn check_tag(tag: &str, tags_before: usize, position: usize) -> Result<(), FilterError> {
    if tags_before >= limits::FILTER_TAGS {
        let problem = format!("more than {} tags; name fewer", limits::FILTER_TAGS);
        return Err(error(position, &problem));
    }
    if tag.chars().count() > limits::TAG_CHARS {
        let problem = format!("a tag longer than {} characters", limits::TAG_CHARS);
        return Err(error(position, &problem));
    }
    Ok(())
}

fn error(position: usize, problem: &str) -> FilterError {
    FilterError {
        position,
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
#[path = "filter_properties.rs"]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(list: &str) -> Vec<String> {
        list.split_whitespace().map(str::to_owned).collect()
    }

    /// Parses, prints, parses what was printed, and evaluates against a server's tags.
    #[test]
    fn expressions_mean_what_they_say() {
        let cases = [
            ("web", "web", "web", true),
            ("web", "web", "db", false),
            ("WEB", "web", "Web", true),
            ("a,b", "a or b", "b", true),
            ("a||b", "a or b", "c", false),
            ("a or b", "a or b", "a", true),
            ("a OR b", "a or b", "b", true),
            ("a+b", "a and b", "a", false),
            ("a&&b", "a and b", "a b", true),
            ("a and b", "a and b", "b a c", true),
            ("!a", "!a", "", true),
            ("-a", "!a", "a", false),
            ("not a", "!a", "b", true),
            ("not not a", "!!a", "a", true),
            ("--a", "!!a", "a", true),
            ("a,b+c", "a or b and c", "a", true),
            ("a+b,c", "a and b or c", "b", false),
            ("(a,b)+c", "(a or b) and c", "a", false),
            ("(a,b)+c", "(a or b) and c", "b c", true),
            ("!a+b", "!a and b", "b", true),
            ("!(a+b)", "!(a and b)", "a", true),
            ("a+-b", "a and !b", "a", true),
            ("a,-b", "a or !b", "b", false),
            ("(a,b),c", "a or b or c", "c", true),
            ("((a))", "a", "a", true),
            ("my-tag", "my-tag", "my-tag", true),
            ("-my-tag", "!my-tag", "my-tag", false),
            ("a-", "a-", "a-", true),
            ("v1.2_x", "v1.2_x", "v1.2_x", true),
            (
                "order,android,nothing",
                "order or android or nothing",
                "android",
                true,
            ),
            (" a  ,\tb ", "a or b", "b", true),
            ("not a and b or c", "!a and b or c", "c", true),
        ];
        for (text, printed, server, expect) in cases {
            let parsed = TagExpression::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(parsed.to_string(), printed, "{text}");
            assert_eq!(
                TagExpression::parse(printed).as_ref(),
                Ok(&parsed),
                "{text}"
            );
            assert_eq!(
                parsed.matches(&tags(server)),
                expect,
                "{text} against {server:?}"
            );
        }
    }

    #[test]
    fn errors_name_the_character() {
        let cases = [
            ("", 1, "missing at the end"),
            ("   ", 4, "missing at the end"),
            ("a,", 3, "missing at the end"),
            (",a", 1, "missing here"),
            ("a,,b", 3, "missing here"),
            ("a b", 3, "operator is missing"),
            ("a -b", 3, "operator is missing"),
            ("a(b)", 2, "operator is missing"),
            ("(a", 3, "\"(\" at character 1 is not closed"),
            ("a)", 2, "closes nothing"),
            ("()", 2, "missing here"),
            ("!", 2, "missing at the end"),
            ("-", 2, "missing at the end"),
            ("a|b", 2, "write ||"),
            ("a&b", 2, "write &&"),
            ("é,b", 1, "cannot be in a tag"),
            ("a,b/c", 4, "cannot be in a tag"),
            ("a,\u{0}", 3, "cannot be in a tag"),
        ];
        for (text, position, problem) in cases {
            let found = TagExpression::parse(text).unwrap_err();
            assert_eq!(found.position, position, "{text}: {found}");
            assert!(found.problem.contains(problem), "{text}: {found}");
        }
    }

    #[test]
    fn bounds_are_kept() {
        let depth = limits::FILTER_DEPTH;
        let nest = |n: usize| format!("{}a{}", "(".repeat(n), ")".repeat(n));
        let list = |n: usize| vec!["a"; n].join(",");
        let accepted = [
            nest(depth),
            format!("{}a", "!".repeat(depth)),
            list(limits::FILTER_TAGS),
            "x".repeat(limits::TAG_CHARS),
        ];
        let refused = [
            nest(depth + 1),
            format!("{}a", "!".repeat(depth + 1)),
            "(".repeat(limits::FILTER_BYTES),
            list(limits::FILTER_TAGS + 1),
            "x".repeat(limits::TAG_CHARS + 1),
            format!("a{}", " ".repeat(limits::FILTER_BYTES)),
        ];
        for text in accepted {
            assert!(TagExpression::parse(&text).is_ok(), "{text}");
        }
        for text in refused {
            assert!(TagExpression::parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn lists_match_any() {
        let cases = [
            ("web", "web", Ok(true)),
            ("a, B ,,c", "b", Ok(true)),
            ("a,b", "c", Ok(false)),
            ("my tag,x", "x", Ok(true)),
            ("ÄRZTE", "ärzte", Ok(true)),
            ("", "a", Err(1)),
            (" , ,", "a", Err(1)),
            ("a,b\u{7}", "a", Err(3)),
        ];
        for (text, server, expect) in cases {
            let found = TagExpression::any_of_list(text);
            let found = found
                .map(|e| e.matches(&tags(server)))
                .map_err(|e| e.position);
            assert_eq!(found, expect, "{text}");
        }
        let long = vec!["t"; limits::FILTER_TAGS + 1].join(",");
        assert!(TagExpression::any_of_list(&long).is_err());
    }

    /// Random bytes of the grammar never panic, and what parses survives a round trip.
    #[test]
    fn random_texts_round_trip() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let pieces = [
            "a", "b-c", "(", ")", ",", "+", "!", "-", " or ", " and ", " not ", "|", " ",
        ];
        let mut parsed = 0;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..1 + (state >> 40) % 9 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
            }
            if let Ok(expression) = TagExpression::parse(&text) {
                parsed += 1;
                let again = TagExpression::parse(&expression.to_string());
                assert_eq!(again, Ok(expression), "{text}");
            }
        }
        assert!(parsed > 100, "{parsed}");
    }
}
