//! What one caller may see: the URL of its session, evaluated against the current
//! configuration at each request. Views only ever narrow.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::config::server::ServerConfig;
use crate::model::catalog::Visible;
use crate::model::filter::TagExpression;
use crate::model::principal::Principal;
use crate::model::scope::{self, Reach, Scopes};
use crate::relay::world::World;
use crate::wire::percent;

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
    /// Who looks. `None`: nobody is asked who he is, and everybody may see everything.
    pub whose: Option<Arc<Principal>>,
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
        let key = percent::decode(key).unwrap_or_default();
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
    let readings = [percent::decode(raw), percent::decode_form(raw)];
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

/// The scopes that a query string asks for by name (`tags=`), whether there are such tags or not.
/// Other filters only narrow what is seen.
pub fn wanted_scopes(query: Option<&str>) -> Scopes {
    let pairs = query.unwrap_or_default().split('&');
    let tags = pairs.filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (percent::decode(key)? == "tags").then(|| percent::decode_form(value))?
    });
    let words: Vec<String> = tags
        .flat_map(|tags| {
            tags.split(',')
                .filter_map(|tag| scope::of_tag(tag.trim()))
                .collect::<Vec<_>>()
        })
        .collect();
    Scopes::known_of(&words.join(" "))
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

impl View {
    /// The servers that this view shows now.
    pub fn visible(&self, world: &World) -> Visible {
        let global = world.fixed.settings.filter.as_ref();
        let whose = self.whose.as_deref();
        let opened = whose.map(|whose| &whose.scopes);
        let opened = opened.filter(|scopes| scopes.narrows());
        if self.scope == Scope::All
            && self.filters.is_empty()
            && global.is_none()
            && opened.is_none()
        {
            return Visible::All;
        }
        let only = match &self.scope {
            Scope::All => None,
            Scope::Server(name) => Some(world.position_named(name)),
        };
        let entries = world.fixed.entries.iter().enumerate();
        let is_shown = |position: usize, tags: &[String]| {
            only.is_none_or(|only| only == Some(position))
                && global.is_none_or(|filter| filter.matches(tags))
                && self
                    .filters
                    .iter()
                    .all(|filter| passes(filter, tags, world))
        };
        let Some(scopes) = opened else {
            let shown = entries.map(|(position, entry)| is_shown(position, &entry.tags));
            return Visible::Some(shown.collect());
        };
        let parts = entries.map(|(position, entry)| match is_shown(position, &entry.tags) {
            true => reach(scopes, entry, world),
            false => Reach::Nothing,
        });
        Visible::Parts(parts.collect())
    }

    /// Whether the server at `position` is open to whoever looks, as far as tokens decide.
    pub fn opens(&self, world: &World, position: usize) -> bool {
        let entry = &world.fixed.entries[position];
        let whose = self.whose.as_deref();
        whose.is_none_or(|whose| reach(&whose.scopes, entry, world) != Reach::Nothing)
    }

    /// The path is that of a server that is not there, or is closed to whoever asks.
    pub fn is_closed(&self, world: &World) -> bool {
        let Scope::Server(name) = &self.scope else {
            return false;
        };
        let position = world.position_named(name);
        position.is_none_or(|at| !self.opens(world, at))
    }

    /// Entries are shown under the names that their server gives them.
    pub fn has_own_names(&self) -> bool {
        self.scope != Scope::All
    }

    /// This view and one more filter.
    pub fn narrowed(self: Arc<View>, filter: Option<Filter>) -> Arc<View> {
        match filter {
            Some(filter) if !self.filters.contains(&filter) => {
                let mut view = (*self).clone();
                view.filters.push(filter);
                Arc::new(view)
            }
            _ => self,
        }
    }

    /// Tells views apart, whoever looks: for cursors.
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

/// How much of a server scopes open. One without tags has the tag that such servers are given, if
/// they are given one: nothing else opens it but `tag:*`.
fn reach(scopes: &Scopes, entry: &ServerConfig, world: &World) -> Reach {
    let untagged = world.fixed.settings.auth.untagged_tag.as_slice();
    let tags = match entry.tags.is_empty() {
        true => untagged,
        false => &entry.tags,
    };
    scopes.reach(&entry.name, tags)
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
