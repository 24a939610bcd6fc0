//! The account of the clients: who is known, for whoever runs the gateway.

use crate::auth::server::Server;
use crate::auth::server::cimd;
use crate::auth::server::client::{Client, UNUSED, USED};
use crate::auth::server::refresh::Family;
use crate::auth::store::StoreError;

impl Server {
    /// Those of the configuration, those that registered, and those with a document of their own
    /// that have a consent among `families`.
    ///
    /// # Errors
    /// Those of the store.
    pub fn known_clients(&self, families: &[Family]) -> Result<Vec<Client>, StoreError> {
        let mut known = self.clients.clone();
        for space in [USED, UNUSED] {
            let texts = self.store.values(space)?;
            known.extend(texts.iter().filter_map(|text| Client::from_text(text)));
        }
        for family in families {
            if known.iter().all(|client| client.id != family.client) {
                known.push(Client {
                    created_s: family.created_s,
                    ..cimd::bare(&family.client)
                });
            }
        }
        Ok(known)
    }

    /// A registered client must register again, and then ask again.
    ///
    /// # Errors
    /// Those of the store.
    pub fn forget_client(&self, id: &str) -> Result<(), StoreError> {
        self.store.take(USED, id)?;
        self.store.take(UNUSED, id).map(drop)
    }
}
