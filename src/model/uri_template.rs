//! Whether a URI can come from an RFC 6570 template: used only to choose which server serves a
//! resource.
//!
//! Pure. The template becomes a small automaton that walks the URI once with all its states
//! side by side, so the cost is at most the product of the two lengths, whatever they hold.
//! Deliberately absent: extracting values (the server does that), prefix lengths (`{x:3}` counts
//! as `{x}`) and percent-decoding: both sides are compared as they are written.

use crate::base::limits;

/// True if the server that offers the template may serve the URI. A template that is not well
/// formed fits nothing.
///
/// `{x}` takes one or more characters other than `/ ? #`, `{+x}` one or more of any kind; the
/// other operators may be left out. Query parameters may come in any order.
pub fn matches(template: &str, uri: &str) -> bool {
    fits(template, uri, Plain::Segment)
}

/// As `matches`, but `{x}` takes any characters: for templates such as `file:///{path}` of
/// servers that mean whole paths. To be asked only when no template fits strictly.
pub fn matches_loosely(template: &str, uri: &str) -> bool {
    fits(template, uri, Plain::Anything)
}

/// What `{x}` takes.
#[derive(Clone, Copy)]
enum Plain {
    Segment,
    Anything,
}

fn fits(template: &str, uri: &str, plain: Plain) -> bool {
    if template.len() > limits::URI_TEMPLATE_BYTES || uri.len() > limits::URI_BYTES {
        return false;
    }
    // Most templates differ right at the start, and then nothing has to be built.
    let literal = template.split('{').next().unwrap_or_default();
    if !uri.starts_with(literal) {
        return false;
    }
    match Automaton::build(template, plain) {
        Some(automaton) => automaton.accepts(uri.as_bytes()),
        None => false,
    }
}

/// Every step leads to the next state unless it says otherwise.
#[derive(Clone, Copy)]
enum Step {
    Byte(u8),
    Any(Class),
    /// Without reading: to the next state and to this one.
    Or(usize),
    /// Without reading: to this one alone.
    Jump(usize),
    Accept,
}

#[derive(Clone, Copy)]
enum Class {
    /// Not `/`, `?` or `#`.
    Segment,
    /// Not `;`, `/`, `?` or `#`.
    Parameter,
    /// Not `&` or `#`.
    QueryValue,
    /// Not `=`, `&` or `#`.
    QueryName,
    Everything,
}

impl Class {
    fn holds(self, byte: u8) -> bool {
        match self {
            Class::Segment => !matches!(byte, b'/' | b'?' | b'#'),
            Class::Parameter => !matches!(byte, b';' | b'/' | b'?' | b'#'),
            Class::QueryValue => !matches!(byte, b'&' | b'#'),
            Class::QueryName => !matches!(byte, b'=' | b'&' | b'#'),
            Class::Everything => true,
        }
    }
}

struct Automaton {
    steps: Vec<Step>,
}

