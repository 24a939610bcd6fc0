//! How requests reach one server: its URL, the headers of its configuration, and one pool of
//! connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::base::secret::Secret;
use crate::config::remote::RemoteSpec;
use crate::mcp::trace;
use crate::net::client::{Client, ClientOptions, Method, Request, Response};
use crate::net::egress::{Allowed, Egress};
use crate::net::stop::Stop;
use crate::net::url::Url;
use crate::upstream::oauth::login::{Login, Next};
use crate::upstream::remote::trouble::Trouble;
use crate::wire::challenge::Challenge;

/// Names and values beside those of the configuration.
pub type Headers = Vec<(String, String)>;

pub struct Road {
    client: Client,
    url: String,
    headers: Vec<(String, Secret)>,
    login: Option<Arc<Login>>,
}

/// How long an exchange may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until the head of the answer.
    pub head: Duration,
    /// Between two bytes of its body; `None`: as long as the connection lives.
    pub idle: Option<Duration>,
}

impl Patience {
    /// For a call: whoever waits for it has a deadline of its own and stops the exchange.
    pub const CALL: Patience = Patience {
        head: limits::REMOTE_CALL,
        idle: Some(limits::REMOTE_CALL),
    };
    /// For what is answered without work.
    pub const NOTE: Patience = Patience {
        head: limits::REMOTE_NOTE,
        idle: Some(limits::REMOTE_NOTE),
    };
    /// For a sign of life: as a child's (`upstream::liveness`).
    pub fn of_look(request_timeout: Duration) -> Patience {
        let (least, most) = (limits::LIVENESS_ANSWER_LEAST, limits::LIVENESS_ANSWER);
        let time = request_timeout.clamp(least, most);
        Patience {
            head: time,
            idle: Some(time),
        }
    }

    /// For another session: as a greeting.
    pub const GREETING: Patience = Patience {
        head: limits::REMOTE_STREAM_HEAD,
        idle: Some(limits::REMOTE_STREAM_HEAD),
    };
    /// For a stream that may be silent.
    pub const STREAM: Patience = Patience {
        head: limits::REMOTE_STREAM_HEAD,
        idle: None,
    };
}

impl Road {
    /// # Errors
    /// When the certificates or the proxy of the entry cannot be used.
    pub fn open(
        spec: &RemoteSpec,
        allow: &[Allowed],
        login: Option<Arc<Login>>,
    ) -> Result<Road, Trouble> {
        let options = ClientOptions {
            ca_file: spec.ca_file.clone(),
            proxy: spec.proxy.clone(),
            egress: Egress::operator(allow.to_vec()).within(spec.within.clone()),
        };
        let client = Client::new(&options).map_err(|error| Trouble::of_net(&error))?;
        Ok(Road {
            client,
            url: spec.url.clone(),
            headers: spec.headers.clone(),
            login,
        })
    }

    /// Closes connections that are idle.
    pub fn tend(&self) {
        self.client.tend();
    }

    /// To the server's own URL, unless `url` says otherwise.
    pub fn post(
        &self,
        url: Option<&str>,
        headers: &Headers,
        body: &[u8],
        patience: Patience,
        stop: &Stop,
    ) -> Result<Response, Trouble> {
        let mut all = vec![
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
        ];
        self.add(headers, &mut all);
        let request = Request {
            method: Method::Post,
            url: url.unwrap_or(&self.url),
            headers: &all,
            body,
            head_timeout: patience.head,
            idle_timeout: patience.idle,
        };
        self.send(&request, stop)
    }

    /// Opens a stream of events.
    pub fn get(&self, headers: &Headers, stop: &Stop) -> Result<Response, Trouble> {
        let mut all = vec![("Accept", "text/event-stream")];
        self.add(headers, &mut all);
        let request = Request {
            method: Method::Get,
            url: &self.url,
            headers: &all,
            body: b"",
            head_timeout: Patience::STREAM.head,
            idle_timeout: Patience::STREAM.idle,
        };
        self.send(&request, stop)
    }

    pub fn delete(&self, headers: &Headers, time: Duration) -> Result<u16, Trouble> {
        let mut all = Vec::new();
        self.add(headers, &mut all);
        let request = Request {
            method: Method::Delete,
            url: &self.url,
            headers: &all,
            body: b"",
            head_timeout: time,
            idle_timeout: Some(time),
        };
        let sent = self.send(&request, &Stop::default());
        sent.map(|response| response.status())
    }

