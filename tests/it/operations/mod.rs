//! The README's "Looking inside with redis-cli" and "Operations". The commands and the scripts work
//! as they are written, and no action of an operator loses a job. The schema is tested here too,
//! because operators see it.

mod inspection;
mod migrations;
mod operators;
mod recipes;
mod retry_dead;
mod scripts;
