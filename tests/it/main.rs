//! The one integration binary.

#[cfg(test)]
mod alerts;
#[cfg(test)]
mod artifacts;
#[cfg(test)]
mod asks;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod auth_pages;
#[cfg(test)]
mod auth_server;
#[cfg(test)]
mod auth_tokens;
#[cfg(test)]
mod calls;
#[cfg(test)]
mod canaries;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod cli_support;
#[cfg(test)]
mod clusters;
#[cfg(test)]
mod codes;
#[cfg(test)]
mod config_commands;
#[cfg(test)]
mod control;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod discovery;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod endings;
#[cfg(test)]
mod eras;
#[cfg(test)]
mod fidelity;
#[cfg(test)]
mod guard;
#[cfg(test)]
mod health;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod json_schema;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod loading;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod migration;
#[cfg(test)]
mod notices;
#[cfg(test)]
mod parking;
#[cfg(test)]
mod pins;
#[cfg(test)]
mod process;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod remote;
#[cfg(test)]
mod remote_trouble;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod repo;
#[cfg(test)]
mod reverse;
#[cfg(test)]
mod revisions;
#[cfg(test)]
mod scopes;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod shared_store;
#[cfg(test)]
mod shortage;
#[cfg(test)]
mod sse;
#[cfg(test)]
mod starting;
#[cfg(test)]
mod stateless;
#[cfg(test)]
mod stdio;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod supervision;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tasks;
#[cfg(test)]
mod telemetry;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod trouble;
#[cfg(test)]
mod troubleshooting;
#[cfg(test)]
mod upstream_oauth;
#[cfg(test)]
mod views;
