//! "What the programs mend by themselves" of `docs/operations.md`: Redis is away, refuses commands,
//! stalls, or is behind a bad line. Both programs wait, say why, and go on by themselves. Nothing
//! is lost and nothing runs twice because of it.

mod connections;
mod lost_replies;
mod redis_away;
mod refusals;
mod refused_outcomes;
mod slow_lines;
mod stalls;
