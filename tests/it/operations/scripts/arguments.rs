//! The arguments of the scripts: which ones are right, and what the scripts say about wrong ones.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::home::{Home, root};
use crate::chaos::KINDS;

/// A script's output for these arguments, and its exit status. A directory in CDPATH that looks
/// like the checkout must not mislead the script.
fn call(name: &str, args: &[&str], path: &Path) -> (String, Option<i32>) {
    let decoy = tempfile::tempdir().unwrap();
    fs::create_dir(decoy.path().join("scripts")).unwrap();
    let path = format!("{}:{}", path.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .arg(Path::new("scripts").join(name))
        .args(args)
        .current_dir(root())
        .env("CDPATH", decoy.path())
        .env("PATH", path)
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (said, output.status.code())
}

/// A script with its arguments, separated by spaces (`_` for an empty one), and what the script
/// says.
const WRONG: [(&str, &str); 17] = [
    (
        "chaos --seconds",
        "--seconds: found nothing, expected a number from 1 to",
    ),
    (
        "chaos --seconds abc",
        "--seconds: found abc, expected a number from 1 to",
    ),
    (
        "chaos --seconds 0",
        "--seconds: found 0, expected a number from 1 to",
    ),
    (
        "chaos --seconds=1.5",
        "--seconds: found 1.5, expected a number from 1 to",
    ),
    (
        "chaos --seconds 18446744073709551617",
        "expected a number from 1 to",
    ),
    (
        "chaos --seconds --seed 7",
        "--seconds: found --seed, expected a number",
    ),
    (
        "chaos --seed x",
        "--seed: found x, expected a number from 0 to",
    ),
    (
        "chaos --seed -1",
        "--seed: found -1, expected a number from 0 to",
    ),
    (
        "chaos --kinds",
        "--kinds: found nothing, expected kinds or groups",
    ),
    (
        "chaos --kinds clock,slow",
        "--kinds: found slow, expected kinds",
    ),
    (
        "chaos --kinds clock,",
        "--kinds: found nothing, expected kinds",
    ),
    (
        "chaos --kind clock",
        "found the argument --kind, expected --seconds",
    ),
    ("chaos 7", "found the argument 7, expected --seconds"),
    (
        "test --bogus",
        "found the argument --bogus, expected --all or a part",
    ),
    ("test a b", "found the arguments a and b, expected one part"),
    ("test _", "found an empty argument, expected a part"),
    ("dev --port", "found the argument --port, expected none"),
];

#[test]
fn a_wrong_argument_is_named_with_what_is_expected() {
    let home = Home::new();
    home.cargo("echo cargo was started; exit 9");
    for (line, expected) in WRONG {
        let mut words = line.split(' ').map(|word| word.trim_matches('_'));
        let script = words.next().unwrap();
        let args: Vec<&str> = words.collect();
        let (said, status) = call(script, &args, &home.path("bin"));
        let begins = said.starts_with("error: ") && said.contains(expected);
        let ends = said.ends_with(&format!("; see scripts/{script} --help\n"));
        assert!(
            begins && ends && said.lines().count() == 1,
            "{line}: {said}"
        );
        assert_eq!(status, Some(2), "{line}");
    }
}

#[test]
fn right_arguments_of_chaos_start_it() {
    let home = Home::new();
    home.cargo("echo $CHAOS_SECONDS $CHAOS_SEED $CHAOS_KINDS; exit 9");
    for (args, told) in [
        (&["--seed", "3"][..], "60 3 all\n"),
        (&["--seconds", "08", "--seed=0"], "08 0 all\n"),
        (
            &["--kinds", "clock stepped , hands,slow line", "--seed=1"],
            "60 1 clock stepped , hands,slow line\n",
        ),
    ] {
        let said = call("chaos", args, &home.path("bin"));
        assert_eq!(said, (told.to_owned(), Some(9)), "{args:?}");
    }
}

#[test]
fn the_help_of_chaos_has_all_kinds() {
    let home = Home::new();
    let (help, status) = call("chaos", &["--help"], &home.path("bin"));
    assert_eq!(status, Some(0));
    let mut names = vec!["all"];
    for (group, kinds) in KINDS {
        assert!(help.contains(&format!("\n  {group} ")), "{group}");
        names.push(group);
        names.extend(kinds);
    }
    let (said, status) = call(
        "chaos",
        &["--kinds", &names.join(","), "--seed", "x"],
        &home.path("bin"),
    );
    assert!(
        said.contains("--seed: found x"),
        "each of them is known: {said}"
    );
    assert_eq!(status, Some(2));
}

#[test]
fn a_filter_runs_its_tests_alone_and_must_match_one() {
    let home = Home::new();
    let calls = home.path("calls");
    for (nextest, runs) in [
        (
            "exit 0",
            [
                "nextest run --locked --profile suite outage",
                "nextest run --locked --profile all --run-ignored all outage",
            ],
        ),
        (
            "exit 101",
            [
                "test --locked --lib --bins --examples --tests -- outage",
                "test --locked --lib --bins --examples --tests -- --include-ignored outage",
            ],
        ),
    ] {
        // This cargo lists one test, and writes down what it is told to run.
        home.cargo(&format!(
            "case \"$*\" in 'nextest --version') {nextest} ;; *list*) echo 'it outages::an_outage: test' ;; *) echo \"$*\" >>'{}' ;; esac; exit 0",
            calls.display()
        ));
        for (args, run) in [&["outage"][..], &["--all", "outage"]]
            .into_iter()
            .zip(runs)
        {
            fs::write(&calls, "").unwrap();
            let (said, status) = call("test", args, &home.path("bin"));
            assert_eq!(status, Some(0), "{said}");
            assert_eq!(fs::read_to_string(&calls).unwrap().trim_end(), run);
        }
        fs::write(&calls, "").unwrap();
        let (said, status) = call("test", &["outtage"], &home.path("bin"));
        assert!(
            said.contains("found no test whose name contains outtage"),
            "{said}"
        );
        assert_eq!(status, Some(1));
        assert_eq!(fs::read_to_string(&calls).unwrap(), "");
    }
}
