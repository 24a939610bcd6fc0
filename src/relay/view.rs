//! What one caller may see: the URL of its session, evaluated against the current
//! configuration at each request. Views only ever narrow.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::model::catalog::Visible;
use crate::model::filter::TagExpression;
use crate::relay::world::World;

/// Which endpoint: everything, or one server under its own names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    All,
    Server(String),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    Tags(TagExpression),
    /// Looked up at each request, so that an edited preset counts at once.
    Preset(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct View {
    pub scope: Scope,
    pub filters: Vec<Filter>,
}

/// A query string that cannot be a view: HTTP 400 with this text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadQuery(pub String);

const FILTERS: [&str; 4] = ["preset", "tag-filter", "filter", "tags"];

/// Reads the filter of a query string. Other parameters are not ours and are ignored.
pub fn parse_query(query: Option<&str>, world: &World) -> Result<Option<Filter>, BadQuery> {
    let mut found: Option<(&str, &str)> = None;
    for pair in query.unwrap_or_default().split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        // A key may be written with escapes; unread it would be a filter that does not count.
        let key = percent_decode(key).unwrap_or_default();
        let Some(name) = FILTERS.into_iter().find(|name| *name == key) else {
            continue;
        };
        if let Some((other, _)) = found {
            return Err(BadQuery(format!(
                "the URL names two filters, {other:?} and {name:?}; use one of {}",
                FILTERS.join(", ")
            )));
        }
        found = Some((name, value));
    }
    let Some((name, raw)) = found else {
        return Ok(None);
    };
    // A plus is the operator "and"; in what a form encoder made it is a space. The first reading
    // that makes sense counts.
    let readings = [percent_decode(raw), percent_decode_form(raw)];
    let [Some(as_written), Some(as_form)] = readings else {
        return Err(BadQuery(format!(
            "parameter {name:?} is not percent-encoded UTF-8"
        )));
    };
    let read = |text: &str| read_filter(name, text, world);
    read(&as_written)
        .or_else(|error| read(&as_form).map_err(|_| error))
        .map(Some)
}

fn read_filter(name: &str, text: &str, world: &World) -> Result<Filter, BadQuery> {
    let parsed = match name {
        "preset" if world.fixed.presets.contains_key(text) => {
            return Ok(Filter::Preset(text.to_owned()));
        }
        "preset" => {
            return Err(BadQuery(format!(
                "preset {text:?} not found in presets.json"
            )));
        }
        "tags" => TagExpression::any_of_list(text),
        _ => TagExpression::parse(text),
    };
    parsed
        .map(Filter::Tags)
        .map_err(|error| BadQuery(format!("parameter {name:?}: {error}")))
}

/// Decodes `%XX`. `None` when the result is not UTF-8 or an escape is broken.
pub fn percent_decode(text: &str) -> Option<String> {
    decode(text, false)
}

/// The same, and `+` is a space.
fn percent_decode_form(text: &str) -> Option<String> {
    decode(text, true)
}

fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                out.push((high * 16 + low) as u8);
            }
            b'+' if plus_is_space => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

impl View {
    /// The servers that this view shows now.
    pub fn visible(&self, world: &World) -> Visible {
        let global = world.fixed.settings.filter.as_ref();
        if self.scope == Scope::All && self.filters.is_empty() && global.is_none() {
            return Visible::All;
        }
        let only = match &self.scope {
            Scope::All => None,
            Scope::Server(name) => Some(world.position_named(name)),
        };
        let shown = world
            .fixed
            .entries
            .iter()
            .enumerate()
            .map(|(position, entry)| {
                let tags = &entry.tags;
                only.is_none_or(|only| only == Some(position))
                    && global.is_none_or(|filter| filter.matches(tags))
                    && self
                        .filters
                        .iter()
                        .all(|filter| passes(filter, tags, world))
            });
        Visible::Some(shown.collect())
    }

    /// Entries are shown under the names that their server gives them.
    pub fn has_own_names(&self) -> bool {
        self.scope != Scope::All
    }

    /// This view and one more filter.
    pub fn narrowed(&self, filter: Option<Filter>) -> Cow<'_, View> {
        match filter {
            None => Cow::Borrowed(self),
            Some(filter) if self.filters.contains(&filter) => Cow::Borrowed(self),
            Some(filter) => {
                let mut view = self.clone();
                view.filters.push(filter);
                Cow::Owned(view)
            }
        }
    }

    /// Tells views apart: for cursors.
    pub fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.scope.hash(&mut hasher);
        for filter in &self.filters {
            match filter {
                Filter::Tags(tags) => tags.to_string().hash(&mut hasher),
                Filter::Preset(name) => (0u8, name).hash(&mut hasher),
            }
        }
        hasher.finish()
    }
}

fn passes(filter: &Filter, tags: &[String], world: &World) -> bool {
    match filter {
        Filter::Tags(expression) => expression.matches(tags),
        Filter::Preset(name) => {
            let preset = world.fixed.presets.get(name);
            // A preset without a query shows everything; one that is gone shows nothing.
            preset.is_some_and(|p| p.query.as_ref().is_none_or(|query| query.matches(tags)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{percent_decode, percent_decode_form};

    #[test]
    fn decodes_percent_escapes() {
        assert_eq!(percent_decode_form("a%2Cb+c").as_deref(), Some("a,b c"));
        assert_eq!(percent_decode("a+b%20c%C3%A9").as_deref(), Some("a+b cé"));
        for broken in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(percent_decode(broken), None, "{broken}");
        }
    }
}
