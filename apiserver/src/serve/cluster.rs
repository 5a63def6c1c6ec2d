//! This member among others: what the store is told of them, and what they are told of it.

use std::time::Duration;

use mainstay_engine::cluster::{ClusterOptions, Initial, MemberInfo, MemberUpdate};
use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::timer;
use mainstay_engine::{Store, StoreError};

use super::ServeError;
use crate::cli::{LogLevel, StoreFlags};
use crate::log;

/// How long to wait before the others are told again.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(250);

/// How long a start waits until it is a member among others: as long as etcd's. Then it serves what
/// can be served without them.
const READY_WAIT: Duration = Duration::from_secs(5);
const READY_LOOK: Duration = Duration::from_millis(5);

/// What the flags want of a cluster.
pub(super) struct Wanted {
    pub(super) options: ClusterOptions,
    /// Why a member without data could not begin so.
    pub(super) problem: Option<String>,
}

impl Wanted {
    pub(super) fn of(flags: &StoreFlags, client_urls: Vec<String>) -> Wanted {
        let (initial, problem) = match flags.cluster.initial(&flags.name) {
            Ok(initial) => (initial, None),
            Err(problem) => (Initial::Alone, Some(problem)),
        };
        Wanted { options: flags.cluster.options(&flags.name, client_urls, initial), problem }
    }

    /// Whether a member can begin so.
    pub(super) fn check_beginning(&self) -> Result<(), ServeError> {
        let alone = match (&self.problem, &self.options.initial) {
            (Some(problem), _) => return Err(ServeError::Cluster(problem.clone())),
            (None, Initial::Alone) => true,
            (None, Initial::New { members, .. }) => members.len() == 1,
            (None, Initial::Join { .. }) => false,
        };
        match alone {
            true => Ok(()),
            false => Err(ServeError::Cluster("members can't talk to each other yet".to_owned())),
        }
    }
}

/// Tells the other members this one's name and where clients reach it, until they know.
pub(super) async fn publish(
    store: Store,
    name: String,
    client_urls: Vec<String>,
    shutdown: Shutdown,
) {
    let id = store.member_id();
    let update = MemberUpdate {
        id,
        name: Some(name.clone()),
        client_urls: Some(client_urls.clone()),
        ..MemberUpdate::default()
    };
    let says_so =
        |info: &MemberInfo| info.id == id && info.name == name && info.client_urls == client_urls;
    let mut told = None;
    while !shutdown.is_requested() {
        if store.members(false).await.is_ok_and(|members| members.iter().any(says_so)) {
            return;
        }
        if store.leader() != 0
            && let Err(error) = store.update_member(update.clone()).await
            && told.as_ref() != Some(&error)
        {
            tell_unpublished(&error);
            told = Some(error);
        }
        timer::timeout(PUBLISH_INTERVAL, shutdown.requested()).await;
    }
}

fn tell_unpublished(error: &StoreError) {
    log::write(
        LogLevel::Warn,
        format_args!("the other members are not told where clients reach this one yet: {error}"),
    );
}

/// Resolves when there is a leader and everybody knows this member, or when that takes too long.
pub(super) async fn wait_until_ready(store: &Store, shutdown: &Shutdown) {
    let id = store.member_id();
    let is_known = async || {
        let started = |info: &MemberInfo| info.id == id && !info.name.is_empty();
        store.leader() != 0
            && store.members(false).await.is_ok_and(|members| members.iter().any(started))
    };
    let known = async {
        while !is_known().await && !shutdown.is_requested() {
            timer::sleep(READY_LOOK).await;
        }
    };
    if timer::timeout(READY_WAIT, known).await.is_none() {
        log::write(
            LogLevel::Warn,
            format_args!(
                "there is no leader yet: too few members can be reached. Requests wait for one, and \
                 serializable reads are answered"
            ),
        );
    }
}
