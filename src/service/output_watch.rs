//! Watches an output that accepts nothing, or little. It logs that, gives back lines that have waited
//! for too long, and keeps the worker from taking more jobs until the output flows again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::{info, warn};

use super::line_writer::{LineWriter, WaitingLines};
use crate::lock::lock;

/// How often the output is looked at while lines wait, and while none does.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// An output that has taken nothing for this long is blocked, and not just slow.
const BLOCKED_AFTER: Duration = Duration::from_secs(5);
/// An output that takes something now and then is slow when a line has waited for this long.
const SLOW_AFTER: Duration = Duration::from_secs(10);
/// How often the log repeats a trouble that lasts.
const REMINDER: Duration = Duration::from_secs(60);

/// Watches one output. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct OutputWatch {
    out: LineWriter,
    /// How long a line may wait before it is given back.
    limit: Duration,
    /// Set while the worker must not take jobs.
    suspended: Arc<AtomicBool>,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

/// The output is blocked or slow. This lasts as long as lines wait for long: an output that takes a
/// line now and then is still in trouble.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    /// It took nothing for a while. Otherwise it is slow.
    blocked: bool,
    since: Instant,
    noticed: Instant,
    /// When the log last said so.
    logged: Instant,
    /// How many lines waited when it was noticed.
    lines: usize,
}

impl OutputWatch {
    /// Watches `out`. A line that has waited for `limit` is given back, and `suspended` is
    /// set from then on until the output flows again.
    pub(crate) fn new(out: LineWriter, limit: Duration, suspended: Arc<AtomicBool>) -> Self {
        Self {
            out,
            limit,
            suspended,
            trouble: Arc::default(),
        }
    }

    /// Watches the output. Never returns. Cancel safe.
    pub(crate) async fn run(self) {
        loop {
            sleep(self.pause()).await;
            self.look(Instant::now());
        }
    }

    /// The time until the next look. An idle worker should wake up seldom.
    fn pause(&self) -> Duration {
        let is_idle = self.out.waiting().is_none() && lock(&self.trouble).is_none();
        match is_idle {
            true => self.limit.clamp(LOOK_INTERVAL, IDLE_INTERVAL),
            false => LOOK_INTERVAL,
        }
    }

    /// Whether the output works.
    ///
    /// # Errors
    /// A text that says that it is blocked, and since when.
    pub(crate) fn ready(&self) -> Result<(), String> {
        let trouble = *lock(&self.trouble);
        let block = trouble.filter(|trouble| trouble.blocked);
        block.map_or(Ok(()), |block| {
            let lasts = lasted(block.since, Instant::now());
            Err(format!(
                "stdout is blocked: lines of jobs wait for {lasts}, {} of them at first; read it",
                block.lines
            ))
        })
    }

    /// Looks at the output once.
    fn look(&self, now: Instant) {
        let mut trouble = lock(&self.trouble);
        let waiting = self.out.waiting();
        let blocked = waiting.filter(|waiting| self.is_blocked(waiting.stuck_since, now));
        let slow = waiting.filter(|waiting| self.is_slow(waiting.oldest, now));
        match &mut *trouble {
            Some(known) if self.is_over(known, waiting, now) => {
                info!(lasted = %lasted(known.since, now), "stdout takes lines again");
                *trouble = None;
                self.suspended.store(false, Ordering::Relaxed);
            }
            Some(known) if blocked.is_some() && !known.blocked => {
                known.blocked = true;
                known.log(now);
            }
            Some(known) if now - known.logged >= REMINDER => known.log(now),
            Some(_) => {}
            None => {
                let since = blocked.map(|waiting| waiting.stuck_since);
                let since = since.or(slow.map(|waiting| waiting.oldest));
                if let (Some(since), Some(waiting)) = (since, waiting) {
                    let mut new = Trouble {
                        blocked: blocked.is_some(),
                        since,
                        noticed: now,
                        logged: now,
                        lines: waiting.count,
                    };
                    new.log(now);
                    *trouble = Some(new);
                }
            }
        }
        let blocked = trouble.is_some_and(|trouble| trouble.blocked);
        drop(trouble);
        self.give_back(blocked, now);
    }

