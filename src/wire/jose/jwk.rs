//! Public keys: JSON Web Keys (RFC 7517, 8037) and sets of them.

use std::borrow::Cow;

use ring::digest::{SHA256, digest};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};

use crate::base::limits;
use crate::wire::base64;
use crate::wire::jose::Algorithm;
use crate::wire::jose::jws::{Jws, RULES};
use crate::wire::json::{elements, quoted};
use crate::wire::members::Members;

/// A key that says whether a signature is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    pub kid: Option<String>,
    pub algorithm: Algorithm,
    material: Material,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    /// As ring takes it: 32 bytes, or an uncompressed point.
    Curve(Vec<u8>),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

impl PublicKey {
    /// Reads one key; `None` when it is none that we can use to verify.
    pub fn from_jwk(text: &str) -> Option<PublicKey> {
        let jwk = Members::parse(text, 0, RULES).ok()?;
        let bytes = |name: &str| base64::decode_url(jwk.string(name)?.as_bytes());
        let curve = jwk.string("crv").unwrap_or_default();
        let (algorithm, material) = match (&*jwk.string("kty")?, &*curve) {
            ("OKP", "Ed25519") => (Algorithm::EdDsa, Material::Curve(sized(bytes("x")?)?)),
            ("EC", "P-256") => {
                let (x, y) = (sized(bytes("x")?)?, sized(bytes("y")?)?);
                (Algorithm::Es256, Material::Curve([vec![4], x, y].concat()))
            }
            ("RSA", _) => {
                let (n, e) = (trimmed(bytes("n")?), trimmed(bytes("e")?));
                (Algorithm::Rs256, Material::Rsa { n, e })
            }
            _ => return None,
        };
        let says = |name: &str, right: &str| match jwk.get(name) {
            Some(_) => jwk.string(name).is_some_and(|word| word == right),
            None => true,
        };
        if !says("use", "sig") || !says("alg", algorithm.as_str()) {
            return None;
        }
        let operations = jwk.get("key_ops");
        if operations.is_some_and(|list| !list.contains("\"verify\"") && !list.contains("\"sign\""))
        {
            return None;
        }
        Some(PublicKey {
            kid: jwk.string("kid").map(Cow::into_owned),
            algorithm,
            material,
        })
    }

    /// From the bytes that ring gives of a pair of keys of this algorithm; the name is that of
    /// its thumbprint.
    pub(super) fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> PublicKey {
        let mut key = PublicKey {
            kid: None,
            algorithm,
            material: Material::Curve(bytes.to_vec()),
        };
        let thumbprint = digest(&SHA256, key.members().as_bytes());
        key.kid = Some(base64::encode_url(thumbprint.as_ref()));
        key
    }

    /// Whether the token was signed with the other half of this key, by its one algorithm.
    pub fn verifies(&self, token: &Jws<'_>) -> bool {
        if self.algorithm != token.algorithm {
            return false;
        }
        let (signed, signature) = (token.signed(), token.signature());
        let curve = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(signed, signature)
        };
        let verified = match (&self.material, self.algorithm) {
            (Material::Rsa { n, e }, _) => RsaPublicKeyComponents { n, e }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                signed,
                signature,
            ),
            (Material::Curve(key), Algorithm::EdDsa) => curve(&ED25519, key),
            (Material::Curve(key), _) => curve(&ECDSA_P256_SHA256_FIXED, key),
        };
        verified.is_ok()
    }

    /// As others may see it.
    pub fn to_jwk(&self) -> String {
        let members = self.members();
        let kid = quoted(self.kid.as_deref().unwrap_or_default());
        let algorithm = self.algorithm.as_str();
        let rest = members.strip_prefix('{').unwrap_or_default();
        format!("{{\"kid\":{kid},\"alg\":\"{algorithm}\",\"use\":\"sig\",{rest}")
    }

    /// What RFC 7638 makes a thumbprint of.
    fn members(&self) -> String {
        let text = |bytes: &[u8]| base64::encode_url(bytes);
        match (&self.material, self.algorithm) {
            (Material::Rsa { n, e }, _) => {
                format!(
                    "{{\"e\":\"{}\",\"kty\":\"RSA\",\"n\":\"{}\"}}",
                    text(e),
                    text(n)
                )
            }
            (Material::Curve(key), Algorithm::EdDsa) => {
                let x = text(key);
                format!("{{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"{x}\"}}")
            }
            (Material::Curve(key), _) => {
                let (x, y) = key.get(1..).unwrap_or_default().split_at(32);
                let (x, y) = (text(x), text(y));
                format!("{{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"{x}\",\"y\":\"{y}\"}}")
            }
        }
    }
}

/// The keys of a set that can be used; `None` when it is no set at all.
pub fn read_set(text: &str) -> Option<Vec<PublicKey>> {
    let set = Members::parse(text, 0, RULES).ok()?;
    let keys = elements(set.get("keys")?, RULES)?;
    let keys = keys.into_iter().take(limits::JWKS_KEYS);
    Some(keys.filter_map(PublicKey::from_jwk).collect())
}

/// A set as it is published.
pub fn write_set<'k>(keys: impl Iterator<Item = &'k PublicKey>) -> String {
    let keys: Vec<String> = keys.map(PublicKey::to_jwk).collect();
    format!("{{\"keys\":[{}]}}", keys.join(","))
}

fn sized(bytes: Vec<u8>) -> Option<Vec<u8>> {
    (bytes.len() == 32).then_some(bytes)
}

/// Some issuers write a sign in front of a number that never has one.
fn trimmed(bytes: Vec<u8>) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes[zeros..].to_vec()
}
