//! What jobctl does on a terminal: tables that fit it, colours, questions, Ctrl-C.

use super::{job, schedule};
use crate::support::{DEAD, PATIENCE, Process, ProcessBuilder, Redis, Terminal};

/// The end of a command on a terminal.
async fn status(builder: ProcessBuilder, terminal: &Terminal) -> Option<i32> {
    builder
        .on_terminal(terminal)
        .start()
        .wait_exit(PATIENCE)
        .await
        .code()
}

#[tokio::test]
async fn tables_fit_terminals_and_ids_are_whole() {
    let redis = Redis::start().await;
    let id = "01994a5e-2f4b-7c1d-9d42-3f6a8e1b0c57";
    let wide = "日本語の長い文章".repeat(20);
    redis
        .add_job(&format!(
            r#"{{"id":"{id}","type":"test:sleep","payload":"{wide}"}}"#
        ))
        .await;
    for columns in [40, 80, 132] {
        let terminal = Terminal::sized(columns, 24);
        let list = Process::jobctl(&redis).args(&["list", "waiting"]);
        assert_eq!(status(list, &terminal).await, Some(0));
        terminal.wait_for(id, PATIENCE).await;
        let shown = terminal.screen(columns, 24);
        // A line that is too long would take another one.
        assert_eq!(shown.trim_end().lines().count(), 2, "{columns}: {shown}");
        assert!(shown.contains(id), "{columns}: {shown}");
        assert_eq!(shown.contains('…'), columns > 40, "{columns}: {shown}");
    }
}

#[tokio::test]
async fn colours_are_for_terminals_and_not_with_no_color() {
    let redis = Redis::start().await;
    let list = || Process::jobctl(&redis).args(&["stats"]);
    for (builder, coloured) in [
        (list().env_remove("NO_COLOR"), true),
        (list().env("NO_COLOR", ""), true),
        (list().env("NO_COLOR", "1"), false),
        (
            list().env_remove("NO_COLOR").args(&["--color", "never"]),
            false,
        ),
        (
            list().env("NO_COLOR", "1").args(&["--color", "always"]),
            true,
        ),
    ] {
        let terminal = Terminal::sized(80, 24);
        assert_eq!(status(builder, &terminal).await, Some(0));
        terminal.wait_for("today", PATIENCE).await;
        let text = terminal.text();
        assert_eq!(text.contains("\u{1b}["), coloured, "{text:?}");
    }
}

#[tokio::test]
async fn a_question_is_answered_on_the_terminal() {
    let redis = Redis::start().await;
    for id in ["a", "b"] {
        redis
            .cmd(&[
                "XADD",
                DEAD,
                "*",
                "job",
                &job("sleep", id, 0),
                "reason",
                "poison",
            ])
            .await;
    }
    for (answer, status, left) in [
        ("n\n", 1, 2),
        ("\n", 1, 2),
        ("\u{3}", 130, 2),
        ("y\n", 0, 0),
    ] {
        let mut terminal = Terminal::sized(80, 24);
        let delete = Process::jobctl(&redis).args(&["dead", "delete", "--all"]);
        let process = delete.on_terminal(&terminal).start();
        terminal
            .wait_for("delete 2 dead letters? [y/N]", PATIENCE)
            .await;
        terminal.types(answer.as_bytes());
        assert_eq!(
            process.wait_exit(PATIENCE).await.code(),
            Some(status),
            "{answer:?}"
        );
        assert_eq!(redis.dead_letters().await.len(), left, "{answer:?}");
    }
}

/// What is added while the question stands is not what was asked about.
#[tokio::test]
async fn a_question_and_its_answer_are_about_the_same_jobs() {
    let redis = Redis::start().await;
    let letter = [
        "XADD",
        DEAD,
        "*",
        "job",
        r#"{"type":"x"}"#,
        "reason",
        "poison",
    ];
    redis.cmd(&letter).await;
    let mut terminal = Terminal::sized(80, 24);
    let delete = Process::jobctl(&redis).args(&["dead", "delete", "--all"]);
    let process = delete.on_terminal(&terminal).start();
    terminal
        .wait_for("delete 1 dead letter? [y/N]", PATIENCE)
        .await;
    redis.cmd(&letter).await;
    terminal.types(b"y\n");
    assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(0));
    assert_eq!(redis.dead_letters().await.len(), 1);
}

#[tokio::test]
async fn a_watch_draws_over_itself_until_ctrl_c() {
    let redis = Redis::start().await;
    let mut terminal = Terminal::sized(80, 24);
    let watch = Process::jobctl(&redis)
        .args(&["stats", "--watch"])
        .on_terminal(&terminal)
        .start();
    terminal.wait_for("today", PATIENCE).await;
    schedule(&redis, "s", 3600).await;
    terminal.wait_for("the next in", PATIENCE).await;
    assert_eq!(terminal.screen(80, 24).matches("queue default").count(), 1);
    terminal.types(b"\x03");
    assert_eq!(watch.wait_exit(PATIENCE).await.code(), Some(130));
}
