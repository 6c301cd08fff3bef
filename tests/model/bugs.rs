//! Mistakes that the protocol is built to avoid, one at a time, and what each breaks.
//! A model that finds none of them proves nothing.

use super::state::Job;

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A retry moves the job whoever owns the entry.
    UnfencedRetry,
    /// A park does.
    UnfencedPark,
    /// A burial does.
    UnfencedBurial,
    /// A put back gives the entry up whoever owns it.
    UnfencedPutBack,
    /// The entry is acknowledged when its handler starts.
    AckBeforeRun,
    /// The entry is acknowledged and stays in the stream.
    AckWithoutDelete,
    /// A retry leaves the stream in one step and enters the scheduled set in another.
    ScheduleRemovesFirst,
    /// A due job leaves the scheduled set in one step and enters the stream in another.
    PromoteRemovesFirst,
    /// Jobs that look the same are one in the scheduled set. Here all do.
    EqualMembers,
    /// The stream has a longest length, here of one entry.
    StreamTrimmed,
    /// What the heartbeat finds lost is forgotten while its handler runs.
    HeldForgotten,
    /// The heartbeat claims what it holds, whoever owns it.
    HeartbeatSteals,
    /// A renewal counts as a delivery.
    RenewalCounts,
    /// What a reclaim returns is started, held or not.
    ClaimStartsHeld,
    /// Whether it is held is asked when the reply is here: what was settled meanwhile is
    /// started again.
    ClaimJudgedLate,
    /// What a reclaim returns and is held is not looked for again: `held` forgets it when
    /// the answer to its outcome arrives, and it is left to its new lease.
    HeldClaimForgotten,
    /// What a read returns is started, whether it was read before or not.
    ReadStartsAgain,
    /// Whether it is to be started is told by what is held when the reply is here: what
    /// was settled meanwhile is started again.
    ReadJudgedLate,
    /// Only what a read brought counts as given before: a claim or an orphan check may
    /// have brought it too.
    OnlyReadsRemembered,
    /// What a read returns once more is not looked for: the answer that makes `held`
    /// forget it may be on its way, and it is left to its new lease.
    ReadAgainForgotten,
    /// A stalled Redis is not told from dead workers.
    ReclaimWithoutHold,
    /// A lost delivery is left to its lease.
    NoOrphanCheck,
    /// The orphan check takes what is another's by now.
    OrphanCheckSteals,
    /// What an operator's hand left pending for nobody is not looked for.
    StrandedForgotten,
    /// What was delivered before the clock went back keeps its time.
    FutureForgotten,
    /// Each look after a stall begins the hold anew.
    HoldWithoutEnd,
    /// An outcome that got no answer is not sent again.
    SettleDropped,
}

impl Bug {
    /// Every mistake, and the property that it breaks first.
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

    /// The jobs and the disturbances among which it shows.
    pub(crate) fn needs(self) -> (&'static [Job], u8) {
        match self {
            Self::EqualMembers | Self::StreamTrimmed => (&[0, 1], 0),
            Self::UnfencedPark => (&[1], 2),
            _ => (&[0], 2),
        }
    }
}
