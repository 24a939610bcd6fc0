//! Tokens for machines: clients of the configuration that ask for themselves, with a secret and
//! without a person (`client_credentials`). There is no refresh token: the secret is one.

use crate::auth::server::Server;
use crate::auth::server::client::Client;
use crate::auth::server::fault::Fault;
use crate::auth::server::grant::random_id;
use crate::auth::server::token::{Issue, note};
use crate::http::Reply;
use crate::journal::audit::Event;
use crate::wire::form::Form;

impl Server {
    pub(super) fn serve_machine(&self, form: &Form, client: &Client) -> Result<Reply, Fault> {
        let Some(most) = client.most.as_ref().filter(|_| client.is_machine) else {
            let what = "this client gets tokens for people only";
            return Err(Fault::bad("unauthorized_client", what));
        };
        let told = |[error, what]: [&'static str; 2]| Fault::bad(error, what);
        let resource = self.read_resource(form.get("resource")).map_err(told)?;
        let scopes = match form.get("scope") {
            None => most.clone(),
            asked => self.read_scopes(asked, client).map_err(told)?,
        };
        let issue = Issue {
            client: &client.id,
            subject: &client.id,
            scopes: &scopes,
            resource: &resource,
            family: &random_id(),
            refresh: None,
        };
        note(Event::TokenIssue, &issue);
        self.issue(&issue)
    }
}