impl Automaton {
    fn build(template: &str, plain: Plain) -> Option<Automaton> {
        let mut automaton = Automaton {
            steps: Vec::with_capacity(template.len() + 8),
        };
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            automaton.literal(&rest[..at]);
            let (expression, after) = rest[at..].strip_prefix('{')?.split_once('}')?;
            automaton.expression(expression, plain)?;
            rest = after;
        }
        automaton.literal(rest);
        automaton.steps.push(Step::Accept);
        Some(automaton)
    }

    fn literal(&mut self, text: &str) {
        self.steps.extend(text.bytes().map(Step::Byte));
    }

    /// What stands between the braces.
    fn expression(&mut self, text: &str, plain: Plain) -> Option<()> {
        let operator = text.chars().next().filter(|c| "+#./;?&".contains(*c));
        let variables = variables(&text[operator.map_or(0, char::len_utf8)..])?;
        match operator {
            None => self.some(match plain {
                Plain::Segment => Class::Segment,
                Plain::Anything => Class::Everything,
            }),
            Some('+') => self.some(Class::Everything),
            Some('#') => self.maybe(|a| {
                a.literal("#");
                a.many(Class::Everything);
            }),
            Some('.') => self.maybe(|a| {
                a.literal(".");
                a.some(Class::Segment);
            }),
            Some('/') if variables.iter().any(|variable| variable.explode) => {
                self.repeated(Automaton::path_segment);
            }
            Some('/') => {
                for _ in &variables {
                    self.maybe(Automaton::path_segment);
                }
            }
            Some(';') => self.repeated(|a| a.pair(";", &variables, Class::Parameter)),
            Some('?') => self.maybe(|a| {
                a.pair("?", &variables, Class::QueryValue);
                a.repeated(|a| a.pair("&", &variables, Class::QueryValue));
            }),
            _ => self.repeated(|a| a.pair("&", &variables, Class::QueryValue)),
        }
        Some(())
    }

    fn path_segment(&mut self) {
        self.literal("/");
        self.many(Class::Segment);
    }

    /// A separator, then one of the names, then perhaps `=` and a value.
    fn pair(&mut self, separator: &str, variables: &[Variable<'_>], value: Class) {
        self.literal(separator);
        let mut ends = Vec::with_capacity(variables.len());
        for (index, variable) in variables.iter().enumerate() {
            let branch = self.steps.len();
            if index + 1 < variables.len() {
                self.steps.push(Step::Or(branch));
            }
            match variable.explode {
                true => self.some(Class::QueryName),
                false => self.literal(variable.name),
            }
            ends.push(self.steps.len());
            self.steps.push(Step::Accept);
            if index + 1 < variables.len() {
                self.steps[branch] = Step::Or(self.steps.len());
            }
        }
        let end = self.steps.len();
        for jump in ends {
            self.steps[jump] = Step::Jump(end);
        }
        self.maybe(|a| {
            a.literal("=");
            a.many(value);
        });
    }

    fn some(&mut self, class: Class) {
        self.steps.push(Step::Any(class));
        self.many(class);
    }

    fn many(&mut self, class: Class) {
        self.repeated(|a| a.steps.push(Step::Any(class)));
    }

    fn maybe(&mut self, inner: impl FnOnce(&mut Automaton)) {
        let branch = self.steps.len();
        self.steps.push(Step::Or(branch));
        inner(self);
        self.steps[branch] = Step::Or(self.steps.len());
    }

    fn repeated(&mut self, inner: impl FnOnce(&mut Automaton)) {
        let branch = self.steps.len();
        self.maybe(|a| {
            inner(a);
            a.steps.push(Step::Jump(branch));
        });
    }

    fn accepts(&self, uri: &[u8]) -> bool {
        let mut states = States::new(self.steps.len());
        let mut next = States::new(self.steps.len());
        self.enter(0, &mut states);
        for &byte in uri {
            next.clear();
            for &state in &states.list {
                let goes_on = match self.steps[state] {
                    Step::Byte(wanted) => wanted == byte,
                    Step::Any(class) => class.holds(byte),
                    Step::Or(_) | Step::Jump(_) | Step::Accept => false,
                };
                if goes_on {
                    self.enter(state + 1, &mut next);
                }
            }
            if next.list.is_empty() {
                return false;
            }
            std::mem::swap(&mut states, &mut next);
        }
        states
            .list
            .iter()
            .any(|&state| matches!(self.steps[state], Step::Accept))
    }

    /// Adds a state and all that can be reached from it without reading.
    fn enter(&self, state: usize, states: &mut States) {
        states.open.push(state);
        while let Some(state) = states.open.pop() {
            if !states.add(state) {
                continue;
            }
            match self.steps[state] {
                Step::Or(other) => states.open.extend([other, state + 1]),
                Step::Jump(other) => states.open.push(other),
                Step::Byte(_) | Step::Any(_) | Step::Accept => {}
            }
        }
    }
}

/// A set of states that is cleared in one step.
struct States {
    list: Vec<usize>,
    /// In which round a state was added last.
    added: Vec<usize>,
    round: usize,
    /// Still to be added; empty between two calls.
    open: Vec<usize>,
}

impl States {
    fn new(count: usize) -> States {
        States {
            list: Vec::new(),
            added: vec![0; count],
            round: 1,
            open: Vec::new(),
        }
    }

    fn clear(&mut self) {
        self.list.clear();
        self.round += 1;
    }

    fn add(&mut self, state: usize) -> bool {
        let fresh = self.added[state] != self.round;
        if fresh {
            self.added[state] = self.round;
            self.list.push(state);
        }
        fresh
    }
}

struct Variable<'a> {
    name: &'a str,
    explode: bool,
}

