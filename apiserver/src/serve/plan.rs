//! What the ports of all doors are made of, and when: a member of a cluster may have to hear first
//! which certificate authority the cluster has.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::{Core, timer};
use mainstay_engine::{Store, StoreError};
use time::OffsetDateTime;

use super::ports::{self, EtcdPort, KubePort};
use super::{Banner, ServeError, banner, kube_port};
use crate::cli::{LogLevel, ServeFlags, StoreFlags};
use crate::log;
use crate::pki::{self, PkiError, Shared};

/// Where members keep what their certificates are signed with, beside the keys.
const AUTHORITY: &[u8] = b"pki/authority";

/// How often it is looked whether something has happened that everybody waits for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How long to wait before the authority is asked for, or offered, again.
const AGREE_INTERVAL: Duration = Duration::from_millis(200);

/// How the ports are to be made.
pub(super) struct Plan {
    pub(super) flags: StoreFlags,
    pub(super) kubernetes: Option<ServeFlags>,
    /// The certificates of our own that are needed, if any are.
    pub(super) pki: Option<Arc<pki::Request>>,
    made: OnceLock<Made>,
}

/// The ports, and what is said about them.
#[derive(Clone)]
pub(super) struct Made {
    pub(super) etcd: Vec<EtcdPort>,
    pub(super) kubernetes: Option<KubePort>,
    pub(super) banner: String,
}

impl Plan {
    pub(super) fn new(
        flags: &StoreFlags,
        kubernetes: Option<&ServeFlags>,
        pki: Option<pki::Request>,
    ) -> Plan {
        let (flags, kubernetes) = (flags.clone(), kubernetes.cloned());
        Plan { flags, kubernetes, pki: pki.map(Arc::new), made: OnceLock::new() }
    }

    /// Whether certificates are needed and there is nothing to sign them with.
    pub(super) fn lacks_authority(&self) -> Result<bool, PkiError> {
        Ok(self.pki.is_some() && Shared::read(&self.flags.data_dir)?.is_none())
    }

    /// Makes the ports, and the certificates that are missing.
    pub(super) fn make(&self) -> Result<(), ServeError> {
        let pki = match &self.pki {
            Some(request) => Some(pki::prepare(request, OffsetDateTime::now_utc())?),
            None => None,
        };
        let etcd = ports::etcd(&self.flags, pki.as_ref())?;
        let kubernetes = match (&self.kubernetes, &pki) {
            (Some(flags), Some(pki)) => Some(kube_port(flags, pki)?),
            _ => None,
        };
        let banner = banner(&self.flags, kubernetes.as_ref().zip(pki.as_ref()));
        let _first = self.made.set(Made { etcd, kubernetes, banner });
        Ok(())
    }

    /// The ports, once they are made; `None` if they can't be, or at shutdown.
    pub(super) async fn made(&self, core: &Core, banner: &Banner) -> Option<Made> {
        if core.number == 0
            && self.made.get().is_none()
            && let Err(error) = self.make_with_others(&core.store, &core.shutdown).await
        {
            let _first = banner.failure.set(error.to_string());
            core.shutdown.request();
        }
        while self.made.get().is_none() {
            if timer::timeout(LOOK_INTERVAL, core.shutdown.requested()).await.is_some() {
                return None;
            }
        }
        self.made.get().cloned()
    }

    async fn make_with_others(&self, store: &Store, shutdown: &Shutdown) -> Result<(), ServeError> {
        let data_dir = &self.flags.data_dir;
        let Some(shared) = agree(store, None, shutdown).await? else { return Ok(()) };
        shared.write(data_dir)?;
        self.make()
    }

    /// Offers what this member signs with to members that have nothing yet.
    pub(super) async fn share_authority(self: Arc<Plan>, store: Store, shutdown: Shutdown) {
        if self.pki.is_none() {
            return;
        }
        let data_dir: PathBuf = self.flags.data_dir.clone();
        let shared = match Shared::read(&data_dir) {
            Ok(Some(own)) => {
                agree(&store, Some(own.clone()), &shutdown).await.map(|all| (own, all))
            }
            Ok(None) => return,
            Err(error) => Err(error),
        };
        match shared {
            Ok((own, Some(all))) if own != all => tell_of_difference(&data_dir),
            Ok(_) => {}
            Err(error) => {
                log::write(LogLevel::Warn, format_args!("the authority is not shared: {error}"));
            }
        }
    }
}

fn tell_of_difference(data_dir: &Path) {
    log::write(
        LogLevel::Warn,
        format_args!(
            "{}/pki has another certificate authority, or service account key, than the other members: \
             clients of one can't talk to the other. Move it away and start again, to have the \
             cluster's",
            data_dir.display(),
        ),
    );
}

/// What the cluster has, or `own` (or a new one) from now on if it has none; `None` at shutdown.
async fn agree(
    store: &Store,
    own: Option<Shared>,
    shutdown: &Shutdown,
) -> Result<Option<Shared>, PkiError> {
    let mut own = own;
    loop {
        let document = store.document(AUTHORITY).await;
        if let Some(shared) = document.as_deref().and_then(Shared::decode) {
            return Ok(Some(shared));
        }
        if store.leader() != 0 {
            let offer = match own.take() {
                Some(own) => own,
                None => Shared::make(OffsetDateTime::now_utc())?,
            };
            let content = offer.encode().into();
            own = Some(offer);
            match store.swap_document(AUTHORITY, document, content).await {
                // Somebody else was first, or this one was: it is there in a moment.
                Ok(()) | Err(StoreError::DocumentChanged) => {}
                Err(error) => log::write(
                    LogLevel::Warn,
                    format_args!("the certificate authority is not agreed on yet: {error}"),
                ),
            }
        }
        if timer::timeout(AGREE_INTERVAL, shutdown.requested()).await.is_some() {
            return Ok(None);
        }
    }
}
