//! `jobctl top`: the queue live on the full screen.
//!
//! `feed` asks Redis once a second. `screen` has what is known and what the keys do, and `draw` shows it. They
//! take turns on one task: nothing in them blocks.

mod draw;
mod feed;
mod screen;

use std::io::{self, IsTerminal};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::sleep;

use self::feed::News;
use self::screen::{Screen, Turn};
use super::desk::Desk;
use super::failure::Failure;
use crate::threads;

/// How often the screen is drawn when nothing happens: the terminal may have another size.
const REDRAW: Duration = Duration::from_millis(500);

/// Shows the queue until somebody ends it.
pub(super) async fn run(desk: &mut Desk) -> Result<(), Failure> {
    if !desk.console.is_screen() || !io::stdin().is_terminal() {
        let instead = "top needs a terminal; use jobctl stats --watch".to_owned();
        return Err(Failure::Usage(instead));
    }
    let terminal = Restored::new().map_err(Failure::Stdout)?;
    let (tell, news) = mpsc::unbounded_channel();
    let (order, orders) = mpsc::unbounded_channel();
    let shown = show(
        terminal,
        Screen::new(&desk.place, desk.console.paint),
        news,
        order,
    );
    tokio::select! {
        shown = shown => shown,
        fed = feed::run(&mut desk.inspector, &desk.way, tell, orders) => fed,
    }
}

/// A terminal in raw mode, which is as before when this is dropped. A panic restores it too.
struct Restored(DefaultTerminal);

impl Restored {
    fn new() -> io::Result<Self> {
        let terminal = ratatui::try_init();
        if terminal.is_err() {
            ratatui::restore();
        }
        Ok(Self(terminal?))
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        // A panic has restored it and said its words, which a second time would write over.
        if !thread::panicking() {
            ratatui::restore();
        }
    }
}

/// Draws, and does what the keys say. A shell that has stopped this program and lets it go on has set the
/// terminal for itself meanwhile.
async fn show(
    mut terminal: Restored,
    mut screen: Screen,
    mut news: UnboundedReceiver<News>,
    order: UnboundedSender<bool>,
) -> Result<(), Failure> {
    let mut keys = keys().map_err(Failure::Stdout)?;
    let goes_on = SignalKind::from_raw(signal_hook::consts::SIGCONT);
    let mut goes_on = signal(goes_on).map_err(Failure::Stdout)?;
    loop {
        let drawn = terminal.0.draw(|frame| draw::draw(frame, &screen));
        drawn.map_err(Failure::of_stdout)?;
        tokio::select! {
            Some(news) = news.recv() => screen.hear(news, Instant::now()),
            event = keys.recv() => match event {
                Some(Event::Key(key)) => match screen.press(key) {
                    Turn::Stay => {}
                    Turn::End => return Ok(()),
                    Turn::Interrupt => return Err(Failure::Interrupted("by Ctrl-C".to_owned())),
                    // This fails when the feed has ended, and then this ends too.
                    Turn::SetPaused(paused) => drop(order.send(paused)),
                },
                // The screen has another size, or nothing that matters has happened.
                Some(_) => {}
                // The terminal is gone.
                None => return Err(Failure::Closed),
            },
            Some(()) = goes_on.recv() => {
                ratatui::restore();
                terminal.0 = ratatui::try_init().map_err(Failure::Stdout)?;
            }
            () = sleep(REDRAW) => {}
        }
    }
}

/// The keys that are pressed. A thread of its own waits for them, since nothing else can; it ends with the
/// process.
fn keys() -> io::Result<UnboundedReceiver<Event>> {
    let (send, keys) = mpsc::unbounded_channel();
    let wait = move || {
        while let Ok(event) = event::read() {
            if send.send(event).is_err() {
                return;
            }
        }
    };
    threads::spawn("keys", wait)?;
    Ok(keys)
}
