//! RFC 7009: a client gives a token back. What it was given with that token ends with it. Who
//! asks about a token of others, or about none, is told the same: done.

use crate::auth::server::Server;
use crate::auth::server::fault::Fault;
use crate::auth::server::token::{full, read_form};
use crate::base::time::unix_s;
use crate::http::{self, Head, Reply};
use crate::wire::jose::jws::Jws;

impl Server {
    /// Answers `/revoke`.
    pub fn revoke(&self, head: &Head<'_>, from: &http::Client, body: &[u8]) -> Reply {
        self.try_revoke(head, from, body)
            .unwrap_or_else(|fault| fault.reply())
    }

    fn try_revoke(
        &self,
        head: &Head<'_>,
        from: &http::Client,
        body: &[u8],
    ) -> Result<Reply, Fault> {
        let form = read_form(head, body)?;
        let client = self.authenticate(head, &form, from)?;
        let token = form.get("token");
        let token = token.ok_or_else(|| Fault::request("token is missing"))?;
        let family = match self.family_of(token).map_err(full)? {
            Some((family, _)) => Some((family.client, family.id)),
            None => self.family_of_access(token),
        };
        if let Some((owner, family)) = family
            && owner == client.id
            && !self.end_family(&family)
        {
            return Err(Fault::full());
        }
        Ok(Reply::empty(200).with("Cache-Control", "no-store"))
    }

    /// The client and the family of an access token of ours.
    fn family_of_access(&self, token: &str) -> Option<(String, String)> {
        let claims = self.tokens.verify(&Jws::parse(token)?, unix_s()).ok()?;
        Some((claims.client, claims.family?))
    }
}
