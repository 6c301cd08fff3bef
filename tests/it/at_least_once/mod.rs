//! The README's guarantee "At least once": no job is lost, and no job runs twice without a reason.
//! This holds when workers are killed, frozen or cut off, and when leases run out. It also holds
//! when Redis is killed, comes back with less data, or sets its clock back ("Nothing new is taken
//! for something old").

mod clock_steps;
mod consumers;
mod crashes;
mod data_loss;
mod ids_again;
mod kills;
mod leases;
mod lost_leases;
mod renewals;
mod rhythms;
mod run_twice;
mod workers;
mod zombies;
