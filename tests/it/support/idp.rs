//! An identity provider for tests: its metadata and its keys over HTTP, and JWTs signed with them.
//! Written from RFC 7517, 8414 and OpenID Connect Discovery, not from our code.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::support::token::{ISSUER, base64, now_s};

/// How it behaves.
pub(crate) struct State {
    /// Name and seed of each key that it tells.
    pub(crate) keys: Vec<(String, u8)>,
    /// Answers nothing but 500.
    pub(crate) is_broken: bool,
    /// Tells one byte of its keys now and then.
    pub(crate) is_slow: bool,
    /// What its metadata says instead of its own name, and of the place of its keys.
    pub(crate) says_issuer: Option<String>,
    pub(crate) says_keys: Option<String>,
    /// What was asked for.
    pub(crate) asked: Vec<String>,
}

pub(crate) struct Idp {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

impl Idp {
    /// With one key, `k1`.
    pub(crate) fn start() -> Idp {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            keys: vec![("k1".into(), 1)],
            is_broken: false,
            is_slow: false,
            says_issuer: None,
            says_keys: None,
            asked: Vec::new(),
        }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || serve(stream, port, &state));
            }
        });
        Idp { port, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn count(&self, path: &str) -> usize {
        let state = self.state();
        state.asked.iter().filter(|asked| *asked == path).count()
    }

    /// A token for the gateway, with other claims in the place of the usual ones.
    pub(crate) fn token(&self, kid: &str, seed: u8, other: &Value) -> String {
        let mut claims = json!({"iss": self.url(), "sub": "ann", "client_id": "app",
            "aud": format!("{ISSUER}/mcp"), "scope": "openid tag:web",
            "iat": now_s(), "exp": now_s() + 600});
        for (name, value) in other.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let header = json!({"typ": "JWT", "alg": "EdDSA", "kid": kid});
        let text = [header, claims].map(|part| base64(part.to_string().as_bytes()));
        let text = text.join(".");
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let signature = pair.sign(text.as_bytes());
        format!("{text}.{}", base64(signature.as_ref()))
    }
}

fn serve(stream: TcpStream, port: u16, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(1..) if line != "\r\n" => head.push(line),
                Ok(1..) => break,
                _ => return,
            }
        }
        let path = head[0].split(' ').nth(1).unwrap_or_default().to_owned();
        state.lock().unwrap().asked.push(path.clone());
        let (status, body) = answer(&path, port, &state.lock().unwrap());
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        if stream.write_all(head.as_bytes()).is_err() {
            return;
        }
        let is_slow = state.lock().unwrap().is_slow;
        for piece in body
            .as_bytes()
            .chunks(if is_slow { 1 } else { length.max(1) })
        {
            if stream.write_all(piece).is_err() {
                return;
            }
            if is_slow {
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    }
}

fn answer(path: &str, port: u16, state: &State) -> (u16, String) {
    let own = format!("http://127.0.0.1:{port}");
    if state.is_broken {
        return (500, "{}".into());
    }
    match path {
        "/.well-known/openid-configuration" => {
            let keys = format!("{own}/keys");
            let issuer = state.says_issuer.clone().unwrap_or(own);
            let keys = state.says_keys.clone().unwrap_or(keys);
            (200, json!({"issuer": issuer, "jwks_uri": keys}).to_string())
        }
        "/keys" => {
            let jwk = |(kid, seed): &(String, u8)| {
                let pair = Ed25519KeyPair::from_seed_unchecked(&[*seed; 32]).unwrap();
                let x = base64(pair.public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": kid, "x": x})
            };
            let keys: Vec<Value> = state.keys.iter().map(jwk).collect();
            (200, json!({"keys": keys}).to_string())
        }
        _ => (404, "{}".into()),
    }
}
