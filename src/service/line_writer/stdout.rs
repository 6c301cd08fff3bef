//! The standard output of this process, as a file without a buffer.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tracing::warn;

/// Opens stdout, and warns when it is /dev/null.
///
/// The file has no line buffer, unlike `std::io::Stdout`: that would hide how much of a chunk went
/// out before an error.
///
/// # Errors
/// When stdout was closed at the start of the process, or is not open for writing.
pub(super) fn open() -> io::Result<File> {
    let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    if !is_for_writing(&out)? {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "stdout is closed, or not open for writing, and jobs print to it; give it a file, \
             a pipe or a terminal, or >/dev/null if what jobs print may be lost",
        ));
    }
    if is_null(&out)? {
        warn!("stdout is /dev/null: what jobs print goes nowhere");
    }
    Ok(out)
}

/// Whether a file was opened for writing. `stdout.c` replaces a stdout that was closed at the start
/// by a file that was not.
fn is_for_writing(out: &File) -> io::Result<bool> {
    let flags = OFlag::from_bits_retain(fcntl(out, FcntlArg::F_GETFL)?);
    Ok(flags & OFlag::O_ACCMODE != OFlag::O_RDONLY)
}

fn is_null(out: &File) -> io::Result<bool> {
    let null = std::fs::metadata("/dev/null").map(|null| null.rdev());
    let out = out.metadata()?;
    Ok(out.file_type().is_char_device() && null.is_ok_and(|null| null == out.rdev()))
}
