//! From the bytes of a request to values, or to the list of what is wrong with them. Nothing here
//! knows which routes exist, and what the values mean is decided elsewhere.

pub(super) mod body;
pub(super) mod object;
