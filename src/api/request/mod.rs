//! From the bytes of a request to values, or to the list of what is wrong with them. Nothing here
//! knows which routes exist, or what the values mean.
//!
//! `body` reads the text (`content_type` checks its headers), and `object` decodes it (`integer` its
//! numbers). `place` says where in the text an error is.

pub(super) mod body;
mod content_type;
mod integer;
pub(super) mod object;
mod place;
