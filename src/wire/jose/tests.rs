//! The vectors of the RFCs, and what is not read at all.

use crate::wire::jose::Algorithm;
use crate::wire::jose::jwk::{PublicKey, read_set, write_set};
use crate::wire::jose::jws::Jws;
use crate::wire::jose::signing::SigningKey;

/// RFC 7515 A.2.
const RSA: &str = concat!(
    r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-V"#,
    r#"aw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9w"#,
    r#"Gzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMT"#,
    r#"BQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kz"#,
    r#"k2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#,
);
const RSA_TOKEN: &str = concat!(
    "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGF",
    "tcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu",
    "3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdi",
    "uB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--x",
    "i12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5A",
    "XLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
);
/// RFC 7515 A.3.
const EC: &str = concat!(
    r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_F"#,
    r#"EzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE"#,
    r#"9-E9LI"}"#,
);
const EC_TOKEN: &str = concat!(
    "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGF",
    "tcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw",
    "5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
);
/// RFC 8037 A.1, A.3, A.4.
const ED: &str = concat!(
    r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":""#,
    r#"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
);
const ED_THUMBPRINT: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";

#[test]
fn the_examples_of_the_rfcs_verify() {
    for (key, token, algorithm) in [
        (RSA, RSA_TOKEN, Algorithm::Rs256),
        (EC, EC_TOKEN, Algorithm::Es256),
    ] {
        let key = PublicKey::from_jwk(key).unwrap();
        let token = Jws::parse(token).unwrap();
        assert_eq!((key.algorithm, token.algorithm), (algorithm, algorithm));
        assert!(key.verifies(&token));
        assert!(token.claims.contains("\"joe\"") && token.kid.is_none());
    }
    let key = SigningKey::from_jwk(ED).unwrap();
    assert_eq!(key.kid(), ED_THUMBPRINT);
    // RSA keys do not verify what an elliptic curve signed, whatever the header says.
    let rsa = PublicKey::from_jwk(RSA).unwrap();
    assert!(!rsa.verifies(&Jws::parse(EC_TOKEN).unwrap()));
}

#[test]
fn what_is_signed_verifies_with_the_published_key() {
    for jwk in [ED, EC] {
        let key = SigningKey::from_jwk(jwk).unwrap();
        let token = key.sign("at+jwt", "{\"a\":1}").unwrap();
        let set = write_set([key.public()].into_iter());
        assert!(!set.contains("\"d\""));
        let keys = read_set(&set).unwrap();
        assert_eq!(keys.len(), 1);
        let token = Jws::parse(&token).unwrap();
        assert!(keys[0].verifies(&token));
        assert_eq!(
            (token.kid.as_deref(), token.kind.as_str()),
            (Some(key.kid()), "at+jwt")
        );
        assert_eq!(keys[0].kid.as_deref(), Some(key.kid()));
        assert!(!token.has_more);
    }
    let pem = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIORsai827V6n3Cz0douVBIYSjX/7OZxw13A5RyYEkxBj\n\
        -----END PRIVATE KEY-----\n";
    let key = SigningKey::from_pem(pem).unwrap();
    let token = key.sign("x", "{}").unwrap();
    assert!(key.public().verifies(&Jws::parse(&token).unwrap()));
}

#[test]
fn keys_that_cannot_be_used_are_left_out() {
    for refused in [
        "{}",
        "[]",
        "",
        r#"{"kty":"oct","k":"AAAA"}"#,
        r#"{"kty":"EC","crv":"P-384","x":"AAAA","y":"AAAA"}"#,
        r#"{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}"#,
        r#"{"kty":"OKP","crv":"X25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHUQ"}"#,
        r#"{"kty":"RSA","n":"AQAB"}"#,
        r#"{"kty":"RSA","kty":"OKP","n":"AQAB","e":"AQAB"}"#,
    ] {
        assert_eq!(PublicKey::from_jwk(refused), None, "{refused}");
    }
    let with = |more: &str| RSA.replacen('{', &format!("{{{more},"), 1);
    for (more, taken) in [
        (r#""use":"sig""#, true),
        (r#""use":"enc""#, false),
        (r#""use":1"#, false),
        (r#""alg":"RS256""#, true),
        (r#""alg":"RS512""#, false),
        (r#""alg":"ES256""#, false),
        (r#""key_ops":["verify"]"#, true),
        (r#""key_ops":["encrypt"]"#, false),
        (r#""x5t":"abc","x5c":["MII"]"#, true),
    ] {
        assert_eq!(PublicKey::from_jwk(&with(more)).is_some(), taken, "{more}");
    }
    let set = format!("{{\"keys\":[{RSA},{{\"kty\":\"new\"}},{EC}]}}");
    assert_eq!(read_set(&set).unwrap().len(), 2);
    assert_eq!(read_set("{\"keys\":{}}"), None);
    assert_eq!(read_set(RSA), None);
    // Ring verifies nothing with fewer than 2048 bits.
    let short = r#"{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTY"}"#;
    let short = PublicKey::from_jwk(short).unwrap();
    assert!(!short.verifies(&Jws::parse(RSA_TOKEN).unwrap()));
}

#[test]
fn private_keys_are_whole_or_none() {
    let swap = |jwk: &str, from: &str, to: &str| jwk.replacen(from, to, 1);
    for refused in [
        RSA.to_owned(),
        swap(ED, "\"x\":\"1", "\"x\":\"2"),
        swap(ED, "\"d\":\"n", "\"e\":\"n"),
        swap(EC, "\"d\":\"j", "\"d\":\"k"),
        swap(EC, "\"y\":\"x", "\"y\":\"y"),
    ] {
        assert!(SigningKey::from_jwk(&refused).is_none(), "{refused}");
    }
    for refused in [
        "",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
    ] {
        assert!(SigningKey::from_pem(refused).is_none());
    }
}
