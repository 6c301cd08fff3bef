//! `docs/configuration.md`: where settings come from, what the programs say about a mistake in them,
//! how they start, and which limits of the system they need.

mod arguments;
mod in_code;
mod limits;
mod sources;
mod startup;
