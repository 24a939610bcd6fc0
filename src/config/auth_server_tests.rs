use std::path::Path;

use super::{AuthServerSpec, Registration, filled};
use crate::config::Environment;
use crate::config::lookups::Lookups;
use crate::config::settings::{FileValues, Flags, resolve};
use crate::secrets::store::Store;

fn of(flags: &[(&'static str, &str)]) -> (AuthServerSpec, Vec<String>) {
    let mut given = Flags::default();
    for (flag, value) in flags {
        given.set(flag, (*value).to_owned());
    }
    let environment: Environment = [("ROBOT".to_owned(), "s3cret".to_owned())].into();
    let mut problems = Vec::new();
    let settings = resolve(&FileValues::default(), &given, &environment, &mut problems);
    let store = Store::default();
    let lookups = Lookups::new(&environment, Path::new("/"), &store);
    let spec = filled(&settings, &lookups, &mut problems);
    (spec, problems.iter().map(ToString::to_string).collect())
}

fn clients(text: &str) -> (AuthServerSpec, Vec<String>) {
    of(&[("auth-clients", text)])
}

#[test]
fn registration_is_open_on_this_machine_alone() {
    for (host, given, expect) in [
        ("127.0.0.1", "", Registration::Open),
        ("::1", "", Registration::Open),
        ("localhost", "", Registration::Open),
        ("0.0.0.0", "", Registration::Off),
        ("192.0.2.1", "", Registration::Off),
        ("gateway.example", "", Registration::Off),
        ("0.0.0.0", "open", Registration::Open),
        ("127.0.0.1", "off", Registration::Off),
        ("127.0.0.1", "token", Registration::Token),
    ] {
        let mut flags = vec![("host", host)];
        if !given.is_empty() {
            flags.push(("auth-registration", given));
        }
        let (spec, problems) = of(&flags);
        assert_eq!(spec.registration, expect, "{host} {given}");
        assert_eq!(problems, [""; 0], "{host} {given}");
    }
}

#[test]
fn clients_are_filled_in() {
    let (spec, problems) = clients(
        r#"{"robot": {"secret": "${ROBOT}", "scopes": "tag:web", "machine": true},
            "app": {"name": "An app", "redirectUris": ["https://app.example/cb"]}}"#,
    );
    assert_eq!(problems, [""; 0]);
    let (robot, app) = (&spec.clients[0], &spec.clients[1]);
    let secret = robot.secret.as_ref().map(|secret| secret.expose());
    assert_eq!((robot.id.as_str(), secret), ("robot", Some("s3cret")));
    assert!(robot.is_machine && robot.scopes.as_deref() == Some("tag:web"));
    assert_eq!((app.name.as_str(), app.redirect_uris.len()), ("An app", 1));
    assert!(app.secret.is_none() && !app.is_machine);
}

#[test]
fn what_no_client_can_be_is_said() {
    for (text, expect) in [
        (
            r#"{"a b": {"redirectUris": ["https://a.example/"]}}"#,
            "cannot be the id of a client",
        ),
        (
            r#"{"": {"redirectUris": ["https://a.example/"]}}"#,
            "cannot be the id of a client",
        ),
        (r#"{"a": {}}"#, "a client that can get no token"),
        (
            r#"{"a": {"redirectUris": []}}"#,
            "a client that can get no token",
        ),
        (
            r#"{"a": {"machine": true}}"#,
            "a machine without a secret or without scopes",
        ),
        (
            r#"{"a": {"machine": true, "secret": "x"}}"#,
            "a machine without a secret or without scopes",
        ),
        (
            r#"{"a": {"machine": true, "scopes": "tag:a"}}"#,
            "a machine without a secret or without scopes",
        ),
        (
            r#"{"a": {"redirectUri": "https://a.example/"}}"#,
            "unknown key",
        ),
        (r#"{"a": {"redirectUris": "https://a.example/"}}"#, ""),
        (r#"{"a": {"redirectUris": [1]}}"#, ""),
        (r#"["a"]"#, ""),
        (r#"{"a": 1}"#, ""),
        ("{", ""),
    ] {
        let (_, problems) = clients(text);
        let is_said = problems.iter().any(|problem| problem.contains(expect));
        assert!(is_said, "{text}: {problems:?}");
    }
}

/// It costs its client alone.
#[test]
fn a_secret_that_is_away_costs_its_client() {
    let (spec, problems) = clients(
        r#"{"robot": {"secret": "${AWAY}", "scopes": "tag:web", "machine": true},
            "app": {"redirectUris": ["https://app.example/cb"]}}"#,
    );
    let names: Vec<&str> = spec
        .clients
        .iter()
        .map(|client| client.id.as_str())
        .collect();
    assert_eq!(names, ["app"]);
    assert!(
        problems.iter().any(|problem| problem.contains("AWAY")),
        "{problems:?}"
    );
    let (spec, problems) = of(&[("auth-registration-token", "${SECRET:away}")]);
    assert_eq!(spec.registration_token, None);
    assert_eq!(problems.len(), 1, "{problems:?}");
}
