//! Tokens good and forged, each with its one answer.

use std::time::Instant;

use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents};
use serde_json::{Value, json};

use super::{Denied, Gate};
use crate::auth::api_key::{self, ApiKey, ApiKeys};
use crate::auth::issuers::Issuer;
use crate::auth::keys::KeySet;
use crate::auth::revoked::{Kind, Revoked};
use crate::auth::tokens::Tokens;
use crate::base::limits;
use crate::config::auth::{AuthSettings, issuers};
use crate::config::auth_server::{AuthServerSpec, KnownClient};
use crate::http::{Head, Parsed, no_fields};
use crate::journal::audit::Reason;
use crate::model::principal::Means;
use crate::secrets::store::testing::Folder;
use crate::wire::base64;
use crate::wire::jose::jwk::PublicKey;
use crate::wire::jose::signing::SigningKey;

const HOME: &str = "https://mcp.example";
const IDP: &str = "https://idp.example/realm";
const NOW: u64 = 1_790_000_000;
const RSA: &str = include_str!("../../fixtures/tokens/rsa.pem");

/// A gate with one key of its own, one issuer and its three keys, and one API key.
struct Rig {
    gate: Gate,
    own: SigningKey,
    /// Of the issuer.
    ed: SigningKey,
    ec: SigningKey,
    rsa: RsaKeyPair,
    api_key: String,
    old_api_key: String,
    folder: Folder,
}

fn ec_key() -> SigningKey {
    let pem = "-----BEGIN PRIVATE KEY-----\n\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg30yNHukQ5++AdQqP\n\
        3+WQm6D07nbm0IRC0p7icrJHnMuhRANCAASDeGuLVBT81z4kEpvx8VOOyJ+9ViG1\n\
        mz8qBNKXDWpeL/hrecrLKj7eH7CZkJcaAAVf0RWBbfnWAmNu6eC8Loiy\n\
        -----END PRIVATE KEY-----\n";
    SigningKey::from_pem(pem).unwrap()
}

fn rsa_key() -> RsaKeyPair {
    let body: String = RSA.lines().filter(|line| !line.contains("--")).collect();
    let der = base64::decode_standard(body.as_bytes()).unwrap();
    RsaKeyPair::from_pkcs8(&der).unwrap()
}

fn rsa_jwk(rsa: &RsaKeyPair, kid: &str) -> PublicKey {
    let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(rsa.public());
    let text = |bytes: &[u8]| base64::encode_url(bytes);
    let jwk = json!({"kty": "RSA", "kid": kid, "n": text(&n), "e": text(&e)});
    PublicKey::from_jwk(&jwk.to_string()).unwrap()
}

fn rig(name: &str, more: &str, scope_validation: bool) -> Rig {
    let folder = Folder::new(&format!("gate-{name}"));
    let seed_file = folder.path("keys.json");
    let keys = KeySet::open(Some(&seed_file), true).unwrap();
    let text = std::fs::read_to_string(&seed_file).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let own = SigningKey::from_jwk(&value["keys"][0].to_string()).unwrap();
    let revoked = Revoked::open(Some(folder.path("revoked")), None, NOW).unwrap();
    let tokens = std::sync::Arc::new(Tokens::new(HOME, keys, revoked));
    let settings = AuthSettings {
        scope_validation,
        baseline_scopes: "tag:web".into(),
        issuers: Some(format!("[{{\"issuer\": \"{IDP}\"{more}}}]")),
        concurrency: 2,
        ..AuthSettings::default()
    };
    let (ed, ec, rsa) = (
        SigningKey::from_seed(&[7; 32]).unwrap(),
        ec_key(),
        rsa_key(),
    );
    let mut specs = issuers(&settings);
    assert_eq!(specs.len(), 1);
    let issuer = Issuer::new(specs.remove(0), &[]);
    let known = vec![
        ed.public().clone(),
        ec.public().clone(),
        rsa_jwk(&rsa, "rsa-1"),
    ];
    issuer.learn(known);
    let read = crate::model::scope::Scopes::parse("tag:a read").unwrap();
    let (good, api_key) = ApiKey::new("ci", read.clone(), NOW, None);
    let (old, old_api_key) = ApiKey::new("old", read, NOW - 10, Some(NOW));
    let place = folder.path("api-keys.json");
    api_key::edit(&place, |keys| {
        keys.extend([good, old]);
        Ok(())
    })
    .unwrap();
    let api_keys = ApiKeys::open(Some(place)).unwrap();
    let robot = KnownClient {
        id: "robot".into(),
        is_machine: true,
        ..KnownClient::default()
    };
    let server = AuthServerSpec {
        enabled: true,
        clients: vec![robot],
        ..AuthServerSpec::default()
    };
    Rig {
        gate: Gate::new(tokens, api_keys, vec![issuer], &settings, &server),
        own,
        ed,
        ec,
        rsa,
        api_key,
        old_api_key,
        folder,
    }
}

