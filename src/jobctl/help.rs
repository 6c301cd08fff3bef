//! The parts of the help that clap does not make: the commands in groups, the examples, and what the
//! program is started with.

use std::fmt::Write as _;

use clap::Command;

/// The commands by what they are for. A test finds a command that is in no group.
const GROUPS: [(&str, &[&str]); 4] = [
    ("See the queue", &["stats", "top", "workers", "health"]),
    ("Find jobs", &["list", "show"]),
    ("Steer jobs", &["run", "cancel", "dead"]),
    ("Steer the queue", &["pause", "resume"]),
];
/// What is no work on a queue.
const OTHERS: &[&str] = &["completions", "help"];

pub(super) const JOBCTL: &str = "\
Examples:
  jobctl stats                      the backlog, throughput and latency now
  jobctl workers                    the live workers, and what each runs
  jobctl show ID                    find a job: when it will run, why it died
  jobctl run ID                     run a scheduled job now
  jobctl cancel ID                  cancel it, wherever it is
  jobctl list done                  what finished lately
  jobctl list dead                  what died, and why
  jobctl dead retry ID              run a dead letter again
  jobctl dead retry --reason 'retries used up'
                                    run all of one reason again
  jobctl dead delete --older 7d     delete all that are older than a week
  jobctl pause                      start no job until jobctl resume

An ID is the job_id that the API answered. Ids of entries in Redis do too.

Settings are read as the programs server and jobqueue read them: from the
files in CONFIG_DIR for the environment APP_ENV, and from variables such as
REDIS_JOBQUEUE_ADDR and APP__JOBQUEUE__QUEUE. TZ is the time zone of times.
Colours are on a terminal only, and nowhere when NO_COLOR is set.

Exit status:
  0    done
  1    not found, nothing matched, or not done: stderr says why
  2    wrong arguments, or a question that nobody can answer without --yes
  69   Redis is away, or refuses what is needed
  70   a defect: please report it
  74   stdout takes no more
  78   a setting is wrong
  130  ended by Ctrl-C";

pub(super) const STATS: &str = "\
Examples:
  jobctl stats
  jobctl stats --watch
  jobctl stats --json | jq .waiting";

pub(super) const TOP: &str = "\
Keys:
  q, Ctrl-C   end
  p           pause the queue, or let it go on (asks)
  Tab         the next list
  arrows      move in the list

Examples:
  jobctl top
  jobctl top --queue mail";

pub(super) const WORKERS: &str = "\
Examples:
  jobctl workers
  jobctl workers --json | jq '.workers[] | select(.alive | not)'";

pub(super) const HEALTH: &str = "\
The exit status is 0 when all is well, and 1 when something is to be looked at.

Examples:
  jobctl health";

pub(super) const LIST: &str = "\
Waiting, running and scheduled jobs are in the order of their turn, dead and
done ones with the newest first. Done jobs are kept for a while: the newest
10,000 or so, and a sample of them where there are many in a second.

Examples:
  jobctl list waiting
  jobctl list scheduled --limit 100
  jobctl list dead --reason 'unknown type'
  jobctl list done --type demo:delay_print";

pub(super) const SHOW: &str = "\
A job is looked for where jobs of its age are, then everywhere. A long search
says how far it is, and Ctrl-C ends it.

Examples:
  jobctl show 01994a5e-2f4b-7c1d-9d42-3f6a8e1b0c57
  jobctl show 1764284112033-0";

pub(super) const RUN_USAGE: &str = "\
jobctl run [OPTIONS] <ID>...
       jobctl run [OPTIONS] <--all | --type TYPE | --older AGE | --text TEXT>";

pub(super) const RUN: &str = "\
A job that waits or runs needs no help, and a dead one is run again by
`jobctl dead retry`. For jobs by a filter there is a question first.

Examples:
  jobctl run 01994a5e-2f4b-7c1d-9d42-3f6a8e1b0c57
  jobctl run --type demo:delay_print";

