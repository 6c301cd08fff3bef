//! The words in which errors of Redis, of TLS and of the system are told: what an operator needs
//! of them, as a part of a sentence, and nothing that is secret.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError};

use super::tls;

/// What is said when Redis, or what stands before it, ends a connection.
pub(super) const CLOSED: &str = "it closed the connection";
/// How the standard library begins to say that a name has no address.
const UNKNOWN_NAME: &str = "failed to lookup address information";

/// Redis' own words, as far as an operator needs them.
pub(super) fn refusal(code: &str, details: &str) -> String {
    let words = match code {
        // Redis answers these two with a paragraph of advice.
        "NOAUTH" => "(it asks for a password)",
        "DENIED" => "(its protected mode lets nobody in from other hosts)",
        // This answers a command that holds the password. A proxy before Redis may repeat it.
        "WRONGPASS" => "invalid username-password pair or user is disabled",
        _ => without_arguments(details),
    };
    // An operator does not know the script in which it happened.
    let (words, _) = words.split_once(" script: ").unwrap_or((words, ""));
    let words = words.trim().trim_end_matches('.');
    format!("{code} {words}").trim_end().to_owned()
}

/// The same words without the arguments of the command. Redis repeats their beginning when it
/// does not know the command, and they may be a password or somebody's job.
pub(super) fn without_arguments(details: &str) -> &str {
    let beginning = details.split_once(", with args beginning with");
    beginning.map_or(details, |(words, _)| words)
}

/// The error of the system that ended a connection.
pub(super) fn io_cause(error: &RedisError) -> Option<&io::Error> {
    cause(error)?.downcast_ref::<io::Error>()
}

/// The error of another crate behind one of redis-rs, which keeps it in this form.
fn cause(error: &RedisError) -> Option<&(dyn StdError + Send + Sync + 'static)> {
    let cause = error.source()?;
    let cause = cause.downcast_ref::<Arc<dyn StdError + Send + Sync>>()?;
    Some(&**cause)
}

/// Whether a host's name has no address. The standard library has no kind for it.
pub(super) fn is_unknown_name(error: &io::Error) -> bool {
    error.to_string().starts_with(UNKNOWN_NAME)
}

/// The system's words as a part of a sentence, without the error's number.
pub(super) fn io_words(error: &io::Error) -> String {
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

/// What TLS found wrong, if the error is about that.
pub(super) fn tls_trouble(error: &RedisError) -> Option<String> {
    let cause = cause(error)?;
    let inner = match cause.downcast_ref::<io::Error>() {
        Some(error) => error.get_ref()?.downcast_ref::<rustls::Error>(),
        None => cause.downcast_ref::<rustls::Error>(),
    };
    match inner {
        Some(error) => Some(tls::explain(error)),
        None if cause.is::<io::Error>() => None,
        // The host's name can stand in no certificate, or the trusted certificates cannot be read.
        None => (error.kind() == ErrorKind::Io).then(|| format!("TLS: {cause}")),
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
    fn the_systems_words_are_a_part_of_a_sentence() {
        let refused = io::Error::from_raw_os_error(nix::errno::Errno::ECONNREFUSED as i32);
        assert_eq!(io_words(&refused), "connection refused");
        let name = io::Error::other(format!("{UNKNOWN_NAME}: Name or service not known"));
        assert!(is_unknown_name(&name) && !is_unknown_name(&refused));
        let words = "its host name cannot be resolved (Name or service not known)";
        assert_eq!(io_words(&name), words);
    }
}
