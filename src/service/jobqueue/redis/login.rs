//! How a connection to Redis is opened: the place, the user, the password.
//!
//! The place and the user are known from the start. A password file is read again for each
//! connection, so that a new password needs no restart. Nothing here tries twice: the caller
//! decides what a failure means.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, SendError};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError,
};

use super::advice::Advice;
use super::error::{Class, Error};
use super::password_file::PasswordFile;
use super::tls;
use super::words::without_arguments;
use crate::config::RedisConfig;

/// How long a connection may be silent before the kernel asks whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// An error that repeats so many bytes of the password shows it to whoever reads the log.
const TELLING_BYTES: usize = 16;

/// Opens connections with the settings of one Redis.
pub(super) struct Login {
    info: ConnectionInfo,
    password_file: Option<PasswordFile>,
    advice: Advice,
    /// A connection could be opened once, so what the settings say was right then.
    worked: AtomicBool,
    dial_timeout: Duration,
}

impl Login {
    /// # Errors
    /// When `config.addr` cannot be understood.
    pub(super) fn new(config: &RedisConfig) -> Result<Self, Error> {
        let info = connection_info(config)?;
        let password = info.redis_settings().password();
        Ok(Self {
            advice: Advice::new(config, password.is_some_and(|it| !it.is_empty())),
            info,
            password_file: config.password_file.clone().map(PasswordFile::new),
            worked: AtomicBool::new(false),
            dial_timeout: config.dial_timeout,
        })
    }

    /// Opens one connection as the configured user. `CLIENT LIST` shows `name`. `on_end` is
    /// called when the connection has ended.
    pub(super) async fn open(
        &self,
        name: &str,
        response_timeout: Duration,
        on_end: impl Fn() + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection, Error> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.dial_timeout))
            .set_response_timeout(Some(response_timeout))
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    on_end();
                }
                Ok::<(), SendError>(())
            });
        let mut connection = self.connect(config).await?;
        let mut name_it = redis::cmd("CLIENT");
        name_it.arg("SETNAME").arg(format!("jobqueue-{name}"));
        // The name is for the eyes of an operator only, so a refusal does not matter.
        connection.send_packed_command(&name_it).await?;
        Ok(connection)
    }

    async fn connect(&self, config: AsyncConnectionConfig) -> Result<MultiplexedConnection, Error> {
        let info = self.info_now().await?;
        let password = info.redis_settings().password().unwrap_or_default();
        let password = password.to_owned();
        let connecting = async {
            let client = Client::open(info)?;
            client
                .get_multiplexed_async_connection_with_config(&config)
                .await
        };
        let opened = connecting.await;
        if opened.is_ok() {
            self.worked.store(true, Ordering::Relaxed);
        }
        opened.map_err(|error| self.explain(error, &password))
    }

    /// The place, the user and the password as they are now.
    async fn info_now(&self) -> Result<ConnectionInfo, Error> {
        let info = self.info.clone();
        let Some(file) = &self.password_file else {
            return Ok(info);
        };
        let redis = info.redis_settings().clone();
        let redis = redis.set_password(file.read().await?);
        Ok(info.set_redis_settings(redis))
    }

    /// What an operator is told when no connection could be opened with `password`.
    fn explain(&self, error: RedisError, password: &str) -> Error {
        let advice = self.advice.on(&error, self.worked.load(Ordering::Relaxed));
        let timeout = error.is_timeout();
        // The words of these two errors are our own. They may contain a password such as `user`
        // by chance.
        let known = matches!(error.code(), Some("NOAUTH" | "WRONGPASS"));
        let start = &password[..password.floor_char_boundary(TELLING_BYTES)];
        let words = without_arguments(error.detail().unwrap_or_default());
        let tells = !known && !start.is_empty() && words.contains(start);
        let error = match timeout {
            true => {
                let error = format!("no answer within {:?}", self.dial_timeout);
                Error::new(Class::Reconnect, error)
            }
            false => Error::from(error),
        };
        let error = if tells { error.without_words() } else { error };
        error.advised(advice)
    }

    /// Whether the settings ask for TLS and the server does not speak it.
    pub(super) async fn lacks_tls(&self) -> bool {
        match self.info.addr() {
            ConnectionAddr::TcpTls { host, port, .. } => {
                tls::answers_in_plain_text(host, *port).await
            }
            _ => false,
        }
    }
}

fn connection_info(config: &RedisConfig) -> Result<ConnectionInfo, RedisError> {
    let addr = config.addr.as_str();
    let info = if addr.contains("://") {
        addr.into_connection_info()?
    } else {
        let scheme = if config.tls { "rediss" } else { "redis" };
        format!("{scheme}://{addr}").into_connection_info()?
    };
    let mut redis: RedisConnectionInfo = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3);
    if let Some(username) = &config.username {
        redis = redis.set_username(username);
    }
    if let Some(password) = &config.password {
        redis = redis.set_password(password.reveal());
    }
    // Without a password redis-rs would not send the user's name, and Redis would take this
    // process for its user `default`, who may have other rights.
    if redis.username().is_some() && redis.password().is_none() {
        redis = redis.set_password("");
    }
    if config.db != 0 {
        redis = redis.set_db(config.db);
    }
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE));
    Ok(info.set_redis_settings(redis).set_tcp_settings(tcp))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The user and the password that are sent.
    fn credentials(config: &RedisConfig) -> (Option<String>, Option<String>) {
        let info = connection_info(config).unwrap();
        let redis = info.redis_settings();
        (
            redis.username().map(str::to_owned),
            redis.password().map(str::to_owned),
        )
    }

    fn addr(addr: &str) -> RedisConfig {
        RedisConfig {
            addr: addr.to_owned(),
            ..RedisConfig::default()
        }
    }

    #[test]
    fn a_user_without_a_password_is_still_that_user() {
        let own_key = RedisConfig {
            username: Some("alice".to_owned()),
            ..RedisConfig::default()
        };
        let alice = (Some("alice".to_owned()), Some(String::new()));
        for config in [
            addr("redis://alice@localhost"),
            addr("redis://alice:@localhost"),
            addr("rediss://alice@localhost"),
            addr("unix:///run/redis.sock?user=alice"),
            own_key,
        ] {
            assert_eq!(credentials(&config), alice, "{config:?}");
        }
        assert_eq!(credentials(&addr("redis://localhost")), (None, None));
    }
}
