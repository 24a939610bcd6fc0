//! Requests of the OAuth client: to URLs that a server named, so each within `net::egress`, with
//! a deadline, without redirects, and with an answer that is small.

use std::time::Instant;

use crate::base::limits;
use crate::config::remote::RemoteSpec;
use crate::net::client::{Client, ClientOptions, Method, Request};
use crate::net::egress::{Allowed, Egress};
use crate::net::stop::Stop;
use crate::net::url::Url;

pub struct Fetch {
    client: Client,
    egress: Egress,
}

pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Fetch {
    /// For what the server of `spec` names.
    pub fn new(spec: &RemoteSpec, allow: &[Allowed]) -> Result<Fetch, String> {
        let issuer = spec.oauth.as_ref().and_then(|oauth| oauth.issuer.as_ref());
        let homes = [Some(&spec.url), issuer];
        let homes = homes.into_iter().flatten();
        let homes = homes.filter_map(|url| Url::parse(url).ok()).collect();
        let egress = Egress::household(allow.to_vec(), homes);
        let options = ClientOptions {
            ca_file: spec.ca_file.clone(),
            proxy: spec.proxy.clone(),
            egress: egress.clone(),
        };
        let client = Client::new(&options).map_err(|error| format!("failed to {error}"))?;
        Ok(Fetch {
            client: client.keeping_redirects(),
            egress,
        })
    }

    /// A URL that may be asked, or be shown to a person: without fragment, as it was written.
    pub fn admit(&self, what: &str, url: &str) -> Result<(), String> {
        let parsed = Url::parse(url).map_err(|error| format!("named a {what} that {error}"))?;
        if url.contains('#') || url.len() > limits::OAUTH_URL_BYTES {
            return Err(format!("named a {what} that cannot be used"));
        }
        let checked = self.egress.check_url(&parsed);
        checked.map_err(|why| format!("named a {what} at {}: {why}", parsed.origin()))
    }

    pub fn get(&self, url: &str) -> Result<Answer, String> {
        let headers = [("Accept", "application/json")];
        self.send(Method::Get, url, &headers, b"")
    }

    pub fn post(
        &self,
        url: &str,
        kind: &str,
        body: &str,
        authorization: Option<&str>,
    ) -> Result<Answer, String> {
        let mut headers = vec![("Accept", "application/json"), ("Content-Type", kind)];
        headers.extend(authorization.map(|value| ("Authorization", value)));
        self.send(Method::Post, url, &headers, body.as_bytes())
    }

    fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, String> {
        let until = Instant::now() + limits::OAUTH_REQUEST;
        let request = Request {
            method,
            url,
            headers,
            body,
            head_timeout: limits::OAUTH_REQUEST,
            idle_timeout: Some(limits::OAUTH_REQUEST),
        };
        let failed = |error| format!("failed to {error}");
        let mut response = self
            .client
            .send(&request, &Stop::default())
            .map_err(failed)?;
        response.set_deadline(Some(until));
        let status = response.status();
        let body = response
            .read_to_end(limits::OAUTH_ANSWER_BYTES)
            .map_err(failed)?;
        if (300..400).contains(&status) {
            let origin = response.url().origin();
            return Err(format!("{origin} redirects, which is not followed here"));
        }
        let body = String::from_utf8(body).unwrap_or_default();
        Ok(Answer { status, body })
    }
}
