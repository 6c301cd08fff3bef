//! What a failed Redis command means for the one who sent it.
//!
//! Every error is one of four classes, and the class decides what happens next. Its words are
//! for people only.

use redis::{ErrorKind, RedisError, ServerError};

use super::words::{io_cause, io_words, refusal, tls_trouble};
use crate::shortened::shortened_to;

/// The most bytes of a message: it may carry what somebody else wrote.
const MAX_MESSAGE_BYTES: usize = 512;

/// What to do about a failed command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Redis is away or busy. Wait until it answers again.
    Wait,
    /// This connection is of no use any more. Open another one.
    Reconnect,
    /// Redis lost the stream or the group. Run the migrations, then go on.
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
    /// The code that Redis answered (`OOM`, `READONLY`, ...): the command surely had no
    /// effect. It is absent when no answer came: the command may have run.
    pub code: Option<String>,
    message: String,
}

impl Error {
    /// An error that is not a reply of Redis.
    pub(crate) fn new(class: Class, message: impl Into<String>) -> Self {
        Self {
            class,
            code: None,
            message: in_one_line(&message.into()),
        }
    }

    /// The same error with the advice what to do about it.
    pub(crate) fn advised(mut self, advice: Option<String>) -> Self {
        if let Some(advice) = advice {
            self.message = in_one_line(&format!("{}; {advice}", self.message));
        }
        self
    }

    /// The same error without Redis' own words, which hold the password.
    pub(crate) fn without_words(mut self) -> Self {
        let code = self.code.as_deref().unwrap_or("an error");
        self.message = format!("{code} (its words are not shown: they hold the password)");
        self
    }

    /// What an operator is told of it. `redis` is the server's address.
    pub(crate) fn told_of(&self, redis: &str) -> String {
        let message = &self.message;
        match (&self.code, self.class) {
            (Some(_), _) => format!("Redis at {redis} answers {message}"),
            (None, Class::Operator) => format!("cannot use Redis at {redis}: {message}"),
            (None, _) => format!("cannot reach Redis at {redis}: {message}"),
        }
    }

    /// Whether the error is that no answer came in time.
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
        let (class, message) = match (error.kind(), error.code()) {
            (ErrorKind::Io, _) => {
                let class = match error.is_timeout() {
                    true => Class::Reconnect,
                    false => Class::Wait,
                };
                let words = io_cause(&error).map(io_words);
                (class, words.unwrap_or_else(|| error.to_string()))
            }
            // The rest of the reply cannot be found any more.
            (ErrorKind::Parse, _) => (
                Class::Reconnect,
                "the reply is not in the protocol of Redis".to_owned(),
            ),
            // A Redis before 6.0 does not know HELLO. redis-rs makes this of its answer.
            (ErrorKind::RESP3NotSupported, _) => {
                (Class::Operator, "it does not know HELLO".to_owned())
            }
            (_, Some(code)) => {
                let details = error.detail().unwrap_or_default();
                (classify(code, details), refusal(code, details))
            }
            (_, None) => (Class::Operator, error.to_string()),
        };
        Self {
            code: error.code().map(str::to_owned),
            ..Self::new(class, message)
        }
    }
}

impl From<&ServerError> for Error {
    fn from(error: &ServerError) -> Self {
        let details = error.details().unwrap_or_default();
        Self {
            code: Some(error.code().to_owned()),
            ..Self::new(
                classify(error.code(), details),
                refusal(error.code(), details),
            )
        }
    }
}

fn in_one_line(message: &str) -> String {
    let line = message.replace(char::is_control, " ");
    shortened_to(MAX_MESSAGE_BYTES, &line)
}

/// The class of an error by its code. The codes are those of Redis 7.0 to 8.2 and of Valkey.
fn classify(code: &str, details: &str) -> Class {
    match code {
        "LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MISCONF"
        | "NOREPLICAS" | "OOM" => Class::Wait,
        "ERR" if details.contains("max number of clients") => Class::Wait,
        "NOGROUP" | "NOSCRIPT" => Class::Repair,
        // From the queue's own scripts: the stream is not the one that was read.
        "INCARNATION" => Class::Repair,
        // A blocked XREADGROUP gets this when its stream is deleted.
        "UNBLOCKED" if details.contains("no longer exists") => Class::Repair,
        "READONLY" | "UNBLOCKED" => Class::Reconnect,
        _ => Class::Operator,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_redis() {
        let told = |class, code: Option<&str>| {
            let error = Error::new(class, "a\r\nb");
            let code = code.map(str::to_owned);
            Error { code, ..error }.told_of("localhost:6379")
        };
        for (class, code, is) in [
            (
                Class::Wait,
                None,
                "cannot reach Redis at localhost:6379: a  b",
            ),
            (
                Class::Operator,
                None,
                "cannot use Redis at localhost:6379: a  b",
            ),
            (
                Class::Wait,
                Some("OOM"),
                "Redis at localhost:6379 answers a  b",
            ),
        ] {
            assert_eq!(told(class, code), is);
        }
    }

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
