//! The one place where a request meets the rights of its caller.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::HeaderMap;
use mainstay_engine::request::LeaseStatus;
use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::timer;
use mainstay_engine::{LeaseId, Store, StoreError};

use super::need::{Guarded, Identity, Need, View, Who};
use super::permission::{Access, Span};
use super::token::SECRET_BYTES;
use super::{AuthOptions, document};
use crate::etcd::errors::{self, EtcdError, from_store};
use crate::etcd::limits;
use crate::metrics;
use crate::net::ConnectionInfo;
use crate::net::grpc::{Code, Status};
use crate::net::tls::common_name;

/// Where members keep what simple tokens are sealed with.
const TOKEN_SECRET: &[u8] = b"auth/token-secret";

/// What a request says about who sends it.
#[derive(Debug, Clone)]
pub(in crate::etcd) struct Caller {
    token: Option<Box<str>>,
    connection: Rc<ConnectionInfo>,
    /// Wants to be told when there is no leader, rather than to wait.
    requires_leader: bool,
    /// By the JSON gateway, where a certificate names nobody: a browser would send it along with
    /// whatever some page makes it ask.
    gateway: bool,
}

impl Caller {
    pub(in crate::etcd) fn new(
        headers: &HeaderMap,
        connection: Rc<ConnectionInfo>,
        gateway: bool,
    ) -> Caller {
        let (first, leader) = match gateway {
            true => ("grpc-metadata-token", "grpc-metadata-hasleader"),
            false => ("token", "hasleader"),
        };
        let requires_leader = headers.get(leader).is_some_and(|value| value == "true");
        let token = headers.get(first).or_else(|| headers.get("authorization"));
        // What is no text, or too long, is no token that was ever made; it must not count as none.
        let token = token.map(|value| {
            let text = value.to_str().unwrap_or_default();
            let text = text.strip_prefix("Bearer ").unwrap_or(text);
            Box::from(if text.len() <= limits::AUTH_TOKEN_BYTES { text } else { "" })
        });
        Caller { token, connection, requires_leader, gateway }
    }

    /// Whether the call, or the stream, is of no use to its caller without a leader.
    pub(in crate::etcd) fn requires_leader(&self) -> bool {
        self.requires_leader
    }

    /// The token, if one was shown: good or not, and empty if it can't be.
    pub(super) fn shown_token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Watchers that streams of the caller's connection have.
    pub(in crate::etcd) fn watchers(&self) -> &Cell<usize> {
        &self.connection.watchers
    }

    /// The name in the client's certificate.
    fn common_name(&self) -> Option<Arc<str>> {
        let leaf = self.connection.peer_certificates.first()?;
        common_name(leaf).map(Arc::from)
    }
}

/// The leave to do something, for as long as that takes.
#[derive(Debug)]
pub(in crate::etcd) struct Permit {
    caller: Rc<Caller>,
    need: Need,
    /// Whom the caller turned out to be; a token that runs out later changes nothing.
    identity: RefCell<Option<Identity>>,
    /// Of the documents when it was last looked at.
    version: Cell<u64>,
}

impl Permit {
    fn new(caller: &Rc<Caller>, need: Need, version: u64) -> Permit {
        let (identity, version) = (RefCell::new(None), Cell::new(version));
        Permit { caller: caller.clone(), need, identity, version }
    }
}

/// Users, roles and tokens, as one door sees them.
pub(in crate::etcd) struct Auth {
    store: Store,
    pub(super) options: Arc<AuthOptions>,
    /// The store's document as it was at some version.
    known: RefCell<Option<(u64, Known)>>,
    waiting: RefCell<Waiting>,
}

/// The document, as it is and as it is meant.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) content: Option<Bytes>,
    pub(super) view: Rc<View>,
}

