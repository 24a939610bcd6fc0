//! Access tokens of our own: `at+jwt` (RFC 9068), signed by the first key of the set. Pure but
//! for the keys it is given.

use serde_json::Value;

use crate::auth::keys::KeySet;
use crate::base::template;
use crate::wire::jose::jws::RULES;
use crate::wire::members::Members;

/// `typ` of an access token.
pub const KIND: &str = "at+jwt";

/// What a token says. All times are seconds of Unix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub issuer: String,
    pub subject: String,
    pub client: String,
    /// The resource that it is for.
    pub audience: String,
    /// Separated by spaces.
    pub scope: String,
    /// `sid`: what is revoked together.
    pub family: Option<String>,
    /// `jti`: random, never used twice.
    pub id: String,
    pub issued_s: u64,
    pub expires_s: u64,
}

impl Claims {
    /// A token that says this. `None` only when the system gives no random bytes.
    pub fn signed(&self, keys: &KeySet) -> Option<String> {
        let mut claims = template::filled(
            r#"{"iss":"$iss","sub":"$sub","aud":"$aud","exp":"$exp","iat":"$iat","jti":"$jti",
                "client_id":"$client","scope":"$scope"}"#,
            &[
                ("iss", self.issuer.as_str().into()),
                ("sub", self.subject.as_str().into()),
                ("aud", self.audience.as_str().into()),
                ("exp", self.expires_s.into()),
                ("iat", self.issued_s.into()),
                ("jti", self.id.as_str().into()),
                ("client", self.client.as_str().into()),
                ("scope", self.scope.as_str().into()),
            ],
        );
        if let (Some(family), Value::Object(members)) = (&self.family, &mut claims) {
            members.insert("sid".into(), family.as_str().into());
        }
        keys.sign(KIND, &claims.to_string())
    }

    /// What a verified token says; `None` when a claim is missing or of another type.
    pub fn read(text: &str) -> Option<Claims> {
        let claims = Members::parse(text, 0, RULES).ok()?;
        let text = |name: &str| Some(claims.string(name)?.into_owned());
        let number = |name: &str| claims.get(name)?.parse().ok();
        Some(Claims {
            issuer: text("iss")?,
            subject: text("sub")?,
            client: text("client_id")?,
            audience: text("aud")?,
            scope: text("scope")?,
            family: match claims.get("sid") {
                Some(_) => Some(text("sid")?),
                None => None,
            },
            id: text("jti")?,
            issued_s: number("iat")?,
            expires_s: number("exp")?,
        })
    }
}
