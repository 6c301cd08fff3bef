//! The arguments of `jobctl`. Their doc comments are the help texts, and docs/jobctl.md is made of them.
//!
//! A wrong argument is refused here, before anything is looked at in Redis.

use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::help;
use super::which::{FILTERS, Which, WhichDead, id, not_empty, one_of_them};
use crate::VERSION;
use crate::config::check_queue;
use crate::service::jobqueue::inspector::State;

/// More jobs than this are better looked at in pages.
const MAX_LIMIT: i64 = 10_000;

/// All arguments. This is what the derived [`Parsed`] has, with the commands in groups.
#[derive(Debug)]
pub(crate) struct Arguments(Parsed);

/// Looks at the job queue in Redis, and steers it.
#[derive(Debug, Parser)]
#[command(name = "jobctl", version = VERSION, after_help = help::JOBCTL, subcommand_required = true)]
struct Parsed {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Order,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(super) struct Global {
    /// Print one JSON document instead of text for people
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// The queue [default: the setting jobqueue.queue]
    #[arg(long, global = true, value_name = "NAME", value_parser = queue)]
    pub(super) queue: Option<String>,
    /// Colours: auto, always or never
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Colour::Auto, hide_possible_values = true)]
    pub(super) color: Colour,
    /// Do it without a question
    #[arg(long, short, global = true)]
    pub(super) yes: bool,
}

/// When there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Colour {
    Auto,
    Always,
    Never,
}

/// The commands, in the order of the help.
#[derive(Debug, Subcommand)]
pub(super) enum Order {
    /// The figures: backlog, throughput and latency now
    #[command(after_help = help::STATS)]
    Stats {
        /// Show it again every second, or every SECS seconds
        #[arg(long, value_name = "SECS", num_args = 0..=1, default_missing_value = "1", value_parser = clap::value_parser!(u64).range(1..=86_400))]
        watch: Option<u64>,
    },
    /// The same live on the full screen, with workers and jobs
    #[command(after_help = help::TOP)]
    Top,
    /// The workers that live, and what each runs
    #[command(after_help = help::WORKERS)]
    Workers,
    /// Whether the queue is well: its Redis and its workers
    #[command(after_help = help::HEALTH)]
    Health,
    /// The jobs in one state, such as done: what finished lately
    #[command(after_help = help::LIST)]
    List(List),
    /// One job wherever it is: when it will run, why it died
    #[command(after_help = help::SHOW)]
    Show {
        /// The job's id, as the API answered it, or the id of its entry in Redis
        #[arg(value_parser = id)]
        id: String,
    },
    /// Run scheduled jobs now
    #[command(after_help = help::RUN, override_usage = help::RUN_USAGE, group = one_of_them())]
    Run(Which),
    /// Cancel jobs that wait, run or are scheduled
    #[command(after_help = help::CANCEL, override_usage = help::CANCEL_USAGE, group = one_of_them())]
    Cancel {
        #[command(flatten)]
        which: Which,
        /// Jobs in this state
        #[arg(long, value_enum, help_heading = FILTERS, required_unless_present = "ids", conflicts_with = "ids")]
        state: Option<Living>,
    },
    /// Run dead letters again, or delete them
    #[command(subcommand_required = true, after_help = help::DEAD)]
    Dead {
        #[command(subcommand)]
        order: DeadOrder,
    },
    /// Pause the queue: no job is started until resume
    #[command(after_help = help::PAUSE)]
    Pause,
    /// Let a paused queue go on
    #[command(after_help = help::PAUSE)]
    Resume,
    /// Print a script for a shell that completes arguments
    #[command(after_help = help::COMPLETIONS)]
    Completions {
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// What is done to dead letters.
#[derive(Debug, Subcommand)]
pub(super) enum DeadOrder {
    /// Run dead letters again, each with all its attempts
    #[command(after_help = help::RETRY, override_usage = help::RETRY_USAGE, group = one_of_them())]
    Retry(WhichDead),
    /// Delete dead letters for good
    #[command(after_help = help::DELETE, override_usage = help::DELETE_USAGE, group = one_of_them())]
    Delete(WhichDead),
}

/// Which jobs are listed.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Where the jobs are
    #[arg(value_enum)]
    pub(super) state: Place,
    /// How many jobs at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=MAX_LIMIT))]
    pub(super) limit: u16,
    /// Go on where the last page ended, which says its CURSOR
    #[arg(long, value_name = "CURSOR", value_parser = id, allow_hyphen_values = true)]
    pub(super) after: Option<String>,
    /// Only jobs of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = not_empty)]
    pub(super) job_type: Option<String>,
    /// Only jobs that this worker runs, or has run
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    pub(super) worker: Option<String>,
    /// Only dead letters of this reason
    #[arg(long, value_name = "REASON", value_parser = not_empty)]
    pub(super) reason: Option<String>,
}

/// Where a listed job may be.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Place {
    Waiting,
    Running,
    Scheduled,
    Dead,
    Done,
}

