//! What the settings say about secrets, as the store wants it.

use crate::config::Environment;
use crate::config::settings::Settings;
use crate::secrets::spec::{Source, Spec};

pub fn spec(_settings: &Settings, environment: &Environment) -> Spec {
    Spec {
        sources: vec![Source::Environment],
        variables: environment.clone(),
        ..Spec::default()
    }
}
