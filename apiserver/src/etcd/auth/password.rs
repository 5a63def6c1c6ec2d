//! Passwords: hashed and compared away from the cores, a few at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use mainstay_engine::runtime::{run_blocking, timer};

use crate::etcd::errors::{self, EtcdError};
use crate::etcd::limits;

/// bcrypt looks at no more; what is longer is refused rather than cut off.
const PASSWORD_BYTES: usize = 72;

/// The one who hashes, for all cores.
#[derive(Debug)]
pub(super) struct Passwords {
    cost: u32,
    running: Arc<AtomicUsize>,
    waiting: AtomicUsize,
    /// Of no password: what a login of an unknown user is compared with, so that it takes as long.
    nobody: Arc<OnceLock<Bytes>>,
}

/// One of a bounded number; counts down when dropped.
struct Place<C: std::ops::Deref<Target = AtomicUsize>>(C);

impl<C: std::ops::Deref<Target = AtomicUsize>> Place<C> {
    fn take(count: C, most: usize) -> Option<Place<C>> {
        let next = |taken: usize| (taken < most).then_some(taken + 1);
        count.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).ok()?;
        Some(Place(count))
    }
}

impl<C: std::ops::Deref<Target = AtomicUsize>> Drop for Place<C> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Passwords {
    /// Each step of `cost` (4 to 31) takes twice as long.
    pub(super) fn new(cost: u32) -> Passwords {
        Passwords {
            cost,
            running: Arc::default(),
            waiting: AtomicUsize::new(0),
            nobody: Arc::default(),
        }
    }

    /// As bcrypt writes it, with a salt.
    pub(super) async fn hash(&self, password: String) -> Result<Bytes, EtcdError> {
        if password.len() > PASSWORD_BYTES {
            return Err(errors::PASSWORD_TOO_LONG);
        }
        let cost = self.cost;
        let hashed = self.run(move || bcrypt::hash(&password, cost)).await?;
        hashed.map(Bytes::from).map_err(|_| errors::STOPPED)
    }

    /// Whether `password` is the one that was hashed; with no hash it is not, after the same time.
    pub(super) async fn matches(
        &self,
        password: String,
        hashed: Option<Bytes>,
    ) -> Result<bool, EtcdError> {
        let (cost, nobody) = (self.cost, self.nobody.clone());
        self.run(move || {
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

    /// Waits for its turn; too many who wait are refused.
    async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, EtcdError> {
        let _waits = Place::take(&self.waiting, limits::PASSWORDS_WAITING)
            .ok_or(errors::TOO_MANY_REQUESTS)?;
        for _ in 0..limits::PASSWORD_WAITS {
            if let Some(place) = Place::take(self.running.clone(), limits::PASSWORDS_AT_ONCE) {
                // Whoever hangs up leaves the work running: its place is free when it is done.
                let work = move || {
                    let result = work();
                    drop(place);
                    result
                };
                return run_blocking(work).await.map_err(|_| errors::TOO_MANY_REQUESTS);
            }
            timer::sleep(limits::PASSWORD_WAIT).await;
        }
        Err(errors::TOO_MANY_REQUESTS)
    }
}
