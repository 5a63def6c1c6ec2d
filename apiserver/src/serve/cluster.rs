//! This member among others: what the store is told of them, and what they are told of it.

use std::time::Duration;

use mainstay_engine::cluster::{Initial, MemberInfo, MemberUpdate};
use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::{Company, Opened, timer};
use mainstay_engine::{Store, StoreError};

use super::{ServeError, client_urls, ports};
use crate::cli::{LogLevel, StoreFlags};
use crate::log;
use crate::net::peers::{PeerTlsOptions, network};

/// How long to wait before the others are told again.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(250);

/// How long a start waits until it is a member among others: as long as etcd's. Then it serves what
/// can be served without them.
const READY_WAIT: Duration = Duration::from_secs(5);
const READY_LOOK: Duration = Duration::from_millis(5);

/// What this member needs to be one of several; `None` for one that is alone and to stay so.
pub(super) fn company(flags: &StoreFlags, opened: &Opened) -> Result<Option<Company>, ServeError> {
    let failed = |error| ServeError::Store { data_dir: flags.data_dir.clone(), error };
    if !flags.cluster.ask_for_company() && !opened.had_company().map_err(failed)? {
        return Ok(None);
    }
    let initial = match flags.cluster.initial(&flags.name) {
        Ok(initial) => initial,
        // Data say themselves how they began: then the flags for that are not looked at, as in etcd.
        Err(_) if opened.has_data().map_err(failed)? => Initial::Alone,
        Err(problem) => return Err(ServeError::Cluster(problem)),
    };
    let options = flags.cluster.options(&flags.name, client_urls(flags), initial);
    let listeners = flags.cluster.peer_listeners().map_err(ServeError::Cluster)?;
    let listeners = ports::reserve(&listeners)?;
    let tls = PeerTlsOptions::of_flags(&flags.cluster.peer_tls, flags.tls.policy());
    let network = network(&listeners, &tls).map_err(ServeError::PeerNetwork)?;
    Ok(Some(Company { options, network, metrics: crate::metrics::server().peers() }))
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
