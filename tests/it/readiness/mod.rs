//! The README's "Readiness": what `/ready` and the log tell of Redis, in which words, and what
//! asking costs.

mod conditions;
mod load;
mod reasons;
