//! The power goes, and comes back: what was acknowledged is there, and nothing that was not asked.

use std::sync::Arc;

use mainstay_engine::Record;
use mainstay_engine::lease::LeaseTable;
use mainstay_engine::log::frame::{HEADER_BYTES, payload_crc, read_header, seal};
use mainstay_engine::replica::Replica;
use mainstay_engine::request::KeyRange;
use mainstay_engine::restored::State;
use mainstay_engine::shared::Shared;
use mainstay_engine::watch::WatchHub;

use super::bugs::Bug;
use super::damage;
use super::disk::Disk;
use super::keeper::Keeper;
use super::log::{Log, SALT};
use super::model::{Logged, Model, logged};
use super::recovery::{self, Recovered, prepare};
use super::swarm::Swarm;
use super::world::{Machine, World};

/// Puts a machine together that goes on behind what was recovered.
pub(super) fn boot(
    recovered: Recovered,
    disk: &mut Disk,
    swarm: &Swarm,
    cores: usize,
    now_ms: u64,
    bug: Option<Bug>,
) -> Machine {
    let room = prepare(disk, &recovered.end, bug);
    let mut reached = recovered.reached;
    let State { shards, mut rest } = recovered.state;
    let log = Log::new(
        &recovered.end,
        room,
        reached,
        recovered.promised,
        recovered.places,
        swarm.segment_bytes,
        bug,
    );
    if bug == Some(Bug::RevisionReused) {
        reached.revision = (reached.revision - 1).max(1);
    }
    if bug == Some(Bug::LeasesForgotten) {
        rest.leases = LeaseTable::default();
    }
    let shared = Arc::new(Shared::new(cores, reached.revision, rest.compacted, reached.index));
    shared.set_committed(reached.revision, reached.index, reached.term);
    let mut leader = rest.into_lone_member(cores, recovered.promised, reached);
    shared.skip_to(leader.skip_what_was_lost(reached.revision));
    leader.set_lease_checkpoint_seconds(swarm.checkpoint_seconds);
    leader.start(now_ms);
    let mut leader = Some(leader);
    let replicas = shards.into_iter().enumerate().map(|(core, shard)| {
        let compacted = shard.mvcc().compacted_revision();
        let hub = WatchHub::with_ring_bytes(reached.revision, compacted, swarm.ring_bytes);
        let leader = if core == 0 { leader.take() } else { None };
        Replica::new(core, cores, Arc::clone(&shared), shard, hub, leader, reached.index)
    });
    let replicas = replicas.collect();
    let keeper = Keeper::new(recovered.snapshots, recovered.damaged);
    Machine { replicas, shared, log, keeper }
}

impl World {
    /// Everything ends in the midst of what it is at, and a machine with some number of cores goes
    /// on with what the disk holds.
    pub(super) fn crash(&mut self) {
        self.report.faults.crashes += 1;
        self.disk.crash(&mut self.random, &mut self.report.faults);
        damage::check(&self.disk, &self.model, &mut self.random, &mut self.report.faults);
        self.plant();
        let cores = self.random.between(1, self.swarm.cores_max);
        self.report.faults.resized += usize::from(cores != self.replicas.len());
        let off_ms = [1, 100, 3_000, 100_000][self.random.below(4)];
        self.true_ms += self.random.below(off_ms) as u64;
        self.clock_offset_ms = self.random.below(1_000_000) as u64;
        let recovered = recovery::recover(&self.disk, cores, self.bug)
            .unwrap_or_else(|error| panic!("what a crash left is refused: {error}"));
        self.check_log(&recovered);
        check_state(&recovered.state, &self.model);
        let others = 1 + self.random.below(5);
        let other = recovery::recover(&self.disk, others, None).expect("it was just read");
        if self.bug.is_none() {
            check_state(&other.state, &self.model);
        }
        let now_ms = self.now_ms();
        let machine = boot(recovered, &mut self.disk, &self.swarm, cores, now_ms, self.bug);
        self.forget_unanswered();
        self.take_machine(machine);
        self.watch_again();
    }

    /// What the log holds is what was committed, and what was on its way.
    fn check_log(&mut self, recovered: &Recovered) {
        let committed = self.model.index;
        let reached = recovered.reached.index;
        assert!(reached >= committed, "acknowledged up to {committed}, and there is {reached}");
        for batch in &recovered.batches {
            let found = logged(batch);
            let expected = match self.model.batch(batch.index) {
                Some(expected) => expected,
                None => self.submitted.get(&batch.index).map_or(&[][..], Vec::as_slice),
            };
            assert!(same(&found, expected), "entry {}: {found:?}, not {expected:?}", batch.index);
            if batch.index > self.model.index {
                for item in &found {
                    if let Logged::Control(control) = item {
                        self.note_time(control);
                    }
                }
                let ended = self.model.recover(batch);
                self.leases_ended(&ended);
            }
        }
        assert_eq!(recovered.reached.revision, self.model.revision, "the revision reached");
        self.submitted.clear();
    }

    /// Mistakes of the disk, or of who reads it.
    fn plant(&mut self) {
        let index = self.model.index;
        match self.bug {
            Some(Bug::DropFrameAtRecovery) => {
                if let Some(place) = self.log.places.place_of(index) {
                    let zeros = vec![0; (place.end - place.offset) as usize];
                    self.disk.put(place.segment, place.offset as usize, &zeros);
                }
            }
            Some(Bug::ChecksumIgnored) => {
                let Some(place) = self.log.places.place_of(index) else { return };
                let segment = self.disk.segment(place.segment).expect("it is durable");
                let mut frame = segment[place.offset as usize..place.end as usize].to_vec();
                let read = read_header(&frame, SALT, place.segment).expect("it is whole");
                let end = HEADER_BYTES + read.header.payload_length as usize;
                frame[end - 1] ^= 1;
                let crc = payload_crc(&frame[HEADER_BYTES..end]);
                seal(&read.header, crc, SALT, &mut frame);
                self.disk.put(place.segment, place.offset as usize, &frame);
            }
            _ => {}
        }
    }
}

/// Deletions come back as the effects that they stand for, by key.
fn same(found: &[Logged], expected: &[Logged]) -> bool {
    let sorted = |records: &[Record]| {
        let mut records = records.to_vec();
        records.sort_by(|left, right| left.key().cmp(right.key()));
        records
    };
    found.len() == expected.len()
        && found.iter().zip(expected).all(|pair| match pair {
            (Logged::Effect(left, found), Logged::Effect(right, expected)) => {
                left == right && sorted(found) == sorted(expected)
            }
            (Logged::Control(left), Logged::Control(right)) => left == right,
            _ => false,
        })
}

/// What shards hold together is what lives.
pub(super) fn check_state(state: &State, model: &Model) {
    let everything = KeyRange::prefix(b"");
    let newest = state.shards.iter().flat_map(|shard| shard.mvcc().newest_in(&everything));
    let mut found: Vec<Record> = newest.filter(|record| !record.is_tombstone()).cloned().collect();
    found.sort_by(|left, right| left.key().cmp(right.key()));
    assert_eq!(found, model.range(&everything, model.revision), "the state after a start");
    assert_eq!(state.rest.compacted, model.compacted, "what is compacted after a start");
    let leases: Vec<(i64, i64)> =
        state.rest.leases.entries().map(|(id, ttl, _)| (id, ttl)).collect();
    let expected: Vec<(i64, i64)> = model.leases.iter().map(|(&id, &ttl)| (id, ttl)).collect();
    assert_eq!(leases, expected, "the leases after a start");
}
