//! The only room that names the `redis` crate: the queue's keys, commands and scripts, the
//! types of their replies, the connections and what goes wrong with them.

mod advice;
pub(crate) mod batch;
pub(crate) mod broker;
pub(crate) mod condition;
pub(crate) mod connector;
pub mod error;
pub(crate) mod keys;
pub(crate) mod link;
mod login;
pub(crate) mod migrations;
mod outage;
mod password_file;
pub(crate) mod reply;
pub(crate) mod settling;
mod tls;
pub(crate) mod window;
