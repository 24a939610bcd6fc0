use crate::auth::server::tests::rig::{BACK, Rig, SECRET, VERIFIER, basic, changed, rig};
use crate::wire::percent;

type Fields<'f> = Vec<(&'f str, &'f str)>;

/// A request for tokens by a code of `vault`, without anything of the client.
fn request(rig: &Rig, changes: &[(&str, &str)]) -> String {
    let code = rig.code(&[("client_id", "vault")]);
    let good = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", BACK),
        ("code_verifier", VERIFIER),
    ];
    changed(&good, changes)
}

#[test]
fn a_secret_is_shown_in_one_of_two_ways() {
    let rig = rig();
    let encoded = basic("vault", &percent::encode(SECRET));
    let told = rig.send(
        "/token",
        &[("Authorization", &encoded)],
        1,
        &request(&rig, &[]),
    );
    assert_eq!(told.text("token_type"), "Bearer");
    let named = request(&rig, &[("client_id", "vault")]);
    let told = rig.send("/token", &[("Authorization", &encoded)], 1, &named);
    assert_eq!(told.text("token_type"), "Bearer");
    let lower = encoded.replace("Basic", "bAsIc");
    let told = rig.send(
        "/token",
        &[("Authorization", &lower)],
        1,
        &request(&rig, &[]),
    );
    assert_eq!(told.text("token_type"), "Bearer");
    let fields = [("client_id", "vault"), ("client_secret", SECRET)];
    assert_eq!(
        rig.token(&request(&rig, &fields)).text("token_type"),
        "Bearer"
    );
}

