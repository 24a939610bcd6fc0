use serde_json::{Value, json};

use crate::auth::server::client::{UNUSED, USED};
use crate::auth::server::tests::rig::{Rig, changed, exchange, rig, rig_in_files, rig_of, spec};
use crate::base::limits;
use crate::base::secret::Secret;
use crate::config::auth_server::{AuthServerSpec, Registration};

const CALLBACK: &str = "http://127.0.0.1/cb";

fn good() -> Value {
    json!({
        "client_name": "A program",
        "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
        "client_id": "chosen",
        "client_secret": "chosen",
        "logo_uri": "https://evil.example/x.svg",
        "scope": "tag:*",
        "software_statement": "eyJ",
    })
}

#[test]
fn a_program_registers_and_is_used() {
    for rig in [rig(), rig_in_files("auth-register")] {
        let told = rig.send("/register", &[], 1, &good().to_string());
        assert_eq!(
            (told.0.status, told.header("Cache-Control")),
            (201, Some("no-store"))
        );
        let mut body = told.json();
        let id = body["client_id"].as_str().unwrap().to_owned();
        assert!(id.len() >= 22 && id != "chosen");
        body["client_id"] = "".into();
        body["client_id_issued_at"] = 0.into();
        let expect = json!({
            "client_id": "",
            "client_id_issued_at": 0,
            "redirect_uris": [CALLBACK],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            "client_name": "A program",
            "application_type": "native",
        });
        assert_eq!(body, expect);
        assert_eq!(
            (
                rig.store.values(UNUSED).unwrap().len(),
                rig.store.values(USED).unwrap().len()
            ),
            (1, 0)
        );
        let back = ("redirect_uri", "http://127.0.0.1:4711/cb");
        let code = rig.code(&[("client_id", &id), back]);
        assert_eq!(
            (
                rig.store.values(UNUSED).unwrap().len(),
                rig.store.values(USED).unwrap().len()
            ),
            (0, 1)
        );
        let told = rig.redeem(&code, &[("client_id", &id), back]);
        assert!(!told.text("refresh_token").is_empty());
    }
}

#[test]
fn a_program_with_a_secret_must_show_it() {
    let rig = rig();
    let mut wish = json!({"redirect_uris": [CALLBACK]});
    for method in [
        None,
        Some("client_secret_basic"),
        Some("client_secret_post"),
    ] {
        if let Some(method) = method {
            wish["token_endpoint_auth_method"] = method.into();
        }
        let told = rig.send("/register", &[], 1, &wish.to_string()).json();
        let expect = method.unwrap_or("client_secret_basic");
        assert_eq!(told["token_endpoint_auth_method"], expect);
        assert_eq!(told["client_secret_expires_at"], 0);
        // What was not asked for is not given.
        assert_eq!(told["grant_types"], json!(["authorization_code"]));
        let text = |name: &str| told[name].as_str().unwrap().to_owned();
        let (id, secret) = (text("client_id"), text("client_secret"));
        let mine = [("client_id", id.as_str()), ("redirect_uri", CALLBACK)];
        let bare = rig.redeem(&rig.code(&mine), &mine);
        assert_eq!(bare.fault(), "401 invalid_client");
        let shown = exchange(&rig.code(&mine), &mine);
        let shown = format!("{shown}&{}", changed(&[("client_secret", &secret)], &[]));
        let told = rig.token(&shown).json();
        assert!(told["access_token"].is_string() && told.get("refresh_token").is_none());
    }
}

