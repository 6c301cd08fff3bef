//! A TCP proxy between a program and its Redis, which makes each round trip longer by a set time.
//! It passes on each piece of bytes half of that time after the piece came. It has no limit on
//! the rate, and joins no pieces. It is not the network: nothing is lost and nothing varies.
//!
//! One thread does all of it (`hub.rs`). The thread sleeps until shortly before a piece is due, and
//! spins for the rest. Its own time on the way of a PING is about a tenth of a millisecond, so the
//! proxy measures that first and delays less. Then it measures what it really adds to a PING, and
//! panics when that is off by more than 0.1 ms. Under load a piece may be late, because the thread
//! shares the cores with the program and Redis. So the proxy also tells how late it was, and how
//! much CPU it took.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::{gettid, set_current_timer_slack};

use super::hub::{Hub, Shared};
use super::process::thread_cpu;
use super::redis::Redis;
use super::wire::Conn;

/// The most that the median PING may be off.
const MAX_OFF: Duration = Duration::from_micros(100);
/// The most by which one direction is delayed less, for the proxy's own time.
const MAX_CORRECTION: Duration = Duration::from_micros(100);
/// About how long the PINGs of one check take.
const CHECK: Duration = Duration::from_millis(200);
const PINGS: RangeInclusive<u128> = 11..=100;
/// Another program may disturb a check, so a proxy that is off is measured again.
const CHECKS: usize = 3;

/// A proxy on a port of loopback. It ends when this value is dropped.
pub(crate) struct Proxy {
    port: u16,
    round_trip: Duration,
    added: Times,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    thread_id: Pid,
}

/// Two percentiles of some times.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Proxy {
    /// Starts a proxy to `redis`, and measures what it adds.
    ///
    /// # Panics
    /// When the median of a round trip is longer or shorter by more than 0.1 ms than it should be.
    pub(crate) fn start(redis: &Redis, round_trip: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = mpsc::channel();
        let mut hub = Hub::new(listener, redis.addr(), Arc::clone(&shared));
        let thread = thread::spawn(move || {
            set_current_timer_slack(NonZeroU64::new(1)).unwrap();
            sender.send(gettid()).unwrap();
            hub.run();
        });
        let mut proxy = Self {
            port,
            round_trip,
            added: Times::ZERO,
            shared,
            thread: Some(thread),
            thread_id: receiver.recv().unwrap(),
        };
        proxy.added = proxy.check(redis);
        proxy.take_late();
        proxy
    }

    pub(crate) fn addr(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// What the proxy added to a PING before it was used. The p99 is the one of the PINGs through
    /// the proxy less the median of those without it.
    pub(crate) fn added(&self) -> Times {
        self.added
    }

    /// The CPU time that the proxy has used.
    pub(crate) fn cpu(&self) -> Duration {
        thread_cpu(self.thread_id)
    }

    /// How late the pieces were passed on since the last call.
    pub(crate) fn take_late(&self) -> Times {
        Times::of(std::mem::take(&mut *self.shared.late.lock().unwrap()))
    }

    fn check(&self, redis: &Redis) -> Times {
        let mut added = Times::ZERO;
        for _ in 0..CHECKS {
            self.correct(redis);
            added = self.measure(redis, self.pings());
            if added.p50.abs_diff(self.round_trip) <= MAX_OFF {
                return added;
            }
        }
        panic!(
            "the proxy adds {:?} to a round trip instead of {:?}: is the machine free?",
            added.p50, self.round_trip
        );
    }

    /// Delays less by the proxy's own time.
    fn correct(&self, redis: &Redis) {
        let delay = self.round_trip / 2;
        self.set_delay(delay);
        let added = self.measure(redis, *PINGS.start()).p50;
        let own = added.saturating_sub(self.round_trip) / 2;
        self.set_delay(delay.saturating_sub(own.min(MAX_CORRECTION)));
    }

    fn set_delay(&self, delay: Duration) {
        let nanos = u64::try_from(delay.as_nanos()).unwrap();
        self.shared.delay_nanos.store(nanos, Ordering::Relaxed);
    }

    fn pings(&self) -> u128 {
        let fitting = CHECK.as_nanos() / self.round_trip.as_nanos().max(1);
        fitting.clamp(*PINGS.start(), *PINGS.end())
    }

    /// Measures what the proxy adds to a PING.
    fn measure(&self, redis: &Redis, count: u128) -> Times {
        let direct = pings(&redis.addr(), count);
        pings(&self.addr(), count).less(direct.p50)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // A connection wakes the thread.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the proxy has panicked");
        }
    }
}

fn pings(addr: &str, count: u128) -> Times {
    let mut conn = Conn::open(addr);
    conn.ask(&["PING"]);
    let one = |_| {
        let start = Instant::now();
        conn.ask(&["PING"]);
        start.elapsed()
    };
    Times::of((0..count).map(one).collect())
}

impl Times {
    const ZERO: Self = Self {
        p50: Duration::ZERO,
        p99: Duration::ZERO,
    };

    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100).max(1);
            times.get(rank - 1).copied().unwrap_or_default()
        };
        Self {
            p50: at(50),
            p99: at(99),
        }
    }

    fn less(self, time: Duration) -> Self {
        Self {
            p50: self.p50.saturating_sub(time),
            p99: self.p99.saturating_sub(time),
        }
    }
}
