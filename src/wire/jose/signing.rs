//! Keys that sign: Ed25519 and P-256, from a private JWK or a PEM file of PKCS #8.

use ring::hmac;
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
    /// Made of the private half.
    mark: hmac::Key,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl SigningKey {
    /// An Ed25519 key of 32 random bytes.
    pub fn from_seed(seed: &[u8]) -> Option<SigningKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        Some(SigningKey::new(Pair::Ed25519(pair), None, seed))
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
        Some(SigningKey::new(pair, public.kid, &d))
    }

    /// What `openssl genpkey` writes for Ed25519 and P-256.
    pub fn from_pem(text: &str) -> Option<SigningKey> {
        let (_, rest) = text.split_once("-----BEGIN PRIVATE KEY-----")?;
        let (body, _) = rest.split_once("-----END PRIVATE KEY-----")?;
        let body: String = body.split_ascii_whitespace().collect();
        let der = base64::decode_standard(body.as_bytes())?;
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der) {
            let seed = private_half(&der, &[4, 34, 4, 32])?;
            return Some(SigningKey::new(Pair::Ed25519(pair), None, seed));
        }
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &der, &SystemRandom::new()).ok()?;
        let d = private_half(&der, &[2, 1, 1, 4, 32])?;
        Some(SigningKey::new(Pair::P256(pair), None, d))
    }

    fn new(pair: Pair, kid: Option<String>, private: &[u8]) -> SigningKey {
        let (algorithm, bytes) = match &pair {
            Pair::Ed25519(pair) => (Algorithm::EdDsa, pair.public_key().as_ref()),
            Pair::P256(pair) => (Algorithm::Es256, pair.public_key().as_ref()),
        };
        let mut public = PublicKey::from_bytes(algorithm, bytes);
        if kid.is_some() {
            public.kid = kid;
        }
        let mark = hmac::Key::new(hmac::HMAC_SHA256, private);
        SigningKey { pair, public, mark }
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub fn kid(&self) -> &str {
        self.public.kid.as_deref().unwrap_or_default()
    }

    /// What only those who have this key can say of `text`: nobody else can try what it may be.
    /// Behind `purpose` stands no text of another purpose.
    pub fn mark(&self, purpose: &str, text: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.mark);
        context.update(purpose.as_bytes());
        context.update(&[0]);
        context.update(text.as_bytes());
        let mut mark = [0; 32];
        mark.copy_from_slice(context.sign().as_ref());
        mark
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

/// The 32 bytes behind `before`, which stands before them in each key that was taken.
fn private_half<'d>(der: &'d [u8], before: &[u8]) -> Option<&'d [u8]> {
    let at = der.windows(before.len()).position(|part| part == before)?;
    der.get(at + before.len()..)?.get(..32)
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.kid())
    }
}
