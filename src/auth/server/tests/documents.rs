use crate::auth::server::authorize::Refused;
use crate::auth::server::cimd::{place, read};
use crate::auth::server::tests::rig::{query, rig_of, spec};
use crate::config::auth_server::AuthServerSpec;

const ID: &str = "https://app.example/client.json";

#[test]
fn an_id_that_is_a_url_is_written_in_one_way() {
    for (id, expect) in [
        (ID, "app.example"),
        ("https://app.example:8443/c", "app.example:8443"),
        ("https://app.example/a/b?v=1", "app.example"),
        ("https://localhost/c", "localhost"),
    ] {
        assert_eq!(place(id).as_deref(), Some(expect));
    }
    for id in [
        "https://app.example",
        "https://app.example/",
        "http://app.example/c",
        "HTTPS://app.example/c",
        "https://APP.example/c",
        "https://app.example:443/c",
        "https://app.example/c#x",
        "https://user@app.example/c",
        "https://user:pass@app.example/c",
        "https://app.example/../c",
        "https://app.example/a/./c",
        "https://app.example/a/%2e%2E/c",
        "https://app.example/.%2e/c",
        "https://169.254.169.254/c",
        "https://127.0.0.1/c",
        "https://[::1]/c",
        "https://[::ffff:127.0.0.1]/c",
        "https://10.0.0.1/c",
        "https:///c",
        "https://app.example/a b",
        "https://app.example\\@evil/c",
        "ftp://app.example/c",
        "file:///c",
        "javascript:alert(1)",
        "app.example/c",
    ] {
        assert_eq!(place(id), None, "{id}");
    }
}

/// Nobody is asked before the operator is there, and only hosts that were named.
#[test]
fn nothing_is_fetched_for_strangers() {
    let rig = rig_of(AuthServerSpec {
        client_metadata: vec!["app.example".to_owned()],
        ..spec()
    });
    let ask = |id: &str| {
        rig.server
            .read_authorize(&query(&[("client_id", id)]), false)
    };
    assert_eq!(ask(ID), Err(Refused::LoginFirst));
    for id in [
        "https://other.example/client.json",
        "https://app.example:8443/client.json",
        "https://sub.app.example/client.json",
        "https://app.example.evil.example/client.json",
        "https://169.254.169.254/client.json",
        "http://app.example/client.json",
    ] {
        assert!(
            matches!(ask(id), Err(Refused::Page { status: 400, .. })),
            "{id}"
        );
    }
    // At the token endpoint nobody is asked at all: what was consented to is bound to the id.
    let told = rig.redeem("unknown", &[("client_id", ID)]);
    assert_eq!(told.fault(), "400 invalid_grant");
    let told = rig.redeem(
        "unknown",
        &[("client_id", "https://other.example/client.json")],
    );
    assert_eq!(told.fault(), "401 invalid_client");
    let told = rig.redeem("unknown", &[("client_id", ID), ("client_secret", "x")]);
    assert_eq!(told.fault(), "401 invalid_client");
}

/// Addresses inside are refused where they are connected to, whatever they are called.
#[test]
fn an_address_inside_is_not_asked() {
    let rig = rig_of(AuthServerSpec {
        client_metadata: vec!["*".to_owned()],
        ..spec()
    });
    for id in [
        "https://localhost/client.json",
        "https://ip6-localhost.localhost/c.json",
    ] {
        let refused = rig
            .server
            .read_authorize(&query(&[("client_id", id)]), true);
        let Err(Refused::Page {
            status: 400, text, ..
        }) = refused
        else {
            panic!("{refused:?}");
        };
        assert!(text.starts_with("the client cannot be used: "), "{text}");
    }
}

#[test]
fn what_a_document_must_say() {
    let good = r#"{"client_id":"https://app.example/client.json","client_name":"An app",
        "redirect_uris":["http://127.0.0.1/cb"],"grant_types":["authorization_code",
        "refresh_token"],"token_endpoint_auth_method":"none","logo_uri":"https://x.example/"}"#;
    let client = read(ID, good.as_bytes()).unwrap();
    assert_eq!((client.id.as_str(), client.name.as_str()), (ID, "An app"));
    assert!(client.may_refresh && client.secret_hash.is_none());
    let swap = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    for text in [
        String::new(),
        "[]".to_owned(),
        "<html>".to_owned(),
        swap("{", "{{"),
        swap(r#""client_id":"https://app.example/client.json","#, ""),
        swap("client.json", "client.jsoN"),
        swap("client.json", "client.json/"),
        swap("https://app", "HTTPS://app"),
        swap(r#""https://app.example/client.json""#, "1"),
        swap(r#""client_name":"An app","#, ""),
        swap("An app", ""),
        swap("An app", &"x".repeat(200)),
        swap("An app", "a\\u0007b"),
        swap(r#""An app""#, "[]"),
        swap(r#"["http://127.0.0.1/cb"]"#, "[]"),
        swap(r#"["http://127.0.0.1/cb"]"#, "null"),
        swap("http://127.0.0.1/cb", "http://app.example/cb"),
        swap("http://127.0.0.1/cb", "javascript:alert(1)"),
        swap(r#""none""#, r#""private_key_jwt""#),
        swap(r#""none""#, r#""client_secret_basic""#),
        swap(r#""logo_uri":"#, r#""client_secret":"#),
        swap(r#""logo_uri":"#, r#""client_id":"#),
    ] {
        assert!(read(ID, text.as_bytes()).is_err(), "{text}");
    }
    assert!(read(ID, b"\xff{}").is_err());
}
