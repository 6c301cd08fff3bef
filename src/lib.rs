//! A delay-print job queue on Redis Streams.

pub mod api;
pub mod config;
pub mod service;
pub mod telemetry;
pub mod usecase;
