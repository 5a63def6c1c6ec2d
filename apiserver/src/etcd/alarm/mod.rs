//! Alarms: what keeps this member from taking writes, and the quota that raises one of them.
//!
//! [`set`] is the alarms as data and [`quota`] what a request takes, both without I/O; here is
//! what all cores share, and how it gets into the store and back.

mod quota;
mod set;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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

/// The alarms of the member, for all cores.
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
    loaded: bool,
    /// Counts changes, so that whoever writes one down sees whether another came in between.
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

    /// Reads what an earlier run of the member left. Every core does; the first one counts.
    pub async fn load(&self, store: &Store) {
        let content = store.document(DOCUMENT).await.unwrap_or_default();
        let set = AlarmSet::decode(content).unwrap_or_else(|error| {
            log::write(LogLevel::Error, format_args!("the alarms can't be read: {error}"));
            AlarmSet::default()
        });
        self.change(store, |state| {
            if !std::mem::replace(&mut state.loaded, true) {
                state.set = set;
            }
        });
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
        if !self.change(store, |state| state.set.raise(alarm, false)) {
            return Err(StoreError::TooManyRequests);
        }
        self.save(store).await
    }

    /// Takes an alarm back. Gives whether there was one.
    pub(super) async fn deactivate(
        &self,
        store: &Store,
        alarm: AlarmMember,
    ) -> Result<bool, StoreError> {
        if !self.change(store, |state| state.set.lower(alarm)) {
            return Ok(false);
        }
        self.save(store).await?;
        Ok(true)
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
        self.save_or_tell(store).await;
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
            self.save_or_tell(store).await;
        }
    }

    /// Looks now and then whether there is space again, or none any more: what other doors write
    /// is refused by the store, and raises no alarm. On one core, until shutdown.
    pub async fn watch_quota(&self, store: &Store, shutdown: &Shutdown) {
        while timer::timeout(RECOVERY_INTERVAL, shutdown.requested()).await.is_none() {
            self.recover(store).await;
            if !self.quota.allows(store.live_bytes(), 0) {
                self.exceeded(store).await;
            }
        }
    }

    fn change<R>(&self, store: &Store, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock().expect("no panic while held");
        let result = change(&mut state);
        state.version += 1;
        let is_raised = |kind| !state.set.list(kind).is_empty();
        self.no_space.store(is_raised(AlarmType::NoSpace), Ordering::Relaxed);
        let corrupt = is_raised(AlarmType::Corrupt);
        self.corrupt.store(corrupt, Ordering::Relaxed);
        // Other doors' writes end there.
        store.set_corrupt(corrupt);
        metrics::server().set_alarms(&state.set.list(AlarmType::None));
        result
    }

    /// Writes the alarms down. Several cores may do so at the same time, in any order: each goes on
    /// until what it wrote is what is.
    async fn save(&self, store: &Store) -> Result<(), StoreError> {
        loop {
            let (content, version) = {
                let state = self.state.lock().expect("no panic while held");
                (state.set.encode_to_vec(), state.version)
            };
            store.put_document(DOCUMENT, content.into()).await?;
            if self.state.lock().expect("no panic while held").version == version {
                return Ok(());
            }
        }
    }

    /// An alarm that can't be written down holds all the same, until the member stops.
    async fn save_or_tell(&self, store: &Store) {
        if let Err(error) = self.save(store).await {
            log::write(LogLevel::Warn, format_args!("an alarm is not written down: {error}"));
        }
    }
}
