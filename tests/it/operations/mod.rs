//! The README's "Looking inside with redis-cli" and "Operations": the commands and the scripts
//! work as they are written, and what operators do by hand loses no job. The schema is here
//! too, since operators see it.

mod inspection;
mod migrations;
mod operators;
mod recipes;
mod retry_dead;
mod scripts;
