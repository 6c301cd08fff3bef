//! `docs/operations.md`: what an operator sees and does. The scripts work as they are written, and no
//! action of an operator loses a job. The schema is tested here too,
//! because operators see it.

mod cancels;
mod figures;
mod inspection;
mod migrations;
mod operators;
mod rolling_upgrade;
mod scripts;