/// Who wants to hear of changes.
#[derive(Default)]
struct Waiting {
    next_id: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Auth {
    pub(in crate::etcd) fn new(store: Store, options: Arc<AuthOptions>) -> Rc<Auth> {
        Rc::new(Auth { store, options, known: RefCell::default(), waiting: RefCell::default() })
    }

    /// Another number when users, roles or anything else among the documents has changed.
    pub(in crate::etcd) fn version(&self) -> u64 {
        self.store.documents_version()
    }

    /// Users and roles as every change that was acknowledged left them: one atomic load, unless
    /// there was a change.
    pub(super) async fn view(&self) -> Result<Rc<View>, Status> {
        let version = self.version();
        if let Some((at, known)) = &*self.known.borrow()
            && *at == version
        {
            return Ok(known.view.clone());
        }
        let newest = self.newest().await?;
        Ok(newest.view)
    }

    /// Asks the store for the document.
    pub(super) async fn newest(&self) -> Result<Known, Status> {
        // Before the content: what is newer than its version is only asked for once more.
        let version = self.version();
        if self.options.has_company && self.options.tokens.lack_secret() {
            self.learn_secret().await;
        }
        let content = self.store.document(document::NAME).await;
        let before = self.known.borrow().clone();
        let known = match before {
            Some((_, known)) if known.content == content => known,
            _ => {
                let state = document::decode(content.as_ref())
                    .map_err(|reason| Status::new(Code::Internal, reason))?;
                Known { view: Rc::new(View::new(state)), content }
            }
        };
        metrics::server().auth_revision.set(known.view.state.revision);
        let mut cached = self.known.borrow_mut();
        if cached.as_ref().is_none_or(|(at, _)| *at <= version) {
            *cached = Some((version, known.clone()));
        }
        Ok(known)
    }

    /// What members seal tokens with, if there is such a secret.
    async fn learn_secret(&self) {
        if let Some(secret) = self.store.document(TOKEN_SECRET).await {
            self.options.tokens.set_secret(&secret);
        }
    }

    /// Before a token is given out: sees to it that other members are going to know it. The first
    /// member that does so chooses the secret.
    pub(super) async fn agree_on_secret(&self) -> Result<(), Status> {
        if !self.options.has_company || !self.options.tokens.lack_secret() {
            return Ok(());
        }
        let mut secret = [0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| errors::STOPPED)?;
        let secret = Bytes::copy_from_slice(&secret);
        match self.store.swap_document(TOKEN_SECRET, None, secret).await {
            Ok(()) | Err(StoreError::DocumentChanged) => {}
            Err(error) => return Err(from_store(error)),
        }
        self.learn_secret().await;
        Ok(())
    }

    /// Finds out who asks.
    pub(super) fn identify(
        &self,
        caller: &Caller,
        view: &View,
    ) -> Result<Option<Identity>, EtcdError> {
        let state = &view.state;
        let Some(token) = caller.shown_token() else {
            if !self.options.client_cert_auth || caller.gateway {
                return Ok(None);
            }
            let identity = |user| Identity { user, revision: state.revision };
            return Ok(caller.common_name().map(identity));
        };
        let shown = self.options.tokens.find(token).ok_or(errors::INVALID_AUTH_TOKEN)?;
        if !state.is_token_good(&shown.user, shown.made_at) {
            return Err(errors::INVALID_AUTH_TOKEN);
        }
        let revision = if shown.speaks_for_now { state.revision } else { shown.made_at };
        Ok(Some(Identity { user: shown.user, revision }))
    }

    /// Lets a unary request pass, or not. `None` while authentication is off.
    pub(in crate::etcd) async fn admit<Q: Guarded>(
        &self,
        caller: &Rc<Caller>,
        request: &Q,
    ) -> Result<Option<Permit>, Status> {
        // From before anything is looked at, so that no change is missed.
        let version = self.version();
        let view = self.view().await?;
        if !view.state.enabled {
            return Ok(None);
        }
        let permit = Permit::new(caller, request.need()?, version);
        self.look(&permit, &view).await?;
        Ok(Some(permit))
    }

    /// Lets something that takes its time begin, or not; to be [`renewed`](Auth::renew).
    pub(in crate::etcd) async fn permit(
        &self,
        caller: &Rc<Caller>,
        need: Need,
    ) -> Result<Permit, Status> {
        let permit = Permit::new(caller, need, self.version());
        let view = self.view().await?;
        if view.state.enabled {
            self.look(&permit, &view).await?;
        }
        Ok(permit)
    }

    /// Whether a permit still holds: one atomic load, unless there was a change.
    pub(in crate::etcd) async fn renew(&self, permit: &Permit) -> Result<(), Status> {
        let version = self.version();
        if permit.version.get() == version {
            return Ok(());
        }
        let view = self.view().await?;
        if view.state.enabled {
            self.look(permit, &view).await?;
        }
        permit.version.set(version);
        Ok(())
    }

    /// Does `work` for as long as a permit holds: what waits for others ends when the right to it does.
    pub(in crate::etcd) async fn while_permitted<A>(
        &self,
        permit: &Permit,
        work: impl Future<Output = Result<A, Status>>,
    ) -> Result<A, Status> {
        let lost = async {
            loop {
                self.changed(permit.version.get()).await;
                if let Err(status) = self.renew(permit).await {
                    return status;
                }
            }
        };
        match select(pin!(work), pin!(lost)).await {
            Either::Left((answer, _)) => answer,
            Either::Right((status, _)) => Err(status),
        }
    }

    async fn look(&self, permit: &Permit, view: &View) -> Result<(), Status> {
        let need = &permit.need;
        if need.who == Who::Anyone {
            return Ok(());
        }
        let before = permit.identity.borrow().clone();
        let identity = match before {
            Some(known) if permit.caller.token.is_some() => Some(keep(known, view)?),
            _ => self.identify(&permit.caller, view)?,
        };
        permit.identity.replace(identity.clone());
        if view.check(identity.as_ref(), need)? {
            self.look_at_leases(identity.as_ref(), need, view).await?;
        }
        Ok(())
    }

    async fn look_at_leases(
        &self,
        who: Option<&Identity>,
        need: &Need,
        view: &View,
    ) -> Result<(), Status> {
        for (access, lease) in &need.leases {
            self.look_at_lease(who, *access, *lease, view).await?;
        }
        if need.all_leases {
            for lease in self.store.leases().await.map_err(from_store)? {
                self.look_at_lease(who, Access::Read, lease, view).await?;
            }
        }
        Ok(())
    }

    /// A lease that is not there keeps nobody out: the request finds out by itself.
    async fn look_at_lease(
        &self,
        who: Option<&Identity>,
        access: Access,
        lease: LeaseId,
        view: &View,
    ) -> Result<(), Status> {
        let keys = match self.store.lease_time_to_live(lease, true).await {
            Ok(LeaseStatus { keys, .. }) => keys,
            Err(StoreError::LeaseNotFound(_)) => return Ok(()),
            Err(error) => return Err(from_store(error)),
        };
        for key in keys {
            view.keys(who, access, &Span::key(&key))?;
        }
        Ok(())
    }

    /// Whether a request to the gateway has to be refused because of its certificate.
    pub(in crate::etcd) async fn refuses_at_gateway(&self, caller: &Caller) -> bool {
        if !self.options.client_cert_auth || caller.common_name().is_none_or(|name| name.is_empty())
        {
            return false;
        }
        self.view().await.is_ok_and(|view| view.state.enabled)
    }

    /// Resolves when the version is another one than `since`, a moment later.
    pub(in crate::etcd) async fn changed(&self, since: u64) {
        let id = {
            let mut waiting = self.waiting.borrow_mut();
            waiting.next_id += 1;
            waiting.next_id
        };
        let _forget = Forget { auth: self, id };
        poll_fn(|context| {
            if self.version() != since {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().wakers.insert(id, context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Wakes those who wait for changes; for as long as the server runs.
    pub(in crate::etcd) async fn tell_of_changes(self: Rc<Self>, shutdown: Shutdown) {
        let mut told = self.version();
        loop {
            // So that the first request after a change finds it here. What can't be read is told then.
            let _unreadable = self.view().await;
            let pause = pin!(timer::sleep(limits::AUTH_CHANGE_INTERVAL));
            if let Either::Right(_) = select(pause, pin!(shutdown.requested())).await {
                return;
            }
            let version = self.version();
            if version != told {
                told = version;
                let wakers = std::mem::take(&mut self.waiting.borrow_mut().wakers);
                wakers.into_values().for_each(Waker::wake);
            }
        }
    }
}

/// Whoever was let in by a token stays the one, unless the password has changed or the user is gone.
fn keep(known: Identity, view: &View) -> Result<Identity, EtcdError> {
    if !view.state.is_token_good(&known.user, known.revision) {
        return Err(errors::INVALID_AUTH_TOKEN);
    }
    Ok(Identity { revision: view.state.revision, ..known })
}

/// Who does not wait any more is not woken.
struct Forget<'a> {
    auth: &'a Auth,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.auth.waiting.borrow_mut().wakers.remove(&self.id);
    }
}
