use crate::auth::revoked::Kind;
use crate::auth::server::tests::rig::{
    BACK, HOME, ROBOT, Rig, SECRET, VERIFIER, basic, changed, query, rig, rig_in_files, rig_of,
    scopes, spec,
};
use crate::base::time::unix_s;
use crate::config::auth_server::AuthServerSpec;

#[test]
fn a_code_gives_tokens_that_say_who_and_what_for() {
    for rig in [rig(), rig_in_files("auth-grants")] {
        let told = rig.redeem(&rig.code(&[]), &[]);
        assert_eq!(told.header("Cache-Control"), Some("no-store"));
        assert_eq!(told.text("token_type"), "Bearer");
        assert_eq!(told.json()["expires_in"], 3600);
        let claims = rig.claims(&told.text("access_token")).unwrap();
        assert_eq!(
            (claims.issuer.as_str(), claims.subject.as_str()),
            (HOME, "operator")
        );
        assert_eq!(
            (claims.client.as_str(), claims.scope.as_str()),
            ("app", "tag:db tag:web")
        );
        assert_eq!(claims.audience, "https://mcp.example/mcp");
        assert_eq!(claims.expires_s, claims.issued_s + 3600);
        let again = rig.refresh(&told.text("refresh_token"), &[]);
        let next = rig.claims(&again.text("access_token")).unwrap();
        assert_eq!((&next.family, &next.scope), (&claims.family, &claims.scope));
        assert_ne!(next.id, claims.id);
        assert_ne!(again.text("refresh_token"), told.text("refresh_token"));
    }
}

#[test]
fn what_a_code_is_bound_to() {
    let rig = rig();
    let long = "v".repeat(129);
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[("code", "")], "400 invalid_request"),
        (&[("code", "unknown")], "400 invalid_grant"),
        (&[("code_verifier", "")], "400 invalid_request"),
        (&[("code_verifier", &VERIFIER[1..])], "400 invalid_grant"),
        (
            &[(
                "code_verifier",
                "1123456789abcdefghijklmnopqrstuvwxyzABCDEFG",
            )],
            "400 invalid_grant",
        ),
        (
            &[("code_verifier", &format!("{VERIFIER}H"))],
            "400 invalid_grant",
        ),
        (&[("code_verifier", &long)], "400 invalid_grant"),
        (
            &[("code_verifier", &VERIFIER.replace('0', "/"))],
            "400 invalid_grant",
        ),
        (
            &[("code_verifier", &VERIFIER.replace('0', " "))],
            "400 invalid_grant",
        ),
        (
            &[("code_verifier", &super::rig::challenge())],
            "400 invalid_grant",
        ),
        (&[("redirect_uri", "")], "400 invalid_request"),
        (
            &[("redirect_uri", "https://app.example/cb")],
            "400 invalid_grant",
        ),
        (
            &[("redirect_uri", "https://evil.example/cb")],
            "400 invalid_grant",
        ),
        (
            &[("redirect_uri", "com.example.app:/cb")],
            "400 invalid_grant",
        ),
        (&[("client_id", "other")], "400 invalid_grant"),
        (&[("client_id", "narrow")], "400 invalid_grant"),
        (&[("client_id", "")], "401 invalid_client"),
        (&[("client_id", "nobody")], "401 invalid_client"),
        (
            &[("resource", "https://mcp.example/mcp/git")],
            "400 invalid_target",
        ),
        (&[("resource", "https://mcp.example")], "400 invalid_target"),
        (
            &[("resource", "https://other.example/mcp")],
            "400 invalid_target",
        ),
        (&[("grant_type", "")], "400 invalid_request"),
        (&[("grant_type", "password")], "400 unsupported_grant_type"),
        (&[("grant_type", "implicit")], "400 unsupported_grant_type"),
        (
            &[("grant_type", "Authorization_Code")],
            "400 unsupported_grant_type",
        ),
        (
            &[("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")],
            "400 unsupported_grant_type",
        ),
        (
            &[("grant_type", "client_credentials")],
            "400 unauthorized_client",
        ),
        (&[("grant_type", "refresh_token")], "400 invalid_request"),
    ];
    for (changes, expect) in rows {
        let code = rig.code(&[]);
        assert_eq!(rig.redeem(&code, changes).fault(), *expect, "{changes:?}");
    }
    // The usual port may be written, or the resource left out.
    for resource in ["https://MCP.example:443/mcp/", ""] {
        let told = rig.redeem(&rig.code(&[]), &[("resource", resource)]);
        assert_eq!(told.0.status, 200);
    }
    let strict = rig_of(AuthServerSpec {
        require_resource: true,
        ..spec()
    });
    let told = strict.redeem(&strict.code(&[]), &[("resource", "")]);
    assert_eq!(told.fault(), "400 invalid_target");
}

