//! `jobctl top` on a terminal: what is on the screen, its keys, and how it leaves the terminal.

use super::{busy_worker, job, jobctl};
use crate::support::{DEAD, PATIENCE, Process, Redis, Terminal, eventually};

/// What leaves the alternate screen.
const LEAVE: &str = "\u{1b}[?1049l";

fn top(redis: &Redis, terminal: &Terminal) -> Process {
    Process::jobctl(redis)
        .args(&["top"])
        .on_terminal(terminal)
        .start()
}

/// Waits until a person sees all of `parts` at once.
async fn sees(terminal: &Terminal, (columns, rows): (u16, u16), parts: &[&str]) -> String {
    eventually(
        format!("{parts:?} are on the screen"),
        PATIENCE,
        async || {
            let screen = terminal.screen(columns, rows);
            parts
                .iter()
                .all(|part| screen.contains(part))
                .then_some(screen)
        },
    )
    .await
}

#[tokio::test]
async fn the_screen_has_the_figures_the_workers_and_the_jobs() {
    let redis = Redis::start().await;
    let _worker = busy_worker(&redis, "runs-now").await;
    redis
        .cmd(&[
            "XADD",
            DEAD,
            "*",
            "job",
            &job("sleep", "died", 0),
            "reason",
            "poison",
        ])
        .await;
    let size = (80, 24);
    let mut terminal = Terminal::sized(size.0, size.1);
    let top = top(&redis, &terminal);
    let name = redis.consumers().await[0].name.clone();
    let parts = [
        "queue default",
        "dead 1",
        "runs-now",
        "died",
        "poison",
        "q end",
        name.as_str(),
    ];
    sees(&terminal, size, &parts).await;
    terminal.types(b"q");
    assert_eq!(top.wait_exit(PATIENCE).await.code(), Some(0));
    terminal.wait_for(LEAVE, PATIENCE).await;
}

/// Ctrl-Z and `fg`, as a shell does them.
#[tokio::test]
async fn a_screen_that_was_stopped_goes_on() {
    let redis = Redis::start().await;
    let size = (80, 24);
    let mut terminal = Terminal::sized(size.0, size.1);
    let top = top(&redis, &terminal);
    sees(&terminal, size, &["q end"]).await;
    top.stop();
    terminal.set_for_a_shell();
    top.cont();
    terminal.wait_for(LEAVE, PATIENCE).await;
    sees(&terminal, size, &["q end"]).await;
    // No line ends here.
    terminal.types(b"q");
    assert_eq!(top.wait_exit(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn a_small_terminal_has_one_list_and_tab_shows_the_next() {
    let redis = Redis::start().await;
    redis
        .cmd(&[
            "XADD",
            DEAD,
            "*",
            "job",
            &job("sleep", "died", 0),
            "reason",
            "poison",
        ])
        .await;
    let size = (50, 12);
    let mut terminal = Terminal::sized(size.0, size.1);
    let top = top(&redis, &terminal);
    let screen = sees(&terminal, size, &["> Workers"]).await;
    assert!(!screen.contains("Newest dead"), "{screen}");
    terminal.types(b"\t\t");
    sees(&terminal, size, &["> Newest dead", "died"]).await;
    let size = (100, 30);
    terminal.resize(size.0, size.1);
    sees(&terminal, size, &["Workers", "Running", "> Newest dead"]).await;
    terminal.types(b"\x03");
    assert_eq!(top.wait_exit(PATIENCE).await.code(), Some(130));
    terminal.wait_for(LEAVE, PATIENCE).await;
}

#[tokio::test]
async fn the_queue_is_paused_after_a_question() {
    let redis = Redis::start().await;
    let size = (80, 24);
    let mut terminal = Terminal::sized(size.0, size.1);
    let top = top(&redis, &terminal);
    sees(&terminal, size, &["waiting 0"]).await;
    terminal.types(b"p");
    sees(&terminal, size, &["pause the queue?"]).await;
    terminal.types(b"y");
    sees(&terminal, size, &["PAUSED"]).await;
    assert_eq!(
        jobctl(&redis, &["stats", "--json"]).await.json()["paused"],
        true
    );
    top.term();
    assert_eq!(top.wait_exit(PATIENCE).await.code(), Some(130));
    terminal.wait_for(LEAVE, PATIENCE).await;
}

#[tokio::test]
async fn a_redis_that_was_away_is_seen_again() {
    let redis = Redis::durable().await;
    let size = (80, 24);
    let mut terminal = Terminal::sized(size.0, size.1);
    let top = top(&redis, &terminal);
    sees(&terminal, size, &["waiting 0"]).await;
    redis.kill();
    sees(&terminal, size, &["cannot reach Redis at"]).await;
    redis.up().await;
    redis.add_test_job("sleep", 1, 0).await;
    let screen = sees(&terminal, size, &["waiting 1"]).await;
    assert!(!screen.contains("cannot reach"), "{screen}");
    terminal.types(b"q");
    assert_eq!(top.wait_exit(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn without_a_terminal_there_is_no_screen() {
    let redis = Redis::start().await;
    let said = jobctl(&redis, &["top"]).await.ends(2);
    assert!(said.err.contains("stats --watch"), "{said:?}");
}