#[test]
fn what_cannot_be_registered() {
    let rig = rig();
    let many: Vec<String> = (0..11)
        .map(|n| format!("https://app.example/{n}"))
        .collect();
    let rows = [
        ("redirect_uris", Value::Null, "invalid_redirect_uri"),
        ("redirect_uris", json!([]), "invalid_redirect_uri"),
        ("redirect_uris", json!(many), "invalid_redirect_uri"),
        (
            "redirect_uris",
            json!(["http://app.example/cb"]),
            "invalid_redirect_uri",
        ),
        (
            "redirect_uris",
            json!([CALLBACK, "javascript:alert(1)"]),
            "invalid_redirect_uri",
        ),
        (
            "redirect_uris",
            json!(["https://app.example/#x"]),
            "invalid_redirect_uri",
        ),
        (
            "redirect_uris",
            json!(["https://u:p@app.example/"]),
            "invalid_redirect_uri",
        ),
        (
            "redirect_uris",
            json!(["myapp://cb"]),
            "invalid_redirect_uri",
        ),
        ("redirect_uris", json!([""]), "invalid_redirect_uri"),
        (
            "redirect_uris",
            json!([format!("https://a.example/{}", "x".repeat(3000))]),
            "invalid_redirect_uri",
        ),
        (
            "redirect_uris",
            json!("https://app.example/cb"),
            "invalid_client_metadata",
        ),
        ("redirect_uris", json!([1]), "invalid_client_metadata"),
        (
            "redirect_uris",
            json!([["https://app.example/cb"]]),
            "invalid_client_metadata",
        ),
        ("redirect_uris", json!({}), "invalid_client_metadata"),
        (
            "grant_types",
            json!(["client_credentials"]),
            "invalid_client_metadata",
        ),
        (
            "grant_types",
            json!(["implicit"]),
            "invalid_client_metadata",
        ),
        (
            "grant_types",
            json!(["refresh_token"]),
            "invalid_client_metadata",
        ),
        (
            "grant_types",
            json!("authorization_code"),
            "invalid_client_metadata",
        ),
        (
            "response_types",
            json!(["token"]),
            "invalid_client_metadata",
        ),
        ("response_types", json!([null]), "invalid_client_metadata"),
        (
            "token_endpoint_auth_method",
            json!("private_key_jwt"),
            "invalid_client_metadata",
        ),
        (
            "token_endpoint_auth_method",
            json!("tls_client_auth"),
            "invalid_client_metadata",
        ),
        (
            "token_endpoint_auth_method",
            json!(1),
            "invalid_client_metadata",
        ),
        (
            "application_type",
            json!("browser"),
            "invalid_client_metadata",
        ),
        (
            "application_type",
            json!(["web"]),
            "invalid_client_metadata",
        ),
        (
            "client_name",
            json!("x".repeat(129)),
            "invalid_client_metadata",
        ),
        ("client_name", json!("a\u{0}b"), "invalid_client_metadata"),
        (
            "client_name",
            json!("a\u{1b}[31mb"),
            "invalid_client_metadata",
        ),
        ("client_name", json!("a\r\nb"), "invalid_client_metadata"),
        ("client_name", json!({"en": "x"}), "invalid_client_metadata"),
        ("x", json!("y".repeat(17_000)), "invalid_client_metadata"),
    ];
    for (from, (name, value, expect)) in rows.into_iter().enumerate() {
        let mut wish = good();
        wish[name] = value;
        let from = u8::try_from(from).unwrap();
        let told = rig.send("/register", &[], from, &wish.to_string());
        assert_eq!(told.fault(), format!("400 {expect}"), "{wish}");
    }
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let deep = format!(r#"{{"redirect_uris":["{CALLBACK}"],"x":{deep}}}"#);
    let twice = format!(r#"{{"redirect_uris":["{CALLBACK}"],"redirect_uris":["myapp:/"]}}"#);
    let bodies = [
        "",
        "null",
        "[]",
        "\"x\"",
        "{",
        "{}}",
        "{\"a\":}",
        "redirect_uris=x",
        &deep,
        &twice,
    ];
    for (from, body) in bodies.into_iter().enumerate() {
        let from = 100 + u8::try_from(from).unwrap();
        let told = rig.send("/register", &[], from, body);
        assert_eq!(told.fault(), "400 invalid_client_metadata", "{body}");
    }
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let told = rig.send("/register", &form, 200, &good().to_string());
    assert_eq!(told.fault(), "400 invalid_client_metadata");
    assert_eq!(rig.store.values(UNUSED).unwrap().len(), 0);
}

fn of(registration: Registration) -> Rig {
    rig_of(AuthServerSpec {
        registration,
        registration_token: Some(Secret::new("operators-token".into())),
        ..spec()
    })
}

#[test]
fn registration_is_off_or_takes_a_token() {
    let rig = of(Registration::Off);
    let told = rig.send("/register", &[], 1, &good().to_string());
    assert_eq!(told.fault(), "404 not_found");
    let rig = of(Registration::Token);
    for header in [
        None,
        Some("Bearer wrong"),
        Some("Bearer "),
        Some("Bearer"),
        Some("operators-token"),
        Some("Basic operators-token"),
        Some("Bearer Operators-token"),
        Some("Bearer operators-tokenx"),
    ] {
        let headers: Vec<(&str, &str)> = header.iter().map(|it| ("Authorization", *it)).collect();
        let told = rig.send("/register", &headers, 1, &good().to_string());
        assert_eq!(told.fault(), "401 invalid_token", "{header:?}");
        assert_eq!(
            told.header("WWW-Authenticate"),
            Some("Bearer realm=\"onemcp\"")
        );
    }
    let header = [("Authorization", "Bearer operators-token")];
    let told = rig.send("/register", &header, 1, &good().to_string());
    assert_eq!(told.0.status, 201);
    let rig = rig_of(AuthServerSpec {
        registration: Registration::Token,
        registration_token: None,
        ..spec()
    });
    let told = rig.send("/register", &header, 1, &good().to_string());
    assert_eq!(told.fault(), "401 invalid_token", "no token is no way in");
}

#[test]
fn a_flood_is_bounded_by_address_and_in_all() {
    let rig = rig();
    let wish = good().to_string();
    let mut registered = 0;
    for attempt in 0..5000_u32 {
        let told = rig.send("/register", &[], (attempt % 250) as u8, &wish);
        match told.0.status {
            201 => registered += 1,
            429 => assert_eq!(told.fault(), "429 too_many_requests"),
            other => panic!("{other}"),
        }
    }
    // The oldest made room.
    assert!(registered > limits::UNUSED_CLIENTS, "{registered}");
    assert_eq!(
        rig.store.values(UNUSED).unwrap().len(),
        limits::UNUSED_CLIENTS
    );
    // Who is in stays in.
    assert_eq!(rig.redeem(&rig.code(&[]), &[]).0.status, 200);
}
