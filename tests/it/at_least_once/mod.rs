//! The README's guarantee "At least once": no job is lost and none runs twice without a reason,
//! when workers are killed, frozen or cut off, when leases run out, when Redis is killed, comes
//! back with less data, or sets its clock back ("Nothing new is taken for something old").

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
mod workers;
mod zombies;
