//! A server over HTTP that wants a login, and its authorization server at another port. Both do
//! what a test turns their knobs to. It checks what a strict one would: PKCE, redirects, the
//! resource, who the client is.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::support::remote::{Script, Seen, Wire};

pub(crate) struct Guarded {
    pub(crate) server: Script,
    pub(crate) authority: Script,
    knobs: Arc<Mutex<Knobs>>,
}

pub(crate) struct Knobs {
    /// Laid over the two descriptions; `null` takes a member away.
    pub(crate) resource: Value,
    pub(crate) metadata: Value,
    /// In their place, if not empty: the raw text.
    pub(crate) raw_metadata: String,
    pub(crate) life_s: u64,
    /// What a token must have for a call of a tool.
    pub(crate) tool_scope: String,
    /// The status and error with which tokens are not renewed.
    pub(crate) refuse_refresh: Option<(u16, &'static str)>,
    pub(crate) rotates: bool,
    /// Of `/token`, how often it was asked in this way.
    pub(crate) grants: HashMap<String, usize>,
    pub(crate) registered: Vec<Value>,
    pub(crate) calls: usize,
    urls: (String, String),
    codes: HashMap<String, HashMap<String, String>>,
    tokens: HashMap<String, (Instant, String, String)>,
    refresh: HashSet<String>,
    count: usize,
    withheld: String,
}

impl Guarded {
    pub(crate) fn start() -> Guarded {
        let knobs = Arc::new(Mutex::new(Knobs {
            resource: json!({}),
            metadata: json!({}),
            raw_metadata: String::new(),
            life_s: 3600,
            tool_scope: String::new(),
            refuse_refresh: None,
            rotates: true,
            grants: HashMap::new(),
            registered: Vec::new(),
            calls: 0,
            urls: Default::default(),
            codes: HashMap::new(),
            tokens: HashMap::new(),
            refresh: HashSet::new(),
            count: 0,
            withheld: String::new(),
        }));
        let (one, two) = (knobs.clone(), knobs.clone());
        let server = Script::start(move |seen, wire| one.lock().unwrap().serve(seen, wire));
        let authority = Script::start(move |seen, wire| two.lock().unwrap().authorize(seen, wire));
        knobs.lock().unwrap().urls = (server.url(""), authority.url(""));
        Guarded {
            server,
            authority,
            knobs,
        }
    }

    pub(crate) fn knobs(&self) -> MutexGuard<'_, Knobs> {
        self.knobs.lock().unwrap()
    }

    /// What a person does in a browser: allows it. Gives where the browser is sent.
    pub(crate) fn allow(&self, url: &str) -> String {
        let mut knobs = self.knobs();
        let (place, query) = url.split_once('?').unwrap();
        assert_eq!(place, format!("{}/authorize", knobs.urls.1));
        let fields = form(query);
        assert_eq!(fields["response_type"], "code");
        assert_eq!(fields["code_challenge_method"], "S256");
        assert_eq!(fields["resource"], format!("{}/mcp", knobs.urls.0));
        assert!(fields["state"].len() >= 43, "{url}");
        let code = knobs.next("code");
        let back = format!(
            "{}?code={code}&state={}&iss={}",
            fields["redirect_uri"],
            fields["state"],
            knobs.urls.1.replace(':', "%3A").replace('/', "%2F")
        );
        knobs.codes.insert(code, fields);
        back
    }

    /// Every token ends now.
    pub(crate) fn revoke_access(&self) {
        self.knobs().tokens.clear();
    }
}

impl Knobs {
    /// From now on tokens are given without this scope, whatever is asked for.
    pub(crate) fn codes_lack(&mut self, scope: &str) {
        self.withheld = scope.to_owned();
    }

    fn next(&mut self, kind: &str) -> String {
        self.count += 1;
        let port = self.urls.0.rsplit(':').next().unwrap_or_default();
        format!("{kind}-{}-canary-{port}", self.count)
    }

    fn serve(&mut self, seen: &Seen, wire: &mut Wire) -> bool {
        let (own, other) = self.urls.clone();
        if seen
            .target
            .starts_with("/.well-known/oauth-protected-resource")
        {
            let text = json!({
                "resource": format!("{own}/mcp"),
                "authorization_servers": [other],
                "scopes_supported": ["read", "write"],
            });
            wire.json(200, "", &patched(text, &self.resource));
            return true;
        }
        if seen.target != "/mcp" {
            wire.reply(404, "", "");
            return true;
        }
        let place = format!("{own}/.well-known/oauth-protected-resource/mcp");
        let bearer = seen.header("Authorization").unwrap_or_default();
        let token = self.tokens.get(bearer.trim_start_matches("Bearer "));
        let scope = token.filter(|(until, ..)| Instant::now() < *until);
        let Some(scope) = scope.map(|(_, scope, _)| scope.clone()) else {
            let challenge = format!(
                "WWW-Authenticate: Basic realm=\"x\"\r\n\
                 WWW-Authenticate: Bearer resource_metadata=\"{place}\", scope=\"read\"\r\n"
            );
            wire.reply(401, &challenge, "");
            return true;
        };
        let wanted = &self.tool_scope;
        let lacks = !wanted.is_empty() && !scope.split(' ').any(|word| word == wanted);
        if seen.what() == "tools/call" && lacks {
            let challenge = format!(
                "WWW-Authenticate: Bearer error=\"insufficient_scope\", scope=\"{wanted}\", \
                 resource_metadata=\"{place}\"\r\n"
            );
            wire.reply(403, &challenge, "");
            return true;
        }
        self.calls += usize::from(seen.what() == "tools/call");
        false
    }

