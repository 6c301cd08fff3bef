//! The HTTP side of both programs: what is asked, what is answered, and how long that may take.
//! Nothing here knows Redis.
//!
//! A request passes `http` (sockets and limits), `cross_site` (pages of other sites), `router`, and
//! one file for each resource. `dm_jobqueue` reads a registration with `request` and hands it to
//! `usecase::api`. Every error becomes an answer in `problem`, and `problem::words` has its words.
//!
//! A route that registers another type of job is a line in `dm_jobqueue`. Any other route is a file
//! with a handler and its `#[utoipa::path]`, whose `routes` are merged in `router`. The description
//! of the API follows: `openapi` adds what all routes share. To add a field to a request, add it to
//! the struct that the request is decoded into, and use it where the struct becomes a job.

mod cross_site;
pub(crate) mod dm_jobqueue;
mod error_detail;
pub(crate) mod health;
mod http;
mod openapi;
mod problem;
mod request;
mod router;

pub use http::{listen, serve};
pub(crate) use router::{server_router, worker_router};
