//! From a consent to a code: 256 random bits that stand for it for a minute, once.

use crate::auth::server::Server;
use crate::auth::server::authorize::{Asked, with_query};
use crate::auth::server::client;
use crate::auth::store::{Space, StoreError};
use crate::base::limits::{CODE_LIFE, CODES};
use crate::base::sys::random_bytes;
use crate::model::scope::Scopes;
use crate::wire::base64::encode_url;
use crate::wire::form::encode;
use crate::wire::hex;

pub(super) const ISSUED: Space = Space {
    name: "codes",
    limit: CODES,
};

impl Server {
    /// The person said yes to these scopes: where to send the browser, with a code. Never more
    /// than was asked for, unless that was left to the person.
    pub fn grant(&self, asked: &Asked, subject: &str, ticked: &Scopes) -> String {
        let scopes = match asked.scopes.is_empty() {
            true => ticked.clone(),
            false => asked.scopes.and(ticked),
        };
        match self.issue_code(asked, subject, &scopes) {
            Ok(code) => {
                let fields = [
                    ("code", code.as_str()),
                    ("state", asked.state.as_str()),
                    ("iss", self.issuer.as_str()),
                ];
                with_query(&asked.redirect_uri, &fields)
            }
            Err(fault) => self.redirect(&asked.redirect_uri, &asked.state, &fault),
        }
    }

    fn issue_code(
        &self,
        asked: &Asked,
        subject: &str,
        scopes: &Scopes,
    ) -> Result<String, [&'static str; 2]> {
        let client = self.client_for_consent(&asked.client_id, true);
        let gone = ["unauthorized_client", "the client is not known any more"];
        let client = client.map_err(|_| gone)?;
        let scopes = match &client.most {
            Some(most) => scopes.and(most),
            None => scopes.clone(),
        };
        if scopes.is_empty() {
            return Err(["access_denied", "nothing was granted"]);
        }
        let full = |error: StoreError| {
            log::error!("code not issued error=\"{error}\"");
            ["temporarily_unavailable", "try again later"]
        };
        client::keep(&self.store, &client).map_err(full)?;
        let code = random_text();
        let text = encode(&[
            ("client", &asked.client_id),
            ("redirect_uri", &asked.redirect_uri),
            ("challenge", &asked.challenge),
            ("resource", &asked.resource),
            ("scope", &scopes.to_string()),
            ("subject", subject),
            // Named now, so that a replay finds what to end whoever came first.
            ("family", &random_id()),
        ]);
        let put = self.store.put(ISSUED, &code, &text, CODE_LIFE);
        put.map_err(full)?;
        Ok(code)
    }
}

/// A name of 128 bits that nobody has yet. Operators write it behind commands: it must not look
/// like a flag.
pub(super) fn random_id() -> String {
    let mut bytes = [0; 16];
    random_bytes(&mut bytes);
    hex::encode(&bytes)
}

/// 256 bits that nobody can guess.
pub(super) fn random_text() -> String {
    let mut bytes = [0; 32];
    random_bytes(&mut bytes);
    encode_url(&bytes)
}
