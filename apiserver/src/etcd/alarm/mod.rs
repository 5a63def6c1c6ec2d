//! Alarms: what keeps this member from taking writes, and the quota that raises one of them.
//!
//! [`set`] is the alarms as data and [`quota`] what a request takes, both without I/O; here is
//! what all cores share, and how it gets into the store and back.

mod quota;
mod set;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::timer;
use mainstay_engine::{Store, StoreError};
use mainstay_proto::maintenance::{AlarmMember, AlarmType};
use prost::Message;

pub use quota::Quota;
use quota::Verdict;
pub(super) use quota::{lease_cost, put_cost, transaction_cost};
use set::AlarmSet;

use super::errors::{self, EtcdError};
use crate::cli::LogLevel;
use crate::{log, metrics};

/// Where the alarms are kept beside the keys.
const DOCUMENT: &[u8] = b"etcd/alarms";

/// How often it is looked whether there is space again.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(1);

/// How soon a member hears of what was raised at another one.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);

/// Changes by others that may come in between before a change is given up, and the wait each time: 2
/// seconds.
const EDIT_ATTEMPTS: usize = 1_000;
const EDIT_WAIT: Duration = Duration::from_millis(2);

/// The alarms of the cluster, for all cores of a member.
#[derive(Debug)]
pub struct Alarms {
    quota: Quota,
    state: Mutex<State>,
    /// The same as in `state`, to be read for every request.
    no_space: AtomicBool,
    corrupt: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    set: AlarmSet,
    /// The version of the documents that `set` is of.
    version: u64,
}

impl Alarms {
    pub fn new(quota: Quota) -> Alarms {
        metrics::server().quota_bytes.set(quota.bytes());
        Alarms {
            quota,
            state: Mutex::default(),
            no_space: AtomicBool::new(false),
            corrupt: AtomicBool::new(false),
        }
    }

    pub(super) fn quota(&self) -> Quota {
        self.quota
    }

    /// Reads what there is: of an earlier run of the member, or of other members.
    pub async fn load(&self, store: &Store) {
        // Before the content: what is newer than its version is only read once more.
        let version = store.documents_version();
        let set = decode(store.document(DOCUMENT).await);
        self.change(store, |state| {
            if state.version <= version {
                (state.set, state.version) = (set, version);
            }
        });
    }

    /// Takes note of what other members raise and take back; on one core, until shutdown.
    pub async fn follow(&self, store: &Store, shutdown: &Shutdown) {
        let mut known = None;
        while timer::timeout(FOLLOW_INTERVAL, shutdown.requested()).await.is_none() {
            let version = store.documents_version();
            if known.replace(version) != Some(version) {
                self.load(store).await;
            }
        }
    }

    /// The alarms of one kind, or all.
    pub(super) fn list(&self, kind: AlarmType) -> Vec<AlarmMember> {
        self.state.lock().expect("no panic while held").set.list(kind)
    }

    pub(super) fn is_raised(&self, kind: AlarmType) -> bool {
        !self.list(kind).is_empty()
    }

    /// Raises an alarm as an operator asks for; it stays until it is taken back.
    pub(super) async fn activate(
        &self,
        store: &Store,
        alarm: AlarmMember,
    ) -> Result<(), StoreError> {
        match self.edit(store, |set| set.raise(alarm, false)).await? {
            true => Ok(()),
            false => Err(StoreError::TooManyRequests),
        }
    }

    /// Takes an alarm back. Gives whether there was one.
    pub(super) async fn deactivate(
        &self,
        store: &Store,
        alarm: AlarmMember,
    ) -> Result<bool, StoreError> {
        self.edit(store, |set| set.lower(alarm)).await
    }

    /// Whether a write that takes `cost` more bytes may go on. One that takes none always may,
    /// unless the data is corrupt.
    pub(super) async fn check(&self, store: &Store, cost: u64) -> Result<(), EtcdError> {
        if self.corrupt.load(Ordering::Relaxed) {
            return Err(errors::CORRUPT);
        }
        let raised = self.no_space.load(Ordering::Relaxed);
        if cost == 0 || (!raised && !self.quota.is_set()) {
            return Ok(());
        }
        if raised {
            self.recover(store).await;
            if self.no_space.load(Ordering::Relaxed) {
                return Err(errors::NO_SPACE);
            }
        }
        if self.quota.allows(store.live_bytes(), cost) {
            return Ok(());
        }
        self.exceeded(store).await;
        Err(errors::NO_SPACE)
    }

