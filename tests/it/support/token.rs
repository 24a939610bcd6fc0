//! Tokens as an issuer makes them: JWTs signed with a key that the test knows, and the files that
//! gateways find its public half in. Written from RFC 7515, 7517 and 9068, not from our code.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

/// Where the gateways of these tests say that they are, whatever port they have.
pub(crate) const ISSUER: &str = "http://localhost:1";

pub(crate) struct Mint {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl Mint {
    pub(crate) fn new(seed: u8) -> Mint {
        let seed = [seed; 32];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        Mint { seed, pair }
    }

    /// Writes the key where `auth.keys` may lead.
    pub(crate) fn write(&self, file: &Path) {
        let x = base64(self.pair.public_key().as_ref());
        let key = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "test",
            "use": "sig", "x": x, "d": base64(&self.seed)});
        std::fs::write(file, json!({"keys": [key]}).to_string()).unwrap();
        std::fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let text = [header, claims].map(|part| base64(part.to_string().as_bytes()));
        let text = text.join(".");
        let signature = self.pair.sign(text.as_bytes());
        format!("{text}.{}", base64(signature.as_ref()))
    }

    /// An access token of the gateway, with other claims in the place of the usual ones.
    pub(crate) fn token(&self, scope: &str, other: Value) -> String {
        let mut claims = json!({"iss": ISSUER, "sub": "ada", "aud": format!("{ISSUER}/mcp"),
            "client_id": "app", "scope": scope, "jti": format!("jti of {scope}"),
            "iat": now_s(), "exp": now_s() + 600});
        for (name, value) in other.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let header = json!({"typ": "at+jwt", "alg": "EdDSA", "kid": "test"});
        self.sign(&header, &claims)
    }
}

pub(crate) fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// Base64url without padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(word);
        for at in 0..=chunk.len() {
            let letter = LETTERS[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(char::from(letter));
        }
    }
    out
}
