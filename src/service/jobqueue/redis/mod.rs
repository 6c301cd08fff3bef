//! The only room that names the `redis` crate: the queue's keys, commands and scripts, the
//! types of their replies, the connections, and what goes wrong with them.
//!
//! What other rooms may use is named below. Inside the room no file imports this one, and none
//! imports `worker` or `client`.
//!
//! | to find | read |
//! |---|---|
//! | what Redis holds | `keys`, `entry`, and `migrations`, which create it |
//! | what a worker asks Redis to do | `broker`, and its commands in `reading`, `reclaiming`, `leases`, `promoting`, `consumers` |
//! | how deliveries are settled | `destination`, `batch`, `settling`, `effects` |
//! | what people are told of workers and finished jobs | `announcing`, `recording` |
//! | what a producer asks Redis to do | `producing` |
//! | what an operator asks Redis, and does to it | `overview`, `looking`, `scheduled`, `pending`; `steering` |
//! | what stands below all commands | `scripts`, `reply`, `window` |
//! | who connects, and when | `connector`, `prober`, `link`; `status`, `backoff` and `shared_answer` decide from values |
//! | how a connection is opened | `login`, `password_file`, `tls` |
//! | what an error means, and its words | `error`, `words`, `advice`, `outage` |
//! | how Redis is | `checkup`, `questions`, `condition`, `findings` |

mod advice;
mod announcing;
mod backoff;
mod batch;
mod broker;
mod checkup;
mod condition;
mod connector;
mod consumers;
mod destination;
mod effects;
mod entry;
mod error;
mod findings;
mod keys;
mod leases;
mod link;
mod login;
pub(crate) mod looking;
mod migrations;
mod outage;
mod overview;
mod password_file;
pub(crate) mod pending;
mod prober;
mod producing;
mod promoting;
mod questions;
mod reading;
mod reclaiming;
mod recording;
mod reply;
pub(crate) mod scheduled;
mod scripts;
mod settling;
mod shared_answer;
mod status;
pub(crate) mod steering;
mod tls;
mod window;
mod words;

pub(crate) use self::connector::Connector;
pub use self::error::{Class, Error};
pub use self::keys::Keys;

pub(crate) use self::announcing::Announcement;
pub(crate) use self::backoff::OPERATOR_RETRY;
pub(crate) use self::batch::Batch;
pub(crate) use self::broker::Broker;
pub(crate) use self::destination::{DeadLetter, Destination, RETRIES_USED_UP};
pub(crate) use self::effects::Effect;
pub(crate) use self::entry::{Body, Entry, EntryId};
pub(crate) use self::leases::Touch;
pub(crate) use self::link::Link;
#[cfg(test)]
pub(crate) use self::overview::Consumer;
pub(crate) use self::overview::{Overview, overview};
pub(crate) use self::producing::{Appender, Appends};
pub(crate) use self::promoting::{Promoted, PromotedJob};
pub(crate) use self::reading::Take;
pub(crate) use self::reclaiming::{LeaseTimes, Look, Reclaimed};
pub(crate) use self::recording::{FinishedJob, Record};
pub(crate) use self::settling::{CommandEffects, CommandResult, SettlingRules, Trip};
#[cfg(test)]
pub(crate) use self::window::CALM;
pub(crate) use self::window::{LONG_TRIP, NAME_BYTES, Window, scaled, time_for};
