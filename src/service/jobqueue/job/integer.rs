//! Integers in a job's JSON. As in JSON Schema, a number with a zero fraction is an integer,
//! however it is written: `5`, `5.0` and `5e0` are the same.

use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer};
use serde_json::Number;

/// An integer from 0 to `max`, or none for null.
fn integer<'de, D: Deserializer<'de>>(json: D, max: u64) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<Number>::deserialize(json)? else {
        return Ok(None);
    };
    let whole = number.as_u64().or_else(|| {
        // A float is shown with all its digits and without a zero fraction. Adding zero makes 0
        // of -0.
        let shown = (number.as_f64()? + 0.0).to_string();
        shown.parse().ok()
    });
    match whole.filter(|whole| *whole <= max) {
        Some(whole) => Ok(Some(whole)),
        None => {
            let expected = format!("an integer from 0 to {max}");
            let found = number.to_string();
            Err(D::Error::invalid_value(
                Unexpected::Other(&found),
                &expected.as_str(),
            ))
        }
    }
}

pub(super) fn milliseconds<'de, D: Deserializer<'de>>(json: D) -> Result<Option<u64>, D::Error> {
    integer(json, u64::MAX)
}

pub(super) fn milliseconds_or_zero<'de, D: Deserializer<'de>>(json: D) -> Result<u64, D::Error> {
    Ok(integer(json, u64::MAX)?.unwrap_or(0))
}

pub(super) fn count<'de, D: Deserializer<'de>>(json: D) -> Result<Option<u32>, D::Error> {
    let count = integer(json, u32::MAX.into())?;
    Ok(count.map(|count| u32::try_from(count).unwrap_or(u32::MAX)))
}

pub(super) fn count_or_zero<'de, D: Deserializer<'de>>(json: D) -> Result<u32, D::Error> {
    Ok(count(json)?.unwrap_or(0))
}