#[test]
fn the_port_of_a_program_is_the_one_that_it_asked_with() {
    let rig = rig();
    let asked = ("redirect_uri", "http://127.0.0.1:4711/cb");
    let code = rig.code(&[asked]);
    assert_eq!(rig.redeem(&code, &[asked]).0.status, 200);
    let code = rig.code(&[asked]);
    let other = ("redirect_uri", "http://127.0.0.1:4712/cb");
    assert_eq!(rig.redeem(&code, &[other]).fault(), "400 invalid_grant");
}

#[test]
fn a_code_is_used_up_by_the_first_attempt() {
    let rig = rig();
    for wrong in [
        (
            "code_verifier",
            "1123456789abcdefghijklmnopqrstuvwxyzABCDEFG",
        ),
        ("client_id", "other"),
        ("redirect_uri", "com.example.app:/cb"),
        ("resource", "https://mcp.example"),
    ] {
        let code = rig.code(&[]);
        assert_ne!(rig.redeem(&code, &[wrong]).0.status, 200);
        assert_eq!(
            rig.redeem(&code, &[]).fault(),
            "400 invalid_grant",
            "{wrong:?}"
        );
    }
    // What misses a part is no attempt.
    let code = rig.code(&[]);
    assert_eq!(
        rig.redeem(&code, &[("code_verifier", "")]).fault(),
        "400 invalid_request"
    );
    assert_eq!(rig.redeem(&code, &[]).0.status, 200);
}

#[test]
fn a_code_that_comes_again_ends_what_it_gave() {
    for rig in [rig(), rig_in_files("auth-replay")] {
        let code = rig.code(&[]);
        let told = rig.redeem(&code, &[]);
        let (access, refresh) = (told.text("access_token"), told.text("refresh_token"));
        assert!(rig.claims(&access).is_some());
        // Whoever shows it, and however.
        let other = rig.redeem(&code, &[("client_id", "other")]);
        assert_eq!(other.fault(), "400 invalid_grant");
        assert!(rig.claims(&access).is_none(), "the access token has ended");
        assert_eq!(rig.refresh(&refresh, &[]).fault(), "400 invalid_grant");
        assert_eq!(rig.redeem(&code, &[]).fault(), "400 invalid_grant");
    }
}

#[test]
fn a_refresh_token_that_comes_again_ends_its_family() {
    for rig in [rig(), rig_in_files("auth-reuse")] {
        let first = rig.redeem(&rig.code(&[]), &[]);
        let second = rig.refresh(&first.text("refresh_token"), &[]);
        let third = rig.refresh(&second.text("refresh_token"), &[]);
        assert_eq!(rig.server.families().unwrap().len(), 1);
        let reused = rig.refresh(&first.text("refresh_token"), &[]);
        assert_eq!(reused.fault(), "400 invalid_grant");
        for told in [&first, &second, &third] {
            assert!(rig.claims(&told.text("access_token")).is_none());
            let refreshed = rig.refresh(&told.text("refresh_token"), &[]);
            assert_eq!(refreshed.fault(), "400 invalid_grant");
        }
        assert_eq!(rig.server.families().unwrap(), []);
    }
}

fn family(rig: &Rig) -> String {
    rig.redeem(&rig.code(&[]), &[]).text("refresh_token")
}

