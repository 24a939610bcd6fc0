use crate::auth::server::authorize::Refused;
use crate::auth::server::redirect_uri::{Author, is_usable};
use crate::auth::server::tests::rig::{query, rig_of, spec};
use crate::config::auth_server::KnownClient;

#[test]
fn what_may_be_registered() {
    for uri in [
        "https://app.example/cb",
        "https://app.example",
        "https://app.example:8443/cb?x=1&y",
        "https://[2001:db8::1]/cb",
        "http://127.0.0.1/cb",
        "http://127.0.0.1:4711/cb",
        "http://[::1]:4711/cb",
        "http://localhost:4711/cb",
        "http://localhost/",
        "com.example.app:/cb",
        "com.example.app://auth/cb",
    ] {
        assert!(is_usable(uri, Author::Client), "{uri}");
    }
    let long = format!("https://app.example/{}", "x".repeat(2048));
    for uri in [
        "",
        "/cb",
        "app.example/cb",
        "//app.example/cb",
        "http://app.example/cb",
        "http://127.0.0.1.evil.example/cb",
        "http://localhost.evil.example/cb",
        "http://evil.example@127.0.0.1/cb",
        "http://127.0.0.2/cb",
        "http://0.0.0.0/cb",
        "http://[::]/cb",
        "http://127.1/cb",
        "http://2130706433/cb",
        "HTTP://127.0.0.1/cb",
        "Https://app.example/cb",
        "https:app.example/cb",
        "https:///cb",
        "https://",
        "https://user@app.example/cb",
        "https://user:pass@app.example/cb",
        "https://app.example/cb#fragment",
        "https://app.example/cb#",
        "https://*.app.example/cb",
        "https://app.example:0/cb",
        "https://app.example:99999/cb",
        "https://app.example/a b",
        "https://app.example\\@evil.example/",
        "https://app.example/\u{e9}",
        "https://app.example/cb\r\nX: y",
        "javascript:alert(1)",
        "javascript://app.example/%0aalert(1)",
        "java.script:",
        "data:text/html,x",
        "file:///etc/passwd",
        "vbscript:x",
        "blob:https://app.example/x",
        "about:blank",
        "ftp://app.example/",
        "ws://app.example/",
        "myapp://cb",
        "myapp:/cb",
        "Com.example:/cb",
        "1com.example:/cb",
        "com.example.app:",
        "com.example.app://",
        "urn:ietf:wg:oauth:2.0:oob",
        "javascript.x:alert(1)",
        "view-source.a:/cb",
        "file.x:///",
        "https://*/cb",
        "https://app.example/cb?code=x",
        "https://app.example/cb?x=1&st%61te=y",
        "http://127.0.0.1/cb?iss",
        "com.example.app:/cb?error=x",
        "https://app.example/cb?access_token=",
        "https://app.example/cb?%zz=1",
        &long,
    ] {
        assert!(!is_usable(uri, Author::Client), "{uri}");
    }
    assert!(is_usable(
        "com.example.javascript:/cb?encode=1&states",
        Author::Client
    ));
    assert!(is_usable("cursor://anysphere/cb", Author::Operator));
    assert!(!is_usable("javascript:alert(1)", Author::Operator));
    assert!(!is_usable("http://app.example/cb", Author::Operator));
}

/// The URI is compared as it is: nothing that a browser would take for the same is the same.
#[test]
fn only_what_was_registered_is_redirected_to() {
    let known = KnownClient {
        id: "app".to_owned(),
        redirect_uris: [
            "https://app.example/cb?x=1",
            "http://127.0.0.1/cb",
            "http://[::1]:80/cb?a",
            "http://localhost:4711/cb",
            "com.example.app:/cb",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..KnownClient::default()
    };
    let mut spec = spec();
    spec.clients = vec![known];
    let rig = rig_of(spec);
    let read = |uri: &str| {
        rig.server
            .read_authorize(&query(&[("redirect_uri", uri)]), true)
    };
    for uri in [
        "https://app.example/cb?x=1",
        "http://127.0.0.1/cb",
        "http://127.0.0.1:1/cb",
        "http://127.0.0.1:65535/cb",
        "http://[::1]:4711/cb?a",
        "http://[::1]/cb?a",
        "http://localhost:4711/cb",
        "com.example.app:/cb",
    ] {
        assert!(read(uri).is_ok(), "{uri}");
    }
    for uri in [
        "https://app.example/cb",
        "https://app.example/cb?x=2",
        "https://app.example/cb?x=1&y=2",
        "https://app.example/cb/?x=1",
        "https://app.example/CB?x=1",
        "https://APP.example/cb?x=1",
        "HTTPS://app.example/cb?x=1",
        "http://app.example/cb?x=1",
        "https://app.example:443/cb?x=1",
        "https://app.example:8443/cb?x=1",
        "https://app.example./cb?x=1",
        "https://app.example/%63b?x=1",
        "https://app.example/cb%2e?x=1",
        "https://app.example/./cb?x=1",
        "https://app.example/a/../cb?x=1",
        "https://app.example//cb?x=1",
        "https://app.example/cb?x=1#",
        "https://app.example/cb?x=1#f",
        "https://user@app.example/cb?x=1",
        "https://app.example@evil.example/cb?x=1",
        "https://app.example.evil.example/cb?x=1",
        "https://evil.example/cb?x=1",
        "https://evilapp.example/cb?x=1",
        "https://evil.example/?https://app.example/cb?x=1",
        "https://app.example\\.evil.example/cb?x=1",
        "//app.example/cb?x=1",
        "/cb?x=1",
        "https://app.example/cb?x=1%0d%0aX",
        "javascript:alert(1)",
        "http://127.0.0.1:0/cb",
        "http://127.0.0.1:65536/cb",
        "http://127.0.0.1:+1/cb",
        "http://127.0.0.1:/cb",
        "http://127.0.0.1:1@evil.example/cb",
        "http://127.0.0.1@evil.example/cb",
        "http://127.0.0.1.evil.example/cb",
        "http://127.0.0.1:1/other",
        "http://127.0.0.1:1/cb?x",
        "http://127.0.0.2:1/cb",
        "http://127.1/cb",
        "http://[::1]:4711/cb",
        "http://[0:0:0:0:0:0:0:1]/cb?a",
        "http://localhost:4712/cb",
        "http://localhost/cb",
        "https://127.0.0.1/cb",
        "com.example.app:/cb2",
        "com.example.app://cb",
        "com.example.evil:/cb",
    ] {
        let refused = read(uri);
        let is_page = matches!(refused, Err(Refused::Page { status: 400, .. }));
        assert!(is_page, "{uri}: {refused:?}");
    }
}