fn encoded(text: &str) -> String {
    base64::encode_url(text.as_bytes())
}

impl Rig {
    fn ask_at(&self, path: &str, fields: &str) -> Result<std::sync::Arc<super::Principal>, Denied> {
        let bytes = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let mut room = no_fields();
        let Parsed::Complete(head) = Head::parse(bytes.as_bytes(), &mut room) else {
            panic!("{bytes}");
        };
        self.gate.judge(&head, Instant::now(), NOW)
    }

    fn ask(&self, token: &str) -> Result<std::sync::Arc<super::Principal>, Denied> {
        self.ask_at("/mcp", &format!("Authorization: Bearer {token}\r\n"))
    }

    fn by_ed(&self, key: &SigningKey, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let signature = key.sign_bytes(signed.as_bytes()).unwrap();
        format!("{signed}.{}", base64::encode_url(&signature))
    }

    fn by_rsa(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let mut signature = vec![0; self.rsa.public().modulus_len()];
        let random = SystemRandom::new();
        let bytes = signed.as_bytes();
        self.rsa
            .sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature)
            .unwrap();
        format!("{signed}.{}", base64::encode_url(&signature))
    }

    fn own_header(&self) -> Value {
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": self.own.kid()})
    }
}

/// `base` with members replaced, added, or (by `null`) taken away.
fn with(base: &Value, changes: &Value) -> String {
    let mut value = base.clone();
    for (name, change) in changes.as_object().unwrap() {
        match change {
            Value::Null => value.as_object_mut().unwrap().shift_remove(name),
            change => value
                .as_object_mut()
                .unwrap()
                .insert(name.clone(), change.clone()),
        };
    }
    value.to_string()
}

fn own_claims() -> Value {
    json!({
        "iss": HOME, "sub": "operator", "aud": format!("{HOME}/mcp"), "exp": NOW + 60,
        "iat": NOW, "jti": "j1", "client_id": "c1", "scope": "tag:a", "sid": "f1"
    })
}

fn idp_claims() -> Value {
    json!({
        "iss": IDP, "sub": "ann", "aud": format!("{HOME}/mcp"), "exp": NOW + 60, "iat": NOW,
        "client_id": "app", "scope": "openid tag:a tag:b"
    })
}

#[track_caller]
fn refused(rig: &Rig, what: &str, token: &str, reason: Reason) {
    let denied = rig.ask(token).unwrap_err();
    assert_eq!(denied, Denied::BadToken(reason), "{what}");
    // The same words for all of them: nobody learns what was wrong.
    let reply = rig.gate.refusal(&denied, "", "/mcp");
    let body = String::from_utf8(reply.body).unwrap();
    let expect = r#"{"error":"invalid_token","error_description":"the token is not good"}"#;
    assert_eq!((reply.status, body.as_str()), (401, expect), "{what}");
    let expect = "Bearer error=\"invalid_token\", error_description=\"the token is not good\", \
                  scope=\"tag:web\", resource_metadata=\"https://mcp.example/.well-known/\
                  oauth-protected-resource/mcp\"";
    let challenge = reply
        .headers
        .iter()
        .find(|(name, _)| *name == "WWW-Authenticate");
    assert_eq!(challenge.unwrap().1, expect, "{what}");
}

