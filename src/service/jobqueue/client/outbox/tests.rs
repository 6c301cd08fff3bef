use futures_util::FutureExt;
use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_millis(20);
const LATER: Duration = Duration::from_secs(60);

const BATCH_BYTES: usize = 1024 * 1024;

fn next_batch(outbox: &Outbox, enough: usize) -> Option<Vec<Unanswered>> {
    outbox.next_batch(Wanted {
        enough,
        bytes: BATCH_BYTES,
        lead: Duration::ZERO,
    })
}

async fn push(outbox: &Outbox, json: &str, time: Duration) -> Receipt {
    let deadline = Instant::now() + time;
    let pushed = outbox.push(json.as_bytes().to_vec(), deadline).await;
    pushed.unwrap()
}

fn jobs(batch: &[Unanswered]) -> Vec<&str> {
    let jobs = batch.iter();
    jobs.map(|job| str::from_utf8(&job.json).unwrap()).collect()
}

#[tokio::test]
async fn the_sender_is_woken_when_there_are_enough_and_not_before() {
    let outbox = Outbox::new();
    assert!(next_batch(&outbox, 3).is_none());
    let mut answers = Vec::new();
    for (job, woken) in [("a", false), ("b", false), ("c", true), ("d", false)] {
        answers.push(push(&outbox, job, LATER).await);
        assert_eq!(outbox.enough().now_or_never().is_some(), woken, "{job}");
    }
    let batch = next_batch(&outbox, 3).unwrap();
    assert_eq!(jobs(&batch), ["a", "b", "c", "d"]);
    assert!(next_batch(&outbox, 1).is_none());
}

#[tokio::test]
async fn a_batch_has_a_limit_in_jobs_and_in_bytes() {
    let outbox = Outbox::new();
    let mut answers = Vec::new();
    for _ in 0..=MAX_BATCH {
        answers.push(push(&outbox, "job", LATER).await);
    }
    assert_eq!(next_batch(&outbox, 1).unwrap().len(), MAX_BATCH);
    assert_eq!(next_batch(&outbox, 1).unwrap().len(), 1);

    let large = "x".repeat(BATCH_BYTES / 2);
    for _ in 0..3 {
        answers.push(push(&outbox, &large, LATER).await);
    }
    assert_eq!(next_batch(&outbox, 1).unwrap().len(), 2);
    assert_eq!(next_batch(&outbox, 1).unwrap().len(), 1);
}

#[tokio::test]
async fn a_job_whose_time_is_over_is_not_sent() {
    let outbox = Outbox::new();
    let late = push(&outbox, "late", SOON).await;
    let in_time = push(&outbox, "in time", LATER).await;
    tokio::time::sleep(SOON).await;
    let batch = next_batch(&outbox, 1).unwrap();
    assert_eq!(jobs(&batch), ["in time"]);
    assert!(matches!(late.await.unwrap(), Err(EnqueueError::NotSent)));
    drop(in_time);
}

#[tokio::test]
async fn a_job_that_would_come_too_late_is_not_sent() {
    let outbox = Outbox::new();
    let late = push(&outbox, "late", SOON).await;
    let in_time = push(&outbox, "in time", LATER).await;
    let batch = outbox.next_batch(Wanted {
        enough: 1,
        bytes: 1,
        lead: SOON,
    });
    assert_eq!(jobs(&batch.unwrap()), ["in time"]);
    assert!(matches!(late.await.unwrap(), Err(EnqueueError::NotSent)));
    drop(in_time);
}

#[tokio::test]
async fn who_finds_no_room_waits_for_it_until_the_deadline() {
    let outbox = Outbox::new();
    let mut answers = Vec::new();
    for _ in 0..MAX_WAITING {
        answers.push(push(&outbox, "job", LATER).await);
    }
    let refused = outbox.push(Vec::new(), Instant::now() + SOON).await;
    assert!(matches!(refused, Err(EnqueueError::NotSent)));

    let (pushed, batch) = tokio::join!(timeout(LATER, push(&outbox, "next", LATER)), async {
        next_batch(&outbox, 1)
    });
    assert!(pushed.is_ok());
    assert_eq!(batch.unwrap().len(), MAX_BATCH);
    // All the room that a batch leaves is used again, and no more than that.
    for _ in 1..MAX_BATCH {
        answers.push(push(&outbox, "job", LATER).await);
    }
    let refused = outbox.push(Vec::new(), Instant::now() + SOON).await;
    assert!(matches!(refused, Err(EnqueueError::NotSent)));
}

#[tokio::test]
async fn room_of_jobs_whose_time_is_over_is_used_again() {
    let outbox = Outbox::new();
    let mut answers = Vec::new();
    for _ in 0..MAX_WAITING {
        answers.push(push(&outbox, "job", SOON).await);
    }
    tokio::time::sleep(SOON).await;
    assert!(next_batch(&outbox, usize::MAX).is_none());
    for _ in 0..MAX_WAITING {
        answers.push(push(&outbox, "job", LATER).await);
    }
}

#[tokio::test]
async fn a_job_that_is_dropped_answers_whether_it_was_sent() {
    let outbox = Outbox::new();
    let first = push(&outbox, "first", LATER).await;
    let second = push(&outbox, "second", LATER).await;
    let mut batch = next_batch(&outbox, 1).unwrap();
    batch[1].sent = true;
    drop(batch);
    assert!(matches!(first.await.unwrap(), Err(EnqueueError::NotSent)));
    let second = second.await.unwrap();
    assert!(matches!(second, Err(EnqueueError::OutcomeUnknown)));
}

#[tokio::test]
async fn after_its_end_who_waits_and_who_comes_is_refused() {
    let outbox = Outbox::new();
    let mut waiting = Vec::new();
    for _ in 0..MAX_WAITING {
        waiting.push(push(&outbox, "job", LATER).await);
    }
    let (without_room, ()) = tokio::join!(outbox.push(Vec::new(), Instant::now() + LATER), async {
        outbox.close()
    });
    assert!(matches!(without_room, Err(EnqueueError::NotConnected)));
    for answer in waiting {
        assert!(matches!(answer.await.unwrap(), Err(EnqueueError::NotSent)));
    }
    let late = outbox.push(Vec::new(), Instant::now() + LATER).await;
    assert!(matches!(late, Err(EnqueueError::NotConnected)));
}
