//! What another configuration changes.
use crate::config::Config;
use crate::config::server::ServerConfig;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Keep,
    Metadata(Vec<&'static str>),
    Replace(Vec<&'static str>),
    Add,
    Remove,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingChange {
    pub key: &'static str,
    pub reloadable: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub servers: Vec<(String, Change)>,
    pub settings: Vec<SettingChange>,
    pub presets: bool,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.servers.iter().all(|(_, c)| *c == Change::Keep)
            && self.settings.is_empty()
            && !self.presets
    }
    pub fn change_of(&self, name: &str) -> Option<&Change> {
        self.servers.iter().find(|(n, _)| n == name).map(|(_, c)| c)
    }
}

pub fn plan(old: &Config, new: &Config) -> Plan {
    let mut plan = Plan {
        presets: old.presets != new.presets,
        ..Plan::default()
    };
    for server in &new.servers {
        let before = old.servers.iter().find(|s| s.name == server.name);
        let meta = |s: &ServerConfig| ServerConfig {
            tags: vec![],
            disabled_tools: Default::default(),
            instruction_override: None,
            tool_description_overrides: Default::default(),
            required: false,
            ..s.clone()
        };
        let change = match before {
            None => Change::Add,
            Some(b) if b == server => Change::Keep,
            Some(b) if meta(b) == meta(server) => Change::Metadata(vec![]),
            Some(_) => Change::Replace(vec![]),
        };
        plan.servers.push((server.name.clone(), change));
    }
    for server in &old.servers {
        if !new.servers.iter().any(|s| s.name == server.name) {
            plan.servers.push((server.name.clone(), Change::Remove));
        }
    }
    plan
}
