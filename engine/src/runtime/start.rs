//! From a data directory to running cores, and back.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use mainstay_raft::Membership;

use super::company::{Company, Removed};
use super::core::CoreState;
use super::disk::{
    self, DataDirectory, HistoryReader, LogWriter, Partial, SnapshotFile, SnapshotFolder,
    check_io_uring, check_memlock,
};
use super::executor::{Settings, StartError, Tuning};
use super::journal::Journal;
use super::mesh::{Mesh, mesh};
use super::restore::{Restored, force_alone};
use super::signal::{Shutdown, watch_signals};
use super::snapshots::Keeper;
use super::store::Store;
use super::{random, spawn_local, timer};
use crate::cluster::MemberInfo;
use crate::log;
use crate::log::replay::{Commitment, Reached};
use crate::message::{Message, Request};
use crate::record::Revision;
use crate::replica::{Member, Replica};
use crate::restored::State;
use crate::shard::Shard;
use crate::shared::Shared;
use crate::snapshot::policy::Pace;
use crate::watch::WatchHub;

/// The member's own id and its cluster's, kept in the log under this name.
const IDENTITY: &[u8] = b"identity";

/// How long a stop waits for requests that are under way.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Everything that one core needs to begin.
pub(super) struct Seat {
    number: usize,
    shard: Shard,
    /// Where the log ended. Other cores may be further already when this one begins.
    reached: Reached,
    mesh: Mesh<Message>,
    history: HistoryReader,
    shared: Arc<Shared>,
    doors_open: Arc<AtomicUsize>,
    /// Of a member that may have others.
    identity: Option<disk::Identity>,
    removed: Removed,
    /// The revision behind which the store goes on: later than what the log reached when there may
    /// have been more.
    goes_on_behind: Revision,
    leader: Option<LeaderSeat>,
}

/// What core 0 needs besides.
struct LeaderSeat {
    writer: LogWriter,
    hard_state: log::HardState,
    /// The newest entry in the log.
    newest_index: u64,
    /// A snapshot of another member that is on its way.
    partial: Partial,
    leader: Member,
    snapshots: SnapshotSeat,
    company: Option<Company>,
}

/// The snapshots that there are.
pub(super) struct SnapshotSeat {
    pub(super) folder: SnapshotFolder,
    pub(super) pace: Pace,
    /// By index.
    pub(super) kept: Vec<Arc<SnapshotFile>>,
    /// Those that can't be used.
    pub(super) damaged: Vec<u64>,
    /// Bytes of the log behind the newest one.
    pub(super) log_bytes: u64,
}

impl Seat {
    /// Tells, later, whether this member was removed from its cluster.
    pub(super) fn removed(&self) -> Removed {
        Arc::clone(&self.removed)
    }

    /// Takes note of what the operator wants.
    pub(super) fn configure(&mut self, settings: &Settings) {
        self.shared.set_quota_bytes(settings.quota_bytes);
        if let Some(seat) = &mut self.leader {
            seat.leader.set_lease_checkpoint_seconds(settings.lease_checkpoint_seconds);
            seat.leader.set_classes(settings.durability.clone());
        }
    }
}

/// Who this member is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) cluster_id: u64,
    pub(super) member_id: u64,
}

/// Opens the data directory, if this machine can serve from it and nobody else does.
pub(super) fn open(data_dir: &Path) -> Result<DataDirectory, StartError> {
    check_io_uring()?;
    check_memlock()?;
    Ok(DataDirectory::open(data_dir)?)
}

