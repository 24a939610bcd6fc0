//! Who calls, as far as servers need to know, and the right to one link that a call is given.

use std::sync::Arc;

use crate::upstream::link::Link;
use crate::upstream::server::SessionFace;

/// On whose behalf a link is wanted. A stateless request never gets a session.
pub enum Caller<'a> {
    Session(&'a SessionFace),
    Stateless,
}

/// The link that one call may use, until this is dropped.
pub struct Lease {
    pub link: Arc<Link>,
}

impl Lease {
    pub fn shared(link: Arc<Link>) -> Lease {
        Lease { link }
    }
}
