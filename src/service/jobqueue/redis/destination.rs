//! Where an entry goes when its delivery has ended, which command sends it there, and how much
//! that costs: bytes on the wire, and bytes that Redis moves.

use std::time::Duration;

use super::window::NAME_BYTES;
use crate::service::jobqueue::job::{Edits, Job};

/// How many entries one acknowledgement names. Redis serves nobody else while it works on one.
const MAX_ACKNOWLEDGED: usize = 500;
/// How many entries another command names.
const MAX_SCRIPTED: usize = 100;

/// The reason of a job that has failed for the last time.
pub(crate) const RETRIES_USED_UP: &str = "retries used up";

/// Where an entry goes now that its delivery has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Destination<'a> {
    /// Nowhere. Its job ran, so the entry is acknowledged and deleted, whoever owns it.
    Gone,
    /// To the scheduled set until its delay is over. The delay counts from the entry's id.
    Delay {
        /// The job as it stands in the entry.
        json: &'a [u8],
        job: &'a Job,
    },
    /// To the scheduled set for a pause that counts from now. The edits make the entry's job
    /// the one that the set carries.
    Pause { edits: &'a Edits, pause: Duration },
    /// To the dead letters.
    DeadLetters(&'a DeadLetter),
    /// To the dead letters, unless this time of Redis' clock, in milliseconds, is yet to come.
    Expired { letter: &'a DeadLetter, at_ms: u64 },
    /// It stays in the stream. Anybody may claim it at once, with this delivery count.
    PutBack { deliveries: u32 },
    /// It stays in the stream. Anybody may claim it after the rest of a lease.
    PutOff { deliveries: u32 },
}

/// What a dead letter says beside what its entry held, which Redis copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    pub(crate) reason: &'static str,
    pub(crate) error: String,
    /// How many attempts have failed.
    pub(crate) attempt: u32,
    pub(crate) deliveries: u32,
    /// The job's id for the log, when it could be read.
    pub(crate) job_id: Option<String>,
    /// How many bytes the entry holds.
    pub(crate) bytes: usize,
}

impl DeadLetter {
    /// Whether an attempt has failed just now, for the last time.
    pub(crate) fn is_failure(&self) -> bool {
        self.reason == RETRIES_USED_UP
    }
}

/// The commands that settle entries. One command settles many entries of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommandKind {
    Acknowledge,
    Schedule,
    Bury,
    PutBack,
    PutOff,
}

impl Destination<'_> {
    pub(super) fn kind(&self) -> CommandKind {
        match self {
            Self::Gone => CommandKind::Acknowledge,
            Self::Delay { .. } | Self::Pause { .. } => CommandKind::Schedule,
            Self::DeadLetters(_) | Self::Expired { .. } => CommandKind::Bury,
            Self::PutBack { .. } => CommandKind::PutBack,
            Self::PutOff { .. } => CommandKind::PutOff,
        }
    }

    /// How many bytes Redis moves for it.
    pub(super) fn moved_bytes(&self) -> usize {
        match self {
            Self::Gone | Self::PutBack { .. } | Self::PutOff { .. } => 0,
            Self::Delay { json, .. } => json.len(),
            Self::Pause { edits, .. } => edits.of_bytes,
            Self::DeadLetters(letter) | Self::Expired { letter, .. } => letter.bytes,
        }
    }

    /// About how many bytes it has on the wire.
    pub(super) fn sent_bytes(&self) -> usize {
        let after_the_name = match self {
            Self::Gone | Self::PutBack { .. } | Self::PutOff { .. } => 0,
            // The edits take the delay away, and may give the job its id and times.
            Self::Delay { .. } => 8 * NAME_BYTES,
            Self::Pause { edits, .. } => {
                let texts = edits.edits.iter().map(|edit| NAME_BYTES + edit.text.len());
                NAME_BYTES + texts.sum::<usize>()
            }
            Self::DeadLetters(letter) | Self::Expired { letter, .. } => {
                2 * NAME_BYTES + letter.error.len()
            }
        };
        NAME_BYTES + after_the_name
    }
}

impl CommandKind {
    /// As the log calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Schedule => "schedule",
            Self::Bury => "bury",
            Self::PutBack | Self::PutOff => "put back",
        }
    }

    pub(super) fn max_entries(self) -> usize {
        match self {
            Self::Acknowledge => MAX_ACKNOWLEDGED,
            _ => MAX_SCRIPTED,
        }
    }
}
