//! Finds out which of the held entries are still the ones that were read.
//!
//! Redis may come back without its newest data, and its clock may be behind. Then another job
//! can get the id of an entry that this worker runs. So at the beginning of each epoch the
//! jobs of all held entries are compared with those in Redis, by their digests.

use rustc_hash::FxHashSet;
use tokio::time::sleep;

use super::held::Held;
use crate::service::jobqueue::redis::{Broker, Class, Error, Link, OPERATOR_RETRY};

/// So many hex digits of a job's SHA-1 tell it from another job that got the id of its entry.
const DIGEST_DIGITS: usize = 16;
/// How many entries one command asks for.
const BATCH: usize = 250;

/// Keeps the held entries that Redis still has, and forgets the others. Answers how many of
/// the forgotten ones run, or were to run.
///
/// When it fails, nothing is forgotten and the entries are to be recognised again.
pub(crate) async fn recognise(
    broker: &Broker,
    link: &mut Link,
    held: &Held,
) -> Result<usize, Error> {
    let epoch = link.epoch();
    let deliveries = held.begin_epoch(epoch);
    let mut same = FxHashSet::default();
    for chunk in deliveries.chunks(BATCH) {
        let digests = chunk.iter().map(|held| (held.id, digest(&held.json)));
        let recognised = broker.recognise(link, digests.collect()).await;
        if let Err(error) = &recognised
            && error.class == Class::Operator
        {
            sleep(OPERATOR_RETRY).await;
        }
        same.extend(recognised?);
    }
    Ok(held.recognised(epoch, &same))
}

fn digest(json: &[u8]) -> String {
    let mut digest = sha1_smol::Sha1::from(json).digest().to_string();
    digest.truncate(DIGEST_DIGITS);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_the_beginning_of_the_sha_1_in_hex_as_the_script_makes_it() {
        assert_eq!(digest(b"abc"), "a9993e364706816a");
    }
}