/// Where a job is that can be cancelled.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Living {
    Waiting,
    Running,
    Scheduled,
}

impl From<Place> for State {
    fn from(place: Place) -> Self {
        match place {
            Place::Waiting => Self::Waiting,
            Place::Running => Self::Running,
            Place::Scheduled => Self::Scheduled,
            Place::Dead => Self::Dead,
            Place::Done => Self::Done,
        }
    }
}

impl From<Living> for State {
    fn from(living: Living) -> Self {
        match living {
            Living::Waiting => Self::Waiting,
            Living::Running => Self::Running,
            Living::Scheduled => Self::Scheduled,
        }
    }
}

impl Arguments {
    /// The queue that was named.
    pub(crate) fn queue(&self) -> Option<&str> {
        self.0.global.queue.as_deref()
    }

    /// The shell whose completions are wanted. They need no settings and no Redis.
    pub(crate) fn completions(&self) -> Option<Shell> {
        match self.0.command {
            Order::Completions { shell } => Some(shell),
            _ => None,
        }
    }

    pub(super) fn into_parts(self) -> (Global, Order) {
        (self.0.global, self.0.command)
    }
}

impl CommandFactory for Arguments {
    fn command() -> Command {
        help::grouped(Parsed::command())
    }

    fn command_for_update() -> Command {
        help::grouped(Parsed::command_for_update())
    }
}

impl FromArgMatches for Arguments {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        Parsed::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl Parser for Arguments {}

fn queue(name: &str) -> Result<String, String> {
    match check_queue(name) {
        Ok(()) => Ok(name.to_owned()),
        Err(invalid) => Err(format!("expected {}", invalid.expected)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: &str) -> String {
        let arguments = std::iter::once("jobctl").chain(arguments.split(' '));
        let error = Arguments::try_parse_from(arguments).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    }

    fn accepted(arguments: &str) -> Order {
        let given = std::iter::once("jobctl").chain(arguments.split(' '));
        let parsed = Arguments::try_parse_from(given);
        parsed
            .unwrap_or_else(|error| panic!("{arguments}: {error}"))
            .into_parts()
            .1
    }

    #[test]
    fn the_arguments_fit_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_action_wants_ids_or_a_filter_and_not_both() {
        for one in [
            "run",
            "cancel",
            "cancel --state waiting",
            "dead retry",
            "dead delete",
        ] {
            assert!(refusal(one).contains("required"), "{one}");
        }
        for one in [
            "run a --all",
            "run a --type t",
            "run --all --type t",
            "cancel a --state waiting",
            "cancel --all",
            "cancel --state dead --all",
            "dead retry a --reason r",
            "dead delete --all --reason r",
        ] {
            refusal(one);
        }
        for one in [
            "run a b",
            "run --all",
            "cancel a b",
            "cancel --state running --all",
            "cancel --state scheduled --type t --older 7d --text x",
            "dead retry --reason r",
            "dead delete --older 1week --reason r",
        ] {
            accepted(one);
        }
    }
}
