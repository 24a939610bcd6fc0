//! Compact JWS (RFC 7515 section 3.1): `header.payload.signature`. Parsed whole before anything
//! of it is believed.

use crate::wire::base64;
use crate::wire::jose::Algorithm;
use crate::wire::json::Rules;
use crate::wire::members::Members;

/// Headers and claims are flat, or nearly.
pub const RULES: Rules = Rules {
    depth: 16,
    lone_surrogates: false,
};

/// A token that was read; nothing says yet that its signature is right.
pub struct Jws<'a> {
    pub algorithm: Algorithm,
    pub kid: Option<String>,
    /// In lower case, without `application/`.
    pub kind: String,
    /// There is more in the header than `alg`, `typ` and `kid`.
    pub has_more: bool,
    /// One JSON object.
    pub claims: String,
    signed: &'a [u8],
    signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// `None`: no token that could ever be right.
    pub fn parse(token: &'a str) -> Option<Jws<'a>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header = text_of(header)?;
        let header = Members::parse(&header, 0, RULES).ok()?;
        // Extensions that must be understood (`crit`, and `b64` by it) are none of ours.
        if header.get("crit").is_some() || header.get("b64").is_some() {
            return None;
        }
        let kind = header
            .string("typ")
            .unwrap_or_default()
            .to_ascii_lowercase();
        let kid = match header.get("kid") {
            Some(_) => Some(header.string("kid")?.into_owned()),
            None => None,
        };
        let mut names = header.iter().map(|(name, _)| name);
        let has_more = names.any(|name| !["alg", "typ", "kid"].contains(&name));
        Some(Jws {
            algorithm: Algorithm::parse(&header.string("alg")?)?,
            kid,
            kind: kind.trim_start_matches("application/").to_owned(),
            has_more,
            claims: text_of(claims)?,
            signed: signed.as_bytes(),
            signature: base64::decode_url(signature.as_bytes())?,
        })
    }

    pub(super) fn signed(&self) -> &[u8] {
        self.signed
    }

    pub(super) fn signature(&self) -> &[u8] {
        &self.signature
    }
}

fn text_of(part: &str) -> Option<String> {
    String::from_utf8(base64::decode_url(part.as_bytes())?).ok()
}
