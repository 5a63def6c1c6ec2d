//! What the user of a watch stream may see, and when that has changed.

use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::future::{FutureExt, LocalBoxFuture};
use mainstay_proto::watch::WatchCreateRequest;

use crate::etcd::auth::{Auth, Guarded, Permit};
use crate::etcd::{Caller, Door, errors};
use crate::net::grpc::{Code, Status};

pub(super) struct Rights {
    auth: Rc<Auth>,
    caller: Rc<Caller>,
    /// Of users and roles, when the stream's watchers were last held against them.
    version: u64,
    changed: LocalBoxFuture<'static, ()>,
}

impl Rights {
    pub(super) fn new(door: &Door, caller: Rc<Caller>) -> Rights {
        let (auth, version) = (door.auth.clone(), door.auth.version());
        let changed = changed(&auth, version);
        Rights { auth, caller, version, changed }
    }

    /// The leave to watch, or etcd's reason why not.
    pub(super) async fn permit(
        &self,
        create: &WatchCreateRequest,
    ) -> Result<Result<Permit, String>, Status> {
        match self.auth.permit(&self.caller, create.need()?).await {
            Ok(permit) => Ok(Ok(permit)),
            // etcd looks at this one thing first.
            Err(_) if create.start_revision < 0 => Ok(Err(errors::WATCH_COMPACTED.to_owned())),
            Err(status) => Ok(Err(reason(status)?)),
        }
    }

    /// Why what was allowed is allowed no longer.
    pub(super) async fn lost(&self, permit: &Permit) -> Result<Option<String>, Status> {
        match self.auth.renew(permit).await {
            Ok(()) => Ok(None),
            Err(status) => Ok(Some(reason(status)?)),
        }
    }

    pub(super) fn have_changed(&self) -> bool {
        self.auth.version() != self.version
    }

    /// Everything is going to be held against what there is now.
    pub(super) fn note_change(&mut self) {
        self.version = self.auth.version();
        self.changed = changed(&self.auth, self.version);
    }

    /// Ready once, soon after a change.
    pub(super) fn poll_changed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let poll = self.changed.poll_unpin(context);
        if poll.is_ready() {
            self.changed = Box::pin(std::future::pending());
        }
        poll
    }
}

fn changed(auth: &Rc<Auth>, since: u64) -> LocalBoxFuture<'static, ()> {
    let auth = auth.clone();
    Box::pin(async move { auth.changed(since).await })
}

/// Why there may be no watcher, as etcd says it. What has nothing to do with rights ends the stream.
fn reason(status: Status) -> Result<String, Status> {
    match status.code {
        Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument => {
            Ok(status.message)
        }
        _ => Err(status),
    }
}
