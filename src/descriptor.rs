//! What the standard library cannot do with a file descriptor.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until `fd` accepts bytes, at most for `limit` if there is one. False when it did not accept
/// any within that time. An error counts as writable, since the write will return it.
pub(crate) fn wait_writable(fd: impl AsFd, limit: Option<Duration>) -> bool {
    let limit = limit.map_or(PollTimeout::NONE, |limit| {
        PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)
    });
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
    loop {
        match poll(&mut fds, limit) {
            // A signal handler ran on this thread: that says nothing about the output.
            Err(Errno::EINTR) => {}
            result => return result != Ok(0),
        }
    }
}
