//! How to reach Redis.

use std::{fmt, path::PathBuf, time::Duration};

use super::secret::{Hidden, Secret};
use super::section::{Checker, InvalidSetting, Origin, conflict, in_code, join, section};
use super::value::{MINUTE, SECOND, Text, ms};
use super::{address, plain};

/// The section of these settings.
pub(super) const SECTION: &str = "cache_server.redis.jobqueue";
/// The key of the address, for which there is a variable of its own.
pub(super) const ADDR: &str = "cache_server.redis.jobqueue.addr";

/// `check_relations` says more about an address than that it is none.
const ADDRESS: Text = Text {
    expected: address::EXPECTED,
    accept: |addr| Some(addr.to_owned()),
};

section! {
    /// How to reach Redis (`cache_server.redis.jobqueue.*`).
    ///
    /// ```
    /// use dm_jobqueue::{RedisConfig, Secret};
    ///
    /// let config = RedisConfig {
    ///     addr: "redis.internal:6379".to_owned(),
    ///     password: Some(Secret::new("s3cret")),
    ///     ..RedisConfig::default()
    /// };
    /// config.check().unwrap();
    /// ```
    ///
    /// A user, a password or a database stands in `addr` or under its own key. Settings that have one
    /// of them in both places are refused, and so is `tls` beside a URL that does not use TLS.
    ///
    /// A user without a password (`redis://alice@host`, or `username` alone) means a login as that user
    /// with an empty password, which Redis accepts for users with `nopass`. It never means the
    /// `default` user. A password without a user belongs to the `default` user.
    ///
    /// In the ranges below, `ms(1)` is a millisecond, and `SECOND` and `MINUTE` are [`Duration`]s of
    /// that length.
    #[derive(Clone)]
    pub struct RedisConfig {
        /// `host:port`, or a `redis://`, `rediss://`, `valkey://`, `valkeys://` or `unix://` URL.
        /// It may hold a password, so output shows [`RedisConfig::display_addr`] instead.
        pub addr: String = "localhost:6379".to_owned(), like ADDRESS;
        /// The ACL user. `None` means Redis' `default` user.
        pub username: Option<String> = None;
        /// The password; never logged. `None` means a login without one.
        pub password: Option<Secret> = None;
        /// A file with the password, which is read again for each connection. Its path begins with `/`,
        /// `./` or `../`. It is never given together with `password` or with a password in `addr`.
        pub password_file: Option<PathBuf> = None;
        /// The database number; 0 leaves it to a URL in `addr`.
        pub db: i64 = 0, in 0..=i64::from(i32::MAX);
        /// Whether to use TLS for a `host:port` address.
        pub tls: bool = false;
        /// The shortest wait between two attempts to reach Redis.
        pub min_retry_backoff: Duration = ms(100), in ms(1)..=SECOND * 10;
        /// The longest wait between two attempts to reach Redis; not less than the shortest one.
        pub max_retry_backoff: Duration = ms(512), in ms(1)..=SECOND * 10;
        /// How long connecting may take.
        pub dial_timeout: Duration = SECOND, in ms(10)..=MINUTE;
        /// How long a reply may take.
        pub read_timeout: Duration = SECOND, in ms(10)..=MINUTE;
        /// How long sending may take. A command may take the sum of both.
        pub write_timeout: Duration = ms(500), in ms(10)..=MINUTE;
    }
}

impl RedisConfig {
    /// The address for log lines and error messages, without user, password and query.
    pub fn display_addr(&self) -> String {
        address::without_credentials(&self.addr)
    }

