use crate::auth::server::Asked;
use crate::auth::server::authorize::Refused;
use crate::auth::server::tests::rig::{BACK, HOME, query, rig, rig_of, said, scopes, spec};
use crate::config::auth_server::{AuthServerSpec, Registration};

#[test]
fn what_is_asked_is_read() {
    let rig = rig();
    let asked = rig.asked(&[]);
    assert_eq!(
        (asked.client_id.as_str(), asked.client_name.as_str()),
        ("app", "The app")
    );
    assert_eq!(
        (asked.redirect_uri.as_str(), asked.state.as_str()),
        (BACK, "s/1 &")
    );
    assert_eq!(asked.scopes, scopes("tag:web tag:db"));
    assert_eq!(asked.resource, "https://mcp.example/mcp");
    assert_eq!(
        (asked.redirect_host().as_str(), asked.is_local()),
        ("app.example", false)
    );
    assert_eq!(Asked::from_text(&asked.to_text()).as_ref(), Some(&asked));
    let local = rig.asked(&[("redirect_uri", "http://127.0.0.1:4711/cb"), ("state", "")]);
    assert_eq!(
        (local.redirect_host().as_str(), local.is_local()),
        ("127.0.0.1", true)
    );
    assert_eq!(Asked::from_text(&local.to_text()), Some(local));
}

