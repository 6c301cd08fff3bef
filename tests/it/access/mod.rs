//! The README's "Permissions", "A new password" and TLS: who the programs are for Redis, what
//! they do when they are refused, and that no secret is ever shown.

mod password_file;
mod permissions;
mod secrets;
mod secrets_at_runtime;
mod tls;
mod users;
