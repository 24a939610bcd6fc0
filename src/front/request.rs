//! One request of a client as far as it decides where the request goes: its parameters, found
//! but not decoded, and what it is about. The same for both eras. Values only; nothing here
//! waits, sends or keeps.

use std::borrow::Cow;

use crate::mcp::error::{INVALID_PARAMS, RpcError};
use crate::mcp::list::ListKind;
use crate::model::catalog::Visible;
use crate::relay::route::{self, Route};
use crate::relay::view::View;
use crate::relay::world::World;
use crate::wire::members::{Members, MembersError};
use crate::wire::message::{Envelope, FROM_CLIENT};

/// The parameters of one request, and its `_meta`.
#[derive(Debug)]
pub struct Params<'a> {
    members: Option<Members<'a>>,
    meta: Option<Members<'a>>,
}

impl<'a> Params<'a> {
    pub fn read(envelope: &Envelope<'a>) -> Result<Params<'a>, RpcError> {
        let Some(raw) = envelope.params else {
            return Ok(Params {
                members: None,
                meta: None,
            });
        };
        let bad = |what: &str, error: MembersError| {
            RpcError::new(INVALID_PARAMS, format!("{what}: {error}"))
        };
        let members = Members::parse(raw, 1, FROM_CLIENT).map_err(|error| bad("params", error))?;
        let meta = members.get("_meta").filter(|raw| raw.starts_with('{'));
        let meta = meta
            .map(|raw| Members::parse(raw, 2, FROM_CLIENT))
            .transpose()
            .map_err(|error| bad("_meta", error))?;
        Ok(Params {
            members: Some(members),
            meta,
        })
    }

    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.members.as_ref()?.get(key)
    }

    pub fn string(&self, key: &str) -> Option<Cow<'a, str>> {
        self.members.as_ref()?.string(key)
    }

    pub fn members(&self) -> Option<&Members<'a>> {
        self.members.as_ref()
    }

    pub fn meta(&self) -> Option<&Members<'a>> {
        self.meta.as_ref()
    }

    /// The raw progress token, if there is one that can be one.
    pub fn progress_token(&self) -> Option<&'a str> {
        let token = self.meta()?.get("progressToken");
        token.filter(|raw| {
            raw.starts_with('"') || raw.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        })
    }
}

/// What a request is about.
pub struct Named<'a> {
    pub kind: ListKind,
    /// The name or URI, decoded, and its literal in the request.
    pub value: Cow<'a, str>,
    pub raw: &'a str,
}

impl<'a> Named<'a> {
    pub fn key(params: &Params<'a>, key: &str, kind: ListKind) -> Result<Named<'a>, RpcError> {
        let missing = || RpcError::new(INVALID_PARAMS, format!("params: {key:?} must be a string"));
        let value = params.string(key).ok_or_else(missing)?;
        let raw = params.get(key).ok_or_else(missing)?;
        Ok(Named { kind, value, raw })
    }

    /// `ref` of completion/complete: a prompt's name or a template's URI.
    pub fn reference(params: &Params<'a>) -> Result<Named<'a>, RpcError> {
        let bad = |what: &str| RpcError::new(INVALID_PARAMS, format!("params: {what}"));
        let raw = params.get("ref").ok_or_else(|| bad("\"ref\" is missing"))?;
        let members = Members::parse(raw, 2, FROM_CLIENT)
            .map_err(|error| bad(&format!("\"ref\": {error}")))?;
        let reference = Params {
            members: Some(members),
            meta: None,
        };
        match reference.string("type").as_deref() {
            Some("ref/prompt") => Named::key(&reference, "name", ListKind::Prompts),
            Some("ref/resource") => Named::key(&reference, "uri", ListKind::Templates),
            _ => Err(bad("\"ref.type\" must be ref/prompt or ref/resource")),
        }
    }

    pub fn route(&self, world: &World, view: &View, visible: &Visible) -> Route {
        match self.kind {
            ListKind::Tools | ListKind::Prompts => {
                route::named(world, view, visible, self.kind, &self.value)
            }
            ListKind::Resources => route::resource(world, view, visible, &self.value),
            ListKind::Templates => route::template(world, view, visible, &self.value),
        }
    }
}
