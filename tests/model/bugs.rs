//! The mistakes that the protocol must avoid, and the property that each of them breaks. The model
//! is run with one mistake at a time. It must find every one of them, otherwise it proves nothing.

use super::properties;
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
    /// The cancel of a running job is written without a look whether the entry is pending.
    CancelUnchecked,
    /// The cancel of a waiting job deletes the entry without a look whether it is pending.
    CancelDeletesPending,
    /// The cancel of a waiting job takes an entry whose lease has ended for one that was put back.
    CancelTakesExpired,
    /// A heartbeat does not look for cancels.
    HeartbeatIgnoresCancel,
    /// A worker does not look for a cancel after a reclaim.
    ReclaimIgnoresCancel,
    /// A worker does not look for a cancel after its orphan check has taken an entry.
    OrphanCheckIgnoresCancel,
    /// The orphan check looks for cancels when it lists the entries, and not after it has taken them.
    OrphanCheckAsksFirst,
    /// A park or a retry moves a job that is to be cancelled, and the cancel stays with the old entry.
    MoveIgnoresCancel,
    /// A park whose delay is over is answered so, also when the job is to be cancelled.
    DueBeforeCancel,
    /// A worker takes the answer that a job is to be cancelled for a move. It no longer holds the
    /// entry, and nobody buries it.
    CancelledForgotten,
    /// A put back ends the cancel.
    PutBackDropsCancel,
    /// The janitor drops a cancel as soon as its entry is not pending, though it is in the stream.
    JanitorDropsCancel,
    /// The cancel of a scheduled job says that it has removed the job, although it was promoted.
    UnscheduleUnchecked,
    /// A job that is to run now is appended, although it was promoted.
    RunNowUnchecked,
    /// A dead letter that is retried is appended in one step and deleted in another.
    RetryKeepsLetter,
    /// A dead letter that is retried is deleted in one step and appended in another.
    RetryRemovesFirst,
    /// A dead letter is retried without a look whether it is still there.
    RetryUnchecked,
    /// A retried dead letter keeps its failed attempts.
    RetryKeepsAttempt,
}

impl Bug {
    /// Every mistake, with the property that it breaks first.
    pub(crate) const ALL: [(Self, &'static str); 45] = [
        (Self::UnfencedRetry, properties::ONE_PLACE),
        (Self::UnfencedPark, properties::ONE_PLACE),
        (Self::UnfencedBurial, properties::ONE_PLACE),
        (Self::UnfencedPutBack, properties::ONE_OUTCOME),
        (Self::AckBeforeRun, properties::ACKNOWLEDGED_LAST),
        (Self::AckWithoutDelete, properties::ONE_PLACE),
        (Self::ScheduleRemovesFirst, properties::ONE_PLACE),
        (Self::PromoteRemovesFirst, properties::ONE_PLACE),
        (Self::EqualMembers, properties::ONE_PLACE),
        (Self::StreamTrimmed, properties::ONE_PLACE),
        (Self::HeldForgotten, properties::ONCE_AT_A_TIME),
        (Self::HeartbeatSteals, properties::NO_THEFT),
        (Self::RenewalCounts, properties::DESERVED),
        (Self::ClaimStartsHeld, properties::ONCE_AT_A_TIME),
        (Self::ClaimJudgedLate, properties::EXPLAINED),
        (Self::HeldClaimForgotten, properties::DRAINS),
        (Self::ReadStartsAgain, properties::ONCE_AT_A_TIME),
        (Self::ReadJudgedLate, properties::SETTLED),
        (Self::OnlyReadsRemembered, properties::ONCE_AT_A_TIME),
        (Self::ReadAgainForgotten, properties::DRAINS),
        (Self::ReclaimWithoutHold, properties::EXPLAINED),
        (Self::NoOrphanCheck, properties::DRAINS),
        (Self::OrphanCheckSteals, properties::NO_THEFT),
        (Self::StrandedForgotten, properties::DRAINS),
        (Self::FutureForgotten, properties::DRAINS),
        (Self::HoldWithoutEnd, properties::DRAINS),
        (Self::SettleDropped, properties::EXPLAINED),
        (Self::CancelUnchecked, properties::CANCEL_KEPT),
        (Self::CancelDeletesPending, properties::NOT_CUT_SHORT),
        (Self::CancelTakesExpired, properties::NOT_CUT_SHORT),
        (Self::HeartbeatIgnoresCancel, properties::CANCEL_KEPT),
        (Self::ReclaimIgnoresCancel, properties::CANCEL_KEPT),
        (Self::OrphanCheckIgnoresCancel, properties::CANCEL_KEPT),
        (Self::OrphanCheckAsksFirst, properties::CANCEL_KEPT),
        (Self::MoveIgnoresCancel, properties::CANCEL_KEPT),
        (Self::DueBeforeCancel, properties::CANCEL_KEPT),
        (Self::CancelledForgotten, properties::DRAINS),
        (Self::PutBackDropsCancel, properties::CANCEL_KEPT),
        (Self::JanitorDropsCancel, properties::CANCEL_KEPT),
        (Self::UnscheduleUnchecked, properties::ONE_PLACE),
        (Self::RunNowUnchecked, properties::ONE_PLACE),
        (Self::RetryKeepsLetter, properties::ONE_PLACE),
        (Self::RetryRemovesFirst, properties::ONE_PLACE),
        (Self::RetryUnchecked, properties::ONE_PLACE),
        (Self::RetryKeepsAttempt, properties::ALL_ATTEMPTS),
    ];

    /// The jobs, how many disturbances, and how many operations, with which the mistake shows.
    pub(crate) fn needs(self) -> (&'static [Job], u8, u8) {
        match self {
            Self::EqualMembers | Self::StreamTrimmed => (&[0, 1], 0, 0),
            Self::UnfencedPark => (&[1], 2, 0),
            Self::DueBeforeCancel => (&[1], 0, 1),
            Self::CancelTakesExpired
            | Self::ReclaimIgnoresCancel
            | Self::OrphanCheckIgnoresCancel
            | Self::OrphanCheckAsksFirst
            | Self::PutBackDropsCancel
            | Self::JanitorDropsCancel => (&[0], 1, 1),
            Self::RetryUnchecked => (&[0], 0, 2),
            Self::CancelUnchecked
            | Self::CancelDeletesPending
            | Self::HeartbeatIgnoresCancel
            | Self::MoveIgnoresCancel
            | Self::CancelledForgotten
            | Self::UnscheduleUnchecked
            | Self::RunNowUnchecked
            | Self::RetryKeepsLetter
            | Self::RetryRemovesFirst
            | Self::RetryKeepsAttempt => (&[0], 0, 1),
            _ => (&[0], 2, 0),
        }
    }
}
