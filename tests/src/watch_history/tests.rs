//! A short life of a store, and everything that a watcher of it may and may not be told.

use super::*;

fn version(key: &str, create_revision: Revision, mod_revision: Revision, version: i64) -> Version {
    let value = Bytes::from(format!("v{mod_revision}"));
    let key = Bytes::from(key.to_owned());
    Version { key, value, create_revision, mod_revision, version, lease: 0 }
}

fn put(key: &str, create: Revision, at: Revision, count: i64) -> Seen {
    Seen::Put(version(key, create, at, count))
}

/// a at 2, b at 3, both at 4, b's end at 5, c at 6.
fn truth() -> Truth {
    let changes = [
        (2, vec![put("a", 2, 2, 1)]),
        (3, vec![put("b", 3, 3, 1)]),
        (4, vec![put("a", 2, 4, 2), put("b", 3, 4, 2)]),
        (5, vec![Seen::Deleted("b".into())]),
        (6, vec![put("c", 6, 6, 1)]),
    ];
    Truth { changes: changes.into(), start: Vec::new(), compacted: 0 }
}

fn event(truth: &Truth, revision: Revision, place: usize) -> Event {
    let seen = truth.changes[&revision][place].clone();
    Event { revision, seen, previous: None }
}

fn watch(told: Vec<Told>) -> Watch {
    Watch {
        keys: Keys::all(),
        start_revision: 2,
        previous: false,
        no_put: false,
        no_delete: false,
        told,
    }
}

#[test]
fn what_a_watcher_may_be_told() {
    let truth = truth();
    let at = |revision, place| event(&truth, revision, place);
    let four = || vec![at(4, 0), at(4, 1)];
    let all = || vec![at(2, 0), at(3, 0), at(4, 0), at(4, 1), at(5, 0), at(6, 0)];
    for (told, until, right) in [
        (vec![Told::Events(all())], Some(6), true),
        (vec![Told::Events(all()[..2].to_vec()), Told::Events(all()[2..].to_vec())], Some(6), true),
        (vec![Told::Events(all()[..4].to_vec())], None, true),
        (vec![Told::Events(all()[..4].to_vec())], Some(5), false),
        // Something is left out.
        (vec![Told::Events(vec![at(2, 0), at(4, 0), at(4, 1)])], None, false),
        (vec![Told::Events(vec![at(2, 0), at(3, 0), at(4, 0)])], None, false),
        (vec![Told::Events(vec![at(2, 0), at(3, 0), at(4, 1)])], None, false),
        // Out of order, twice, apart, or invented.
        (vec![Told::Events(vec![at(3, 0), at(2, 0)])], None, false),
        (vec![Told::Events(vec![at(2, 0), at(2, 0)])], None, false),
        (vec![Told::Events(vec![at(2, 0)]), Told::Events(vec![at(2, 0)])], None, false),
        (
            vec![Told::Events(vec![at(2, 0), at(3, 0), at(4, 0)]), Told::Events(vec![at(4, 1)])],
            None,
            false,
        ),
        (vec![Told::Events(vec![Event { seen: put("a", 2, 2, 9), ..at(2, 0) }])], None, false),
        // Progress may be behind or even, never ahead.
        (vec![Told::Progress(1), Told::Events(all())], Some(6), true),
        (vec![Told::Events(all()[..2].to_vec()), Told::Progress(3)], None, true),
        (vec![Told::Events(all()[..2].to_vec()), Told::Progress(4)], None, false),
        (vec![Told::Events(all()), Told::Progress(9), Told::Progress(6)], None, true),
        // A client begins again where it was, or before, and never behind.
        (
            vec![
                Told::Events(all()[..2].to_vec()),
                Told::Again { from: 4 },
                Told::Events(all()[2..].to_vec()),
            ],
            Some(6),
            true,
        ),
        (
            vec![Told::Events(all()[..4].to_vec()), Told::Again { from: 4 }, Told::Events(four())],
            None,
            true,
        ),
        (
            vec![Told::Events(all()[..4].to_vec()), Told::Again { from: 3 }, Told::Events(four())],
            None,
            false,
        ),
        (vec![Told::Events(all()[..2].to_vec()), Told::Again { from: 5 }], None, false),
        // Nothing was compacted.
        (vec![Told::Compacted(3)], None, false),
    ] {
        let result = check(&watch(told.clone()), &truth, until);
        assert_eq!(result.is_ok(), right, "{told:?} until {until:?}: {result:?}");
    }
}

#[test]
fn a_watcher_sees_what_it_asked_for() {
    let truth = truth();
    let at = |revision, place| event(&truth, revision, place);
    let b = Keys::One("b".into());
    for (no_put, no_delete, events, right) in [
        (false, false, vec![at(3, 0), at(4, 1), at(5, 0)], true),
        (true, false, vec![at(5, 0)], true),
        (false, true, vec![at(3, 0), at(4, 1)], true),
        (true, false, vec![at(3, 0), at(4, 1), at(5, 0)], false),
        (false, false, vec![at(2, 0), at(3, 0), at(4, 1), at(5, 0)], false),
    ] {
        let told = vec![Told::Events(events)];
        let watch = Watch { keys: b.clone(), no_put, no_delete, ..watch(told) };
        let result = check(&watch, &truth, Some(6));
        assert_eq!(result.is_ok(), right, "{watch:?}: {result:?}");
    }
}

#[test]
fn the_version_before_is_as_it_was_or_compacted() {
    let before = version("b", 3, 4, 2);
    for (wanted, previous, compacted, right) in [
        (true, Some(before.clone()), 0, true),
        (true, None, 0, false),
        (true, None, 4, false),
        (true, None, 5, true),
        (false, None, 0, true),
        (false, Some(before), 0, false),
        (true, Some(version("b", 3, 3, 1)), 0, false),
    ] {
        let truth = Truth { compacted, ..truth() };
        let deleted = Event { previous: previous.clone(), ..event(&truth, 5, 0) };
        let told = vec![Told::Events(vec![deleted])];
        let keys = Keys::One("b".into());
        let watch = Watch { keys, start_revision: 5, previous: wanted, ..watch(told) };
        let result = check(&watch, &truth, None);
        assert_eq!(result.is_ok(), right, "{previous:?}, compacted to {compacted}: {result:?}");
    }
}

#[test]
fn compaction_ends_only_watches_that_lag_behind_it() {
    let truth = Truth { compacted: 4, ..truth() };
    let at = |revision, place| event(&truth, revision, place);
    for (told, right) in [
        (vec![Told::Compacted(4)], true),
        (vec![Told::Events(vec![at(2, 0)]), Told::Compacted(4)], true),
        (vec![Told::Events(vec![at(2, 0), at(3, 0)]), Told::Compacted(4)], false),
        (vec![Told::Compacted(5)], false),
        (vec![Told::Compacted(4), Told::Events(vec![at(2, 0)])], false),
    ] {
        let result = check(&watch(told.clone()), &truth, Some(6));
        assert_eq!(result.is_ok(), right, "{told:?}: {result:?}");
    }
}
