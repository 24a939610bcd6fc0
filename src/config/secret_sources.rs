//! What the settings say about secrets, as the store wants it.

use crate::config::Environment;
use crate::config::settings::Settings;
use crate::secrets::spec::Spec;

pub fn spec(_settings: &Settings, environment: &Environment) -> Spec {
    Spec {
        environment: environment.clone(),
    }
}
