//! Keys that sign: Ed25519 and P-256, from a private JWK or a PEM file of PKCS #8.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

use crate::wire::base64;
use crate::wire::jose::Algorithm;
use crate::wire::jose::jwk::PublicKey;
use crate::wire::jose::jws::RULES;
use crate::wire::json::quoted;
use crate::wire::members::Members;

pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl SigningKey {
    /// An Ed25519 key of 32 random bytes.
    pub fn from_seed(seed: &[u8]) -> Option<SigningKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        Some(SigningKey::new(Pair::Ed25519(pair), None))
    }

    /// A private key with its public half; one without a name is called by its thumbprint.
    pub fn from_jwk(text: &str) -> Option<SigningKey> {
        let public = PublicKey::from_jwk(text)?;
        let jwk = Members::parse(text, 0, RULES).ok()?;
        let bytes = |name: &str| base64::decode_url(jwk.string(name)?.as_bytes());
        let (d, x) = (bytes("d")?, bytes("x")?);
        let pair = match public.algorithm {
            Algorithm::EdDsa => {
                Pair::Ed25519(Ed25519KeyPair::from_seed_and_public_key(&d, &x).ok()?)
            }
            Algorithm::Es256 => {
                let point = [&[4][..], &x, &bytes("y")?].concat();
                let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let random = SystemRandom::new();
                let pair =
                    EcdsaKeyPair::from_private_key_and_public_key(algorithm, &d, &point, &random);
                Pair::P256(pair.ok()?)
            }
            Algorithm::Rs256 => return None,
        };
        Some(SigningKey::new(pair, public.kid))
    }

    /// What `openssl genpkey` writes for Ed25519 and P-256.
    pub fn from_pem(text: &str) -> Option<SigningKey> {
        let (_, rest) = text.split_once("-----BEGIN PRIVATE KEY-----")?;
        let (body, _) = rest.split_once("-----END PRIVATE KEY-----")?;
        let body: String = body.split_ascii_whitespace().collect();
        let der = base64::decode_standard(body.as_bytes())?;
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der) {
            return Some(SigningKey::new(Pair::Ed25519(pair), None));
        }
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &der, &SystemRandom::new()).ok()?;
        Some(SigningKey::new(Pair::P256(pair), None))
    }

    fn new(pair: Pair, kid: Option<String>) -> SigningKey {
        let (algorithm, bytes) = match &pair {
            Pair::Ed25519(pair) => (Algorithm::EdDsa, pair.public_key().as_ref()),
            Pair::P256(pair) => (Algorithm::Es256, pair.public_key().as_ref()),
        };
        let mut public = PublicKey::from_bytes(algorithm, bytes);
        if kid.is_some() {
            public.kid = kid;
        }
        SigningKey { pair, public }
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub fn kid(&self) -> &str {
        self.public.kid.as_deref().unwrap_or_default()
    }

    /// A token of these claims (one JSON object) with this `typ`. `None` only when the system
    /// gives no random bytes.
    pub fn sign(&self, kind: &str, claims: &str) -> Option<String> {
        let algorithm = self.public.algorithm.as_str();
        let (kind, kid) = (quoted(kind), quoted(self.kid()));
        let header = format!("{{\"alg\":\"{algorithm}\",\"typ\":{kind},\"kid\":{kid}}}");
        let (header, claims) = (header.as_bytes(), claims.as_bytes());
        let signed = [base64::encode_url(header), base64::encode_url(claims)].join(".");
        let signature = self.sign_bytes(signed.as_bytes())?;
        Some([signed, base64::encode_url(&signature)].join("."))
    }

    /// The signature of any bytes.
    pub fn sign_bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let signature = match &self.pair {
            Pair::Ed25519(pair) => pair.sign(bytes),
            Pair::P256(pair) => pair.sign(&SystemRandom::new(), bytes).ok()?,
        };
        Some(signature.as_ref().to_vec())
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.kid())
    }
}
