//! "Permissions", "Change a password" and "TLS" of `docs/operations.md`: which user of Redis the
//! programs are, what they do when Redis refuses them, and that no secret is ever shown.

mod password_file;
mod permissions;
mod secrets;
mod secrets_at_runtime;
mod tls;
mod users;
