//! The source `dns`: the SRV records of one name, asked of the system's name servers.

use crate::config::discovery::dns::Spec;
use crate::gateway::discovery::{Sink, Stop};

pub fn run(_spec: &Spec, sink: &Sink, _stop: &Stop) {
    sink.fail("look there: this source is not known yet".to_owned());
}
