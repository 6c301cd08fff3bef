//! The operator's command line: looks at a queue and steers it, through the `inspector`. It is a front
//! like `api`, and knows nothing of keys or commands of Redis.
//!
//! | to find | read |
//! |---|---|
//! | what may be asked | `arguments` and `which`, and the words of `--help` in `help` |
//! | what a command does | `stats`, `top`, `workers`, `queue`, `list`, `show`, `act` and `sweep` |
//! | the words for actions | `deed` |
//! | what every command works with | `desk` |
//! | how things look | `words`, `table`, `paint` |
//! | where text goes, and questions | `console`, `ask`, `progress` |
//! | what happens while Redis is away, and at Ctrl-C | `way` |
//! | how a command ends | `failure` |

mod act;
mod arguments;
mod ask;
mod console;
mod deed;
mod desk;
#[cfg(test)]
mod docs;
mod failure;
mod help;
mod list;
mod paint;
mod progress;
mod queue;
mod show;
mod stats;
mod sweep;
mod table;
mod top;
mod way;
mod which;
mod words;
mod workers;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

pub(crate) use self::arguments::Arguments;
use self::arguments::{DeadOrder, Order};
use self::console::Console;
use self::deed::Deed;
use self::desk::Desk;
pub(crate) use self::desk::Place;
use self::failure::Failure;
pub(crate) use self::way::Way;
use crate::service::jobqueue::inspector::{Action, Filter, Inspector, State};

/// Does what the arguments ask for, says what became of it, and returns the exit status.
pub(crate) async fn run(
    arguments: Arguments,
    inspector: Inspector,
    way: Way,
    place: Place,
) -> ExitCode {
    let (global, order) = arguments.into_parts();
    let console = Console::new(&global);
    let mut desk = Desk {
        inspector,
        way,
        console,
        place,
    };
    match obey(order, &mut desk).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(words) = failure.words() {
                desk.console.note(&words);
            }
            ExitCode::from(failure.status())
        }
    }
}

/// Writes a text to stdout as it is. Nobody waits for it when stdout is closed.
pub(crate) fn print(text: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out
        .write_all(text)
        .and_then(|()| out.flush())
        .map_err(Failure::of_stdout)
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure.status()),
    }
}

async fn obey(order: Order, desk: &mut Desk) -> Result<(), Failure> {
    match order {
        Order::Stats { watch: None } => stats::once(desk).await,
        Order::Stats { watch: Some(s) } => stats::watch(desk, Duration::from_secs(s)).await,
        Order::Top => top::run(desk).await,
        Order::Workers => workers::run(desk).await,
        Order::Health => queue::health(desk).await,
        Order::List(list) => list::run(desk, &list).await,
        Order::Show { id } => show::run(desk, &id).await,
        Order::Run(which) => {
            let filter = which.filter();
            steer(desk, Action::RunNow, &which.ids, State::Scheduled, &filter).await
        }
        Order::Cancel { which, state } => {
            // Without a state there are ids.
            let state = state.map_or(State::Scheduled, State::from);
            steer(desk, Action::Cancel, &which.ids, state, &which.filter()).await
        }
        Order::Dead { order } => {
            let (action, letters) = match order {
                DeadOrder::Retry(letters) => (Action::Retry, letters),
                DeadOrder::Delete(letters) => (Action::Delete, letters),
            };
            let filter = letters.filter();
            steer(desk, action, &letters.which.ids, State::Dead, &filter).await
        }
        Order::Pause => queue::set_paused(desk, true).await,
        Order::Resume => queue::set_paused(desk, false).await,
        // The program has printed them before it looked at any setting.
        Order::Completions { .. } => Ok(()),
    }
}

/// Does it to the jobs of these ids; without any, to all jobs in `state` that match.
async fn steer(
    desk: &mut Desk,
    action: Action,
    ids: &[String],
    state: State,
    filter: &Filter,
) -> Result<(), Failure> {
    match ids.is_empty() {
        false => act::run(desk, Deed(action), ids).await,
        true => sweep::run(desk, Deed(action), state, filter).await,
    }
}