    /// Gives back the lines that have waited for the limit.
    fn give_back(&self, blocked: bool, now: Instant) {
        if let Some(late) = now.checked_sub(self.limit)
            && self.out.oldest().is_some_and(|oldest| oldest <= late)
        {
            // The worker is suspended first: otherwise it would fill the slots of these lines with
            // new jobs at once. A slow output that still moves does not suspend the worker.
            self.suspended.store(blocked, Ordering::Relaxed);
            self.out.give_back(late);
        }
    }

    fn is_blocked(&self, since: Instant, now: Instant) -> bool {
        now.saturating_duration_since(since) >= BLOCKED_AFTER.min(self.limit)
    }

    fn is_slow(&self, oldest: Instant, now: Instant) -> bool {
        now.saturating_duration_since(oldest) >= SLOW_AFTER.min(self.limit)
    }

    fn is_over(&self, known: &Trouble, waiting: Option<WaitingLines>, now: Instant) -> bool {
        self.out.flows_since(known.noticed)
            && waiting.is_none_or(|waiting| !self.is_blocked(waiting.oldest, now))
    }
}

impl Trouble {
    /// Logs that the trouble has begun or still lasts.
    fn log(&mut self, now: Instant) {
        let (lines, lasted) = (self.lines, lasted(self.since, now));
        self.logged = now;
        match (self.blocked, self.noticed == now) {
            (true, true) => warn!(
                lines,
                %lasted,
                "stdout is blocked: lines of jobs wait for somebody to read it"
            ),
            (true, false) => warn!(%lasted, "stdout is still blocked"),
            (false, true) => warn!(
                lines,
                %lasted,
                "stdout is slow: lines of jobs wait for whoever reads it"
            ),
            (false, false) => warn!(%lasted, "stdout is still slow"),
        }
    }
}

/// The time from `start` to `now`, in whole seconds.
fn lasted(start: Instant, now: Instant) -> humantime::FormattedDuration {
    let seconds = now.saturating_duration_since(start).as_secs();
    humantime::format_duration(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::captured::Captured;

    /// Takes a line each time the test sends a message.
    struct Output(Receiver<()>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn it_looks_seldom_while_nothing_waits_but_not_later_than_a_line_may_wait() {
        let (_take, taken) = channel();
        let out = LineWriter::spawn(Output(taken)).unwrap();
        let pause = |limit_ms| {
            let limit = Duration::from_millis(limit_ms);
            OutputWatch::new(out.clone(), limit, Arc::default()).pause()
        };
        let pauses = [1, 500, 60_000].map(pause);
        assert_eq!(pauses.map(|pause| pause.as_millis()), [250, 500, 1000]);
        drop(out.write("line\n".to_owned()));
        assert_eq!(pause(60_000), LOOK_INTERVAL);
    }

    #[test]
    fn a_block_is_logged_at_once_then_each_minute_and_at_its_end() {
        let log = Captured::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(log.clone())
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let (take, taken) = channel();
        let out = LineWriter::spawn(Output(taken)).unwrap();
        let watch = OutputWatch::new(out.clone(), REMINDER * 30, Arc::default());
        drop(out.write("line\n".to_owned()));
        while out.oldest().is_some() {
            std::thread::yield_now();
        }
        let start = out.waiting().unwrap().stuck_since;
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..130 {
            watch.look(at(second));
            assert_eq!(watch.ready().is_err(), second >= 5, "{second}");
        }
        take.send(()).unwrap();
        while out.waiting().is_some() {
            std::thread::yield_now();
        }
        watch.look(at(130));
        watch.ready().unwrap();
        watch.look(at(200));
        let log = log.text();
        let log: Vec<&str> = log.lines().map(str::trim).collect();
        let [first, second, third, end] = log[..] else {
            panic!("{log:#?}");
        };
        assert!(first.starts_with("WARN stdout is blocked"), "{first}");
        assert!(first.contains("lines=1 lasted=5s"), "{first}");
        assert_eq!(second, "WARN stdout is still blocked lasted=1m 5s");
        assert_eq!(third, "WARN stdout is still blocked lasted=2m 5s");
        assert_eq!(end, "INFO stdout takes lines again lasted=2m 10s");
    }
}
