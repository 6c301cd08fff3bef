//! A password that is kept in a file, as secret stores and orchestrators hand it out.
//!
//! It is read for each connection, so that a new password is taken up without a restart. When
//! the file cannot be used, an operator has to do something about it, and the program waits: a
//! mounted secret may come later than the program. No error shows what the file holds.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::error::{Class, Error};
use super::words::io_words;
use crate::config::plain;

/// A longer file is no password.
const MAX_BYTES: u64 = 64 * 1024;
/// A file system that is gone may never answer.
const READ_TIMEOUT: Duration = Duration::from_secs(1);
/// Some editors write this before the text.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The file with the password.
pub(super) struct PasswordFile {
    path: PathBuf,
    /// Locked while the file is read, so that a file system which never answers keeps one
    /// thread waiting and no more.
    reading: Arc<Mutex<()>>,
}

impl PasswordFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            reading: Arc::default(),
        }
    }

    /// The password as the file has it now. Cancel safe.
    pub(super) async fn read(&self) -> Result<String, Error> {
        let reading = async {
            let guard = Arc::clone(&self.reading).lock_owned().await;
            let path = self.path.clone();
            let read = spawn_blocking(move || {
                let password = read(&path);
                drop(guard);
                password
            });
            read.await
                .unwrap_or_else(|_| Err("the program is stopping".to_owned()))
        };
        let found = timeout(READ_TIMEOUT, reading)
            .await
            .unwrap_or_else(|_| Err(format!("it is not read within {READ_TIMEOUT:?}")));
        found.map_err(|why| {
            let path = plain::path(&self.path);
            let error = format!(
                "the password file {path} is of no use: {why}; see \
                 cache_server.redis.jobqueue.password_file"
            );
            Error::new(Class::Operator, error)
        })
    }
}

/// The password in the file at `path`, or what is wrong with it.
fn read(path: &Path) -> Result<String, String> {
    // The kind is asked for first, because opening a named pipe would wait for a writer.
    let is_file = fs::metadata(path)
        .map_err(|error| io_words(&error))?
        .is_file();
    if !is_file {
        return Err("it is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| io_words(&error))?;
    password(bytes)
}

/// The password in a file with these bytes. One line end after it belongs to the editor and not
/// to the password. Any other white space may be a part of the password.
fn password(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err("it is empty".to_owned());
    }
    if line.contains('\0') {
        return Err("it holds a byte 0".to_owned());
    }
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_end_and_a_byte_order_mark_are_not_the_password() {
        for (bytes, is) in [
            ("secret", "secret"),
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            ("\u{feff}secret\r\n", "secret"),
            (" se cret \n", " se cret "),
            ("secret\n\n", "secret\n"),
            ("秘密\n", "秘密"),
        ] {
            assert_eq!(password(bytes.into()).as_deref(), Ok(is), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_password_is_refused_and_not_shown() {
        let largest = usize::try_from(MAX_BYTES).unwrap();
        assert!(password(vec![b'x'; largest]).is_ok());
        let too_large = vec![b'x'; largest + 1];
        for (bytes, why) in [
            (Vec::new(), "empty"),
            (b"\n".to_vec(), "empty"),
            (b"\r\n".to_vec(), "empty"),
            ("\u{feff}".into(), "empty"),
            (b"canary\0".to_vec(), "byte 0"),
            (b"canary\xff".to_vec(), "UTF-8"),
            (too_large, "65536"),
        ] {
            let error = password(bytes).unwrap_err();
            assert!(
                error.contains(why) && !error.contains("canary"),
                "{why}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_an_operators_matter() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        for (path, why) in [
            (missing.as_path(), "no such file"),
            (dir.path(), "no regular file"),
            (Path::new("/dev/zero"), "no regular file"),
        ] {
            let error = PasswordFile::new(path.to_owned()).read().await.unwrap_err();
            assert_eq!(error.class, Class::Operator);
            let error = error.to_string();
            for part in [why, &path.display().to_string(), "password_file"] {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_takes_its_time_is_read_by_one_at_a_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "secret").unwrap();
        let file = PasswordFile::new(file.path().to_owned());
        let slow = file.reading.lock().await;
        let (first, second) = tokio::join!(file.read(), file.read());
        for refused in [first, second] {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("within 1s"), "{error}");
        }
        drop(slow);
        assert_eq!(file.read().await.unwrap(), "secret");
    }
}
