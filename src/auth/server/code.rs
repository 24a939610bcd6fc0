//! A code for tokens: once. Whoever shows it first has used it up, right or wrong; whoever shows
//! it again ends what came of it, because one of the two has stolen it.

use ring::digest::{SHA256, digest};

use crate::auth::server::Server;
use crate::auth::server::client::{self, Client};
use crate::auth::server::fault::Fault;
use crate::auth::server::grant::ISSUED;
use crate::auth::server::resource::is_ours;
use crate::auth::server::token::{Issue, full, note};
use crate::auth::store::Space;
use crate::base::limits::{SPENT_CODE_LIFE, SPENT_CODES};
use crate::http::Reply;
use crate::journal::audit::{self, Event, Reason, Record};
use crate::model::scope::Scopes;
use crate::wire::base64::encode_url;
use crate::wire::form::Form;

/// Codes that were shown, with the family that came of them.
const SPENT: Space = Space {
    name: "codes-spent",
    limit: SPENT_CODES,
};

impl Server {
    pub(super) fn redeem(&self, form: &Form, client: &Client) -> Result<Reply, Fault> {
        let field = |name: &str| {
            let missing = || Fault::request(format!("{name} is missing"));
            form.get(name).ok_or_else(missing)
        };
        let (code, verifier) = (field("code")?, field("code_verifier")?);
        let redirect_uri = field("redirect_uri")?;
        if form.get("resource").is_none() && self.spec.require_resource {
            return Err(Fault::bad("invalid_target", "resource is missing"));
        }
        let granted = self.take_code(code)?;
        let is = |name: &str| granted.get(name).unwrap_or_default();
        let scopes = Scopes::parse(is("scope")).unwrap_or_default();
        if is("client") != client.id || scopes.is_empty() {
            return Err(Fault::grant().because(Reason::BadClient));
        }
        if is("redirect_uri") != redirect_uri {
            return Err(Fault::grant().because(Reason::BadRedirect));
        }
        if !client::is_same_hash(is("challenge"), &challenge(verifier)?) {
            return Err(Fault::grant().because(Reason::BadVerifier));
        }
        let resource = is("resource");
        let asked = form.get("resource");
        if asked.is_some_and(|asked| is_ours(&self.issuer, asked).as_deref() != Some(resource)) {
            let what = "resource is not the one that was consented to";
            return Err(Fault::bad("invalid_target", what));
        }
        let refresh = match client.may_refresh {
            true => Some(self.begin_family(&granted, client)?),
            false => None,
        };
        let issue = Issue {
            client: &client.id,
            subject: is("subject"),
            scopes: &scopes,
            resource,
            family: is("family"),
            refresh: refresh.as_deref(),
        };
        note(Event::TokenIssue, &issue);
        self.issue(&issue)
    }

    /// What a code stands for, for the first who shows it.
    fn take_code(&self, code: &str) -> Result<Form, Fault> {
        let known = self.store.get(ISSUED, code).map_err(full)?;
        let granted = known.and_then(|text| Form::parse(text.as_bytes()).ok());
        let family = granted.as_ref().and_then(|granted| granted.get("family"));
        let is_first = match family {
            Some(family) => {
                let put = self.store.put_new(SPENT, code, family, SPENT_CODE_LIFE);
                put.map_err(full)?
            }
            None => false,
        };
        if is_first && let Some(granted) = granted {
            // It is spent already; what is left of it ends by itself.
            let _ = self.store.take(ISSUED, code);
            return Ok(granted);
        }
        if let Some(family) = self.store.get(SPENT, code).map_err(full)? {
            log::warn!("code replayed family={family}");
            audit::note(Record {
                name: &family,
                ..Record::denied(Event::CodeReplay, Reason::Reused)
            });
            self.end_family(&family);
            return Err(Fault::grant().because(None));
        }
        Err(Fault::grant())
    }
}

/// RFC 7636 4.6. The text that is compared has the length of every challenge.
fn challenge(verifier: &str) -> Result<String, Fault> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    match (43..=128).contains(&verifier.len()) && verifier.bytes().all(fits) {
        true => Ok(encode_url(digest(&SHA256, verifier.as_bytes()).as_ref())),
        false => Err(Fault::grant().because(Reason::BadVerifier)),
    }
}