    /// Checks what loading from files checks too. Workers and clients do it when they are made.
    ///
    /// # Errors
    /// The first setting that is out of its range, or at odds with another one. No secret is shown.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        self.visit(SECTION, &mut Checker)?;
        self.check_relations(&in_code)
    }

    /// Refuses an address that cannot be understood, and settings that exclude each other.
    pub(super) fn check_relations(&self, origin: &Origin<'_>) -> Result<(), InvalidSetting> {
        let min = (key("min_retry_backoff"), self.min_retry_backoff);
        let max = (key("max_retry_backoff"), self.max_retry_backoff);
        if max.1 < min.1 {
            return Err(conflict(
                (&max.0, max.1),
                "at least",
                (&min.0, min.1),
                origin,
            ));
        }
        let carried = address::read(&self.addr).map_err(|refused| InvalidSetting {
            key: ADDR.to_owned(),
            found: refused.found,
            expected: format!("{}; {}", address::EXPECTED, refused.hint),
        })?;
        self.refuse_given_twice(&carried, origin)?;
        if self.tls && carried.is_url && !carried.tls {
            let expected = format!(
                "false beside {} ({}), which does not use TLS; make it rediss:// or remove {}",
                self.display_addr(),
                origin(ADDR),
                key("tls"),
            );
            return Err(invalid("tls", "true", expected));
        }
        Ok(())
    }

    /// Refuses settings that are given in two places: it would be unclear which of them holds.
    fn refuse_given_twice(
        &self,
        carried: &address::Carried,
        origin: &Origin<'_>,
    ) -> Result<(), InvalidSetting> {
        let has_file = self.password_file.is_some();
        if has_file && self.password.is_some() {
            let password = key("password");
            let origin = origin(&password);
            let expected =
                format!("one password, but {origin} has {password} too; remove one of them");
            return Err(invalid("password_file", "a path", expected));
        }
        let twice = [
            ("username", carried.username && self.username.is_some()),
            ("password", carried.password && self.password.is_some()),
            ("password_file", carried.password && has_file),
            ("db", carried.db && self.db != 0),
        ];
        let Some((name, _)) = twice.into_iter().find(|(_, is_twice)| *is_twice) else {
            return Ok(());
        };
        let expected = format!(
            "it in one place only, but {} has it in its URL too; remove one of them",
            origin(ADDR)
        );
        Err(invalid(name, "a value", expected))
    }
}

fn key(name: &str) -> String {
    join(SECTION, name)
}

fn invalid(name: &str, found: &str, expected: String) -> InvalidSetting {
    InvalidSetting {
        key: key(name),
        found: found.to_owned(),
        expected,
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A new setting does not compile before it is named here, where its author has to decide
        // whether it may hold a secret.
        let Self {
            addr: _,
            username,
            password,
            password_file,
            db,
            tls,
            min_retry_backoff,
            max_retry_backoff,
            dial_timeout,
            read_timeout,
            write_timeout,
        } = self;
        f.debug_struct("RedisConfig")
            .field("addr", &self.display_addr())
            // Users put a password in the wrong place now and then, so these may hold one as well.
            .field("username", &username.as_ref().map(|_| Hidden))
            .field("password", password)
            .field("password_file", &password_file.as_deref().map(plain::path))
            .field("db", db)
            .field("tls", tls)
            .field("min_retry_backoff", min_retry_backoff)
            .field("max_retry_backoff", max_retry_backoff)
            .field("dial_timeout", dial_timeout)
            .field("read_timeout", read_timeout)
            .field("write_timeout", write_timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fit() {
        assert_eq!(RedisConfig::default().check(), Ok(()));
    }

    #[test]
    fn what_a_program_sets_is_checked_and_no_secret_is_shown() {
        let secret = || "s3cret-word".to_owned();
        let fit = RedisConfig::default;
        let addr = |addr: &str| RedisConfig {
            addr: addr.to_owned(),
            ..fit()
        };
        let twice = RedisConfig {
            username: Some(secret()),
            ..addr("redis://s3cret-word:s3cret-word@localhost")
        };
        let both = RedisConfig {
            password: Some(Secret::new(secret())),
            password_file: Some("/run/secrets/redis".into()),
            ..fit()
        };
        let file = RedisConfig {
            password_file: Some(secret().into()),
            ..fit()
        };
        let tls = RedisConfig {
            tls: true,
            ..addr("redis://:s3cret-word@localhost")
        };
        let backoff = RedisConfig {
            max_retry_backoff: ms(99),
            ..fit()
        };
        for (config, name, words) in [
            (addr("localhost"), "addr", "add the port, such as :6379"),
            (
                addr("s3cret-word@localhost:1"),
                "addr",
                "expected host:port",
            ),
            (
                twice,
                "username",
                "but the value in code has it in its URL too",
            ),
            (
                both,
                "password_file",
                "one password, but the value in code has",
            ),
            (file, "password_file", "a path that begins with / or ./"),
            (
                tls,
                "tls",
                "false beside redis://localhost (the value in code)",
            ),
            (
                backoff,
                "max_retry_backoff",
                "which is \"100ms\" (the value in code)",
            ),
            (
                RedisConfig { db: -1, ..fit() },
                "db",
                "from 0 to 2147483647",
            ),
        ] {
            let error = config.check().unwrap_err();
            assert_eq!(error.key, key(name));
            let message = error.to_string();
            assert!(message.contains(words), "{message}");
            assert!(!message.contains("s3cret"), "{message}");
        }
    }
}