/// Client and redirect URI are not certain: the person is told, and nobody is sent anywhere.
#[test]
fn who_is_not_certain_is_told_on_a_page() {
    let rig = rig();
    let long = "x".repeat(3000);
    let more = |text: &str| format!("{}&{text}", query(&[]));
    let rows = [
        (query(&[("client_id", "")]), "client_id is missing"),
        (
            query(&[("client_id", "nobody")]),
            "client_id is not known here; \
          the program must register again",
        ),
        (
            query(&[("client_id", "APP")]),
            "client_id is not known here; \
          the program must register again",
        ),
        (query(&[("client_id", &long)]), "client_id is too long"),
        (more("client_id=app"), "client_id is given twice"),
        (more("client_id=other"), "client_id is given twice"),
        (more("client%5Fid=other"), "client_id is given twice"),
        (
            query(&[("client_id", "https://app.example/client.json")]),
            "client_id is not known here; \
          the program must register again",
        ),
        (query(&[("redirect_uri", "")]), "redirect_uri is missing"),
        (
            more("redirect_uri=https%3A%2F%2Fevil.example"),
            "redirect_uri is given twice",
        ),
        (more("redirect_uri="), "redirect_uri is given twice"),
        (
            "%".to_owned(),
            "the parameters are not form-urlencoded text",
        ),
        (
            "client_id=a\u{e9}".to_owned(),
            "the parameters are not form-urlencoded text",
        ),
        (
            "client_id=%ff".to_owned(),
            "the parameters are not form-urlencoded text",
        ),
        (
            "client_id=app%0d%0aX".to_owned(),
            "the parameters are not form-urlencoded text",
        ),
        ("a=1&".repeat(100), "there are more than 64 parameters"),
        (String::new(), "client_id is missing"),
        // A machine has nowhere to send anybody.
        (
            query(&[("client_id", "robot")]),
            "redirect_uri is not one of those that this client \
          has registered",
        ),
    ];
    for (text, expect) in rows {
        match rig.server.read_authorize(&text, true) {
            Err(Refused::Page {
                status: 400,
                text: found,
                ..
            }) => assert_eq!(found, expect, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

/// Everything else is told to the client: there, with its state and our name, and nowhere else.
#[test]
fn who_is_certain_is_told_by_a_redirect() {
    let rig = rig();
    let more = |text: &str| format!("{}&{text}", query(&[]));
    let long_scope = "tag:a ".repeat(1000);
    let many: String = (0..51).map(|tag| format!("tag:t{tag} ")).collect();
    let rows = [
        (query(&[("response_type", "")]), "invalid_request"),
        (
            query(&[("response_type", "token")]),
            "unsupported_response_type",
        ),
        (
            query(&[("response_type", "id_token")]),
            "unsupported_response_type",
        ),
        (
            query(&[("response_type", "code token")]),
            "unsupported_response_type",
        ),
        (
            query(&[("response_type", "CODE")]),
            "unsupported_response_type",
        ),
        (
            query(&[("response_type", "none")]),
            "unsupported_response_type",
        ),
        (query(&[("response_mode", "fragment")]), "invalid_request"),
        (query(&[("response_mode", "form_post")]), "invalid_request"),
        (query(&[("request", "eyJ")]), "invalid_request"),
        (
            query(&[("request_uri", "https://evil.example/x")]),
            "invalid_request",
        ),
        (more("response_type=code"), "invalid_request"),
        (more("scope=tag:a"), "invalid_request"),
        (
            more("resource=https%3A%2F%2Fmcp.example%2Fmcp"),
            "invalid_request",
        ),
        (more("code_challenge=x"), "invalid_request"),
        (more("code_challenge_method=plain"), "invalid_request"),
        (more("unknown=1&unknown=1"), "invalid_request"),
        (query(&[("code_challenge", "")]), "invalid_request"),
        (query(&[("code_challenge_method", "")]), "invalid_request"),
        (
            query(&[("code_challenge_method", "plain")]),
            "invalid_request",
        ),
        (
            query(&[("code_challenge_method", "s256")]),
            "invalid_request",
        ),
        (
            query(&[("code_challenge_method", "S512")]),
            "invalid_request",
        ),
        (query(&[("code_challenge", "short")]), "invalid_request"),
        (
            query(&[("code_challenge", &"A".repeat(44))]),
            "invalid_request",
        ),
        (
            query(&[("code_challenge", &"A".repeat(42))]),
            "invalid_request",
        ),
        (
            query(&[("code_challenge", &"=".repeat(43))]),
            "invalid_request",
        ),
        (
            query(&[("code_challenge", &format!("{}+", "A".repeat(42)))]),
            "invalid_request",
        ),
        (query(&[("scope", "admin")]), "invalid_scope"),
        (query(&[("scope", "tag:")]), "invalid_scope"),
        (query(&[("scope", "tag:a/b")]), "invalid_scope"),
        (query(&[("scope", "tag:\u{e9}")]), "invalid_scope"),
        (query(&[("scope", "tag:web openid")]), "invalid_scope"),
        (query(&[("scope", "*")]), "invalid_scope"),
        (query(&[("scope", &long_scope)]), "invalid_scope"),
        (query(&[("scope", &many)]), "invalid_scope"),
        (
            query(&[("client_id", "narrow"), ("scope", "tag:db")]),
            "invalid_scope",
        ),
    ];
    for (text, expect) in rows {
        let Err(Refused::Redirect { to: url, .. }) = rig.server.read_authorize(&text, true) else {
            panic!("not told: {text}");
        };
        assert!(
            url.starts_with("https://app.example/cb?x=1&error="),
            "{url}"
        );
        let said = said(&url);
        assert_eq!(said.get("error"), Some(expect), "{text}");
        assert_eq!(
            (said.get("state"), said.get("iss")),
            (Some("s/1 &"), Some(HOME))
        );
        assert!(said.get("error_description").is_some() && said.get("code").is_none());
    }
}

#[test]
fn a_state_that_is_not_certain_is_not_sent_back() {
    let rig = rig();
    let long = "s".repeat(3000);
    for text in [
        query(&[("state", &long)]),
        format!("{}&state=2", query(&[])),
    ] {
        let Err(Refused::Redirect { to: url, .. }) = rig.server.read_authorize(&text, true) else {
            panic!("not told: {text}");
        };
        let said = said(&url);
        assert_eq!(said.get("error"), Some("invalid_request"));
        assert_eq!((said.get("state"), said.get("iss")), (None, Some(HOME)));
    }
}

#[test]
fn a_resource_is_ours_or_nobodys() {
    let rig = rig();
    for (asked, expect) in [
        ("https://mcp.example/mcp", "https://mcp.example/mcp"),
        ("https://mcp.example/mcp/", "https://mcp.example/mcp"),
        ("HTTPS://MCP.example:443/mcp", "https://mcp.example/mcp"),
        ("https://mcp.example", "https://mcp.example"),
        ("https://mcp.example/", "https://mcp.example"),
        ("https://mcp.example/sse", "https://mcp.example/sse"),
        ("https://mcp.example/mcp/git", "https://mcp.example/mcp/git"),
        (
            "https://mcp.example/mcp/a%20b",
            "https://mcp.example/mcp/a%20b",
        ),
    ] {
        assert_eq!(rig.asked(&[("resource", asked)]).resource, expect);
    }
    for asked in [
        "https://other.example/mcp",
        "https://mcp.example.evil.example/mcp",
        "https://mcp.example@evil.example/mcp",
        "http://mcp.example/mcp",
        "https://mcp.example:444/mcp",
        "https://mcp.example/mcp#x",
        "https://mcp.example/mcp?x",
        "https://mcp.example/MCP",
        "https://mcp.example/mcp/../admin",
        "https://mcp.example/mcp/a/b",
        "https://mcp.example/mcp/..",
        "https://mcp.example/mcpx",
        "https://mcp.example/token",
        "mcp",
        "/mcp",
        "urn:mcp",
    ] {
        let refused = rig
            .server
            .read_authorize(&query(&[("resource", asked)]), true);
        let Err(Refused::Redirect { to: url, .. }) = refused else {
            panic!("taken: {asked}");
        };
        assert_eq!(said(&url).get("error"), Some("invalid_target"), "{asked}");
    }
    let asked = rig.asked(&[("resource", "")]);
    assert_eq!(asked.resource, "https://mcp.example/mcp");
    let strict = rig_of(AuthServerSpec {
        require_resource: true,
        ..spec()
    });
    let refused = strict
        .server
        .read_authorize(&query(&[("resource", "")]), true);
    let Err(Refused::Redirect { to: url, .. }) = refused else {
        panic!("taken without resource");
    };
    assert_eq!(said(&url).get("error"), Some("invalid_target"));
}

#[test]
fn who_asks_for_nothing_asks_for_the_baseline() {
    let rig = rig();
    let nothing = [("scope", "")];
    assert!(rig.asked(&nothing).scopes.is_empty());
    assert!(rig.asked(&[("scope", "offline_access")]).scopes.is_empty());
    rig.server.set_baseline(scopes("tag:web tag:docs"));
    assert_eq!(rig.asked(&nothing).scopes, scopes("tag:web tag:docs"));
    assert_eq!(
        rig.asked(&[("scope", "tag:db offline_access")]).scopes,
        scopes("tag:db")
    );
    let narrow = rig.asked(&[("client_id", "narrow"), ("scope", "")]);
    assert_eq!(narrow.scopes, scopes("tag:web"));
    let narrow = rig.asked(&[("client_id", "narrow")]);
    assert_eq!(narrow.scopes, scopes("tag:web"));
}

#[test]
fn a_person_gives_no_more_than_was_asked_for() {
    let rig = rig();
    for (client, asked, ticked, expect) in [
        ("app", "tag:web tag:db", "tag:*", "tag:db tag:web"),
        ("app", "tag:web tag:db", "tag:web tag:docs", "tag:web"),
        ("app", "tag:*", "tag:docs", "tag:docs"),
        ("app", "tag:* read", "tag:docs", "read tag:docs"),
        ("app", "", "tag:docs", "tag:docs"),
        ("narrow", "", "tag:*", "tag:web"),
    ] {
        let asked = rig.asked(&[("scope", asked), ("client_id", client)]);
        let url = rig.server.grant(&asked, "operator", &scopes(ticked));
        let said = said(&url);
        assert_eq!(
            (said.get("state"), said.get("iss")),
            (Some("s/1 &"), Some(HOME))
        );
        let told = rig.redeem(said.get("code").unwrap(), &[("client_id", client)]);
        assert_eq!(told.text("scope"), expect);
    }
    for (asked, ticked) in [("tag:web", "tag:db"), ("tag:web", ""), ("", "")] {
        let asked = rig.asked(&[("scope", asked)]);
        let url = rig.server.grant(&asked, "operator", &scopes(ticked));
        assert_eq!(said(&url).get("error"), Some("access_denied"), "{url}");
    }
    let url = rig.server.deny(&rig.asked(&[]));
    let denied = said(&url);
    assert_eq!(denied.get("error"), Some("access_denied"));
    assert_eq!(
        (denied.get("state"), denied.get("iss")),
        (Some("s/1 &"), Some(HOME))
    );
}

#[test]
fn the_metadata_says_what_there_is() {
    let rig = rig();
    rig.server.set_baseline(scopes("tag:web"));
    let reply = rig.server.metadata();
    let document: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    for (name, expect) in [
        ("issuer", "https://mcp.example"),
        ("authorization_endpoint", "https://mcp.example/authorize"),
        ("token_endpoint", "https://mcp.example/token"),
        ("registration_endpoint", "https://mcp.example/register"),
        ("revocation_endpoint", "https://mcp.example/revoke"),
        ("jwks_uri", "https://mcp.example/.well-known/jwks.json"),
    ] {
        assert_eq!(document[name], expect);
    }
    let list = |name: &str| document[name].to_string();
    assert_eq!(list("code_challenge_methods_supported"), r#"["S256"]"#);
    assert_eq!(list("response_types_supported"), r#"["code"]"#);
    assert_eq!(list("response_modes_supported"), r#"["query"]"#);
    assert_eq!(list("scopes_supported"), r#"["tag:web"]"#);
    let grants = r#"["authorization_code","refresh_token","client_credentials"]"#;
    assert_eq!(list("grant_types_supported"), grants);
    let methods = r#"["none","client_secret_basic","client_secret_post"]"#;
    assert_eq!(list("token_endpoint_auth_methods_supported"), methods);
    assert_eq!(
        list("authorization_response_iss_parameter_supported"),
        "true"
    );
    assert_eq!(list("client_id_metadata_document_supported"), "false");
    let closed = rig_of(AuthServerSpec {
        registration: Registration::Off,
        clients: Vec::new(),
        client_metadata: vec!["*".to_owned()],
        ..spec()
    });
    let reply = closed.server.metadata();
    let document: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert!(document.get("registration_endpoint").is_none());
    assert!(document.get("scopes_supported").is_none());
    assert_eq!(document["client_id_metadata_document_supported"], true);
    let grants = document["grant_types_supported"].to_string();
    assert_eq!(grants, r#"["authorization_code","refresh_token"]"#);
}
