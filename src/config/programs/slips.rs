//! How one name can be another one with a mistake in it.

/// From this likeness on a name is suggested for another one.
const ALIKE: f64 = 0.8;

/// Whether `name` is `own` with one slip: one letter too many, missing or wrong, two letters swapped,
/// or other case and separators.
pub(super) fn is_slip(name: &str, own: &str) -> bool {
    let (name, own) = (letters(name), letters(own));
    name == own || (strsim::osa_distance(&name, &own) == 1 && !differ_in_digits(&name, &own))
}

/// Whether two names differ in digits alone, such as `redis` and `redis2`.
pub(super) fn differ_in_digits(one: &str, other: &str) -> bool {
    let letters = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
    one != other && letters(one) == letters(other)
}

/// A name without separators and case.
pub(super) fn letters(name: &str) -> String {
    let letters = name.chars().filter(|c| c.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

/// How alike a known name and a found one are, from 0 to 1 (Jaro-Winkler). `None` when they are too
/// different to suggest the one for the other.
pub(super) fn likeness(known: &str, name: &str) -> Option<f64> {
    let likeness = match letters(known) == letters(name) {
        true => 1.0,
        false => strsim::jaro_winkler(known, &name.to_lowercase()),
    };
    (likeness >= ALIKE).then_some(likeness)
}