#[test]
fn what_a_refresh_token_is_bound_to() {
    let rig = rig();
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[("refresh_token", "")], "400 invalid_request"),
        (&[("refresh_token", "unknown")], "400 invalid_grant"),
        (&[("refresh_token", "a.b.c")], "400 invalid_grant"),
        (&[("refresh_token", "..")], "400 invalid_grant"),
        (&[("client_id", "")], "401 invalid_client"),
        (&[("client_id", "nobody")], "401 invalid_client"),
        (&[("client_id", "vault")], "401 invalid_client"),
        (&[("client_secret", "x")], "401 invalid_client"),
        (&[("scope", "tag:*")], "400 invalid_scope"),
        (&[("scope", "tag:web tag:docs")], "400 invalid_scope"),
        (&[("scope", "tool:git/status")], "400 invalid_scope"),
        (&[("scope", "nonsense")], "400 invalid_scope"),
        (&[("resource", "https://mcp.example")], "400 invalid_target"),
        (
            &[("resource", "https://other.example/mcp")],
            "400 invalid_target",
        ),
    ];
    for (changes, expect) in rows {
        let token = family(&rig);
        assert_eq!(rig.refresh(&token, changes).fault(), *expect, "{changes:?}");
        // It was not used up.
        assert_eq!(rig.refresh(&token, &[]).0.status, 200, "{changes:?}");
    }
    // Another client has it: it was stolen.
    let token = family(&rig);
    assert_eq!(
        rig.refresh(&token, &[("client_id", "other")]).fault(),
        "400 invalid_grant"
    );
    assert_eq!(rig.refresh(&token, &[]).fault(), "400 invalid_grant");
}

/// The name of a family stands in every access token; whoever knows it alone ends nothing.
#[test]
fn a_made_up_token_of_a_known_family_ends_nothing() {
    let rig = rig();
    let token = family(&rig);
    let parts: Vec<&str> = token.split('.').collect();
    let (id, proof, random) = (parts[0], parts[1], parts[2]);
    for made in [
        format!("{id}.x.{random}"),
        format!("{id}.{random}.{proof}"),
        format!("{id}..{random}"),
        id.to_owned(),
        format!("{id}.{proof}"),
    ] {
        assert_eq!(
            rig.refresh(&made, &[]).fault(),
            "400 invalid_grant",
            "{made}"
        );
    }
    assert_eq!(rig.refresh(&token, &[]).0.status, 200);
    let token = family(&rig);
    let proof = token.rsplit_once('.').unwrap().0;
    // This one was seen by somebody who has had a token.
    assert_eq!(
        rig.refresh(&format!("{proof}.x"), &[]).fault(),
        "400 invalid_grant"
    );
    assert_eq!(rig.refresh(&token, &[]).fault(), "400 invalid_grant");
}

#[test]
fn a_refresh_narrows_one_token_and_not_the_family() {
    let rig = rig();
    let told = rig.refresh(&family(&rig), &[("scope", "tag:db")]);
    assert_eq!(told.text("scope"), "tag:db");
    let told = rig.refresh(&told.text("refresh_token"), &[]);
    assert_eq!(told.text("scope"), "tag:db tag:web");
    // What narrows must not get lost.
    let reader = [("scope", "tag:web read")];
    let told = rig.redeem(&rig.code(&reader), &[]);
    assert_eq!(told.text("scope"), "read tag:web");
    let wider = rig.refresh(&told.text("refresh_token"), &[("scope", "tag:web")]);
    assert_eq!(wider.fault(), "400 invalid_scope");
}

#[test]
fn nothing_that_opens_a_door_is_kept_in_clear() {
    let rig = rig();
    let code = rig.code(&[("client_id", "vault")]);
    let secret = [("client_id", "vault"), ("client_secret", SECRET)];
    let pending = rig
        .store
        .values(crate::auth::server::grant::ISSUED)
        .unwrap()
        .concat();
    assert!(!pending.contains(&code) && pending.contains("vault"));
    let refresh = rig.redeem(&code, &secret).text("refresh_token");
    let (_, secrets) = refresh.split_once('.').unwrap();
    let kept = format!("{:?}", rig.server.families().unwrap());
    for part in secrets.split('.') {
        assert!(!kept.contains(part), "{kept}");
    }
}