/// Loads the newest snapshot, replays the log behind it, and lays a seat for each core.
pub(super) fn replay(
    mut directory: DataDirectory,
    cores: usize,
    tuning: &Tuning,
    company: Option<Company>,
) -> Result<Vec<Seat>, StartError> {
    let mut identity = directory.identity()?;
    if let Some(company) = company.as_ref().filter(|_| identity.is_none())
        && directory.is_fresh()?
    {
        let first = company.first_identity()?;
        directory.write_identity(&first)?;
        identity = Some(first);
    }
    if let Some(identity) = &mut identity
        && company.as_ref().is_some_and(|company| company.options.force_new_cluster)
    {
        directory = force_alone(directory, identity, tuning.log)?;
        identity.members.retain(|member| member.id == identity.member_id);
    }
    let mut folder = directory.snapshots()?;
    let mut restored = Restored::from(&folder, cores)?;
    let commitment = match &identity {
        Some(identity) => restored.commitment(identity)?,
        None => Commitment::EveryEntry,
    };
    let mut partial = Partial::open(&folder)?;
    let (log, log_bytes) = restored.open_log(directory, commitment, &mut partial, tuning.log)?;
    let problems = restored.problems.iter().map(|problem| {
        format!("{problem}. It is not used: there is another, or the log has everything")
    });
    for warning in problems.chain(log.warnings.iter().cloned()) {
        eprintln!("warning: {warning}");
    }
    let (reached, applied) = (log.replayed.reached, log.replayed.applied);
    // Those of the log are newer, if there are any behind the snapshot.
    let logged = log.replayed.hard_state;
    let promised = if logged.term > 0 { logged } else { restored.hard_state() };
    let mut replayed = log.replayed;
    if let Some(company) = company.as_ref().filter(|_| identity.is_none()) {
        let known = former_identity(restored.state.rest.document(IDENTITY), company)?;
        log.writer.write_identity(&known)?;
        replayed.memberships = vec![(0, Membership::of_voters(&known.voters))];
        folder.set_cluster_id(known.cluster_id);
        identity = Some(known);
    }
    let restart = match &identity {
        Some(identity) => Some(restored.restart(identity, &replayed, partial.state())?),
        None => None,
    };
    // Between one that ends before the log begins and the log something is missing: it is of as
    // little use as a damaged one.
    let begins_after = log.history.begins_after_index();
    let (kept, cut_off): (Vec<_>, Vec<_>) =
        restored.kept.into_iter().partition(|file| file.kept().index >= begins_after);
    let mut damaged = restored.damaged;
    damaged.extend(cut_off.iter().map(|file| file.kept().index));
    let snapshots = SnapshotSeat { folder, pace: tuning.snapshots, kept, damaged, log_bytes };
    let State { shards, rest } = restored.state;
    let shared = Shared::new(cores, applied.revision, rest.compacted, applied.index);
    shared.set_committed(applied.revision, applied.index, applied.term);
    let mut leader = match restart {
        None => rest.into_lone_member(cores, promised, reached),
        Some(mut restart) => {
            restart.config.seed = random()?;
            if let Some(company) = &company {
                restart.config.options = company.options.raft_options();
            }
            rest.into_member(cores, restart)
        }
    };
    if let Some(company) = &company {
        leader.set_rules(company.rules());
    }
    if let Some(identity) = &identity {
        leader.set_initial_members(identity.members.clone());
    }
    leader.introduce(&shared);
    if !leader.is_clustered() {
        go_on_behind_what_was_lost(&mut leader, &shared, reached.revision);
    }
    let (writer, newest_index, hard_state) = (log.writer, reached.index, promised);
    let leader =
        LeaderSeat { writer, hard_state, newest_index, partial, leader, snapshots, company };
    Ok(lay_seats(shards, shared, applied, leader, &log.history, identity))
}

fn go_on_behind_what_was_lost(leader: &mut Member, shared: &Shared, reached: Revision) {
    let goes_on_behind = leader.skip_what_was_lost(reached);
    shared.skip_to(goes_on_behind);
    if goes_on_behind > reached {
        eprintln!(
            "warning: writes of relaxed durability up to revision {} may be lost: going on at {}",
            goes_on_behind - 2,
            goes_on_behind + 1
        );
    }
}

/// Who a member is that has been alone until now.
fn former_identity(
    document: Option<&Bytes>,
    company: &Company,
) -> Result<disk::Identity, StartError> {
    let former = match document {
        Some(content) => Identity::decode(content),
        None => Identity { cluster_id: random()?, member_id: random()? },
    };
    let Identity { cluster_id, member_id } = former;
    let peer_urls = company.options.peer_urls.clone();
    let own = MemberInfo { id: member_id, peer_urls, ..MemberInfo::default() };
    let (voters, members) = (vec![member_id], vec![own]);
    Ok(disk::Identity { cluster_id, member_id, incarnation: 0, voters, members })
}

fn lay_seats(
    shards: Vec<Shard>,
    shared: Shared,
    reached: Reached,
    leader: LeaderSeat,
    history: &HistoryReader,
    identity: Option<disk::Identity>,
) -> Vec<Seat> {
    let cores = shards.len();
    // Before any core looks at them: a quota, and how large a snapshot would be, depend on it.
    for (facts, shard) in shared.facts().iter().zip(&shards) {
        facts.note(shard.mvcc().usage());
    }
    let shared = Arc::new(shared);
    let doors_open = Arc::new(AtomicUsize::new(cores));
    let removed = Removed::default();
    let mut leader = Some(leader);
    let seat = |(number, (shard, mesh))| Seat {
        number,
        shard,
        reached,
        mesh,
        history: history.clone(),
        shared: Arc::clone(&shared),
        doors_open: Arc::clone(&doors_open),
        identity: identity.clone(),
        removed: Arc::clone(&removed),
        goes_on_behind: shared.taken_revision(),
        leader: leader.take(),
    };
    shards.into_iter().zip(mesh(cores)).enumerate().map(seat).collect()
}

