//! A terminal that is read all the time. A program has such an output when a person starts it.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::pty::openpty;
use rustix::termios::{LocalModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use super::eventually;

/// A pseudo terminal. [`Terminal::close`] has the effect of closing a terminal's window.
pub(crate) struct Terminal {
    /// The side on which a person types.
    keyboard: File,
    end: File,
    shown: Arc<Mutex<Vec<u8>>>,
    closed: Arc<AtomicBool>,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        let pty = openpty(None, None).unwrap();
        // These are copies that no child process inherits.
        let keyboard = File::from(pty.master).try_clone().unwrap();
        let mut screen = keyboard.try_clone().unwrap();
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let closed = Arc::<AtomicBool>::default();
        let (seen, end_of_it) = (Arc::clone(&shown), Arc::clone(&closed));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes)
                && !end_of_it.load(Ordering::SeqCst)
            {
                seen.lock().unwrap().extend(&bytes[..count]);
            }
        });
        let end = File::from(pty.slave).try_clone().unwrap();
        Self {
            keyboard,
            end,
            shown,
            closed,
        }
    }

    /// A terminal with so many columns and rows.
    pub(crate) fn sized(columns: u16, rows: u16) -> Self {
        let terminal = Self::new();
        terminal.resize(columns, rows);
        terminal
    }

    /// Changes its size. A program that it belongs to gets a signal.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.keyboard, size).unwrap();
    }

    /// Sets it as a shell does for itself: what is typed is shown, and read when a line is over.
    pub(crate) fn set_for_a_shell(&self) {
        let mut modes = tcgetattr(&self.end).unwrap();
        modes
            .local_modes
            .insert(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(&self.end, OptionalActions::Now, &modes).unwrap();
    }

    /// The end that a program reads from or writes to.
    pub(crate) fn end(&self) -> Stdio {
        self.end.try_clone().unwrap().into()
    }

    /// Closes it. This also shows some text, which wakes the terminal's reader.
    pub(crate) fn close(mut self) {
        self.closed.store(true, Ordering::SeqCst);
        self.end.write_all(b"\n").unwrap();
    }

    /// The path of its device.
    pub(crate) fn path(&self) -> String {
        nix::unistd::ttyname(&self.end)
            .unwrap()
            .display()
            .to_string()
    }

    pub(crate) fn types(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    /// All text that was shown so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// What a person sees now on a terminal with so many columns and rows: all that was shown, put together.
    pub(crate) fn screen(&self, columns: u16, rows: u16) -> String {
        let [rows, columns] = [rows, columns].map(|it| it.try_into().unwrap());
        let mut parser = vt100::Parser::new(rows, columns, 0);
        parser.process(&self.shown.lock().unwrap());
        parser.screen().contents()
    }

    /// Waits until the terminal has shown `part`.
    pub(crate) async fn wait_for(&self, part: &str, deadline: Duration) {
        eventually(format!("{part:?} is shown"), deadline, async || {
            self.text().contains(part).then_some(())
        })
        .await;
    }
}
