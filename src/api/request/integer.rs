//! JSON numbers that are integers. `1.0` and `1e3` are integers, as in JSON Schema: languages whose
//! only numeric type is a float write whole numbers like this.

/// No `i128` has more digits.
const MAX_DIGITS: usize = 39;

/// The value of a JSON number that is an integer. `None` for any other number, and for any other
/// JSON value.
///
/// The value is exact, because it is never a float in between. A number that no `i128` holds becomes
/// the nearest `i128`. It is beyond every type of 64 bits then, as it was before.
pub(super) fn integer(json: &str) -> Option<i128> {
    let (is_negative, number) = match json.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, json),
    };
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    // An exponent that `i64` cannot hold is longer than any body has digits.
    let beyond = if exponent.starts_with('-') {
        i64::MIN
    } else {
        i64::MAX
    };
    let exponent: i64 = exponent.parse().unwrap_or(beyond);
    let len = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    let zeroes = exponent
        .saturating_sub(len(fraction))
        .saturating_add(len(&digits) - len(significant));
    let zeroes = usize::try_from(zeroes).ok()?;
    let nearest = if is_negative { i128::MIN } else { i128::MAX };
    let significant = significant.trim_start_matches('0');
    if significant.len().saturating_add(zeroes) > MAX_DIGITS {
        return Some(nearest);
    }
    let sign = if is_negative { "-" } else { "" };
    let digits = format!("{sign}{significant}{}", "0".repeat(zeroes));
    Some(digits.parse().unwrap_or(nearest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_numbers_without_a_fraction() {
        for (json, value) in [
            ("5.0", 5),
            ("-5.00", -5),
            ("5e0", 5),
            ("1e2", 100),
            ("1E+2", 100),
            ("1.25e2", 125),
            ("100e-2", 1),
            ("-0.0", 0),
            ("0e99999999999999999999", 0),
            ("0.000e-400", 0),
            ("31622400.0", 31_622_400),
            ("9007199254740993.0", 9_007_199_254_740_993),
            ("9223372036854775807.0", i64::MAX.into()),
            ("0.000000000000000000000000000001e30", 1),
            ("9223372036854775.8070e3", i64::MAX.into()),
            ("9223372036854775.806e3", 9_223_372_036_854_775_806),
            ("1e38", 10_i128.pow(38)),
            ("1e39", i128::MAX),
            ("1e400", i128::MAX),
            ("-1e400", i128::MIN),
            ("1e99999999999999999999", i128::MAX),
            ("0", 0),
            ("-0", 0),
            ("-1", -1),
            ("180", 180),
            ("9223372036854775808", 9_223_372_036_854_775_808),
            ("-9223372036854775809", -9_223_372_036_854_775_809),
            ("170141183460469231731687303715884105727", i128::MAX),
            ("170141183460469231731687303715884105728", i128::MAX),
            ("-170141183460469231731687303715884105728", i128::MIN),
            ("-170141183460469231731687303715884105729", i128::MIN),
            (&"9".repeat(1000), i128::MAX),
        ] {
            assert_eq!(integer(json), Some(value), "{json}");
        }
        for json in [
            "5.5",
            "-0.5",
            "1e-1",
            "1.25e1",
            "9007199254740992.5",
            "-1e-400",
            "1e-99999999999999999999",
            "1.00000000000000000000000000000000000001",
            "\"10\"",
            "true",
            "null",
            "[1]",
            "{}",
            "\"\"",
        ] {
            assert_eq!(integer(json), None, "{json}");
        }
    }
}
