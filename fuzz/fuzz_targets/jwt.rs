#![no_main]
//! Tokens and keys: what is read is what a usual parser reads, no text that we did not sign is
//! good, and of what we signed every changed character makes it bad.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use onemcp::auth::own_token::Claims;
use onemcp::wire::base64;
use onemcp::wire::jose::jwk::{PublicKey, read_set, write_set};
use onemcp::wire::jose::jws::Jws;
use onemcp::wire::jose::signing::SigningKey;
use onemcp_fuzz::{bounded, led};
use serde_json::Value;

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::from_seed(&[7; 32]).expect("a key"));

fuzz_target!(|data: &[u8]| bounded(|| {
    let (seed, data) = led(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    token(text);
    // Most mutations of the coded form are no token at all: the parts by themselves, too.
    if let Some((header, claims)) = text.split_once('\n') {
        let coded = |part: &str| base64::encode_url(part.as_bytes());
        token(&[coded(header), coded(claims), coded("signature")].join("."));
        signed(claims, seed);
    }
    keys(text);
    if let Some(claims) = Claims::read(text) {
        let value: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(value["aud"], claims.audience);
        assert_eq!(value["exp"].as_u64(), Some(claims.expires_s));
        assert_eq!(value["sub"], claims.subject);
    }
}));

fn token(text: &str) {
    let Some(token) = Jws::parse(text) else {
        return;
    };
    let parts: Vec<&str> = text.split('.').collect();
    assert_eq!(parts.len(), 3, "{text}");
    let header = base64::decode_url(parts[0].as_bytes()).expect("base64");
    let header: Value = serde_json::from_slice(&header).expect("the header is JSON");
    assert_eq!(header["alg"], token.algorithm.as_str());
    assert_eq!(header["kid"].as_str(), token.kid.as_deref());
    assert!(header.get("crit").is_none() && header.get("b64").is_none());
    let known = |name: &&str| header.get(name).is_some();
    let count = ["alg", "typ", "kid"]
        .iter()
        .filter(|name| known(name))
        .count();
    assert_eq!(
        token.has_more,
        header.as_object().expect("an object").len() > count
    );
    assert_eq!(base64::encode_url(token.claims.as_bytes()), parts[1]);
    assert!(!KEY.public().verifies(&token), "nobody signed {text}");
}

fn signed(claims: &str, seed: u8) {
    let token = KEY.sign("at+jwt", claims).expect("signed");
    let parsed = Jws::parse(&token).expect("our own");
    assert!(KEY.public().verifies(&parsed) && parsed.claims == claims);
    assert_eq!(
        (parsed.kind.as_str(), parsed.kid.as_deref()),
        ("at+jwt", Some(KEY.kid()))
    );
    let at = usize::from(seed) * 7 % token.len();
    let mut bytes = token.clone().into_bytes();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(bytes).expect("ASCII");
    let good = Jws::parse(&changed).is_some_and(|token| KEY.public().verifies(&token));
    assert!(!good, "still good with another character at {at}");
}

fn keys(text: &str) {
    let _ = SigningKey::from_pem(text);
    let _ = SigningKey::from_jwk(text);
    if let Some(key) = PublicKey::from_jwk(text) {
        let again = PublicKey::from_jwk(&key.to_jwk()).expect("what we publish we read");
        assert_eq!(again.algorithm, key.algorithm);
        assert_eq!(
            again.kid.as_deref(),
            Some(key.kid.as_deref().unwrap_or_default())
        );
    }
    if let Some(keys) = read_set(text) {
        let again = read_set(&write_set(keys.iter())).expect("a set");
        assert_eq!(again.len(), keys.len());
    }
}
