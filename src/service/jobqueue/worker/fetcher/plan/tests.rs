use super::*;

const INTERVAL: Duration = Duration::from_millis(5000);
const FIRST_PAGE: OrphanCheck = OrphanCheck {
    after: None,
    cause: Cause::LostReply,
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn room(entries: usize) -> Room {
    Room {
        entries,
        waiting_since: None,
    }
}

fn next(plan: &Plan, now: Instant) -> Action {
    plan.next_action(now, Taking::All, room(10))
}

fn reclaimed(plan: &mut Plan, now: Instant, room: usize, found: Reclaimed) {
    plan.reclaimed(now, INTERVAL, room, &Ok(found));
}

/// A plan in which nothing is due before the next reclaim, in [`INTERVAL`].
fn idle() -> (Plan, Instant) {
    let now = Instant::now();
    let mut plan = Plan::new(now);
    reclaimed(&mut plan, now, 10, Reclaimed::default());
    (plan, now)
}

fn read(block: Duration) -> Action {
    Action::Read { room: 10, block }
}

#[test]
fn the_first_action_is_a_reclaim_whether_there_is_room_or_not() {
    let now = Instant::now();
    let plan = Plan::new(now);
    let first = |taking, entries| plan.next_action(now, taking, room(entries));
    assert_eq!(first(Taking::All, 10), Action::Reclaim { room: 10 });
    assert_eq!(first(Taking::All, 0), Action::Reclaim { room: 0 });
    assert_eq!(first(Taking::NothingNew, 10), Action::Reclaim { room: 10 });
    assert_eq!(first(Taking::Nothing, 10), Action::Reclaim { room: 0 });
}

#[test]
fn what_is_due_at_once_is_done_in_the_order_of_its_urgency() {
    let (mut plan, start) = idle();
    let now = start + INTERVAL;
    plan.look_for_orphans(start, Cause::OldIds);
    let waiting = Room {
        entries: 10,
        waiting_since: Some(start),
    };
    let next = |plan: &Plan| plan.next_action(now, Taking::All, waiting);
    assert_eq!(next(&plan), Action::Reclaim { room: 10 });
    reclaimed(&mut plan, now, 10, Reclaimed::default());
    assert_eq!(next(&plan), Action::RecoverOrphans(FIRST_PAGE));
    plan.orphan_check_began(now);
    plan.orphan_page_done(FIRST_PAGE, None);
    assert_eq!(next(&plan), Action::PutBackReady);
    let nothing_waits = plan.next_action(now, Taking::All, room(10));
    assert_eq!(nothing_waits, read(MAX_BLOCK));
}

#[test]
fn the_look_after_two_that_brought_only_what_others_have_to_run_is_theirs() {
    let more = || Reclaimed {
        more: true,
        ..Reclaimed::default()
    };
    let (mut plan, start) = idle();
    let look = |plan: &mut Plan, all_put_back| {
        reclaimed(plan, start, 10, more());
        plan.brought(start, INTERVAL, all_put_back);
        next(plan, start) == Action::Reclaim { room: 10 }
    };
    assert!(look(&mut plan, true), "a moment later it may run here");
    assert!(look(&mut plan, false), "something runs here");
    assert!(look(&mut plan, true));
    // A look that brings nothing says nothing.
    reclaimed(&mut plan, start, 10, Reclaimed::default());
    assert!(
        !look(&mut plan, true),
        "also what is left is for the others"
    );
    let theirs = start + INTERVAL;
    assert_eq!(next(&plan, theirs), read(MAX_BLOCK));
    let own = start + INTERVAL * 2;
    assert_eq!(next(&plan, own), Action::Reclaim { room: 10 });
}

#[test]
fn a_look_that_goes_on_with_mending_is_left_to_nobody() {
    let unmended = || Reclaimed {
        unmended: true,
        ..Reclaimed::default()
    };
    let (mut plan, start) = idle();
    for _ in 0..2 {
        reclaimed(&mut plan, start, 10, unmended());
        plan.brought(start, INTERVAL, true);
    }
    let soon = start + MEND_PAUSE;
    assert_eq!(next(&plan, soon), Action::Reclaim { room: 10 });
}

#[test]
fn the_next_room_is_for_a_reclaim_that_left_something_or_had_no_room() {
    let more = Reclaimed {
        more: true,
        ..Reclaimed::default()
    };
    for (had_room, found, first) in [
        (10, Reclaimed::default(), false),
        (10, more, true),
        (0, Reclaimed::default(), true),
    ] {
        let (mut plan, now) = idle();
        reclaimed(&mut plan, now, had_room, found);
        let is_reclaim = next(&plan, now) == Action::Reclaim { room: 10 };
        assert_eq!(is_reclaim, first, "{had_room}");
        let full = plan.next_action(now, Taking::All, room(0));
        assert_eq!(full, Action::Wait(MAX_BLOCK), "without room it waits");
        let suspended = plan.next_action(now, Taking::Nothing, room(10));
        assert_eq!(suspended, Action::Wait(MAX_BLOCK), "that is no room");
    }
}

#[test]
fn the_pause_after_a_reclaim_depends_on_its_result() {
    let unmended = Reclaimed {
        unmended: true,
        ..Reclaimed::default()
    };
    for (result, pause) in [
        (Ok(Reclaimed::default()), INTERVAL),
        (Ok(unmended), MEND_PAUSE),
        (Err(Error::new(Class::Operator, "x")), OPERATOR_RETRY),
        (Err(Error::new(Class::Wait, "x")), INTERVAL),
    ] {
        let (mut plan, now) = idle();
        // It had no room, and so was to come first.
        reclaimed(&mut plan, now, 0, Reclaimed::default());
        plan.reclaimed(now, INTERVAL, 10, &result);
        let is_due = |at| {
            matches!(
                plan.next_action(at, Taking::All, room(0)),
                Action::Reclaim { .. }
            )
        };
        assert!(is_due(now + pause), "{result:?}");
        assert!(!is_due(now + pause - ms(1)), "{result:?}");
        let first = next(&plan, now) == Action::Reclaim { room: 10 };
        let lost = result.is_err_and(|error| error.class != Class::Operator);
        assert_eq!(first, lost, "only an operator's error lets reads go first");
    }
}

#[test]
fn an_orphan_check_goes_on_page_by_page_and_is_repeated_once() {
    let (mut plan, now) = idle();
    plan.look_for_orphans(now, Cause::OldIds);
    let first = OrphanCheck::new(Cause::OldIds);
    assert_eq!(next(&plan, now), Action::RecoverOrphans(first));
    plan.orphan_check_began(now);
    let last_of_page: EntryId = "5-1".parse().unwrap();
    plan.orphan_page_done(first, Some(last_of_page));
    let second = OrphanCheck {
        after: Some(last_of_page),
        cause: Cause::OldIds,
    };
    assert_eq!(next(&plan, now), Action::RecoverOrphans(second));
    plan.orphan_check_began(now);
    plan.orphan_page_done(second, None);
    assert_eq!(next(&plan, now), read(MAX_BLOCK));

    let again = now + MAX_BLOCK;
    assert_eq!(next(&plan, again - ms(1)), read(ms(1)));
    assert_eq!(next(&plan, again), Action::RecoverOrphans(FIRST_PAGE));
    plan.orphan_check_began(again);
    plan.orphan_page_done(FIRST_PAGE, None);
    assert_eq!(next(&plan, again), read(MAX_BLOCK), "and no third time");
}

#[test]
fn a_second_look_begins_anew_although_the_first_is_not_finished() {
    let (mut plan, now) = idle();
    plan.look_for_orphans(now, Cause::LostReply);
    plan.orphan_check_began(now);
    plan.orphan_page_done(FIRST_PAGE, Some("5-1".parse().unwrap()));
    let unfinished = next(&plan, now + MAX_BLOCK - ms(1));
    assert_ne!(unfinished, Action::RecoverOrphans(FIRST_PAGE));
    let second_look = next(&plan, now + MAX_BLOCK);
    assert_eq!(second_look, Action::RecoverOrphans(FIRST_PAGE));
}

#[test]
fn orphans_are_taken_without_room_and_while_nothing_else_is() {
    let (mut plan, now) = idle();
    plan.look_for_orphans(now, Cause::LostReply);
    for taking in [Taking::All, Taking::NothingNew, Taking::Nothing] {
        let action = plan.next_action(now, taking, room(0));
        assert_eq!(action, Action::RecoverOrphans(FIRST_PAGE));
    }
}

#[test]
fn claims_that_were_taken_back_are_looked_at_later_and_not_at_once() {
    let (mut plan, now) = idle();
    plan.look_again(now);
    assert_eq!(next(&plan, now), read(MAX_BLOCK));
    let later = next(&plan, now + MAX_BLOCK);
    assert_eq!(later, Action::RecoverOrphans(FIRST_PAGE));
}

#[test]
fn what_is_ready_is_put_back_once_it_has_waited_too_long() {
    let (plan, now) = idle();
    for taking in [Taking::All, Taking::NothingNew, Taking::Nothing] {
        let waiting = Room {
            entries: 0,
            waiting_since: Some(now),
        };
        let at = |at| plan.next_action(at, taking, waiting);
        assert_eq!(at(now + MAX_READY_AGE - ms(1)), Action::Wait(ms(1)));
        assert_eq!(at(now + MAX_READY_AGE), Action::PutBackReady);
    }
}

#[test]
fn nothing_is_read_without_room_or_while_paused_or_suspended() {
    let (plan, now) = idle();
    let wait = Action::Wait(MAX_BLOCK);
    assert_eq!(next(&plan, now), read(MAX_BLOCK));
    assert_eq!(plan.next_action(now, Taking::All, room(0)), wait);
    assert_eq!(plan.next_action(now, Taking::NothingNew, room(10)), wait);
    assert_eq!(plan.next_action(now, Taking::Nothing, room(10)), wait);
}

#[test]
fn a_read_and_a_pause_end_when_the_next_thing_is_due() {
    let (mut plan, now) = idle();
    let reclaim_near = now + INTERVAL - ms(300);
    let waiting = Room {
        entries: 10,
        waiting_since: Some(now - ms(30)),
    };
    assert_eq!(next(&plan, now), read(MAX_BLOCK), "nothing is nearer");
    assert_eq!(next(&plan, reclaim_near), read(ms(300)));
    let full = plan.next_action(reclaim_near, Taking::All, room(0));
    assert_eq!(full, Action::Wait(ms(300)));
    let old_soon = plan.next_action(now, Taking::All, waiting);
    assert_eq!(old_soon, read(MAX_READY_AGE - ms(30)));
    plan.look_again(now - ms(600));
    assert_eq!(next(&plan, now), read(MAX_BLOCK - ms(600)));
}

#[test]
fn reads_are_bounded_for_a_while_after_an_entry_that_was_too_large() {
    let (mut plan, now) = idle();
    plan.found_too_large(now);
    let bounded = Action::ReadBounded { room: 10 };
    assert_eq!(next(&plan, now), bounded, "it found something, so at once");
    plan.bounded_read_was_empty(now);
    let pause = BOUNDED_READ_INTERVAL;
    assert_eq!(next(&plan, now), Action::Wait(pause));
    assert_eq!(next(&plan, now + pause), bounded);
    // A read that may not be made is no reason to wake up.
    let full = plan.next_action(now, Taking::All, room(0));
    assert_eq!(full, Action::Wait(MAX_BLOCK));
    let paused = plan.next_action(now, Taking::NothingNew, room(10));
    assert_eq!(paused, Action::Wait(MAX_BLOCK));

    let end = now + BOUNDED_READS;
    reclaimed(&mut plan, end, 10, Reclaimed::default());
    assert_eq!(next(&plan, end - ms(1)), bounded);
    assert_eq!(next(&plan, end), read(MAX_BLOCK));
}
