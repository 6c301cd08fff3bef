//! What a failed Redis command means for the one who sent it.
//!
//! Every error is one of four classes, and the class decides what happens next;
//! nothing else in the crate looks at error codes.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerError};

use super::tls;
use crate::shortened::shortened_to;

/// The most bytes of a message: it may carry what somebody else wrote.
const MAX_MESSAGE_BYTES: usize = 512;

/// What to do about a failed command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Redis is away or busy: wait until it answers again.
    Wait,
    /// This connection is of no use any more: open another one.
    Reconnect,
    /// Redis lost the stream or the group: run the migrations, then go on.
    Repair,
    /// Somebody has to change something: a permission, a password, a key.
    Operator,
}

/// A failed command: its class and a message for the log.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What to do about it.
    pub class: Class,
    /// What Redis answered (`OOM`, `READONLY`, ...), so that the command surely had
    /// no effect; absent when no answer came and the command may have run.
    pub code: Option<String>,
    message: String,
}

impl Error {
    /// An error that no reply of Redis stands behind.
    pub(crate) fn new(class: Class, message: impl Into<String>) -> Self {
        Self {
            class,
            code: None,
            message: shortened_to(MAX_MESSAGE_BYTES, &message.into()),
        }
    }

    /// No answer came in time.
    pub(crate) fn is_timeout(&self) -> bool {
        self.class == Class::Reconnect && self.code.is_none()
    }

    /// A reply that does not have the shape that the command's reply has.
    pub(crate) fn unexpected_reply(command: &str) -> Self {
        Self::new(
            Class::Operator,
            format!(
                "redis answered {command} in a shape that 7.0 and later do not; check the server"
            ),
        )
    }
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        if let Some(trouble) = tls_trouble(&error) {
            return Self::new(Class::Operator, trouble);
        }
        let class = match (error.kind(), error.code()) {
            (ErrorKind::Io, _) if error.is_timeout() => Class::Reconnect,
            (ErrorKind::Io, _) => Class::Wait,
            // Half a reply is worth as much as none.
            (ErrorKind::Parse, _) => Class::Reconnect,
            (_, Some(code)) => classify(code, error.detail().unwrap_or_default()),
            (_, None) => Class::Operator,
        };
        Self {
            class,
            code: error.code().map(str::to_owned),
            message: shortened_to(MAX_MESSAGE_BYTES, &error.to_string()),
        }
    }
}

/// What TLS found wrong, if that is what the error is about.
fn tls_trouble(error: &RedisError) -> Option<String> {
    // As redis-rs keeps the errors of others.
    let cause = error.source()?;
    let cause = cause.downcast_ref::<Arc<dyn StdError + Send + Sync>>()?;
    let inner = match cause.downcast_ref::<io::Error>() {
        Some(error) => error.get_ref()?.downcast_ref::<rustls::Error>(),
        None => cause.downcast_ref::<rustls::Error>(),
    };
    match inner {
        Some(error) => Some(tls::explain(error)),
        None if cause.is::<io::Error>() => None,
        // A name that no certificate can have, or trusted certificates that cannot be read.
        None => (error.kind() == ErrorKind::Io).then(|| format!("TLS: {cause}")),
    }
}

impl From<&ServerError> for Error {
    fn from(error: &ServerError) -> Self {
        let details = error.details().unwrap_or_default();
        Self {
            class: classify(error.code(), details),
            code: Some(error.code().to_owned()),
            message: shortened_to(MAX_MESSAGE_BYTES, &format!("{} {details}", error.code())),
        }
    }
}

/// Codes as Redis 7.0 to 8.2 and Valkey send them.
fn classify(code: &str, details: &str) -> Class {
    match code {
        "LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MISCONF"
        | "NOREPLICAS" | "OOM" => Class::Wait,
        "ERR" if details.contains("max number of clients") => Class::Wait,
        "NOGROUP" | "NOSCRIPT" => Class::Repair,
        // The queue's own scripts: the stream was made anew since it was read.
        "INCARNATION" => Class::Repair,
        // What a blocked XREADGROUP gets when its stream is deleted.
        "UNBLOCKED" if details.contains("no longer exists") => Class::Repair,
        "READONLY" | "UNBLOCKED" => Class::Reconnect,
        _ => Class::Operator,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_class() {
        for (code, details, class) in [
            (
                "LOADING",
                "Redis is loading the dataset in memory",
                Class::Wait,
            ),
            ("MISCONF", "Errors writing to the AOF file", Class::Wait),
            ("ERR", "max number of clients reached", Class::Wait),
            ("ERR", "unknown command 'XAUTOCLAIM'", Class::Operator),
            ("NOGROUP", "No such key", Class::Repair),
            ("INCARNATION", "not the one", Class::Repair),
            (
                "UNBLOCKED",
                "the stream key no longer exists",
                Class::Repair,
            ),
            (
                "UNBLOCKED",
                "force unblock from blocking operation",
                Class::Reconnect,
            ),
            (
                "READONLY",
                "You can't write against a read only replica.",
                Class::Reconnect,
            ),
            ("NOPERM", "no permissions", Class::Operator),
            ("WRONGTYPE", "Operation against a key", Class::Operator),
            ("NEWCODE", "nobody knows", Class::Operator),
        ] {
            assert_eq!(classify(code, details), class, "{code} {details}");
        }
    }
}
