//! A wall clock for one process alone. A test sets it while the process runs, and the system's
//! clock does not change.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

use tempfile::TempDir;

/// The clock of the processes that are started with [`Clock::env`].
pub(crate) struct Clock {
    home: TempDir,
    offset: File,
}

impl Clock {
    /// A clock that shows the right time. This also compiles the library that replaces the clock.
    pub(crate) fn new() -> Self {
        let home = tempfile::Builder::new().prefix("clock-").tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/clock.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(home.path().join("clock.so"))
            .arg(source)
            .output()
            .expect("a C compiler, `cc`, is what Rust links with too");
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        let offset = File::create(home.path().join("offset")).unwrap();
        let clock = Self { home, offset };
        clock.set(0);
        clock
    }

    /// Makes the clock differ by `offset_ms` from the right time, from now on. A negative offset
    /// makes the clock late.
    pub(crate) fn set(&self, offset_ms: i64) {
        // The eight bytes are within one page, so a process reads either all old bytes or all new
        // bytes.
        let bytes = offset_ms.to_ne_bytes();
        self.offset.write_all_at(&bytes, 0).unwrap();
    }

    /// The variables that give a process this clock.
    pub(crate) fn env(&self) -> [(String, String); 2] {
        let path = |name: &str| self.home.path().join(name).display().to_string();
        [
            ("LD_PRELOAD".to_owned(), path("clock.so")),
            ("CLOCK_FILE".to_owned(), path("offset")),
        ]
    }
}
