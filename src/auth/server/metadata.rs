//! What this server can do, for programs that look it up (RFC 8414). The same document serves
//! those that look for OpenID Connect, which there is none of.

use serde_json::Value;

use crate::auth::resource::METADATA_CACHE;
use crate::auth::server::Server;
use crate::base::template::filled;
use crate::config::auth_server::Registration;
use crate::http::Reply;

impl Server {
    /// The document; every URL in it follows from the issuer.
    pub fn metadata(&self) -> Reply {
        let at = |path: &str| Value::from(format!("{}{path}", self.issuer));
        let mut document = filled(
            r#"{
                "issuer": "$issuer",
                "authorization_endpoint": "$authorize",
                "token_endpoint": "$token",
                "revocation_endpoint": "$revoke",
                "jwks_uri": "$jwks",
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported":
                    ["none", "client_secret_basic", "client_secret_post"],
                "revocation_endpoint_auth_methods_supported":
                    ["none", "client_secret_basic", "client_secret_post"],
                "authorization_response_iss_parameter_supported": true,
                "client_id_metadata_document_supported": "$documents",
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["EdDSA"]
            }"#,
            &[
                ("issuer", self.issuer.as_str().into()),
                ("authorize", at("/authorize")),
                ("token", at("/token")),
                ("revoke", at("/revoke")),
                ("jwks", at("/.well-known/jwks.json")),
                ("documents", (!self.spec.client_metadata.is_empty()).into()),
            ],
        );
        if self.spec.registration != Registration::Off {
            document["registration_endpoint"] = at("/register");
        }
        if self.clients.iter().any(|client| client.is_machine)
            && let Some(grants) = document["grant_types_supported"].as_array_mut()
        {
            grants.push("client_credentials".into());
        }
        let baseline = self.baseline();
        if !baseline.is_empty() {
            let words = baseline.words().map(Value::from);
            document["scopes_supported"] = Value::Array(words.collect());
        }
        Reply::json(200, document.to_string())
            .with("Cache-Control", METADATA_CACHE)
            .with("Access-Control-Allow-Origin", "*")
    }
}
