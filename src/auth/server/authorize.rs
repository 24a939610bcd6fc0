//! What a client asks of a person, read from the query of `/authorize`. A client or a redirect
//! URI that is not certain is told to the person, on a page; everything else to the client, by a
//! redirect. Nothing is issued here.

use crate::auth::server::Server;
use crate::auth::server::client::{Client, Origin};
use crate::auth::server::fault::reason_of;
use crate::auth::server::redirect_uri;
use crate::auth::server::resource::is_ours;
use crate::base::limits::{CLIENT_ID_BYTES, OAUTH_SCOPE_BYTES, OAUTH_STATE_BYTES};
use crate::journal::audit::rejects::reject;
use crate::journal::audit::{Event, Operation, Reason, Record, Scoped, scope_operation};
use crate::model::scope::Scopes;
use crate::wire::base64;
use crate::wire::form::{Form, encode};

/// A request that a person may consent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub client_id: String,
    /// As the client calls itself: nothing to trust, and to be escaped.
    pub client_name: String,
    pub client_origin: Origin,
    pub redirect_uri: String,
    pub state: String,
    /// What it asks for; empty: it leaves that to the person.
    pub scopes: Scopes,
    pub challenge: String,
    /// What the token is for.
    pub resource: String,
}

/// Why there is nothing to consent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// To be told to the person, as text.
    Page {
        status: u16,
        text: String,
        reason: Reason,
    },
    /// The client is told, at this URL.
    Redirect { to: String, reason: Reason },
    /// Who the client is can be asked of its host only once the operator has logged in.
    LoginFirst,
}

impl Refused {
    /// Tells the auditor, once for each visit.
    pub fn note(&self, query: &str) {
        let reason = match self {
            Refused::Page { reason, .. } | Refused::Redirect { reason, .. } => *reason,
            Refused::LoginFirst => return,
        };
        let form = Form::parse(query.as_bytes()).ok();
        let client = form.as_ref().and_then(|form| form.get("client_id"));
        reject(Record {
            client: client.unwrap_or_default(),
            ..Record::denied(Event::AuthFail, reason)
        });
    }
}

impl Asked {
    /// For a seal; `from_text` reads it again.
    pub fn to_text(&self) -> String {
        let origin = match self.client_origin {
            Origin::Configured => "configured",
            Origin::Registered => "registered",
            Origin::Document => "document",
        };
        encode(&[
            ("client_id", &self.client_id),
            ("client_name", &self.client_name),
            ("client_origin", origin),
            ("redirect_uri", &self.redirect_uri),
            ("state", &self.state),
            ("scope", &self.scopes.to_string()),
            ("challenge", &self.challenge),
            ("resource", &self.resource),
        ])
    }

    pub fn from_text(text: &str) -> Option<Asked> {
        let form = Form::parse(text.as_bytes()).ok()?;
        let text = |name: &str| form.get(name).unwrap_or_default().to_owned();
        Some(Asked {
            client_id: form.get("client_id")?.to_owned(),
            client_name: text("client_name"),
            client_origin: match form.get("client_origin")? {
                "configured" => Origin::Configured,
                "registered" => Origin::Registered,
                _ => Origin::Document,
            },
            redirect_uri: form.get("redirect_uri")?.to_owned(),
            state: text("state"),
            scopes: Scopes::parse(&text("scope")).ok()?,
            challenge: form.get("challenge")?.to_owned(),
            resource: form.get("resource")?.to_owned(),
        })
    }

    /// The host that the code goes to, as a person is shown it.
    pub fn redirect_host(&self) -> String {
        redirect_uri::shown_host(&self.redirect_uri)
    }

    /// The code goes to some program of the person's own machine: any of them may say that it is
    /// this client.
    pub fn is_local(&self) -> bool {
        redirect_uri::is_local(&self.redirect_uri)
    }
}

impl Server {
    /// Reads the query of `/authorize`. `is_operator`: the operator is logged in here, so that
    /// hosts of others may be asked.
    ///
    /// # Errors
    /// What to answer instead of a page for consent.
    pub fn read_authorize(&self, query: &str, is_operator: bool) -> Result<Asked, Refused> {
        let form = Form::parse(query.as_bytes()).map_err(|error| page(&error.to_string()))?;
        let id = certain(&form, "client_id")?;
        if id.len() > CLIENT_ID_BYTES {
            return Err(page("client_id is too long"));
        }
        let client = self.client_for_consent(id, is_operator)?;
        let uri = certain(&form, "redirect_uri")?;
        if !client.has_redirect_uri(uri) {
            let what = "redirect_uri is not one of those that this client has registered";
            return Err(page_because(Reason::BadRedirect, what));
        }
        let state = form.get("state").unwrap_or_default();
        if state.len() > OAUTH_STATE_BYTES {
            let fault = ["invalid_request", "state is too long"];
            return Err(self.sent_back(uri, "", &fault));
        }
        let asked = self.read_rest(&form, &client, uri);
        asked.map_err(|fault| {
            if fault[0] == "invalid_scope" {
                let scoped = Scoped {
                    client: &client.id,
                    requested: Some(form.get("scope").unwrap_or_default()),
                    error: fault[1],
                    ..Scoped::default()
                };
                scope_operation(Operation::ValidationFailed, &scoped);
            }
            self.sent_back(uri, state, &fault)
        })
    }