#[test]
fn tokens_of_ours_with_another_header_are_refused() {
    let rig = rig("headers", "", true);
    let claims = own_claims().to_string();
    let kid = rig.own.kid().to_owned();
    let token = |changes: Value| rig.by_ed(&rig.own, &with(&rig.own_header(), &changes), &claims);
    assert!(rig.ask(&token(json!({}))).is_ok());
    assert!(
        rig.ask(&token(json!({"typ": "application/AT+JWT"})))
            .is_ok()
    );
    let rows: Vec<(Value, Reason)> = vec![
        (json!({"alg": "none"}), Reason::Malformed),
        (json!({"alg": "None"}), Reason::Malformed),
        (json!({"alg": "HS256"}), Reason::Malformed),
        (json!({"alg": "HS512"}), Reason::Malformed),
        (json!({"alg": "PS256"}), Reason::Malformed),
        (json!({"alg": "eddsa"}), Reason::Malformed),
        (json!({"alg": "Ed25519"}), Reason::Malformed),
        (json!({"alg": ""}), Reason::Malformed),
        (json!({"alg": ["EdDSA"]}), Reason::Malformed),
        (json!({"alg": null}), Reason::Malformed),
        (json!({"alg": "RS256"}), Reason::BadAlgorithm),
        (json!({"alg": "ES256"}), Reason::BadAlgorithm),
        (json!({"kid": null}), Reason::BadSignature),
        (json!({"kid": ""}), Reason::BadSignature),
        (json!({"kid": 1}), Reason::Malformed),
        (json!({"kid": [kid]}), Reason::Malformed),
        (json!({"kid": "../../../../dev/null"}), Reason::BadSignature),
        (json!({"kid": "' OR 1=1 --"}), Reason::BadSignature),
        (json!({"kid": format!("{kid}\0")}), Reason::BadSignature),
        (json!({"kid": kid.to_uppercase()}), Reason::BadSignature),
        (json!({"typ": null}), Reason::BadType),
        (json!({"typ": "JWT"}), Reason::BadType),
        (json!({"typ": "refresh+jwt"}), Reason::BadType),
        (json!({"typ": ["at+jwt"]}), Reason::BadType),
        (json!({"jku": "https://evil.example/keys"}), Reason::BadType),
        (json!({"jwk": {"kty": "OKP"}}), Reason::BadType),
        (json!({"x5u": "https://evil.example"}), Reason::BadType),
        (json!({"x5c": ["MII"]}), Reason::BadType),
        (json!({"zip": "DEF"}), Reason::BadType),
        (json!({"cty": "JWT"}), Reason::BadType),
        (json!({"crit": ["exp"]}), Reason::Malformed),
        (json!({"crit": []}), Reason::Malformed),
        (json!({"b64": false}), Reason::Malformed),
        (json!({"enc": "A128GCM"}), Reason::BadType),
    ];
    for (changes, reason) in rows {
        refused(&rig, &changes.to_string(), &token(changes.clone()), reason);
    }
    let header = rig.own_header().to_string();
    let twice = header.replacen('{', "{\"alg\":\"none\",", 1);
    refused(
        &rig,
        "alg twice",
        &rig.by_ed(&rig.own, &twice, &claims),
        Reason::Malformed,
    );
    for odd in ["[]", "null", "\"EdDSA\"", "{", "\u{feff}{}", "{} {}", ""] {
        refused(
            &rig,
            odd,
            &rig.by_ed(&rig.own, odd, &claims),
            Reason::Malformed,
        );
    }
}

#[test]
fn tokens_of_ours_with_other_claims_are_refused() {
    let rig = rig("claims", "", true);
    let header = rig.own_header().to_string();
    let token = |changes: Value| rig.by_ed(&rig.own, &header, &with(&own_claims(), &changes));
    let bad = Reason::BadClaims;
    let rows: Vec<(Value, Reason)> = vec![
        (json!({"iss": null}), bad),
        (json!({"iss": [HOME]}), bad),
        (json!({"iss": format!("{HOME}/")}), Reason::BadIssuer),
        (json!({"iss": "https://MCP.example"}), Reason::BadIssuer),
        (
            json!({"iss": "https://mcp.example.evil"}),
            Reason::BadIssuer,
        ),
        // Our key speaks for nobody else.
        (json!({"iss": IDP}), Reason::BadSignature),
        (json!({"sub": null}), bad),
        (json!({"sub": 7}), bad),
        // A machine that is in the configuration no more.
        (
            json!({"sub": "gone", "client_id": "gone"}),
            Reason::BadClient,
        ),
        (json!({"aud": null}), bad),
        (json!({"aud": [HOME]}), bad),
        (json!({"aud": ""}), Reason::BadAudience),
        (
            json!({"aud": "https://other.example/mcp"}),
            Reason::BadAudience,
        ),
        (
            json!({"aud": "https://mcp.example.evil/mcp"}),
            Reason::BadAudience,
        ),
        (
            json!({"aud": "https://mcp.example/mcpx"}),
            Reason::BadAudience,
        ),
        (
            json!({"aud": "https://mcp.example/admin"}),
            Reason::BadAudience,
        ),
        (
            json!({"aud": "https://mcp.example/mcp#x"}),
            Reason::BadAudience,
        ),
        (
            json!({"aud": "https://mcp.example/mcp?x"}),
            Reason::BadAudience,
        ),
        (
            json!({"aud": "http://mcp.example/mcp"}),
            Reason::BadAudience,
        ),
        (
            json!({"aud": "https://mcp.example/mcp/files"}),
            Reason::BadAudience,
        ),
        (json!({"exp": null}), bad),
        (json!({"exp": NOW}), Reason::Expired),
        (json!({"exp": NOW - 1}), Reason::Expired),
        (json!({"exp": 0}), Reason::Expired),
        (json!({"exp": (NOW + 60).to_string()}), bad),
        (json!({"exp": -1}), bad),
        (json!({"exp": 1.8e9}), bad),
        (json!({"exp": [NOW + 60]}), bad),
        (json!({"iat": null}), bad),
        (json!({"iat": NOW + 301}), Reason::NotYetValid),
        (json!({"iat": "now"}), bad),
        (json!({"jti": null}), bad),
        (json!({"client_id": null}), bad),
        (json!({"client_id": {"x": 1}}), bad),
        (json!({"scope": null}), bad),
        (json!({"scope": ["tag:a"]}), bad),
        (json!({"sid": 5}), bad),
    ];
    for (changes, reason) in rows {
        refused(&rig, &changes.to_string(), &token(changes.clone()), reason);
    }
    let raw = own_claims().to_string();
    let late = raw.replacen('{', "{\"exp\":1,", 1);
    let huge = raw.replace(&(NOW + 60).to_string(), "1e400");
    let over = raw.replace(&(NOW + 60).to_string(), "36893488147419103232");
    for odd in [
        &late,
        &huge,
        &over,
        "[]",
        "null",
        "",
        "{}",
        "{\"iss\":",
        &"[".repeat(100),
    ] {
        refused(&rig, odd, &rig.by_ed(&rig.own, &header, odd), bad);
    }
}

