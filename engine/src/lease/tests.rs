use super::*;
use crate::effect::Control;
use crate::error::StoreError;
use crate::limits::LEASE_TTL_MAX;
use crate::record::LeaseId;

fn no_random() -> u64 {
    panic!("an id was given")
}

/// Grants a lease at a time, all the way.
fn grant(table: &mut LeaseTable, id: LeaseId, ttl: i64, now_ms: u64) {
    let control = table.begin_grant(id, ttl, no_random).expect("it can be granted");
    table.apply(&control, now_ms);
}

#[test]
fn a_grant_is_at_least_two_seconds_and_at_most_what_etcd_allows() {
    for (ttl, expected) in [
        (600, Ok(600)),
        (2, Ok(2)),
        (1, Ok(2)),
        (0, Ok(2)),
        (-5, Ok(2)),
        (LEASE_TTL_MAX, Ok(LEASE_TTL_MAX)),
        (LEASE_TTL_MAX + 1, Err(StoreError::LeaseTtlTooLarge(LEASE_TTL_MAX + 1))),
    ] {
        let got = LeaseTable::default().begin_grant(9, ttl, no_random);
        assert_eq!(got, expected.map(|ttl| Control::LeaseGrant { id: 9, ttl }));
    }
}

#[test]
fn id_0_takes_one_that_is_positive_and_free() {
    let mut table = LeaseTable::default();
    grant(&mut table, 5, 60, 0);
    let mut numbers = [0, 1, 10, 11, u64::MAX].into_iter();
    // 0 and 1 give id 0, 10 and 11 give 5.
    let control = table.begin_grant(0, 60, || numbers.next().expect("five are enough"));
    assert_eq!(control, Ok(Control::LeaseGrant { id: LeaseId::MAX, ttl: 60 }));
}

#[test]
fn an_id_is_taken_from_the_first_request_on() {
    let mut table = LeaseTable::default();
    let first = table.begin_grant(7, 60, no_random);
    assert_eq!(table.begin_grant(7, 60, no_random), Err(StoreError::LeaseExists(7)));
    assert!(!table.exists(7));
    assert_eq!(table.time(7, 0), Err(StoreError::LeaseNotFound(7)));
    table.apply(&first.expect("it was free"), 0);
    assert!(table.exists(7));
    assert_eq!(table.begin_grant(7, 60, no_random), Err(StoreError::LeaseExists(7)));
    table.abandon_grant(7);
    assert!(table.exists(7), "only a reservation can be abandoned");
    table.begin_grant(8, 60, no_random).expect("it is free");
    table.abandon_grant(8);
    table.begin_grant(8, 60, no_random).expect("it is free again");
}

#[test]
fn leases_run_out_unless_they_are_kept_alive() {
    let mut table = LeaseTable::default();
    grant(&mut table, 1, 10, 0);
    grant(&mut table, 2, 5, 0);
    assert_eq!(table.next_expiry_ms(), Some(5_000));
    assert_eq!(table.expired(4_999, 10), [0; 0]);
    assert_eq!(table.time(2, 3_500), Ok(Time { granted_ttl: 5, remaining_ttl: 1 }));
    assert_eq!(table.keep_alive(2, 4_000), Ok(Renewal { ttl: 5, checkpoint: None }));
    assert_eq!(table.expired(5_000, 10), [0; 0]);
    assert_eq!(table.next_expiry_ms(), Some(9_000));
    assert_eq!(table.expired(20_000, 10), [2, 1]);
    assert_eq!(table.next_expiry_ms(), None);
    // They are there until the revocation is applied, but of no use.
    assert!(!table.exists(1));
    assert_eq!(table.keep_alive(1, 0), Err(StoreError::LeaseNotFound(1)));
    assert_eq!(table.begin_revoke(1), Err(StoreError::LeaseNotFound(1)));
    assert_eq!(table.time(1, 20_000), Ok(Time { granted_ttl: 10, remaining_ttl: 0 }));
    table.abandon_revoke(1);
    assert_eq!(table.keep_alive(1, 20_000), Err(StoreError::LeaseNotFound(1)), "it has run out");
    assert_eq!(table.expired(20_000, 10), [1]);
    table.apply(&Control::LeaseRevoke { id: 1 }, 20_000);
    table.apply(&Control::LeaseRevoke { id: 2 }, 20_000);
    assert!(table.is_empty());
}

#[test]
fn many_expire_in_slices() {
    let mut table = LeaseTable::default();
    (1..=100).for_each(|id| grant(&mut table, id, 5, id as u64));
    let mut ended = Vec::new();
    while table.next_expiry_ms().is_some_and(|at_ms| at_ms <= 60_000) {
        let slice = table.expired(60_000, 7);
        assert!(slice.len() <= 7);
        ended.extend(slice);
    }
    assert_eq!(ended, (1..=100).collect::<Vec<_>>());
}