    /// With the token of the login. A refusal of the token means that nothing was done: the
    /// request is sent once more if there is another one.
    fn send(&self, request: &Request<'_>, stop: &Stop) -> Result<Response, Trouble> {
        let mut may_try_again = true;
        loop {
            let bearer = match &self.login {
                None => None,
                Some(login) => login.bearer().map_err(Trouble::without_token)?,
            };
            let mut headers = request.headers.to_vec();
            let header = bearer.as_ref().map(|bearer| bearer.header.as_str());
            headers.extend(header.map(|header| ("Authorization", header)));
            let request = Request {
                headers: &headers,
                ..*request
            };
            let sent = self.client.send(&request, stop);
            let mut response = sent.map_err(|error| Trouble::of_net(&error))?;
            let used = bearer.map(|bearer| bearer.number);
            match self.after(&response, used) {
                None | Some(Next::Login) => return Ok(response),
                Some(Next::Failed(why)) => return Err(Trouble::without_token(why)),
                Some(Next::Again) if !std::mem::take(&mut may_try_again) => return Ok(response),
                Some(Next::Again) => drop(small_body(&mut response)),
            }
        }
    }

    /// What a refusal leads to; `None` when it is no matter of the login.
    fn after(&self, response: &Response, used: Option<u64>) -> Option<Next> {
        let login = self.login.as_ref()?;
        let challenge = challenge_of(response);
        match (response.status(), challenge) {
            (401, None) if !login.is_expected() => None,
            (401, challenge) => Some(login.refused(used, challenge)),
            (403, Some(challenge)) if challenge.wants_more_scope() => {
                Some(login.lacks_scope(used, challenge))
            }
            _ => None,
        }
    }

    /// Whether an answer says that a login would help.
    pub fn wants_login(&self, response: &Response) -> bool {
        let challenge = challenge_of(response);
        let is_expected = self.login.as_ref().is_some_and(|login| login.is_expected());
        match response.status() {
            401 => challenge.is_some() || is_expected,
            403 if self.login.is_some() => challenge.is_some_and(|one| one.wants_more_scope()),
            _ => false,
        }
    }

    /// How somebody logs in here.
    pub fn remedy(&self) -> String {
        let by_hand = "set \"Authorization\" in its \"headers\" to a token that it accepts";
        let Some(login) = &self.login else {
            return by_hand.to_owned();
        };
        let name = &login.server;
        match &login.principal {
            None => format!("log in with `onemcp auth login {name}`, or {by_hand}"),
            Some(principal) => {
                format!("log in with `onemcp auth login {name} --principal '{principal}'`")
            }
        }
    }

    /// Host and port of the server's own URL.
    pub fn address(&self) -> Option<(String, u16)> {
        let url = Url::parse(&self.url).ok()?;
        Some((url.host().to_owned(), url.port()))
    }

    fn add<'a>(&'a self, headers: &'a Headers, all: &mut Vec<(&'a str, &'a str)>) {
        let configured = self.headers.iter();
        all.extend(configured.map(|(name, value)| (name.as_str(), value.expose())));
        // A trace of the operator's own counts.
        let is_configured = |name: &str| {
            let mut configured = self.headers.iter();
            trace::is_name(name) && configured.any(|(other, _)| other.eq_ignore_ascii_case(name))
        };
        all.extend(
            headers
                .iter()
                .filter(|(name, _)| !is_configured(name))
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
    }
}

fn challenge_of(response: &Response) -> Option<Challenge> {
    Challenge::bearer(&response.header_list("www-authenticate")?)
}

/// Reads the rest of a small body, so that its connection can be used again, and gives it as
/// far as it is text.
pub fn small_body(response: &mut Response) -> String {
    response.set_deadline(Some(Instant::now() + limits::REMOTE_TAIL));
    let body = response.read_to_end(limits::REMOTE_REFUSAL_BYTES);
    String::from_utf8(body.unwrap_or_default()).unwrap_or_default()
}

/// Where an `endpoint` event sends us: relative to the URL that gave it, and nowhere else.
pub fn endpoint(from: &Url, reference: &str) -> Result<String, Trouble> {
    let target = from.join(reference.trim());
    let Ok(target) = target else {
        return Err(Trouble::unusable("named an endpoint that is no URL"));
    };
    if !target.same_origin(from) {
        let detail = format!(
            "named an endpoint of another origin ({}); its messages stay with {}",
            target.origin(),
            from.origin()
        );
        return Err(Trouble::unusable(detail));
    }
    Ok(target.whole())
}

#[cfg(test)]
mod tests {
    use super::endpoint;
    use crate::net::url::Url;

    #[test]
    fn endpoints_stay_at_their_origin() {
        let from = Url::parse("https://a.example/x/sse?k=1").expect("a URL");
        for (reference, target) in [
            ("/messages?s=1", "https://a.example/messages?s=1"),
            ("messages", "https://a.example/x/messages"),
            ("https://a.example:443/m", "https://a.example/m"),
        ] {
            let whole = Url::parse(target).expect("a URL").whole();
            assert_eq!(endpoint(&from, reference), Ok(whole), "{reference}");
        }
        for reference in [
            "https://b.example/m",
            "http://a.example/m",
            "https://a.example:444/m",
            "//b.example/m",
            "file:///etc/passwd",
            "https://a.example@b.example/",
        ] {
            assert!(endpoint(&from, reference).is_err(), "{reference}");
        }
    }
}
