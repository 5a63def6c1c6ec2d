//! Controllers that are part of this server, so that a cluster without a controller manager still
//! does what its clients wait for. Of several members' the one that leads runs them.

pub mod namespace;

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::select;
use mainstay_engine::Store;
use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::timer;

/// How soon a member notices that it leads now, or does no more.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Does `work` while this member leads; until shutdown. It is left where it is when the lead is lost,
/// and begun anew with the next one: what it has half done, its successor finds in the store.
pub async fn while_leading<F: Future<Output = ()>>(
    store: &Store,
    shutdown: &Shutdown,
    work: impl Fn() -> F,
) {
    loop {
        if store.is_leader() {
            select(pin!(work()), pin!(until(shutdown, || !store.is_leader()))).await;
        } else {
            until(shutdown, || store.is_leader()).await;
        }
        if shutdown.is_requested() {
            return;
        }
    }
}

/// Resolves when something is so, or at shutdown.
async fn until(shutdown: &Shutdown, is_so: impl Fn() -> bool) {
    while !is_so() && timer::timeout(LOOK_INTERVAL, shutdown.requested()).await.is_none() {}
}
