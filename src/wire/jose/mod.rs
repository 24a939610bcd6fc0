//! Signed tokens (JOSE): compact JWS and JSON Web Keys, read strictly. Of the algorithms only
//! RS256, ES256 and EdDSA, each bound to its kind of key, so that no header can choose another
//! reading of a key. All arithmetic is ring's. No IO, no clock. Deliberately absent: encryption
//! (JWE), shared secrets (HS256), `none`, detached payloads, keys from a header.

pub mod jwk;
pub mod jws;
pub mod signing;

/// What a signature is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    /// By its name in a header or a key; nothing else is known, and case counts.
    pub fn parse(name: &str) -> Option<Algorithm> {
        match name {
            "RS256" => Some(Algorithm::Rs256),
            "ES256" => Some(Algorithm::Es256),
            "EdDSA" => Some(Algorithm::EdDsa),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }
}

#[cfg(test)]
mod tests;