#[test]
fn bytes_that_were_changed_are_refused() {
    let rig = rig("bytes", "", true);
    let good = rig.by_ed(
        &rig.own,
        &rig.own_header().to_string(),
        &own_claims().to_string(),
    );
    let parts: Vec<&str> = good.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let wide = encoded(&with(&own_claims(), &json!({"scope": "tag:*"})));
    let unsigned = encoded(r#"{"alg":"none"}"#);
    let secret = hmac::Key::new(hmac::HMAC_SHA256, rig.own.public().to_jwk().as_bytes());
    let by_hmac = format!("{}.{claims}", encoded(r#"{"alg":"HS256","typ":"at+jwt"}"#));
    let by_hmac_tag = base64::encode_url(hmac::sign(&secret, by_hmac.as_bytes()).as_ref());
    let other = SigningKey::from_seed(&[9; 32]).unwrap();
    let malformed = Reason::Malformed;
    let wrong = Reason::BadSignature;
    let rows: Vec<(&str, String, Reason)> = vec![
        (
            "claims changed",
            format!("{header}.{wide}.{signature}"),
            wrong,
        ),
        ("no signature", format!("{header}.{claims}."), wrong),
        (
            "short signature",
            format!("{header}.{claims}.{}", &signature[..84]),
            wrong,
        ),
        ("long signature", format!("{good}AAAA"), wrong),
        (
            "zero signature",
            format!("{header}.{claims}.{}", "A".repeat(86)),
            wrong,
        ),
        ("unsigned", format!("{unsigned}.{claims}."), malformed),
        (
            "unsigned, no dot",
            format!("{unsigned}.{claims}"),
            malformed,
        ),
        (
            "by HMAC with the public key",
            format!("{by_hmac}.{by_hmac_tag}"),
            malformed,
        ),
        ("two parts", format!("{header}.{claims}"), malformed),
        ("four parts", format!("{good}.{signature}"), malformed),
        (
            "JWE",
            format!("{header}..{claims}.{signature}.x"),
            malformed,
        ),
        ("no header", format!(".{claims}.{signature}"), malformed),
        (
            "no claims",
            format!("{header}..{signature}"),
            Reason::BadClaims,
        ),
        ("dots", "..".into(), malformed),
        ("one word", "abc".into(), malformed),
        (
            "standard alphabet",
            format!("{header}.{claims}.{}+/", &signature[..84]),
            malformed,
        ),
        (
            "bits behind the end",
            format!("{header}.{claims}.{}B", &signature[..85]),
            malformed,
        ),
        (
            "another key of the same name",
            rig.by_ed(
                &other,
                &rig.own_header().to_string(),
                &own_claims().to_string(),
            ),
            wrong,
        ),
        ("not UTF-8", format!("{header}._w.{signature}"), malformed),
        (
            "too long",
            format!("{good}{}", "A".repeat(limits::TOKEN_BYTES)),
            malformed,
        ),
        (
            "of an issuer's key",
            {
                let claims = own_claims().to_string();
                rig.by_ed(
                    &rig.ed,
                    &json!({"alg":"EdDSA","typ":"at+jwt","kid":rig.ed.kid()}).to_string(),
                    &claims,
                )
            },
            wrong,
        ),
    ];
    for (what, token, reason) in rows {
        if what == "bits behind the end" && token == good {
            continue;
        }
        refused(&rig, what, &token, reason);
    }
    // Every single bit counts.
    let bytes = base64::decode_url(signature.as_bytes()).unwrap();
    for at in (0..bytes.len() * 8).step_by(7) {
        let mut bytes = bytes.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        let token = format!("{header}.{claims}.{}", base64::encode_url(&bytes));
        refused(&rig, &at.to_string(), &token, wrong);
    }
    assert!(rig.ask(&good).is_ok());
}

#[test]
fn tokens_of_another_issuer_are_judged_by_its_rules() {
    let rig = rig("issuer", r#", "algorithms": ["EdDSA", "RS256"]"#, true);
    let ed = json!({"alg": "EdDSA", "typ": "JWT", "kid": rig.ed.kid()});
    let rsa = json!({"alg": "RS256", "kid": "rsa-1"});
    let who = rig
        .ask(&rig.by_rsa(&rsa.to_string(), &idp_claims().to_string()))
        .unwrap();
    assert_eq!((who.issuer.as_str(), who.subject.as_str()), (IDP, "ann"));
    assert_eq!((who.client.as_str(), who.means), ("app", Means::Jwt));
    assert_eq!(who.scopes.to_string(), "tag:a tag:b");
    assert_eq!(who.expires_s, Some(NOW + 60 + limits::TOKEN_LEEWAY_S));
    let token = |header: Value, changes: Value| {
        rig.by_ed(&rig.ed, &with(&ed, &header), &with(&idp_claims(), &changes))
    };
    for fine in [
        json!({}),
        json!({"aud": ["https://x.example", "https://mcp.example"]}),
        json!({"aud": HOME}),
        json!({"exp": NOW - 59}),
        json!({"nbf": NOW + 60}),
        json!({"iat": null}),
        json!({"iat": NOW + 300}),
        json!({"exp": 1_790_000_060.5}),
        json!({"client_id": null, "azp": "other"}),
        json!({"scope": null}),
    ] {
        assert!(rig.ask(&token(json!({}), fine.clone())).is_ok(), "{fine}");
    }
    for fine in [
        json!({"typ": null}),
        json!({"kid": null}),
        json!({"typ": "at+jwt"}),
    ] {
        assert!(rig.ask(&token(fine.clone(), json!({}))).is_ok(), "{fine}");
    }
    let bad = Reason::BadClaims;
    let claims: Vec<(Value, Reason)> = vec![
        (json!({"iss": format!("{IDP}/")}), Reason::BadIssuer),
        (json!({"iss": "https://evil.example"}), Reason::BadIssuer),
        (json!({"aud": null}), bad),
        (json!({"aud": 5}), bad),
        (json!({"aud": ["a", 5]}), bad),
        (json!({"aud": []}), Reason::BadAudience),
        (json!({"aud": "app"}), Reason::BadAudience),
        (
            json!({"aud": ["https://other.example/mcp", "app"]}),
            Reason::BadAudience,
        ),
        (json!({"exp": null}), bad),
        (json!({"exp": NOW - 60}), Reason::Expired),
        (json!({"exp": "soon"}), bad),
        (json!({"exp": 253_402_300_800_u64}), bad),
        (json!({"exp": u64::MAX}), bad),
        (json!({"exp": -5}), bad),
        (json!({"nbf": NOW + 61}), Reason::NotYetValid),
        (json!({"nbf": "x"}), bad),
        (json!({"iat": NOW + 301}), Reason::NotYetValid),
        (json!({"iat": {}}), bad),
        (json!({"sub": null}), bad),
        (json!({"sub": ""}), bad),
        (json!({"sub": "x".repeat(limits::PRINCIPAL_BYTES + 1)}), bad),
    ];
    for (changes, reason) in claims {
        let token = token(json!({}), changes.clone());
        refused(&rig, &changes.to_string(), &token, reason);
    }
    let headers: Vec<(Value, Reason)> = vec![
        (json!({"alg": "none"}), Reason::Malformed),
        (json!({"alg": "HS256"}), Reason::Malformed),
        (json!({"alg": "ES256"}), Reason::BadAlgorithm),
        (json!({"alg": "RS256"}), Reason::BadSignature),
        (
            json!({"alg": "RS256", "kid": "rsa-1"}),
            Reason::BadSignature,
        ),
        (json!({"kid": "rsa-1"}), Reason::BadSignature),
        (json!({"kid": "unknown"}), Reason::BadSignature),
        (json!({"typ": "dpop+jwt"}), Reason::BadType),
        (json!({"typ": "logout+jwt"}), Reason::BadType),
        (json!({"crit": ["b64"], "b64": false}), Reason::Malformed),
    ];
    for (changes, reason) in headers {
        let token = token(changes.clone(), json!({}));
        refused(&rig, &changes.to_string(), &token, reason);
    }
    let header = json!({"alg": "ES256", "kid": rig.ec.kid()}).to_string();
    let by_ec = rig.by_ed(&rig.ec, &header, &idp_claims().to_string());
    refused(
        &rig,
        "an algorithm that is not listed",
        &by_ec,
        Reason::BadAlgorithm,
    );
    let zero = format!(
        "{}.{}.{}",
        encoded(&ed.to_string()),
        encoded("{}"),
        "A".repeat(86)
    );
    refused(&rig, "nothing said", &zero, Reason::BadClaims);
}

#[test]
fn curves_are_not_fooled() {
    let rig = rig("curves", "", true);
    let header = json!({"alg": "ES256", "kid": rig.ec.kid()}).to_string();
    let claims = idp_claims().to_string();
    let good = rig.by_ed(&rig.ec, &header, &claims);
    assert!(rig.ask(&good).is_ok());
    let signed = good.rsplit_once('.').unwrap().0.to_owned();
    let der = [0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01];
    let order = base64::decode_url(b"_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE").unwrap();
    for (what, signature) in [
        ("zeros", vec![0; 64]),
        ("DER", der.to_vec()),
        ("the order itself", [order.clone(), order].concat()),
        (
            "ones",
            [vec![0; 31], vec![1], vec![0; 31], vec![1]].concat(),
        ),
        ("nothing", Vec::new()),
        ("too long", vec![1; 65]),
    ] {
        let token = format!("{signed}.{}", base64::encode_url(&signature));
        refused(&rig, what, &token, Reason::BadSignature);
    }
}

#[test]
fn claims_become_scopes_as_configured() {
    let more = r#", "scopeClaim": "realm_access.roles", "audiences": ["api://tools"],
        "scopes": {"admins": "tag:*", "web team": "tag:web tag:docs", "ro": "read"},
        "clientClaim": "appid""#;
    let rig = rig("mapped", more, true);
    let ed = json!({"alg": "EdDSA", "kid": rig.ed.kid()}).to_string();
    let token = |roles: Value, changes: Value| {
        let roles = json!({"realm_access": {"roles": roles}, "aud": "api://tools", "appid": "x"});
        let base: Value = serde_json::from_str(&with(&idp_claims(), &roles)).unwrap();
        rig.by_ed(&rig.ed, &ed, &with(&base, &changes))
    };
    for (roles, scopes) in [
        (json!(["admins"]), "tag:*"),
        (json!(["web team", "unknown"]), "tag:docs tag:web"),
        (json!("admins"), "tag:*"),
        (json!("ro admins"), ""),
        (json!(["x admins"]), ""),
        (json!(["web team", "ro"]), "tag:docs tag:web"),
        (json!(["tag:secret"]), ""),
        (json!([]), ""),
        (json!({"admins": 1}), ""),
        (json!(["Admins"]), ""),
    ] {
        let who = rig.ask(&token(roles.clone(), json!({}))).unwrap();
        assert_eq!(who.scopes.to_string(), scopes, "{roles}");
        assert_eq!(who.client, "x");
    }
    let ours = token(json!([]), json!({"aud": format!("{HOME}/mcp")}));
    refused(
        &rig,
        "not the audience that is set",
        &ours,
        Reason::BadAudience,
    );
    let nameless = token(json!([]), json!({"appid": null}));
    refused(&rig, "no client", &nameless, Reason::BadClaims);
}

#[test]
fn where_a_token_stands_decides_how_it_is_answered() {
    let rig = rig("places", "", true);
    let good = rig.by_ed(
        &rig.own,
        &rig.own_header().to_string(),
        &own_claims().to_string(),
    );
    let malformed = |path: &str, fields: &str| {
        let denied = rig.ask_at(path, fields).unwrap_err();
        let reply = rig.gate.refusal(&denied, "", path);
        assert!(
            matches!(denied, Denied::Malformed(_)),
            "{path} {fields}: {denied:?}"
        );
        let body = String::from_utf8(reply.body).unwrap();
        assert_eq!(reply.status, 400, "{path} {fields}");
        assert!(body.contains("\"invalid_request\""), "{body}");
    };
    let bearer = format!("Authorization: Bearer {good}\r\n");
    for fine in [
        bearer.clone(),
        format!("authorization:bearer {good}\r\n"),
        format!("AUTHORIZATION: BEARER   {good}  \r\n"),
    ] {
        assert!(rig.ask_at("/mcp", &fine).is_ok(), "{fine}");
    }
    for fields in [
        "Authorization: Bearer\r\n".to_owned(),
        "Authorization: Bearer \r\n".into(),
        "Authorization: Bearer ==\r\n".into(),
        format!("Authorization: Bearer {good} x\r\n"),
        format!("Authorization: Bearer {good},Bearer {good}\r\n"),
        format!("Authorization: Bearer \"{good}\"\r\n"),
        format!("{bearer}{bearer}"),
        format!("{bearer}Authorization: Basic eDp5\r\n"),
        "Authorization: Bearer a=b\r\n".into(),
        "Authorization: Bearer <token>\r\n".into(),
    ] {
        malformed("/mcp", &fields);
    }
    for query in [
        format!("access_token={good}"),
        format!("tags=a&access_token={good}"),
        "access_token".into(),
        "access%5Ftoken=x".into(),
        "Access_Token=x".into(),
        "%61ccess_token=x&y".into(),
    ] {
        malformed(&format!("/mcp?{query}"), "");
        malformed(&format!("/mcp?{query}"), &bearer);
    }
    assert!(
        rig.ask_at("/mcp?x=access_token&access_tokens=1", &bearer)
            .is_ok()
    );
    for fields in [
        "",
        "Authorization: Basic eDp5\r\n",
        "Authorization: Digest x\r\n",
        "X-Authorization: Bearer x\r\n",
        "Authorization:\r\n",
        "Cookie: access_token=x\r\n",
        "Proxy-Authorization: Bearer x\r\n",
        "Authorization: BearerX y\r\n",
    ] {
        assert_eq!(
            rig.ask_at("/mcp", fields).unwrap_err(),
            Denied::NoToken,
            "{fields}"
        );
    }
    let reply = rig.gate.refusal(&Denied::NoToken, "tag:db", "/mcp/x");
    let challenge = reply
        .headers
        .iter()
        .find(|(name, _)| *name == "WWW-Authenticate");
    let expect = "Bearer scope=\"tag:db\", resource_metadata=\"https://mcp.example/.well-known/\
                  oauth-protected-resource/mcp/x\"";
    assert_eq!((reply.status, challenge.unwrap().1.as_str()), (401, expect));
}

#[test]
fn an_audience_is_good_for_its_paths() {
    let rig = rig("audience", "", true);
    let ask = |audience: &str, path: &str| {
        let claims = with(&own_claims(), &json!({"aud": audience}));
        let token = rig.by_ed(&rig.own, &rig.own_header().to_string(), &claims);
        let fields = format!("Authorization: Bearer {token}\r\n");
        // Twice: the second time from the cache.
        let first = rig.ask_at(path, &fields).is_ok();
        assert_eq!(rig.ask_at(path, &fields).is_ok(), first);
        first
    };
    let paths = [
        "/mcp",
        "/mcp/",
        "/mcp/files",
        "/mcp/a%2Fb",
        "/sse",
        "/messages",
    ];
    for audience in ["", "/", "/mcp", "/sse"] {
        for path in paths {
            assert!(ask(&format!("{HOME}{audience}"), path), "{audience} {path}");
        }
    }
    for (audience, path, good) in [
        ("/mcp/files", "/mcp/files", true),
        ("/mcp/files", "/mcp/files/", true),
        ("/mcp/files/", "/mcp/files", true),
        ("/mcp/files", "/mcp/f%69les", true),
        ("/mcp/a%2fb", "/mcp/a%2Fb", true),
        ("/mcp/files", "/mcp", false),
        ("/mcp/files", "/mcp/filesystem", false),
        ("/mcp/files", "/mcp/Files", false),
        ("/mcp/files", "/sse", false),
        ("/mcp/files", "/messages", false),
    ] {
        assert_eq!(
            ask(&format!("{HOME}{audience}"), path),
            good,
            "{audience} {path}"
        );
    }
}

#[test]
fn what_was_revoked_is_over_at_once_cached_or_not() {
    let rig = rig("revoked", "", true);
    let header = rig.own_header().to_string();
    let token = |changes: Value| rig.by_ed(&rig.own, &header, &with(&own_claims(), &changes));
    let (one, two) = (token(json!({})), token(json!({"sid": "f2", "jti": "j2"})));
    let (who, other) = (rig.ask(&one).unwrap(), rig.ask(&two).unwrap());
    rig.gate.tokens.revoke(Kind::Family, "f1", NOW).unwrap();
    assert!(who.is_over(NOW) && !other.is_over(NOW));
    assert_eq!(
        rig.ask(&one).unwrap_err(),
        Denied::BadToken(Reason::Expired)
    );
    rig.gate.cache.clear();
    refused(&rig, "revoked", &one, Reason::Revoked);
    assert!(rig.ask(&two).is_ok());
    rig.gate.tokens.revoke(Kind::Client, "c1", NOW).unwrap();
    assert!(other.is_over(NOW));
    let later = token(json!({"sid": "f3", "jti": "j3", "iat": NOW + 1}));
    assert!(rig.ask(&later).is_ok());
    rig.gate
        .tokens
        .revoke(Kind::Subject, "operator", NOW + 1)
        .unwrap();
    assert!(rig.ask(&later).is_err());
    // Its time runs out in the cache, too.
    let soon = token(json!({"sub": "x", "exp": NOW + 1, "sid": "f9", "client_id": "c2"}));
    assert!(rig.ask(&soon).unwrap().is_over(NOW + 1));
}

#[test]
fn api_keys_come_and_go_with_their_file() {
    let rig = rig("api", "", true);
    let who = rig.ask(&rig.api_key).unwrap();
    assert_eq!((who.subject.as_str(), who.means), ("ci", Means::ApiKey));
    assert_eq!(who.scopes.to_string(), "read tag:a");
    assert_eq!(who.token.len(), 12);
    let text = std::fs::read_to_string(rig.folder.path("api-keys.json")).unwrap();
    assert!(!text.contains(&rig.api_key[4..]) && !text.contains(&who.token));
    refused(&rig, "its time is over", &rig.old_api_key, Reason::Expired);
    let mut changed = rig.api_key.clone();
    changed.pop();
    refused(&rig, "shorter", &changed, Reason::UnknownKey);
    refused(
        &rig,
        "longer",
        &format!("{}A", rig.api_key),
        Reason::UnknownKey,
    );
    refused(&rig, "the prefix", "omk_", Reason::UnknownKey);
    refused(&rig, "without prefix", &rig.api_key[4..], Reason::Malformed);
    refused(
        &rig,
        "another case",
        &rig.api_key.to_uppercase(),
        Reason::Malformed,
    );
    let place = rig.folder.path("api-keys.json");
    api_key::edit(&place, |keys| {
        keys.clear();
        Ok(())
    })
    .unwrap();
    rig.gate.look(Instant::now() + limits::AUTH_LOOK, NOW);
    assert!(who.is_over(NOW));
    refused(&rig, "withdrawn", &rig.api_key, Reason::UnknownKey);
}

#[test]
fn keys_change_without_a_restart() {
    let rig = rig("rotation", "", true);
    let header = rig.own_header().to_string();
    let token = rig.by_ed(&rig.own, &header, &own_claims().to_string());
    assert!(rig.ask(&token).is_ok());
    let place = rig.folder.path("keys.json");
    let old: Value = serde_json::from_str(&std::fs::read_to_string(&place).unwrap()).unwrap();
    let other = json!({"kty": "OKP", "crv": "Ed25519", "kid": "new",
        "d": base64::encode_url(&[9; 32]),
        "x": serde_json::from_str::<Value>(
            &SigningKey::from_seed(&[9; 32]).unwrap().public().to_jwk()).unwrap()["x"]});
    let look = |keys: Value, seconds: u32| {
        std::fs::write(&place, keys.to_string()).unwrap();
        rig.gate
            .look(Instant::now() + limits::AUTH_LOOK * seconds, NOW);
    };
    let both = json!({"keys": [other, old["keys"][0]]});
    look(both, 1);
    assert!(rig.ask(&token).is_ok());
    let jwks = rig.gate.tokens.keys.jwks();
    assert!(jwks.contains("\"new\"") && jwks.contains(rig.own.kid()) && !jwks.contains("\"d\""));
    let signed = rig
        .gate
        .tokens
        .keys
        .sign("at+jwt", &own_claims().to_string())
        .unwrap();
    assert!(rig.ask(&signed).is_ok());
    look(json!("broken"), 2);
    assert!(
        rig.ask(&token).is_ok(),
        "what cannot be read changes nothing"
    );
    look(json!({"keys": [other]}), 3);
    refused(&rig, "its key is gone", &token, Reason::BadSignature);
}

#[test]
fn without_scope_validation_a_token_is_still_needed() {
    let rig = rig("open", "", false);
    let claims = with(&own_claims(), &json!({"scope": ""}));
    let token = rig.by_ed(&rig.own, &rig.own_header().to_string(), &claims);
    assert_eq!(rig.ask(&token).unwrap().scopes.to_string(), "tag:*");
    assert_eq!(rig.ask_at("/mcp", "").unwrap_err(), Denied::NoToken);
}

#[test]
fn a_clock_that_is_not_set_judges_nobody() {
    let rig = rig("clock", "", true);
    let bytes = format!(
        "GET /mcp HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        rig.api_key
    );
    let mut room = no_fields();
    let Parsed::Complete(head) = Head::parse(bytes.as_bytes(), &mut room) else {
        panic!("{bytes}");
    };
    let denied = rig.gate.judge(&head, Instant::now(), 1000).unwrap_err();
    assert_eq!(denied, Denied::NotReady);
    assert_eq!(rig.gate.refusal(&denied, "", "/mcp").status, 503);
}

#[test]
fn one_principal_has_its_pace_and_its_bounds() {
    let rig = rig("pace", "", true);
    let who = rig.ask(&rig.api_key).unwrap();
    let (one, two) = (rig.gate.enter(&who), rig.gate.enter(&who));
    assert!(one.is_ok() && two.is_ok());
    let Err(denied) = rig.gate.enter(&who) else {
        panic!("a third one");
    };
    let reply = rig.gate.refusal(&denied, "", "/mcp");
    let retry = reply
        .headers
        .iter()
        .find(|(name, _)| *name == "Retry-After");
    assert_eq!((reply.status, retry.unwrap().1.as_str()), (429, "1"));
    drop(one);
    let settings = AuthSettings {
        rate_per_minute: 6,
        ..AuthSettings::default()
    };
    rig.gate.configure(&settings);
    // A minute's worth may come at once.
    for _ in 0..6 {
        assert!(rig.gate.count(&who).is_ok());
    }
    let denied = rig.gate.count(&who).err();
    assert!(
        matches!(denied, Some(Denied::TooMany(wait)) if wait.as_secs() >= 9),
        "{denied:?}"
    );
}
