//! "Health and readiness" of `docs/operations.md`: what `/ready` and the log say about Redis, in which words, and how
//! much an answer costs Redis.

mod conditions;
mod load;
mod reasons;
