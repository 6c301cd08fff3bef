//! The queue's schema: the scripts of `migrations/`, embedded.
//!
//! They are the first thing that runs on a fresh connection, which makes them the
//! probe as well: Redis refuses a script that may write for the same reasons for
//! which it would refuse the queue's other commands (READONLY, MISCONF, NOREPLICAS,
//! LOADING, NOPERM), so a Redis that ran them can be used.

use redis::Cmd;
use uuid::Uuid;

use super::broker::eval;
use super::keys::Keys;
use crate::service::jobqueue::constants::GROUP;

/// The scripts in order; the number of each is its place, from 1.
const MIGRATIONS: [&str; 2] = [
    include_str!("../../../../migrations/0001_create_consumer_group.lua"),
    include_str!("../../../../migrations/0002_mark_incarnation.lua"),
];

/// The commands that bring a queue's schema up to date. One answers 1 when it had to
/// create something that was not there, one the mark of the stream.
pub(crate) fn commands(keys: &Keys) -> Vec<Cmd> {
    let process = Uuid::now_v7().simple().to_string();
    let args = [GROUP.as_bytes(), process.as_bytes()];
    MIGRATIONS
        .iter()
        .map(|script| eval(script, &[&keys.stream, &keys.state], &args))
        .collect()
}
