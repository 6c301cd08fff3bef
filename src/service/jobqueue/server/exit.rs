//! How a worker ended, and what that is as the exit code of a program.

use std::process::ExitCode;

/// How a worker ended.
///
/// It converts into an [`ExitCode`], for `main` to return:
///
/// | variant | exit status |
/// |---|---|
/// | [`Exit::Clean`] | 0 |
/// | [`Exit::CutOff`] | 1 |
/// | [`Exit::Unfit`] | 74 (`EX_IOERR` of `sysexits.h`) |
/// | [`Exit::Broken`] | 70 (`EX_SOFTWARE` of `sysexits.h`) |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// Every job it started has its outcome in Redis.
    Clean,
    /// A running job was cut off, or an outcome could not be sent: those jobs run again.
    CutOff,
    /// The process could not do any job; see [`JobError::ProcessUnfit`].
    ///
    /// [`JobError::ProcessUnfit`]: crate::JobError::ProcessUnfit
    Unfit,
    /// A part of the worker panicked, which is a defect of this crate.
    Broken,
}

impl From<Exit> for ExitCode {
    /// The exit status that [`Exit`] shows in its table.
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Clean => Self::SUCCESS,
            Exit::CutOff => Self::from(1),
            Exit::Unfit => Self::from(74),
            Exit::Broken => Self::from(70),
        }
    }
}