pub(super) const CANCEL_USAGE: &str = "\
jobctl cancel [OPTIONS] <ID>...
       jobctl cancel [OPTIONS] --state <STATE> <--all | --type TYPE | --older AGE | --text TEXT>";

pub(super) const CANCEL: &str = "\
A scheduled or waiting job is deleted. A running one is not gone at once: its
worker ends it at its next heartbeat, and it becomes a dead letter with the
reason `cancelled`. For jobs by a filter there is a question first.

Examples:
  jobctl cancel 01994a5e-2f4b-7c1d-9d42-3f6a8e1b0c57
  jobctl cancel --state scheduled --type demo:delay_print
  jobctl cancel --state waiting --all";

pub(super) const DEAD: &str = "\
Examples:
  jobctl list dead
  jobctl dead retry 01994a5e-2f4b-7c1d-9d42-3f6a8e1b0c57
  jobctl dead retry --reason 'retries used up'
  jobctl dead delete --older 7d";

pub(super) const RETRY_USAGE: &str = "\
jobctl dead retry [OPTIONS] <ID>...
       jobctl dead retry [OPTIONS] <--all | --reason REASON | --type TYPE | --older AGE | --text TEXT>";

pub(super) const RETRY: &str = "\
A job keeps its id. It is appended to the queue as it was registered, and its
dead letter is gone.

Examples:
  jobctl dead retry 01994a5e-2f4b-7c1d-9d42-3f6a8e1b0c57
  jobctl dead retry --reason 'retries used up'
  jobctl dead retry --type demo:delay_print --older 1h";

pub(super) const DELETE_USAGE: &str = "\
jobctl dead delete [OPTIONS] <ID>...
       jobctl dead delete [OPTIONS] <--all | --reason REASON | --type TYPE | --older AGE | --text TEXT>";

pub(super) const DELETE: &str = "\
What is deleted cannot come back, so there is always a question first.

Examples:
  jobctl dead delete 01994a5e-2f4b-7c1d-9d42-3f6a8e1b0c57
  jobctl dead delete --older 7d
  jobctl dead delete --reason malformed --yes";

pub(super) const PAUSE: &str = "\
Running jobs go on, and jobs can be registered. Workers notice within seconds.

Examples:
  jobctl pause
  jobctl resume";

pub(super) const COMPLETIONS: &str = "\
Examples:
  source <(jobctl completions bash)
  jobctl completions zsh > ~/.zfunc/_jobctl
  jobctl completions fish > ~/.config/fish/completions/jobctl.fish";

/// The same command with a help that has its commands in [`GROUPS`].
pub(super) fn grouped(command: Command) -> Command {
    let mut groups = String::new();
    for (title, names) in GROUPS.into_iter().chain([("Others", OTHERS)]) {
        // Cannot fail because it writes to a text.
        writeln!(groups, "{title}:").ok();
        for name in names {
            let about = match *name {
                "help" => "This help, or that of a command".to_owned(),
                name => about(&command, name),
            };
            writeln!(groups, "  {name:<12} {about}").ok();
        }
        groups.push('\n');
    }
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}Options:\n{{options}}{{after-help}}\n"
    ))
}

fn about(command: &Command, name: &str) -> String {
    let found = command.find_subcommand(name).and_then(Command::get_about);
    found.map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::arguments::Arguments;
    use super::*;

    #[test]
    fn every_command_is_in_one_group_and_says_what_it_does() {
        let command = Arguments::command();
        let grouped = || {
            let names = GROUPS.into_iter().flat_map(|(_, names)| names);
            names.chain(OTHERS).copied()
        };
        for one in command.get_subcommands() {
            let times = grouped().filter(|name| *name == one.get_name()).count();
            assert_eq!(times, 1, "{}", one.get_name());
        }
        for name in grouped().filter(|name| *name != "help") {
            assert!(!about(&command, name).is_empty(), "{name}");
        }
    }

    #[test]
    fn no_line_of_the_help_is_wider_than_a_small_terminal() {
        let mut command = Arguments::command();
        for line in command.render_help().to_string().lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