/// Starts this core's tasks. Runs on its executor.
pub(super) async fn sit_down(seat: Seat, shutdown: &Shutdown) -> Result<Store, StartError> {
    let now_ms = timer::monotonic_ms();
    let index = seat.reached.index;
    let (leader, journal, snapshots, company) = match seat.leader {
        Some(seated) => {
            let LeaderSeat { writer, hard_state, newest_index, partial, .. } = seated;
            let LeaderSeat { mut leader, snapshots, company, .. } = seated;
            leader.start(now_ms);
            let (bytes, shared) = (snapshots.log_bytes, Arc::clone(&seat.shared));
            let log = (newest_index, hard_state, bytes);
            let journal = Journal::new(writer, log, seat.history.clone(), partial, shared);
            (Some(leader), Some(journal), Some(snapshots), company)
        }
        None => (None, None, None, None),
    };
    let leads = leader.is_some();
    let compacted = seat.shard.mvcc().compacted_revision();
    let hub = WatchHub::new(seat.reached.revision, compacted);
    let cores = seat.shared.cores();
    let replica = Replica::new(seat.number, cores, seat.shared, seat.shard, hub, leader, index);
    let core = CoreState::new(seat.number, replica, seat.mesh, journal, seat.history);
    if let Some(company) = &company {
        core.set_heartbeat(company.heartbeat());
    }
    core.start();
    if let (Some(company), Some(identity)) = (company, &seat.identity) {
        let connected = company.meet(&core, identity, shutdown.clone(), seat.removed)?;
        core.set_connected(connected);
    }
    if let Some(snapshots) = snapshots {
        Keeper::start(Rc::clone(&core), snapshots)?;
    }
    if leads {
        let shutdown = shutdown.clone();
        spawn_local(async move {
            if let Err(error) = watch_signals(shutdown.clone()).await {
                eprintln!("cannot wait for signals: {error}");
                shutdown.request();
            }
        });
        core.drive(|replica, out| replica.pump(1, out));
    }
    // Who has seen what was lost is told that history is compacted, if it asks after this.
    while core.drive(|replica, _| replica.hub().revision()) < seat.goes_on_behind {
        timer::sleep(Duration::from_millis(1)).await;
    }
    let identity = match seat.identity {
        Some(known) => Identity { cluster_id: known.cluster_id, member_id: known.member_id },
        None => identity(&core, leads).await?,
    };
    Ok(Store::new(core, identity, seat.doors_open))
}

/// Finds out who this member is; core 0 decides it when it has never been.
async fn identity(core: &Rc<CoreState>, leads: bool) -> Result<Identity, StartError> {
    let name = Bytes::from_static(IDENTITY);
    loop {
        if let Some(content) = core.document(name.clone()).await {
            return Ok(Identity::decode(&content));
        }
        if leads {
            let identity = Identity { cluster_id: random()?, member_id: random()? };
            let content = identity.encode();
            let request = Request::PutDocument { name: name.clone(), content, expected: None };
            core.ask(request).await.map_err(|error| io::Error::other(error.to_string()))?;
        } else {
            timer::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Identity {
    fn encode(self) -> Bytes {
        let mut bytes = self.cluster_id.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.member_id.to_le_bytes());
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Identity {
        let number = |part: Option<&[u8]>| {
            let part = part.and_then(|part| part.try_into().ok());
            u64::from_le_bytes(part.expect("the log's checksums hold: it is what was written"))
        };
        Identity { cluster_id: number(bytes.get(..8)), member_id: number(bytes.get(8..16)) }
    }
}

/// Ends this core's part: waits for all doors to close and for what is under way.
pub(super) async fn stand_up(store: Store) -> Result<(), StartError> {
    let started = Instant::now();
    store.doors_open().fetch_sub(1, Ordering::SeqCst);
    store.core().hand_over().await;
    store.core().stop_snapshots();
    // Other cores' doors may still need this core's shard, and all need core 0.
    while store.doors_open().load(Ordering::SeqCst) > 0
        || (!store.core().is_quiet() && started.elapsed() < STOP_WAIT)
    {
        timer::sleep(Duration::from_millis(2)).await;
    }
    if let Some(connected) = store.core().take_connected() {
        connected.part();
    }
    store.core().close().await;
    Ok(())
}
