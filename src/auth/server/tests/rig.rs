//! A server with clients of every kind, and requests to it as bytes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde_json::Value;

use crate::auth::keys::KeySet;
use crate::auth::own_token::Claims;
use crate::auth::revoked::Revoked;
use crate::auth::server::{Asked, Parts, Server};
use crate::auth::store::Store;
use crate::auth::tokens::Tokens;
use crate::base::secret::Secret;
use crate::base::time::unix_s;
use crate::config::auth_server::{AuthServerSpec, KnownClient, Registration};
use crate::http::{Client as From, Head, Parsed, Reply, no_fields};
use crate::model::scope::Scopes;
use crate::secrets::store::testing::Folder;
use crate::wire::base64::{encode_standard, encode_url};
use crate::wire::form::{Form, encode};
use crate::wire::jose::jws::Jws;

pub(super) const HOME: &str = "https://mcp.example";
pub(super) const BACK: &str = "https://app.example/cb?x=1";
pub(super) const VERIFIER: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
/// The secrets of `vault` and of `robot`.
pub(super) const SECRET: &str = "s3cret of the vault: + %";
pub(super) const ROBOT: &str = "robot-secret";

pub(super) struct Rig {
    pub(super) server: Server,
    pub(super) tokens: Arc<Tokens>,
    pub(super) store: Arc<Store>,
    _folder: Option<Folder>,
}

/// One answer: status, headers and body.
pub(super) struct Told(pub(super) Reply);

pub(super) fn spec() -> AuthServerSpec {
    let client = |id: &str, secret: Option<&str>, uris: &[&str]| KnownClient {
        id: id.to_owned(),
        name: format!("The {id}"),
        secret: secret.map(|text| Secret::new(text.to_owned())),
        redirect_uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
        ..KnownClient::default()
    };
    let robot = KnownClient {
        scopes: Some("tag:web tag:db".to_owned()),
        is_machine: true,
        ..client("robot", Some(ROBOT), &[])
    };
    let narrow = KnownClient {
        scopes: Some("tag:web".to_owned()),
        ..client("narrow", None, &[BACK])
    };
    AuthServerSpec {
        enabled: true,
        registration: Registration::Open,
        clients: vec![
            client(
                "app",
                None,
                &[BACK, "http://127.0.0.1/cb", "com.example.app:/cb"],
            ),
            client("other", None, &[BACK]),
            client("vault", Some(SECRET), &[BACK]),
            robot,
            narrow,
        ],
        ..AuthServerSpec::default()
    }
}

pub(super) fn rig() -> Rig {
    with(spec(), Store::memory(), None)
}

pub(super) fn rig_of(spec: AuthServerSpec) -> Rig {
    with(spec, Store::memory(), None)
}

pub(super) fn rig_in_files(name: &str) -> Rig {
    let folder = Folder::new(name);
    let store = Store::open(&folder.path("auth")).unwrap();
    with(spec(), store, Some(folder))
}

fn with(spec: AuthServerSpec, store: Store, folder: Option<Folder>) -> Rig {
    let keys = KeySet::open(None, false).unwrap();
    let revoked = Revoked::open(None, None, unix_s()).unwrap();
    let tokens = Arc::new(Tokens::new(HOME, keys, revoked));
    let store = Arc::new(store);
    let parts = Parts {
        spec,
        store: store.clone(),
        tokens: tokens.clone(),
        life: Duration::from_secs(3600),
        egress_allow: Vec::new(),
    };
    Rig {
        server: Server::new(parts).unwrap(),
        tokens,
        store,
        _folder: folder,
    }
}

pub(super) fn challenge() -> String {
    encode_url(digest(&SHA256, VERIFIER.as_bytes()).as_ref())
}

pub(super) fn scopes(text: &str) -> Scopes {
    Scopes::parse(text).unwrap()
}

/// The fields with some of them replaced (or, with an empty value, left out).
pub(super) fn changed(fields: &[(&str, &str)], changes: &[(&str, &str)]) -> String {
    let mut fields: Vec<(&str, &str)> = fields.to_vec();
    for change in changes {
        match fields.iter_mut().find(|(name, _)| *name == change.0) {
            Some(field) => field.1 = change.1,
            None => fields.push(*change),
        }
    }
    encode(&fields)
}