#[test]
fn an_entry_of_a_lease_before_does_not_end_the_next_of_that_id() {
    let mut table = LeaseTable::default();
    grant(&mut table, 1, 5, 0);
    table.begin_revoke(1).expect("it is in force");
    table.apply(&Control::LeaseRevoke { id: 1 }, 1_000);
    grant(&mut table, 1, 60, 1_000);
    assert_eq!(table.expired(5_000, 10), [0; 0]);
    assert_eq!(table.expired(61_000, 10), [1]);
}

#[test]
fn checkpoints_keep_the_time_that_was_left_over_a_restart() {
    let mut table = LeaseTable::default();
    grant(&mut table, 1, 1_000, 0);
    grant(&mut table, 2, 300, 0);
    grant(&mut table, 3, 1_000, 0);
    assert_eq!(table.checkpoint_slice(299_999, 10), None);
    let expected = Control::LeaseCheckpoint { remaining: vec![(1, 700)] };
    assert_eq!(table.checkpoint_slice(300_000, 1), Some(expected.clone()));
    table.apply(&expected, 300_000);
    // Short leases are passed over; the one after has its turn, then the first again, in time.
    let expected = Control::LeaseCheckpoint { remaining: vec![(3, 700)] };
    assert_eq!(table.checkpoint_slice(300_000, 2), Some(expected));
    assert_eq!(table.checkpoint_slice(300_000, 10), None);
    assert_eq!(table.checkpoint_slice(300_000, 10), None);

    assert_eq!(
        table.entries().collect::<Vec<_>>(),
        [(1, 1_000, 700), (2, 300, 300), (3, 1_000, 1_000)],
        "the second checkpoint is not committed"
    );
    table.restart(500_000, 1_000);
    assert_eq!(table.time(1, 500_000), Ok(Time { granted_ttl: 1_000, remaining_ttl: 701 }));
    assert_eq!(table.time(3, 500_000), Ok(Time { granted_ttl: 1_000, remaining_ttl: 1_001 }));
    assert_eq!(table.next_expiry_ms(), Some(801_000));
    // Being kept alive takes the checkpoint back, once.
    let whole = Control::LeaseCheckpoint { remaining: vec![(1, 1_000)] };
    let renewal = Renewal { ttl: 1_000, checkpoint: Some(whole) };
    assert_eq!(table.keep_alive(1, 600_000), Ok(renewal));
    assert_eq!(table.keep_alive(1, 600_000), Ok(Renewal { ttl: 1_000, checkpoint: None }));
}

#[test]
fn a_checkpoint_between_two_seconds_does_not_end_a_lease_early() {
    let mut table = LeaseTable::default();
    table.set_checkpoint_seconds(1);
    grant(&mut table, 1, 60, 0);
    let expected = Control::LeaseCheckpoint { remaining: vec![(1, 50)] };
    assert_eq!(table.checkpoint_slice(10_700, 10), Some(expected.clone()));
    table.apply(&expected, 10_700);
    table.restart(10_700, 0);
    assert!(table.expired(59_999, 10).is_empty());
    assert_eq!(table.time(1, 10_701), Ok(Time { granted_ttl: 60, remaining_ttl: 49 }));
}

#[test]
fn a_renewal_takes_back_a_checkpoint_that_is_on_its_way() {
    let mut table = LeaseTable::default();
    table.set_checkpoint_seconds(10);
    grant(&mut table, 1, 60, 0);
    let checkpoint = table.checkpoint_slice(20_000, 10).expect("it is due");
    assert_eq!(checkpoint, Control::LeaseCheckpoint { remaining: vec![(1, 40)] });
    let renewal = table.keep_alive(1, 21_000).expect("it is in force");
    let back = renewal.checkpoint.expect("the checkpoint is taken back");
    table.apply(&checkpoint, 22_000);
    table.apply(&back, 22_000);
    assert_eq!(table.entries().collect::<Vec<_>>(), [(1, 60, 60)]);
}

#[test]
fn a_restart_forgets_what_was_on_its_way() {
    let mut table = LeaseTable::default();
    grant(&mut table, 1, 10, 0);
    table.begin_revoke(1).expect("it is in force");
    table.begin_grant(2, 10, no_random).expect("it is free");
    table.restart(5_000, 0);
    assert_eq!(table.ids().collect::<Vec<_>>(), [1]);
    assert!(table.exists(1));
    assert_eq!(table.expired(15_000, 10), [1]);
}
