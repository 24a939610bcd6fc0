//! Which proxy a client asks, as it was configured.

use crate::base::secret::Secret;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ProxyChoice {
    #[default]
    None,
    /// What `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
    Environment,
    /// An `http://` URL, which may hold a user and a password.
    Url(Secret),
}
