//! `jobctl pause`, `resume` and `health`: the queue as a whole.

use serde::Serialize;

use super::desk::Desk;
use super::failure::Failure;
use super::paint::Tone;
use super::words::{clean, counted};

/// The document of `pause` and `resume`.
#[derive(Serialize)]
struct Paused<'a> {
    queue: &'a str,
    paused: bool,
    changed: bool,
}

/// The document of `health`.
#[derive(Serialize)]
struct Health<'a> {
    queue: &'a str,
    redis: &'a str,
    /// Whether there is no warning.
    healthy: bool,
    paused: bool,
    workers: u64,
    warnings: Vec<String>,
}

/// Pauses the queue, or lets it go on.
pub(super) async fn set_paused(desk: &mut Desk, paused: bool) -> Result<(), Failure> {
    let queue = &desk.place.queue;
    let changed = desk.way.call(desk.inspector.set_paused(paused)).await?;
    if desk.console.json {
        return desk.console.document(&Paused {
            queue,
            paused,
            changed,
        });
    }
    desk.console.say(&match (paused, changed) {
        (true, true) => format!("queue {queue} is paused; running jobs go on"),
        (true, false) => format!("queue {queue} is already paused; running jobs go on"),
        (false, true) => format!("queue {queue} is not paused"),
        (false, false) => format!("queue {queue} was not paused"),
    })
}

/// Says whether the queue is well.
pub(super) async fn health(desk: &mut Desk) -> Result<(), Failure> {
    let redis = &desk.place.redis;
    let mut warnings = desk.way.warnings().await?;
    let stats = desk.way.call(desk.inspector.stats()).await?;
    if stats.paused {
        // The words for `/ready` are for those who have no jobctl.
        warnings.retain(|warning| !warning.starts_with("the queue is paused"));
        warnings.push("the queue is paused; jobctl resume lets it go on".to_owned());
    }
    if stats.workers == 0 {
        warnings.push("no worker lives: no job is run".to_owned());
    }
    let queue = &stats.queue;
    let healthy = warnings.is_empty();
    if desk.console.json {
        let (paused, workers) = (stats.paused, stats.workers);
        desk.console.document(&Health {
            queue,
            redis,
            healthy,
            paused,
            workers,
            warnings,
        })?;
    } else {
        let paint = desk.console.paint;
        let (tone, word) = match healthy {
            true => (Tone::Good, "well"),
            false => (Tone::Bad, "not well"),
        };
        let workers = counted(stats.workers, "worker");
        let mut lines = format!(
            "queue {queue} at {redis} is {}: {workers} alive",
            paint.text(tone, word)
        );
        for warning in &warnings {
            lines.push_str(&format!("\n  {}", paint.text(Tone::Bad, &clean(warning))));
        }
        desk.console.say(&lines)?;
    }
    if healthy { Ok(()) } else { Err(Failure::Told) }
}