    fn authorize(&mut self, seen: &Seen, wire: &mut Wire) -> bool {
        let own = self.urls.1.clone();
        match seen.target.as_str() {
            "/.well-known/oauth-authorization-server" if !self.raw_metadata.is_empty() => {
                wire.reply(200, "", &self.raw_metadata);
            }
            "/.well-known/oauth-authorization-server" => {
                let text = json!({
                    "issuer": own,
                    "authorization_endpoint": format!("{own}/authorize"),
                    "token_endpoint": format!("{own}/token"),
                    "registration_endpoint": format!("{own}/register"),
                    "code_challenge_methods_supported": ["S256"],
                    "response_types_supported": ["code"],
                });
                wire.json(200, "", &patched(text, &self.metadata));
            }
            "/register" => {
                let mut client = seen.body.clone();
                client["client_id"] = self.next("client").into();
                client["client_secret"] = self.next("secret").into();
                self.registered.push(client.clone());
                wire.json(201, "", &client);
            }
            "/token" => match self.token(seen) {
                Ok(answer) => wire.json(200, "", &answer),
                Err((status, error)) => wire.json(status, "", &json!({"error": error})),
            },
            _ => wire.reply(404, "", ""),
        }
        true
    }

    fn token(&mut self, seen: &Seen) -> Result<Value, (u16, &'static str)> {
        let fields = form(&seen.text);
        let get = |name: &str| fields.get(name).cloned().unwrap_or_default();
        let grant = get("grant_type");
        *self.grants.entry(grant.clone()).or_default() += 1;
        if get("resource") != format!("{}/mcp", self.urls.0) {
            return Err((400, "invalid_target"));
        }
        let mut scope = get("scope");
        match grant.as_str() {
            "authorization_code" => {
                let asked = self.codes.remove(&get("code"));
                let asked = asked.ok_or((400, "invalid_grant"))?;
                let proof = base64url(digest(&SHA256, get("code_verifier").as_bytes()).as_ref());
                if asked["code_challenge"] != proof || asked["redirect_uri"] != get("redirect_uri")
                {
                    return Err((400, "invalid_grant"));
                }
                scope = asked.get("scope").cloned().unwrap_or_default();
            }
            "refresh_token" => {
                if let Some(refusal) = self.refuse_refresh {
                    return Err(refusal);
                }
                let known = match self.rotates {
                    true => self.refresh.remove(&get("refresh_token")),
                    false => self.refresh.contains(&get("refresh_token")),
                };
                if !known {
                    return Err((400, "invalid_grant"));
                }
                scope = "read".to_owned();
            }
            _ => {}
        }
        let words = scope.split(' ').filter(|word| *word != self.withheld);
        let scope = words.collect::<Vec<_>>().join(" ");
        let until = Instant::now() + Duration::from_secs(self.life_s);
        let (access, refresh) = (self.next("access"), self.next("refresh"));
        self.tokens
            .insert(access.clone(), (until, scope.clone(), grant.clone()));
        let mut answer = json!({
            "access_token": access, "token_type": "Bearer", "expires_in": self.life_s,
            "scope": scope,
        });
        if grant != "client_credentials" && (self.rotates || grant == "authorization_code") {
            self.refresh.insert(refresh.clone());
            answer["refresh_token"] = refresh.into();
        }
        Ok(answer)
    }
}

fn patched(mut base: Value, over: &Value) -> Value {
    for (name, value) in over.as_object().into_iter().flatten() {
        match value {
            Value::Null => drop(base.as_object_mut().unwrap().remove(name)),
            value => base[name] = value.clone(),
        }
    }
    base
}

pub(crate) fn form(text: &str) -> HashMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=chunk.len()].copy_from_slice(chunk);
        let word = u32::from_be_bytes(word);
        for at in 0..=chunk.len() {
            let digit = word >> (18 - 6 * at) & 63;
            text.push(char::from(DIGITS[digit as usize]));
        }
    }
    text
}