/// `a,b*,c:3`; nothing if one of them is no name.
fn variables(text: &str) -> Option<Vec<Variable<'_>>> {
    text.split(',')
        .map(|spec| {
            let explode = spec.ends_with('*');
            let name = spec
                .trim_end_matches('*')
                .split(':')
                .next()
                .unwrap_or_default();
            // Wider than the RFC, as servers are: `{user-id}` is common.
            let good = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '%' | '-' | '$');
            let named = !name.is_empty() && name.chars().all(good);
            named.then_some(Variable { name, explode })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_against_templates() {
        let cases = [
            ("file:///{path}", "file:///a.txt", true),
            ("file:///{path}", "file:///", false),
            ("file:///{path}", "file:///a/b", false),
            ("test://template/{id}/data", "test://template/7/data", true),
            ("test://template/{id}/data", "test://template//data", false),
            ("test://template/{id}/data", "test://template/7/date", false),
            (
                "test://template/{id}/data",
                "test://template/7/8/data",
                false,
            ),
            (
                "test://template/{id}/data",
                "test://template/7/data/",
                false,
            ),
            ("plain://x", "plain://x", true),
            ("plain://x", "plain://xy", false),
            ("{+path}", "anything:///at/all?x#y", true),
            ("{+path}", "", false),
            ("file://{+path}", "file:///a/b/c", true),
            ("{a}{b}", "xy", true),
            ("{a}{b}", "x", false),
            ("{a,b}", "1,2", true),
            ("m://{user-id}", "m://a%20b", true),
            ("m://{x:3}/{y*}", "m://abcd/1,2", true),
            ("note://{title}", "note://Einkauf f\u{fc}r morgen", true),
            ("s://x{?q,lang}", "s://x", true),
            ("s://x{?q,lang}", "s://x?q=a/b", true),
            ("s://x{?q,lang}", "s://x?lang=de&q=a", true),
            ("s://x{?q,lang}", "s://x?q", true),
            ("s://x{?q,lang}", "s://x?", false),
            ("s://x{?q,lang}", "s://x?r=1", false),
            ("s://x{?q,lang}", "s://x?q=1&r=2", false),
            ("s://x{?q,lang}", "s://x?q=1#f", false),
            ("s://x{?q*}", "s://x?any=1&other=2", true),
            ("s://x?a=1{&b}", "s://x?a=1", true),
            ("s://x?a=1{&b}", "s://x?a=1&b=2", true),
            ("s://x?a=1{&b}", "s://x?a=1&c=2", false),
            ("s://x{/a,b}", "s://x", true),
            ("s://x{/a,b}", "s://x/1/2", true),
            ("s://x{/a,b}", "s://x/1/2/3", false),
            ("s://x{/a*}", "s://x/1/2/3", true),
            ("s://x{#frag}", "s://x#a/b?c", true),
            ("s://x{#frag}", "s://x", true),
            ("s://x{#frag}", "s://xa", false),
            ("s://x{.ext}", "s://x.tar.gz", true),
            ("s://x{.ext}", "s://x/gz", false),
            ("s://x{;a,b}/y", "s://x;a=1;b/y", true),
            ("s://x{;a,b}/y", "s://x;c=1/y", false),
            ("s://{unclosed", "s://{unclosed", false),
            ("s://a}b", "s://a}b", false),
            ("s://{}", "s://x", false),
            ("s://{a{b}}", "s://x}", false),
            ("s://{!a}", "s://x", false),
            ("s://{a b}", "s://x", false),
            ("", "", true),
            ("", "x", false),
        ];
        for (template, uri, expect) in cases {
            assert_eq!(matches(template, uri), expect, "{template} {uri}");
        }
    }

    #[test]
    fn loosely_a_plain_variable_takes_slashes() {
        let cases = [
            ("file:///{path}", "file:///a/b.txt", true),
            ("file:///{path}", "http://a", false),
            ("file:///{path}", "file:///", false),
            ("s://x{/a}", "s://x/1/2", false),
        ];
        for (template, uri, expect) in cases {
            assert_eq!(matches_loosely(template, uri), expect, "{template} {uri}");
        }
    }

    /// Whatever a strict match accepts, a loose one does; no bytes make it panic.
    #[test]
    fn random_pairs() {
        let mut state = 5_u64;
        let mut text = |pieces: &[&str]| {
            let mut text = String::new();
            for _ in 0..1 + (state >> 40) % 8 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
            }
            text
        };
        let mut hits = 0;
        for _ in 0..50_000 {
            let template = text(&[
                "a", "/", "{x}", "{+x}", "{?a,b}", "{/a*}", "{#f}", "{", "}", "é", "{;a}",
            ]);
            let uri = text(&["a", "/", "?a=1", "&b", "#", "é", ";a", "."]);
            let strict = matches(&template, &uri);
            hits += usize::from(strict);
            assert!(
                !strict || matches_loosely(&template, &uri),
                "{template} {uri}"
            );
        }
        assert!(hits > 500, "{hits}");
    }

    /// The cost is counted, not timed: states alive times bytes read.
    #[test]
    fn hostile_templates_stay_cheap() {
        let hostile = [
            "{a}".repeat(limits::URI_TEMPLATE_BYTES / 3),
            "{+a}".repeat(limits::URI_TEMPLATE_BYTES / 4),
            "{?a*,b*}{&c*}".repeat(limits::URI_TEMPLATE_BYTES / 13),
            format!("{{/{}a}}", "a,".repeat(1000)),
        ];
        for template in hostile {
            let automaton = Automaton::build(&template, Plain::Segment).unwrap();
            assert!(
                automaton.steps.len() <= 8 * template.len(),
                "{}",
                automaton.steps.len()
            );
            let _whatever = matches(&template, &"a".repeat(512));
        }
        let long = "a".repeat(limits::URI_BYTES + 1);
        assert!(!matches("{+x}", &long));
        assert!(!matches(&"a".repeat(limits::URI_TEMPLATE_BYTES + 1), "a"));
    }
}
