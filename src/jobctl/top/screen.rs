//! What the screen of `top` shows, and what its keys do. It is made of values: no terminal, no Redis.

use std::collections::VecDeque;
use std::time::Instant;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::super::desk::Place;
use super::super::paint::Paint;
use super::feed::{News, Snapshot};

/// How many seconds of throughput are kept. A wider terminal has no more columns than this.
const HISTORY: usize = 300;

/// A list on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    Workers,
    Running,
    Dead,
}

impl Pane {
    pub(super) const ALL: [Self; 3] = [Self::Workers, Self::Running, Self::Dead];

    fn next(self, steps: usize) -> Self {
        let place = Self::ALL.iter().position(|pane| *pane == self).unwrap_or(0);
        Self::ALL[(place + steps) % Self::ALL.len()]
    }
}

/// What a key does.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Stay,
    End,
    Interrupt,
    SetPaused(bool),
}

/// All that the screen shows.
#[derive(Debug)]
pub(super) struct Screen {
    pub(super) queue: String,
    pub(super) redis: String,
    pub(super) paint: Paint,
    /// The queue when it was seen last.
    pub(super) latest: Option<Box<Snapshot>>,
    /// Why Redis cannot be used now.
    pub(super) away: Option<String>,
    /// How many jobs were done in each second, the newest last.
    pub(super) throughput: VecDeque<u64>,
    pub(super) focus: Pane,
    /// How many rows of the pane in focus are scrolled over.
    pub(super) scrolled: usize,
    /// Whether the queue is to be paused, if the answer is yes.
    pub(super) asks: Option<bool>,
    /// The number of jobs that were done at the last look.
    done: Option<(Instant, u64)>,
}

impl Screen {
    pub(super) fn new(place: &Place, paint: Paint) -> Self {
        Self {
            queue: place.queue.clone(),
            redis: place.redis.clone(),
            paint,
            latest: None,
            away: None,
            throughput: VecDeque::new(),
            focus: Pane::Workers,
            scrolled: 0,
            asks: None,
            done: None,
        }
    }

    /// Takes in what Redis has said, or that it says nothing.
    pub(super) fn hear(&mut self, news: News, now: Instant) {
        match news {
            News::Away(why) => {
                self.away = Some(why);
                self.done = None;
            }
            News::Seen(snapshot) => {
                self.away = None;
                let done = snapshot.stats.today.completed;
                if let Some((then, before)) = self.done.replace((now, done)) {
                    // At midnight the number begins at 0.
                    let more = done.saturating_sub(before);
                    let ms = u64::try_from((now - then).as_millis())
                        .unwrap_or(u64::MAX)
                        .max(1);
                    self.throughput
                        .push_back(more.saturating_mul(1000).div_ceil(ms));
                    if self.throughput.len() > HISTORY {
                        self.throughput.pop_front();
                    }
                }
                self.latest = Some(snapshot);
                self.scrolled = self.scrolled.min(self.rows().saturating_sub(1));
            }
        }
    }

    /// Does what a key says.
    pub(super) fn press(&mut self, key: KeyEvent) -> Turn {
        if key.kind == KeyEventKind::Release {
            return Turn::Stay;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Turn::Interrupt;
        }
        if let Some(paused) = self.asks.take() {
            return match key.code {
                KeyCode::Char('y' | 'Y') => Turn::SetPaused(paused),
                _ => Turn::Stay,
            };
        }
        match key.code {
            KeyCode::Char('q') => return Turn::End,
            KeyCode::Char('p') => {
                self.asks = self.latest.as_ref().map(|latest| !latest.stats.paused);
            }
            KeyCode::Tab | KeyCode::Right => self.turn_to(self.focus.next(1)),
            KeyCode::BackTab | KeyCode::Left => self.turn_to(self.focus.next(Pane::ALL.len() - 1)),
            KeyCode::Down => self.scroll_to(self.scrolled + 1),
            KeyCode::Up => self.scroll_to(self.scrolled.saturating_sub(1)),
            KeyCode::PageDown => self.scroll_to(self.scrolled + 10),
            KeyCode::PageUp => self.scroll_to(self.scrolled.saturating_sub(10)),
            KeyCode::Home => self.scroll_to(0),
            KeyCode::End => self.scroll_to(usize::MAX),
            _ => {}
        }
        Turn::Stay
    }

    fn turn_to(&mut self, pane: Pane) {
        self.focus = pane;
        self.scrolled = 0;
    }

    fn scroll_to(&mut self, row: usize) {
        self.scrolled = row.min(self.rows().saturating_sub(1));
    }

    /// How many rows the pane in focus has.
    fn rows(&self) -> usize {
        let Some(latest) = &self.latest else { return 0 };
        match self.focus {
            Pane::Workers => latest.workers.len(),
            Pane::Running => latest.running.len(),
            Pane::Dead => latest.dead.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn screen() -> Screen {
        let place = Place {
            queue: "default".to_owned(),
            redis: "localhost:6379".to_owned(),
        };
        Screen::new(&place, Paint::new(false))
    }

    fn seen(completed: u64) -> News {
        let mut snapshot = Snapshot::default();
        snapshot.stats.today.completed = completed;
        News::Seen(Box::new(snapshot))
    }

    fn press(screen: &mut Screen, code: KeyCode) -> Turn {
        screen.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn throughput_is_what_was_done_between_two_looks() {
        let (mut screen, start) = (screen(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        screen.hear(seen(100), at(0));
        screen.hear(seen(150), at(1));
        screen.hear(seen(350), at(3));
        // The next day has begun.
        screen.hear(seen(5), at(4));
        assert_eq!(screen.throughput, [50, 100, 0]);
        // After an outage it is not known when they were done.
        screen.hear(News::Away("away".to_owned()), at(5));
        screen.hear(seen(1005), at(6));
        assert_eq!(screen.throughput, [50, 100, 0]);
        assert_eq!(screen.away, None);
    }

    #[test]
    fn pausing_is_a_question_first() {
        let mut screen = screen();
        assert_eq!(press(&mut screen, KeyCode::Char('p')), Turn::Stay);
        assert_eq!(
            press(&mut screen, KeyCode::Char('y')),
            Turn::Stay,
            "nothing is known yet"
        );
        screen.hear(seen(0), Instant::now());
        press(&mut screen, KeyCode::Char('p'));
        assert_eq!(press(&mut screen, KeyCode::Char('n')), Turn::Stay);
        assert_eq!(
            press(&mut screen, KeyCode::Char('y')),
            Turn::Stay,
            "the answer was no"
        );
        press(&mut screen, KeyCode::Char('p'));
        assert_eq!(
            press(&mut screen, KeyCode::Char('y')),
            Turn::SetPaused(true)
        );
    }

    #[test]
    fn keys_move_and_end() {
        let mut screen = screen();
        press(&mut screen, KeyCode::Tab);
        assert_eq!(screen.focus, Pane::Running);
        press(&mut screen, KeyCode::BackTab);
        press(&mut screen, KeyCode::Down);
        assert_eq!(
            (screen.focus, screen.scrolled),
            (Pane::Workers, 0),
            "there are no rows"
        );
        assert_eq!(press(&mut screen, KeyCode::Char('q')), Turn::End);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(screen.press(control_c), Turn::Interrupt);
    }
}
