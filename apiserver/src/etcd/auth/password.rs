//! Passwords: hashed and compared away from the cores, a few at a time.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use mainstay_engine::runtime::{run_blocking, timer};

use super::turns::Line;
use crate::etcd::errors::{self, EtcdError};
use crate::etcd::limits;

/// bcrypt looks at no more; what is longer is refused rather than cut off.
const PASSWORD_BYTES: usize = 72;

/// The one who hashes, for all cores.
#[derive(Debug)]
pub(super) struct Passwords {
    cost: u32,
    /// Whoever wants to log in; anybody may.
    logins: Arc<Line>,
    /// New passwords. They are root's, and no flood of logins holds them up.
    changes: Arc<Line>,
    /// Of no password: what a login of an unknown user is compared with, so that it takes as long.
    nobody: Arc<OnceLock<Bytes>>,
}

impl Passwords {
    /// Each step of `cost` (4 to 31) takes twice as long.
    pub(super) fn new(cost: u32) -> Passwords {
        Passwords {
            cost,
            logins: Line::new(limits::LOGINS_AT_ONCE, limits::LOGINS_WAITING),
            changes: Line::new(limits::NEW_PASSWORDS_AT_ONCE, limits::NEW_PASSWORDS_WAITING),
            nobody: Arc::default(),
        }
    }

    /// As bcrypt writes it, with a salt.
    pub(super) async fn hash(&self, password: String) -> Result<Bytes, EtcdError> {
        if password.len() > PASSWORD_BYTES {
            return Err(errors::PASSWORD_TOO_LONG);
        }
        let cost = self.cost;
        let hashed = run(&self.changes, move || bcrypt::hash(&password, cost)).await?;
        hashed.map(Bytes::from).map_err(|_| errors::STOPPED)
    }

    /// Whether `password` is the one that was hashed; with no hash it is not, after the same time.
    pub(super) async fn matches(
        &self,
        password: String,
        hashed: Option<Bytes>,
    ) -> Result<bool, EtcdError> {
        let (cost, nobody) = (self.cost, self.nobody.clone());
        run(&self.logins, move || {
            let known = hashed.is_some();
            let hashed = hashed.unwrap_or_else(|| {
                let made = || bcrypt::hash("", cost).map(Bytes::from).unwrap_or_default();
                nobody.get_or_init(made).clone()
            });
            let text = std::str::from_utf8(&hashed).unwrap_or_default();
            // What is no hash matches nothing.
            bcrypt::verify(&password, text).unwrap_or(false) && known
        })
        .await
    }
}

/// Waits for its turn; too many who wait are refused.
async fn run<R: Send + 'static>(
    line: &Arc<Line>,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, EtcdError> {
    let waiter = line.join().ok_or(errors::TOO_MANY_REQUESTS)?;
    for _ in 0..limits::PASSWORD_WAITS {
        if let Some(turn) = waiter.turn() {
            // Whoever hangs up leaves the work running: its turn is over when it is done.
            let work = move || {
                let result = work();
                drop(turn);
                result
            };
            return run_blocking(work).await.map_err(|_| errors::TOO_MANY_REQUESTS);
        }
        timer::sleep(limits::PASSWORD_WAIT).await;
    }
    Err(errors::TOO_MANY_REQUESTS)
}
