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
/// What is said when Redis, or what stands before it, ends a connection.
pub(crate) const CLOSED: &str = "it closed the connection";
/// How the standard library begins to say that a name has no address.
const UNKNOWN_NAME: &str = "failed to lookup address information";

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
            message: in_one_line(&message.into()),
        }
    }

    /// The same with what to do about it.
    pub(crate) fn advised(mut self, advice: Option<String>) -> Self {
        if let Some(advice) = advice {
            self.message = in_one_line(&format!("{}; {advice}", self.message));
        }
        self
    }

    /// The same without Redis' own words, which hold what is secret.
    pub(crate) fn without_words(mut self) -> Self {
        let code = self.code.as_deref().unwrap_or("an error");
        self.message = format!("{code} (its words are not shown: they hold the password)");
        self
    }

    /// What an operator is told of it, where `redis` is the server's address.
    pub(crate) fn told_of(&self, redis: &str) -> String {
        let message = &self.message;
        match (&self.code, self.class) {
            (Some(_), _) => format!("Redis at {redis} answers {message}"),
            (None, Class::Operator) => format!("cannot use Redis at {redis}: {message}"),
            (None, _) => format!("cannot reach Redis at {redis}: {message}"),
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
        let (class, message) = match (error.kind(), error.code()) {
            (ErrorKind::Io, _) => {
                let class = match error.is_timeout() {
                    true => Class::Reconnect,
                    false => Class::Wait,
                };
                let words = io_cause(&error).map(io_words);
                (class, words.unwrap_or_else(|| error.to_string()))
            }
            // Half a reply is worth as much as none.
            (ErrorKind::Parse, _) => (
                Class::Reconnect,
                "the reply is not in the protocol of Redis".to_owned(),
            ),
            // redis-rs' answer to the words in which a Redis before 6.0 knows no HELLO.
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

/// Redis' own words, as far as an operator needs them.
fn refusal(code: &str, details: &str) -> String {
    let words = match code {
        // The first two are paragraphs about what clients and servers can be told, and the last
        // answers what holds a password: whoever stands before Redis may repeat it.
        "NOAUTH" => "(it asks for a password)",
        "DENIED" => "(its protected mode lets nobody in from other hosts)",
        "WRONGPASS" => "invalid username-password pair or user is disabled",
        _ => without_arguments(details),
    };
    // Where in which script is said to those who know the script.
    let (words, _) = words.split_once(" script: ").unwrap_or((words, ""));
    let words = words.trim().trim_end_matches('.');
    format!("{code} {words}").trim_end().to_owned()
}

/// Redis repeats the beginning of a command that it does not know: a password, or
/// somebody's job.
pub(crate) fn without_arguments(details: &str) -> &str {
    let beginning = details.split_once(", with args beginning with");
    beginning.map_or(details, |(words, _)| words)
}

/// The error of the system behind a connection's end.
pub(crate) fn io_cause(error: &RedisError) -> Option<&io::Error> {
    // As redis-rs keeps the errors of others.
    let cause = error.source()?;
    let cause = cause.downcast_ref::<Arc<dyn StdError + Send + Sync>>()?;
    cause.downcast_ref::<io::Error>()
}

/// Whether a host's name has no address. The standard library has no kind for it.
pub(crate) fn is_unknown_name(error: &io::Error) -> bool {
    error.to_string().starts_with(UNKNOWN_NAME)
}

/// The system's words as a part of a sentence, without the error's number.
pub(crate) fn io_words(error: &io::Error) -> String {
    let text = match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            return "no reply in time".to_owned();
        }
        io::ErrorKind::BrokenPipe => return CLOSED.to_owned(),
        _ => error.to_string(),
    };
    if let Some(why) = text.strip_prefix(UNKNOWN_NAME) {
        let why = why.trim_start_matches(": ");
        return format!("its host name cannot be resolved ({why})");
    }
    let (text, _) = text.split_once(" (os error").unwrap_or((&text, ""));
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_lowercase());
    first.into_iter().flatten().chain(letters).collect()
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
    fn an_answer_repeats_nothing_that_was_sent() {
        let unknown =
            "unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'me' 's3cret' ";
        assert_eq!(refusal("ERR", unknown), "ERR unknown command 'HELLO'");
        let script = "wrong kind of value. script: f0e1, on @user_script:3.";
        assert_eq!(
            refusal("WRONGTYPE", script),
            "WRONGTYPE wrong kind of value"
        );
        assert_eq!(refusal("NEWCODE", ""), "NEWCODE");
    }

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
    fn the_systems_words_are_a_part_of_a_sentence() {
        let refused = io::Error::from_raw_os_error(nix::errno::Errno::ECONNREFUSED as i32);
        assert_eq!(io_words(&refused), "connection refused");
        let name = io::Error::other(format!("{UNKNOWN_NAME}: Name or service not known"));
        assert!(is_unknown_name(&name) && !is_unknown_name(&refused));
        let words = "its host name cannot be resolved (Name or service not known)";
        assert_eq!(io_words(&name), words);
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