#[test]
fn machines_get_tokens_for_themselves() {
    let rig = rig();
    let good = [
        ("grant_type", "client_credentials"),
        ("client_id", "robot"),
        ("client_secret", ROBOT),
    ];
    let told = rig.token(&changed(&good, &[]));
    assert_eq!(told.text("scope"), "tag:db tag:web");
    assert!(told.json().get("refresh_token").is_none());
    let claims = rig.claims(&told.text("access_token")).unwrap();
    assert_eq!(
        (claims.subject.as_str(), claims.client.as_str()),
        ("robot", "robot")
    );
    assert_eq!(claims.audience, "https://mcp.example/mcp");
    let told = rig.token(&changed(&good, &[("scope", "tag:db")]));
    assert_eq!(told.text("scope"), "tag:db");
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[("client_secret", "")], "401 invalid_client"),
        (&[("client_secret", "Robot-secret")], "401 invalid_client"),
        (&[("client_secret", "robot-secret ")], "401 invalid_client"),
        (
            &[("client_id", "vault"), ("client_secret", SECRET)],
            "400 unauthorized_client",
        ),
        (
            &[("client_id", "app"), ("client_secret", "")],
            "400 unauthorized_client",
        ),
        (&[("scope", "tag:docs")], "400 invalid_scope"),
        (&[("scope", "nonsense")], "400 invalid_scope"),
        (
            &[("resource", "https://other.example")],
            "400 invalid_target",
        ),
        (
            &[("grant_type", "authorization_code")],
            "400 invalid_request",
        ),
    ];
    for (changes, expect) in rows {
        assert_eq!(
            rig.token(&changed(&good, changes)).fault(),
            *expect,
            "{changes:?}"
        );
    }
}

#[test]
fn who_gives_a_token_back_ends_what_came_with_it() {
    let rig = rig();
    let give = |token: &str, client: &str| {
        let body = changed(&[("token", token), ("client_id", client)], &[]);
        rig.send("/revoke", &[], 1, &body)
    };
    for name in ["refresh_token", "access_token"] {
        let told = rig.redeem(&rig.code(&[]), &[]);
        let (access, refresh) = (told.text("access_token"), told.text("refresh_token"));
        // Not its client: the same answer, and nothing ends.
        let answer = give(&told.text(name), "other").0;
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        assert!(rig.claims(&access).is_some());
        assert_eq!(give(&told.text(name), "app").0.status, 200);
        assert!(rig.claims(&access).is_none(), "{name}");
        assert_eq!(rig.refresh(&refresh, &[]).fault(), "400 invalid_grant");
    }
    for (body, expect) in [
        ("token=unknown&client_id=app", "200"),
        (
            "token=a.b.c&client_id=app&token_type_hint=refresh_token",
            "200",
        ),
        ("token=x&client_id=app&token_type_hint=nonsense", "200"),
        ("client_id=app", "400 invalid_request"),
        ("token=&client_id=app", "400 invalid_request"),
        ("token=x&token=y&client_id=app", "400 invalid_request"),
        ("token=x", "401 invalid_client"),
        ("token=x&client_id=nobody", "401 invalid_client"),
        ("token=x&client_id=vault", "401 invalid_client"),
        (
            "token=x&client_id=vault&client_secret=y",
            "401 invalid_client",
        ),
    ] {
        assert_eq!(rig.send("/revoke", &[], 1, body).fault(), expect, "{body}");
    }
    let told = rig.send("/revoke?token=x", &[], 1, "client_id=app&token=x");
    assert_eq!(told.fault(), "400 invalid_request");
}

#[test]
fn a_client_whose_scopes_shrank_gets_no_more_than_is_left() {
    let rig = rig();
    let asked = rig
        .server
        .read_authorize(&query(&[("client_id", "narrow")]), true);
    let url = rig
        .server
        .grant(&asked.unwrap(), "operator", &scopes("tag:*"));
    let code = super::rig::said(&url).get("code").unwrap().to_owned();
    let told = rig.redeem(&code, &[("client_id", "narrow")]);
    assert_eq!(told.text("scope"), "tag:web");
    assert!(url.starts_with(BACK) && basic("a", "b").starts_with("Basic "));
}

#[test]
fn a_token_of_the_second_in_which_others_were_revoked_is_good() {
    let body = format!("grant_type=client_credentials&client_id=robot&client_secret={ROBOT}");
    for kind in [Kind::Client, Kind::Subject, Kind::All] {
        let rig = rig();
        let value = if kind == Kind::All { "" } else { "robot" };
        let before = rig.token(&body).text("access_token");
        rig.tokens.revoke(kind, value, unix_s()).unwrap();
        let after = rig.token(&body).text("access_token");
        assert!(rig.claims(&before).is_none(), "{kind:?}");
        assert!(rig.claims(&after).is_some(), "{kind:?}");
    }
}
