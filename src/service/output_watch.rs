//! Watches over an output that takes nothing: says so, gives lines back that wait for too
//! long, and keeps the worker from taking more jobs until the output flows again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::{info, warn};

use super::line_writer::{LineWriter, Waiting};

/// How often the output is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// An output that has taken nothing for this long is blocked, and no longer just slow.
const BLOCKED_AFTER: Duration = Duration::from_secs(5);
/// How often a lasting block is mentioned again.
const REMINDER: Duration = Duration::from_secs(60);

/// See the file's head. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OutputWatch {
    out: LineWriter,
    /// How long a line may wait before it is given back.
    limit: Duration,
    suspended: Arc<AtomicBool>,
    block: Arc<Mutex<Option<Block>>>,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    since: Instant,
    noticed: Instant,
    mentioned: Instant,
    /// How many lines waited when it was noticed.
    lines: usize,
}

impl OutputWatch {
    /// Watches `out`. A line that has waited for `limit` is given back, and `suspended` is
    /// set from then on until the output flows again.
    pub fn new(out: LineWriter, limit: Duration, suspended: Arc<AtomicBool>) -> Self {
        Self {
            out,
            limit,
            suspended,
            block: Arc::default(),
        }
    }

    /// Watches, and never returns. Cancel safe.
    pub async fn run(self) {
        loop {
            sleep(LOOK_INTERVAL).await;
            self.look(Instant::now());
        }
    }

    /// Whether the output works.
    ///
    /// # Errors
    /// Says that it is blocked, and since when.
    pub fn ready(&self) -> Result<(), String> {
        let block = *self.block.lock().unwrap_or_else(PoisonError::into_inner);
        block.map_or(Ok(()), |block| {
            let lasts = since(block.since, Instant::now());
            Err(format!(
                "stdout is blocked: it has taken nothing for {lasts}, and {} lines waited; \
                 read it",
                block.lines
            ))
        })
    }

    fn look(&self, now: Instant) {
        let mut block = self.block.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.out.waiting();
        if let Some(known) = &mut *block {
            if self.out.flows_since(known.noticed) {
                info!(lasted = %since(known.since, now), "stdout takes lines again");
                *block = None;
                self.suspended.store(false, Ordering::Relaxed);
            } else if now - known.mentioned >= REMINDER {
                known.mentioned = now;
                warn!(lasted = %since(known.since, now), "stdout is still blocked");
            }
        } else if let Some(waiting) = waiting.filter(|waiting| self.is_blocked(*waiting, now)) {
            let lines = waiting.lines;
            warn!(
                lines,
                lasted = %since(waiting.since, now),
                "stdout is blocked: lines of jobs wait for somebody to read it"
            );
            *block = Some(Block {
                since: waiting.since,
                noticed: now,
                mentioned: now,
                lines,
            });
        }
        let blocked = block.is_some();
        drop(block);
        if let Some(late) = now.checked_sub(self.limit)
            && self.out.oldest().is_some_and(|oldest| oldest <= late)
        {
            // First, or their slots would be filled at once. An output that is slow but
            // moves needs no such break.
            self.suspended.store(blocked, Ordering::Relaxed);
            self.out.give_back(late);
        }
    }

    fn is_blocked(&self, waiting: Waiting, now: Instant) -> bool {
        now.saturating_duration_since(waiting.since) >= BLOCKED_AFTER.min(self.limit)
    }
}

/// Seconds are exact enough for a reader.
fn since(start: Instant, now: Instant) -> humantime::FormattedDuration {
    let seconds = now.saturating_duration_since(start).as_secs();
    humantime::format_duration(Duration::from_secs(seconds))
}
