//! The kinds of faults of a run.

/// The groups and their kinds, by the names that `CHAOS_KINDS` takes: single kinds, or all of a
/// group.
pub(crate) const KINDS: [(&str, &[&str]); 4] = [
    (
        "faults",
        &[
            "worker killed",
            "worker frozen",
            "worker stopped",
            "connections cut",
            "clients killed",
            "connections stalled",
            "redis killed",
            "redis frozen",
            "scripts flushed",
            "server killed",
        ],
    ),
    (
        "strains",
        &[
            "large entries",
            "slow line",
            "stdout blocked",
            "stderr blocked",
            "answers not read",
        ],
    ),
    ("clock", &["clock stepped", "clock stepped in a restart"]),
    (
        "hands",
        &[
            "consumer deleted",
            "group set ahead and back",
            "group destroyed",
            "state deleted",
            "stream renamed and back",
        ],
    ),
];

/// The kinds that a list names. Commas separate the names.
pub(super) fn kinds(list: &str) -> Vec<&'static str> {
    let mut chosen = Vec::new();
    for name in list.split(',').map(str::trim) {
        let before = chosen.len();
        for (group, kinds) in KINDS {
            let named = kinds
                .iter()
                .filter(|kind| [**kind, group, "all"].contains(&name));
            chosen.extend(named);
        }
        assert!(chosen.len() > before, "{name:?} is none of {KINDS:?}");
    }
    chosen
}

#[test]
fn kinds_are_chosen_by_name_and_by_group() {
    assert_eq!(
        kinds("slow line, clock")[..2],
        ["slow line", "clock stepped"]
    );
    let all: usize = KINDS.iter().map(|(_, kinds)| kinds.len()).sum();
    assert_eq!(kinds("all").len(), all);
    assert!(std::panic::catch_unwind(|| kinds("slow lines")).is_err());
}