#[test]
fn who_does_not_show_its_secret_is_told_one_thing() {
    let rig = rig();
    let secret = percent::encode(SECRET);
    let rows: Vec<(Vec<String>, Fields<'_>, &str)> = vec![
        (vec![], vec![], "401 invalid_client"),
        (vec![], vec![("client_id", "vault")], "401 invalid_client"),
        (
            vec![],
            vec![("client_id", "vault"), ("client_secret", "wrong")],
            "401 invalid_client",
        ),
        (
            vec![],
            vec![("client_id", "nobody"), ("client_secret", SECRET)],
            "401 invalid_client",
        ),
        (
            vec![],
            vec![("client_id", "app"), ("client_secret", SECRET)],
            "401 invalid_client",
        ),
        (
            vec![],
            vec![("client_secret", SECRET)],
            "401 invalid_client",
        ),
        (
            vec![],
            vec![("client_id", "Vault"), ("client_secret", SECRET)],
            "401 invalid_client",
        ),
        (vec![basic("vault", "wrong")], vec![], "401 invalid_client"),
        (vec![basic("vault", "")], vec![], "401 invalid_client"),
        (vec![basic("", &secret)], vec![], "401 invalid_client"),
        (vec![basic("nobody", &secret)], vec![], "401 invalid_client"),
        (vec![basic("app", &secret)], vec![], "401 invalid_client"),
        (vec![basic("vault", "%zz")], vec![], "401 invalid_client"),
        (vec!["Basic".to_owned()], vec![], "401 invalid_client"),
        (vec!["Basic !!!".to_owned()], vec![], "401 invalid_client"),
        (
            vec!["Basic dmF1bHQ=".to_owned()],
            vec![],
            "401 invalid_client",
        ),
        (
            vec!["Bearer abc".to_owned()],
            vec![("client_id", "app")],
            "401 invalid_client",
        ),
        (
            vec!["Digest x".to_owned()],
            vec![("client_id", "app")],
            "401 invalid_client",
        ),
        (
            vec![basic("vault", &secret), basic("vault", &secret)],
            vec![],
            "400 invalid_request",
        ),
        (
            vec![basic("vault", &secret)],
            vec![("client_id", "app")],
            "400 invalid_request",
        ),
        (
            vec![basic("vault", &secret)],
            vec![("client_secret", SECRET)],
            "400 invalid_request",
        ),
        (
            vec![],
            vec![("client_id", "vault"), ("client_assertion", "eyJ")],
            "401 invalid_client",
        ),
    ];
    let mut bodies = Vec::new();
    for (headers, fields, expect) in rows {
        let headers = headers.iter().map(|text| ("Authorization", text.as_str()));
        let headers: Vec<(&str, &str)> = headers.collect();
        let told = rig.send("/token", &headers, 1, &request(&rig, &fields));
        assert_eq!(told.fault(), expect, "{headers:?} {fields:?}");
        let challenge = told.header("WWW-Authenticate");
        if expect.starts_with("401") {
            let wanted = (!headers.is_empty()).then_some("Basic realm=\"onemcp\"");
            assert_eq!(challenge, wanted, "{headers:?}");
            bodies.push(told.0.body);
        } else {
            assert_eq!(challenge, None);
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "unknown and wrong are told apart");
}

#[test]
fn only_a_form_is_read_and_only_once() {
    let rig = rig();
    let json = r#"{"grant_type":"client_credentials"}"#;
    let form = "grant_type=refresh_token&refresh_token=x&client_id=app";
    let kind = |kind: &'static str| vec![("Content-Type", kind)];
    let long = format!("{form}&x={}", "y".repeat(20_000));
    let many = format!("{form}{}", "&a=1".repeat(70));
    let rows: Vec<(&str, Fields<'_>, &str)> = vec![
        ("/token", kind("application/json"), json),
        ("/token", kind("application/json"), form),
        ("/token", kind("text/plain"), form),
        ("/token", kind("multipart/form-data; boundary=x"), form),
        ("/token", kind("application/x-www-form-urlencodedx"), form),
        ("/token", kind(""), form),
        ("/token?client_id=app", vec![], form),
        ("/token?client_secret=x", vec![], form),
        ("/token", vec![], ""),
        (
            "/token",
            vec![],
            "grant_type=refresh_token&grant_type=refresh_token",
        ),
        (
            "/token",
            vec![],
            "grant_type=refresh_token&grant_type=authorization_code",
        ),
        (
            "/token",
            vec![],
            "grant_type=refresh_token&client_id=app&client_id=other",
        ),
        (
            "/token",
            vec![],
            "grant_type=refresh_token&scope=a&scope=b&client_id=app",
        ),
        (
            "/token",
            vec![],
            "grant_type=refresh_token&resource=a&resource=b&client_id=app",
        ),
        ("/token", vec![], "grant_type=refresh_token&client_id=%"),
        ("/token", vec![], "grant_type=refresh_token&client_id=%00"),
        ("/token", vec![], "grant_type=refresh_token&client_id=%ff"),
        ("/token", vec![], "grant_type=refresh_token&client_id=a b"),
        (
            "/token",
            vec![],
            "grant_type=refresh_token\r\nclient_id=app",
        ),
        ("/token", vec![], &long),
        ("/token", vec![], &many),
        ("/revoke", kind("application/json"), json),
        ("/revoke?token=x", vec![], "token=x&client_id=app"),
    ];
    for (path, headers, body) in rows {
        let told = rig.send(path, &headers, 1, body);
        assert_eq!(
            told.fault(),
            "400 invalid_request",
            "{path} {headers:?} {body}"
        );
    }
}

#[test]
fn secrets_cannot_be_guessed_for_long() {
    let rig = rig();
    let body = "grant_type=client_credentials&client_id=robot&client_secret=";
    let mut refused = 0;
    for guess in 0..1000 {
        let told = rig.send("/token", &[], 7, &format!("{body}{guess}"));
        match told.fault().as_str() {
            "401 invalid_client" => {}
            "429 too_many_requests" => {
                assert!(told.header("Retry-After").unwrap().parse::<u32>().unwrap() >= 1);
                refused += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(refused >= 800, "{refused}");
    // The right one, too, from there; but others are served.
    let right = format!("{body}robot-secret");
    assert_eq!(
        rig.send("/token", &[], 7, &right).fault(),
        "429 too_many_requests"
    );
    assert_eq!(rig.send("/token", &[], 8, &right).0.status, 200);
}
