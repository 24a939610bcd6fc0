//! The running gateway: starts everything in order, waits for a signal, ends everything in the
//! opposite order.

pub mod control;
pub mod conversation;
pub mod drain;
pub mod ending;
pub mod fleet;
pub mod front_door;
pub mod health_listener;
pub mod health_socket;
pub mod herald;
pub mod hidden;
pub mod local_socket;
pub mod logins;
pub mod operator;
pub mod orders;
pub mod pin_book;
pub mod pin_orders;
pub mod pins;
pub mod reload;
pub mod router;
pub mod run;
pub mod scrape;
pub mod site;
pub mod telemetry;
pub mod tls;
pub mod witness;
