//! The mistakes that the protocol must avoid, and the property that each of them breaks. The model
//! is run with one mistake at a time. It must find every one of them, otherwise it proves nothing.

use super::state::Job;

/// One mistake in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A retry moves the job, also when its sender does not own the entry.
    UnfencedRetry,
    /// A park moves the job, also when its sender does not own the entry.
    UnfencedPark,
    /// A burial moves the job, also when its sender does not own the entry.
    UnfencedBurial,
    /// A put back takes effect, also when its sender does not own the entry.
    UnfencedPutBack,
    /// The entry is acknowledged when its handler starts.
    AckBeforeRun,
    /// The entry is acknowledged, but it is not deleted from the stream.
    AckWithoutDelete,
    /// A retry leaves the stream in one step and enters the scheduled set in another.
    ScheduleRemovesFirst,
    /// A due job leaves the scheduled set in one step and enters the stream in another.
    PromoteRemovesFirst,
    /// Equal jobs become one member of the scheduled set. With this mistake all jobs are equal.
    EqualMembers,
    /// The stream is trimmed to one entry.
    StreamTrimmed,
    /// When the heartbeat finds a lease lost, the entry is no longer held, though its handler runs.
    HeldForgotten,
    /// The heartbeat claims all held entries, also those that another worker owns.
    HeartbeatSteals,
    /// A renewal counts as a delivery.
    RenewalCounts,
    /// An entry that a reclaim returns is started, also when it is held already.
    ClaimStartsHeld,
    /// A reclaim's reply is compared with what is held when it arrives, and not with what was held
    /// when the reclaim was sent. An entry that was settled in between is started again.
    ClaimJudgedLate,
    /// After a reclaim has returned a held entry, no orphan check follows. When the reply to
    /// the entry's outcome says `NotOwner`, the job waits until its new lease ends.
    HeldClaimForgotten,
    /// An entry that a read returns is started, also when it was read before.
    ReadStartsAgain,
    /// A read's reply is compared only with what is held when it arrives. An entry that was settled
    /// in between is started again.
    ReadJudgedLate,
    /// A process remembers only the entries that its reads returned, and not those of its reclaims
    /// and orphan checks.
    OnlyReadsRemembered,
    /// After a read has returned an entry once more, no orphan check follows. When the reply
    /// to the entry's outcome says `NotOwner`, the job waits until its new lease ends.
    ReadAgainForgotten,
    /// Reclaims go on after a stall of Redis, as if the workers had died.
    ReclaimWithoutHold,
    /// There is no orphan check after a lost reply.
    NoOrphanCheck,
    /// The orphan check takes entries that another worker owns by now.
    OrphanCheckSteals,
    /// Nobody looks for entries that an operator left pending for no consumer.
    StrandedForgotten,
    /// An entry that was delivered before the clock went back keeps its time in the future.
    FutureForgotten,
    /// Each look after a stall begins a new hold, so the hold never ends.
    HoldWithoutEnd,
    /// An outcome that got no reply is not sent again.
    SettleDropped,
}

impl Bug {
    /// Every mistake, with the property that it breaks first.
    pub(crate) const ALL: [(Self, &'static str); 27] = [
        (Self::UnfencedRetry, super::ONE_PLACE),
        (Self::UnfencedPark, super::ONE_PLACE),
        (Self::UnfencedBurial, super::ONE_PLACE),
        (Self::UnfencedPutBack, super::ONE_OUTCOME),
        (Self::AckBeforeRun, super::ACKNOWLEDGED_LAST),
        (Self::AckWithoutDelete, super::ONE_PLACE),
        (Self::ScheduleRemovesFirst, super::ONE_PLACE),
        (Self::PromoteRemovesFirst, super::ONE_PLACE),
        (Self::EqualMembers, super::ONE_PLACE),
        (Self::StreamTrimmed, super::ONE_PLACE),
        (Self::HeldForgotten, super::ONCE_AT_A_TIME),
        (Self::HeartbeatSteals, super::NO_THEFT),
        (Self::RenewalCounts, super::DESERVED),
        (Self::ClaimStartsHeld, super::ONCE_AT_A_TIME),
        (Self::ClaimJudgedLate, super::EXPLAINED),
        (Self::HeldClaimForgotten, super::DRAINS),
        (Self::ReadStartsAgain, super::ONCE_AT_A_TIME),
        (Self::ReadJudgedLate, super::SETTLED),
        (Self::OnlyReadsRemembered, super::ONCE_AT_A_TIME),
        (Self::ReadAgainForgotten, super::DRAINS),
        (Self::ReclaimWithoutHold, super::EXPLAINED),
        (Self::NoOrphanCheck, super::DRAINS),
        (Self::OrphanCheckSteals, super::NO_THEFT),
        (Self::StrandedForgotten, super::DRAINS),
        (Self::FutureForgotten, super::DRAINS),
        (Self::HoldWithoutEnd, super::DRAINS),
        (Self::SettleDropped, super::EXPLAINED),
    ];

    /// The jobs, and how many disturbances, with which the mistake shows.
    pub(crate) fn needs(self) -> (&'static [Job], u8) {
        match self {
            Self::EqualMembers | Self::StreamTrimmed => (&[0, 1], 0),
            Self::UnfencedPark => (&[1], 2),
            _ => (&[0], 2),
        }
    }
}