/// A good request for consent by `app`, changed.
pub(super) fn query(changes: &[(&str, &str)]) -> String {
    let challenge = challenge();
    let good = [
        ("response_type", "code"),
        ("client_id", "app"),
        ("redirect_uri", BACK),
        ("state", "s/1 &"),
        ("scope", "tag:web tag:db"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("resource", "https://mcp.example/mcp"),
    ];
    changed(&good, changes)
}

/// What a redirect says.
pub(super) fn said(url: &str) -> Form {
    let (_, query) = url.split_once('?').unwrap();
    let form = Form::parse(query.as_bytes()).unwrap();
    assert_eq!(form.repeated(), None, "{url}");
    form
}

impl Rig {
    pub(super) fn asked(&self, changes: &[(&str, &str)]) -> Asked {
        self.server.read_authorize(&query(changes), true).unwrap()
    }

    /// A code that was consented to.
    pub(super) fn code(&self, changes: &[(&str, &str)]) -> String {
        let asked = self.asked(changes);
        let url = self.server.grant(&asked, "operator", &scopes("tag:*"));
        said(&url).get("code").expect("a code").to_owned()
    }

    /// A request to a path with these headers (besides the type of a form).
    pub(super) fn send(&self, path: &str, headers: &[(&str, &str)], from: u8, body: &str) -> Told {
        let mut text = format!("POST {path} HTTP/1.1\r\nHost: h\r\n");
        let json = path.starts_with("/register");
        if !headers.iter().any(|(name, _)| *name == "Content-Type") {
            let kind = match json {
                true => "application/json",
                false => "application/x-www-form-urlencoded; charset=UTF-8",
            };
            text += &format!("Content-Type: {kind}\r\n");
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        let mut fields = no_fields();
        let Parsed::Complete(head) = Head::parse(text.as_bytes(), &mut fields) else {
            panic!("not a head: {text}");
        };
        let from = From {
            address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, from)),
            peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, from)),
            certain: true,
            is_local: false,
        };
        let body = body.as_bytes();
        Told(match head.path {
            "/token" => self.server.token(&head, &from, body),
            "/revoke" => self.server.revoke(&head, &from, body),
            _ => self.server.register(&head, &from, body),
        })
    }

    pub(super) fn token(&self, body: &str) -> Told {
        self.send("/token", &[], 1, body)
    }

    /// Exchanges a code of `app`, with changes.
    pub(super) fn redeem(&self, code: &str, changes: &[(&str, &str)]) -> Told {
        self.token(&exchange(code, changes))
    }

    pub(super) fn refresh(&self, token: &str, changes: &[(&str, &str)]) -> Told {
        let good = [
            ("grant_type", "refresh_token"),
            ("refresh_token", token),
            ("client_id", "app"),
        ];
        self.token(&changed(&good, changes))
    }

    /// Whether an access token is good, and what it says.
    pub(super) fn claims(&self, token: &str) -> Option<Claims> {
        self.tokens.verify(&Jws::parse(token)?, unix_s()).ok()
    }
}

pub(super) fn exchange(code: &str, changes: &[(&str, &str)]) -> String {
    let good = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", BACK),
        ("client_id", "app"),
        ("code_verifier", VERIFIER),
        ("resource", "https://mcp.example/mcp"),
    ];
    changed(&good, changes)
}

pub(super) fn basic(id: &str, secret: &str) -> String {
    format!(
        "Basic {}",
        encode_standard(format!("{id}:{secret}").as_bytes())
    )
}

impl Told {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.0.headers.iter();
        let found = headers.find(|(known, _)| *known == name)?;
        Some(&found.1)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.0.body).unwrap_or_default()
    }

    /// Status and error, as `400 invalid_grant`; and nobody may keep it.
    pub(super) fn fault(&self) -> String {
        assert_eq!(self.header("Cache-Control"), Some("no-store"));
        let body = self.json();
        let error = body["error"].as_str().unwrap_or_default();
        format!("{} {error}", self.0.status).trim_end().to_owned()
    }

    /// A text of a good answer.
    pub(super) fn text(&self, name: &str) -> String {
        let body = self.json();
        assert_eq!(self.0.status, 200, "{body}");
        body[name].as_str().unwrap_or_default().to_owned()
    }
}
