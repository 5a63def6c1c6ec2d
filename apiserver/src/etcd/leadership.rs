//! What depends on there being a leader: calls that ask for one, streams that end without one, and
//! what a learner does not do.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::stream::{self, Stream, StreamExt};
use http::Response;
use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::timer;

use super::errors::{self, EtcdError};
use super::{Caller, Door};
use crate::net::BoxedBody;
use crate::net::grpc::{self, Status};

/// Election timeouts without a leader after which streams that want one end. A client that has to
/// open its streams again costs more than one whose request is refused: etcd's figure.
const ELECTIONS_WITHOUT_LEADER: u32 = 3;

impl Door {
    /// Whether a call may begin at this member now.
    pub(super) fn check_leadership(
        &self,
        caller: &Caller,
        learners_answer: bool,
    ) -> Result<(), EtcdError> {
        if self.store.is_learner() && !learners_answer {
            return Err(errors::NOT_FOR_LEARNER);
        }
        if caller.requires_leader() && self.store.leader() == 0 {
            return Err(errors::NO_LEADER);
        }
        Ok(())
    }

    /// A response of many messages, which ends without a leader if the caller wants one.
    pub(super) fn stream<S>(&self, caller: &Caller, messages: S) -> Response<BoxedBody>
    where
        S: Stream<Item = Result<Bytes, Status>> + 'static,
    {
        match &self.leaderless {
            Some(leaderless) if caller.requires_leader() => {
                grpc::stream(until_leaderless(messages, leaderless.clone()))
            }
            _ => grpc::stream(messages),
        }
    }
}

/// `messages`, and an error at the end when there has been no leader for too long.
fn until_leaderless<S>(
    messages: S,
    leaderless: Rc<Leaderless>,
) -> impl Stream<Item = Result<Bytes, Status>>
where
    S: Stream<Item = Result<Bytes, Status>> + 'static,
{
    let since = leaderless.times();
    let state = Some((Box::pin(messages), leaderless));
    stream::unfold(state, move |state| async move {
        let (mut messages, leaderless) = state?;
        let next = match select(messages.next(), pin!(leaderless.happened(since))).await {
            Either::Left((next, _)) => Ok(next),
            Either::Right(((), _)) => Err(errors::NO_LEADER),
        };
        match next {
            Ok(Some(message)) => Some((message, Some((messages, leaderless)))),
            Ok(None) => None,
            Err(error) => Some((Err(error.into()), None)),
        }
    })
}

/// Notices when there has been no leader for too long, and tells those who wait for it.
#[derive(Default)]
pub(super) struct Leaderless {
    /// How often that was so.
    times: Cell<u64>,
    waiting: RefCell<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next_id: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Leaderless {
    /// To be told to [`happened`](Leaderless::happened).
    fn times(&self) -> u64 {
        self.times.get()
    }

    /// Resolves once it was more often than `since`.
    async fn happened(&self, since: u64) {
        let id = {
            let mut waiting = self.waiting.borrow_mut();
            waiting.next_id += 1;
            waiting.next_id
        };
        let _forget = Forget { leaderless: self, id };
        poll_fn(|context| {
            if self.times.get() != since {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().wakers.insert(id, context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Looks once in an election timeout whether there `is_a_leader`; until shutdown.
    pub(super) async fn watch(
        self: Rc<Self>,
        is_a_leader: impl Fn() -> bool,
        election: Duration,
        shutdown: Shutdown,
    ) {
        let mut without = 0;
        while timer::timeout(election, shutdown.requested()).await.is_none() {
            without = if is_a_leader() { 0 } else { without + 1 };
            if without >= ELECTIONS_WITHOUT_LEADER {
                self.tell();
            }
        }
    }

    fn tell(&self) {
        self.times.set(self.times.get() + 1);
        let wakers = std::mem::take(&mut self.waiting.borrow_mut().wakers);
        wakers.into_values().for_each(Waker::wake);
    }
}

/// Who does not wait any more is not woken.
struct Forget<'a> {
    leaderless: &'a Leaderless,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.leaderless.waiting.borrow_mut().wakers.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn streams_end_when_there_is_no_leader_for_long() {
        let leaderless = Rc::new(Leaderless::default());
        let messages = stream::iter([Ok(Bytes::from_static(b"a"))]).chain(stream::pending());
        let mut told = Box::pin(until_leaderless(messages, leaderless.clone()));
        assert_eq!(told.next().now_or_never(), Some(Some(Ok(Bytes::from_static(b"a")))));
        assert_eq!(told.next().now_or_never(), None, "it goes on");
        assert_eq!(leaderless.waiting.borrow().wakers.len(), 1);
        leaderless.tell();
        assert_eq!(told.next().now_or_never(), Some(Some(Err(errors::NO_LEADER.into()))));
        assert_eq!(told.next().now_or_never(), Some(None));

        // What began later knows nothing of it.
        let mut later = Box::pin(until_leaderless(stream::pending(), leaderless.clone()));
        assert_eq!(later.next().now_or_never(), None);
        drop(later);
        assert!(leaderless.waiting.borrow().wakers.is_empty(), "nobody waits any more");
        let ended = stream::iter(Vec::<Result<Bytes, Status>>::new());
        let mut ended = Box::pin(until_leaderless(ended, leaderless));
        assert_eq!(ended.next().now_or_never(), Some(None));
    }
}