    /// The quota would be exceeded: raises the alarm.
    async fn exceeded(&self, store: &Store) {
        let status = store.status();
        let alarm = AlarmMember { member_id: status.member_id, alarm: AlarmType::NoSpace.into() };
        let new = self.change(store, |state| {
            state.set.list(AlarmType::NoSpace).is_empty() && state.set.raise(alarm, true)
        });
        if !new {
            return;
        }
        log::write(
            LogLevel::Error,
            format_args!(
                "--quota-backend-bytes: {} bytes are in use, and no more than {} may be. Writes \
                 are refused until keys are deleted; deletions and compactions go on",
                status.live_bytes,
                self.quota.bytes(),
            ),
        );
        self.edit_or_tell(store, |set| set.raise(alarm, true)).await;
    }

    /// Takes the quota's own alarm back when there is space again.
    async fn recover(&self, store: &Store) {
        let used = store.live_bytes();
        let raised = |state: &State| state.set.is_automatic();
        if !raised(&self.state.lock().expect("no panic while held")) {
            return;
        }
        if self.quota.verdict(used) != Verdict::Recovered {
            return;
        }
        if self.change(store, |state| state.set.lower_automatic()) {
            log::write(
                LogLevel::Warn,
                format_args!("{used} bytes are in use: writes are taken again"),
            );
            self.edit_or_tell(store, AlarmSet::lower_automatic).await;
        }
    }

    /// Looks now and then whether there is space again, or none any more: what other doors write
    /// is refused by the store, and raises no alarm. On one core of the member that leads, until
    /// shutdown.
    pub async fn watch_quota(&self, store: &Store, shutdown: &Shutdown) {
        while timer::timeout(RECOVERY_INTERVAL, shutdown.requested()).await.is_none() {
            if !store.is_leader() {
                continue;
            }
            self.recover(store).await;
            if !self.quota.allows(store.live_bytes(), 0) {
                self.exceeded(store).await;
            }
        }
    }

    fn change<R>(&self, store: &Store, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock().expect("no panic while held");
        let result = change(&mut state);
        let is_raised = |kind| !state.set.list(kind).is_empty();
        self.no_space.store(is_raised(AlarmType::NoSpace), Ordering::Relaxed);
        let corrupt = is_raised(AlarmType::Corrupt);
        self.corrupt.store(corrupt, Ordering::Relaxed);
        // Other doors' writes end there.
        store.set_corrupt(corrupt);
        metrics::server().set_alarms(&state.set.list(AlarmType::None));
        result
    }

    /// Changes what is written down, then knows it, too. Others may do so at the same time, here and
    /// on other members: each goes on with what the one before has made of it.
    async fn edit<R>(
        &self,
        store: &Store,
        edit: impl Fn(&mut AlarmSet) -> R,
    ) -> Result<R, StoreError> {
        for _ in 0..EDIT_ATTEMPTS {
            let before = store.document(DOCUMENT).await;
            let old = decode(before.clone());
            let mut new = old.clone();
            let result = edit(&mut new);
            let written = match new == old {
                true => Ok(()),
                false => store.swap_document(DOCUMENT, before, new.encode_to_vec().into()).await,
            };
            match written {
                Ok(()) => {
                    self.load(store).await;
                    return Ok(result);
                }
                Err(StoreError::DocumentChanged) => timer::sleep(EDIT_WAIT).await,
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::TooManyRequests)
    }

    /// An alarm that can't be written down holds all the same, until the member stops.
    async fn edit_or_tell<R>(&self, store: &Store, edit: impl Fn(&mut AlarmSet) -> R) {
        if let Err(error) = self.edit(store, edit).await {
            log::write(LogLevel::Warn, format_args!("an alarm is not written down: {error}"));
        }
    }
}

fn decode(content: Option<Bytes>) -> AlarmSet {
    AlarmSet::decode(content.unwrap_or_default()).unwrap_or_else(|error| {
        log::write(LogLevel::Error, format_args!("the alarms can't be read: {error}"));
        AlarmSet::default()
    })
}