    fn sent_back(&self, uri: &str, state: &str, fault: &[&'static str; 2]) -> Refused {
        Refused::Redirect {
            to: self.redirect(uri, state, fault),
            reason: reason_of(fault[0]),
        }
    }

    /// The error for the client, and what it means.
    fn read_rest(
        &self,
        form: &Form,
        client: &Client,
        uri: &str,
    ) -> Result<Asked, [&'static str; 2]> {
        if form.repeated().is_some() {
            return Err(["invalid_request", "a parameter is given twice"]);
        }
        for name in ["request", "request_uri"] {
            if form.get(name).is_some() {
                return Err(["invalid_request", "request objects are not taken"]);
            }
        }
        match form.get("response_type") {
            Some("code") => {}
            Some(_) => return Err(["unsupported_response_type", "response_type must be code"]),
            None => return Err(["invalid_request", "response_type is missing"]),
        }
        if form
            .get("response_mode")
            .is_some_and(|mode| mode != "query")
        {
            return Err(["invalid_request", "response_mode must be query"]);
        }
        let challenge = read_challenge(form)?;
        let resource = self.read_resource(form.get("resource"))?;
        let scopes = self.read_scopes(form.get("scope"), client)?;
        Ok(Asked {
            client_id: client.id.clone(),
            client_name: client.name.clone(),
            client_origin: client.origin,
            redirect_uri: uri.to_owned(),
            state: form.get("state").unwrap_or_default().to_owned(),
            scopes,
            challenge,
            resource,
        })
    }

    /// What the token is to be for, in the form in which we write it.
    pub(super) fn read_resource(&self, asked: Option<&str>) -> Result<String, [&'static str; 2]> {
        match asked {
            None if self.spec.require_resource => Err(["invalid_target", "resource is missing"]),
            None => Ok(format!("{}/mcp", self.issuer)),
            Some(asked) => is_ours(&self.issuer, asked)
                .ok_or(["invalid_target", "resource is not one of this server"]),
        }
    }

    /// What may be asked for; who asks for nothing asks for the baseline.
    pub(super) fn read_scopes(
        &self,
        asked: Option<&str>,
        client: &Client,
    ) -> Result<Scopes, [&'static str; 2]> {
        let asked = asked.unwrap_or_default();
        if asked.len() > OAUTH_SCOPE_BYTES {
            return Err(["invalid_scope", "scope is too long"]);
        }
        // Clients ask for it by habit; whether there is a refresh token is not a matter of scope.
        let words = asked.split(' ').filter(|word| *word != "offline_access");
        let words: Vec<&str> = words.collect();
        let asked = Scopes::parse(&words.join(" "));
        let asked = asked.map_err(|_| ["invalid_scope", "scope holds a word that is no scope"])?;
        let wanted = match asked.is_empty() {
            true => self.baseline(),
            false => asked.clone(),
        };
        let Some(most) = &client.most else {
            return Ok(wanted);
        };
        let left = wanted.and(most);
        match left.is_empty() && !asked.is_empty() {
            true => Err(["invalid_scope", "this client may not have these scopes"]),
            false => Ok(left),
        }
    }

    /// The redirect with an error.
    pub(super) fn redirect(&self, uri: &str, state: &str, [error, what]: &[&str; 2]) -> String {
        let fields = [
            ("error", *error),
            ("error_description", *what),
            ("state", state),
            ("iss", &self.issuer),
        ];
        with_query(uri, &fields)
    }

    /// The person said no.
    pub fn deny(&self, asked: &Asked) -> String {
        let what = ["access_denied", "the request was denied"];
        self.redirect(&asked.redirect_uri, &asked.state, &what)
    }
}

pub(super) fn with_query(uri: &str, fields: &[(&str, &str)]) -> String {
    let mark = if uri.contains('?') { '&' } else { '?' };
    format!("{uri}{mark}{}", encode(fields))
}

fn page(what: &str) -> Refused {
    page_because(Reason::BadRequest, what)
}

fn page_because(reason: Reason, what: &str) -> Refused {
    Refused::Page {
        status: 400,
        text: what.to_owned(),
        reason,
    }
}

/// A parameter that must be there, once.
fn certain<'f>(form: &'f Form, name: &str) -> Result<&'f str, Refused> {
    match form.get(name) {
        Some(value) => Ok(value),
        None if form.is_repeated(name) => Err(page(&format!("{name} is given twice"))),
        None => Err(page(&format!("{name} is missing"))),
    }
}

/// S256 and nothing else: a challenge that is the verifier itself protects nobody.
fn read_challenge(form: &Form) -> Result<String, [&'static str; 2]> {
    let Some(challenge) = form.get("code_challenge") else {
        return Err(["invalid_request", "code_challenge is missing"]);
    };
    if form.get("code_challenge_method") != Some("S256") {
        return Err(["invalid_request", "code_challenge_method must be S256"]);
    }
    let hash = base64::decode_url(challenge.as_bytes());
    match hash.is_some_and(|hash| hash.len() == 32) {
        true => Ok(challenge.to_owned()),
        false => Err(["invalid_request", "code_challenge is no SHA-256"]),
    }
}
