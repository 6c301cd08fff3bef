//! The queue's schema: the scripts of `migrations/`, which are built into the programs.
//!
//! They are the first commands on each fresh connection, and so they show whether Redis can be
//! used as well. Redis refuses a script that may write for the same reasons for which it would
//! refuse the queue's other commands (READONLY, MISCONF, NOREPLICAS, LOADING, NOPERM).

use redis::Cmd;
use uuid::Uuid;

use super::keys::Keys;
use super::scripts::{MAY_ENQUEUE, eval, load};
use crate::service::jobqueue::constants::GROUP;

/// The scripts in order. The number of each is its place, from 1.
const MIGRATIONS: [&str; 2] = [
    include_str!("../../../../migrations/0001_create_consumer_group.lua"),
    include_str!("../../../../migrations/0002_mark_incarnation.lua"),
];

/// The commands that bring a queue's schema up to date. One of them answers 1 when it had to
/// create the group, and one the mark of the stream.
fn commands(keys: &Keys) -> Vec<Cmd> {
    let process = Uuid::now_v7().simple().to_string();
    let command = |script: &&str| {
        let mut cmd = eval(script, &[&keys.stream, &keys.state, &keys.cancel]);
        cmd.arg(GROUP).arg(&process);
        cmd
    };
    MIGRATIONS.iter().map(command).collect()
}

/// The same for a worker, before which Redis gets to know a script.
pub(super) fn commands_of_worker(keys: &Keys) -> Vec<Cmd> {
    let mut commands = vec![load()];
    commands.append(&mut self::commands(keys));
    commands
}

/// The same for a producer, which needs to know one thing more: the migrations append nothing,
/// so a Redis that runs them may still refuse jobs.
pub(super) fn commands_of_producer(keys: &Keys) -> Vec<Cmd> {
    let mut commands = commands(keys);
    commands.push(eval(MAY_ENQUEUE, &[&keys.stream]));
    commands
}
