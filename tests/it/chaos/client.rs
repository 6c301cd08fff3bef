//! A client of a run. It registers jobs, and records the reply to each.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::ledger::Answer;

/// Registers jobs until the run stops it. Each number is used once.
pub(super) async fn client(
    url: Arc<Mutex<String>>,
    numbers: Arc<AtomicU64>,
    full: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
) -> Vec<(u64, Answer)> {
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap();
    let mut answers = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if full.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        }
        let n = numbers.fetch_add(1, Ordering::Relaxed);
        let delay = ["0s", "0s", "50ms", "300ms", "2s"][usize::try_from(n % 5).unwrap()];
        let body = json!({"message": format!("job {n}"), "delay": delay}).to_string();
        let target = url.lock().unwrap().clone();
        let answer = match http.post(target).body(body).send().await {
            Ok(reply) if reply.status() == 201 => Answer::Accepted,
            Ok(reply) if reply.status() == 503 => {
                let body = reply.text().await.unwrap_or_default();
                if body.contains("unknown") {
                    Answer::Unknown
                } else {
                    Answer::Refused
                }
            }
            Ok(reply) => panic!("{} is no documented answer", reply.status()),
            Err(error) if error.is_connect() => Answer::Refused,
            Err(_) => Answer::Unknown,
        };
        answers.push((n, answer));
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    answers
}
