//! Questions before what cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use super::console::Console;
use super::failure::Failure;
use super::way::Way;

/// Asks whether to do it. Without an answer of yes this is the end.
pub(super) async fn confirm(console: &Console, way: &Way, question: &str) -> Result<(), Failure> {
    if console.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::Usage(format!(
            "{question} Nobody can answer that here, so nothing was changed; add --yes"
        )));
    }
    write!(io::stderr(), "{question} [y/N] ").ok();
    // The thread that reads stays behind when Ctrl-C comes first. The process ends then.
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let answer = way.unless_interrupted(answer).await?;
    let line = answer.ok().and_then(Result::ok).unwrap_or_default();
    match line.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::NotDone(
            "the answer was no, so nothing was changed".to_owned(),
        )),
    }
}
