//! What a request needs its caller to be or to have, and whether a caller does.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use mainstay_engine::LeaseId;

use super::permission::{Access, KeySet, Span};
use super::state::AuthState;
use crate::etcd::errors::{self, EtcdError};
use crate::net::grpc::Status;

/// A request that says what it needs. Every unary method's request has to, so none is forgotten.
pub(in crate::etcd) trait Guarded {
    /// The answer shows what others may have hidden meanwhile: it is held against the rights again
    /// before it is given.
    const READS: bool = false;

    /// The method waits for what others do: its rights are held against changes meanwhile.
    const WAITS: bool = false;

    /// Whether a member answers it that has no vote yet: what shows its own state alone.
    fn learners_answer(&self) -> bool {
        false
    }

    /// What the caller needs. A request that is wrong in itself is told so first, as in etcd.
    fn need(&self) -> Result<Need, Status>;
}

/// Who has to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::etcd) enum Who {
    /// No matter who, and no matter whether the token is good.
    Anyone,
    /// Any user that there is.
    User,
    Root,
    /// Root, or the user asked about.
    RootOrUser(String),
    /// Root, or a user who has the role asked about.
    RootOrRole(String),
}

/// All that one request needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::etcd) struct Need {
    pub(super) who: Who,
    pub(super) keys: Vec<(Access, Span)>,
    /// Access to every key that is attached to these leases.
    pub(super) leases: Vec<(Access, LeaseId)>,
    /// To read every key that is attached to any lease.
    pub(super) all_leases: bool,
}

impl Need {
    pub(in crate::etcd) fn who(who: Who) -> Need {
        Need { who, keys: Vec::new(), leases: Vec::new(), all_leases: false }
    }

    pub(in crate::etcd) fn read(span: Span) -> Need {
        Need::who(Who::User).and(Access::Read, span)
    }

    pub(in crate::etcd) fn and(mut self, access: Access, span: Span) -> Need {
        self.keys.push((access, span));
        self
    }

    /// Lease 0 is none.
    pub(in crate::etcd) fn lease(mut self, access: Access, lease: LeaseId) -> Need {
        if lease != 0 {
            self.leases.push((access, lease));
        }
        self
    }
}

/// Somebody who has shown who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) user: Arc<str>,
    /// The auth revision that the token speaks for: with an older one than the newest no key can
    /// be touched.
    pub(super) revision: u64,
}

/// What a user may do with keys, of all roles together.
#[derive(Debug)]
struct Rights {
    read: KeySet,
    write: KeySet,
}

/// Users and roles, ready to be asked.
#[derive(Debug)]
pub(super) struct View {
    pub(super) state: AuthState,
    /// Of the users who asked so far.
    rights: RefCell<HashMap<Arc<str>, Rc<Rights>>>,
}

impl View {
    pub(super) fn new(state: AuthState) -> View {
        View { state, rights: RefCell::default() }
    }

    /// All that can be said without looking at leases; whether those have to be looked at.
    pub(super) fn check(&self, who: Option<&Identity>, need: &Need) -> Result<bool, EtcdError> {
        match &need.who {
            Who::Anyone => {}
            Who::User => {
                let who = who.ok_or(errors::USER_EMPTY)?;
                // A certificate can name one who never was.
                if !self.state.users.contains_key(&*who.user) {
                    return Err(errors::PERMISSION_DENIED);
                }
            }
            Who::Root => self.root(who)?,
            Who::RootOrUser(name) if who.is_some_and(|who| *who.user == **name) => {}
            Who::RootOrRole(role) if who.is_some_and(|who| self.has_role(&who.user, role)) => {}
            Who::RootOrUser(_) | Who::RootOrRole(_) => self.root(who)?,
        }
        for (access, span) in &need.keys {
            self.keys(who, *access, span)?;
        }
        let leases = need.all_leases || !need.leases.is_empty();
        Ok(leases && self.root(who).is_err())
    }

    fn has_role(&self, user: &str, role: &str) -> bool {
        self.state.users.get(user).is_some_and(|user| user.roles.contains(role))
    }

    fn root(&self, who: Option<&Identity>) -> Result<(), EtcdError> {
        let who = who.filter(|who| !who.user.is_empty()).ok_or(errors::USER_EMPTY)?;
        let user = self.state.users.get(&*who.user).ok_or(errors::USER_NOT_FOUND)?;
        if user.is_root() { Ok(()) } else { Err(errors::PERMISSION_DENIED) }
    }

    /// Whether all keys of `span` may be touched in this way.
    pub(super) fn keys(
        &self,
        who: Option<&Identity>,
        access: Access,
        span: &Span,
    ) -> Result<(), EtcdError> {
        let who = who.filter(|who| who.revision > 0).ok_or(errors::USER_EMPTY)?;
        if who.revision < self.state.revision {
            return Err(errors::OLD_AUTH_REVISION);
        }
        let user = self.state.users.get(&*who.user).ok_or(errors::PERMISSION_DENIED)?;
        if user.is_root() {
            return Ok(());
        }
        let rights = self.rights(&who.user);
        let allowed = match access {
            Access::Read => &rights.read,
            Access::Write => &rights.write,
        };
        if allowed.covers(span) { Ok(()) } else { Err(errors::PERMISSION_DENIED) }
    }

    fn rights(&self, user: &Arc<str>) -> Rc<Rights> {
        if let Some(known) = self.rights.borrow().get(user) {
            return known.clone();
        }
        let roles = self.state.users.get(&**user).map(|user| &user.roles);
        let granted = roles.into_iter().flatten().filter_map(|role| self.state.roles.get(role));
        let permissions: Vec<_> = granted.flat_map(|role| &role.permissions).collect();
        let of = |kinds: [i32; 2]| {
            let found = permissions.iter().filter(|permission| kinds.contains(&permission.kind));
            KeySet::of(found.map(|permission| Span::new(&permission.key, &permission.range_end)))
        };
        const READ: i32 = 0;
        const WRITE: i32 = 1;
        const READ_WRITE: i32 = 2;
        let rights = Rights { read: of([READ, READ_WRITE]), write: of([WRITE, READ_WRITE]) };
        let rights = Rc::new(rights);
        self.rights.borrow_mut().insert(user.clone(), rights.clone());
        rights
    }
}
