//! A watcher for each member. When its stream breaks it goes on behind the last revision that it saw, on the next
//! member: it must miss nothing and see nothing twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mainstay_proto::watch::{WatchCreateRequest, WatchRequest, WatchRequestUnion, WatchResponse};

use super::{Change, Clock, Micros, PREFIX, PREFIX_END, changes_of};
use crate::grpc::{Client, Stream, block_on};

const PATH: &str = "/etcdserverpb.Watch/Watch";
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// A watcher that hears nothing looks so often whether it should have come to the end.
const LOOK: Duration = Duration::from_millis(200);
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long a watcher may take to hear of the last write.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// What one watcher was told.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// Which member it began with.
    pub member: usize,
    /// The first revision that it asked for.
    pub from: i64,
    /// Every change, and when it heard of it.
    pub changes: Vec<(Change, Micros)>,
    /// How often it had to begin again.
    pub resumed: usize,
    /// What was wrong with the stream itself.
    pub wrong: Option<String>,
}

/// Watchers at work, on a thread of their own.
pub struct Watchers {
    /// The revision that ends the watch; 0 while it goes on.
    until: Arc<AtomicI64>,
    thread: JoinHandle<Vec<Watched>>,
}

impl Watchers {
    pub fn start(clock: Clock, members: &[String]) -> Watchers {
        let until = Arc::new(AtomicI64::new(0));
        let watchers: Vec<Watcher> = (0..members.len())
            .map(|member| Watcher {
                clock,
                members: members.to_vec(),
                until: until.clone(),
                seen: Watched { member, from: 1, ..Watched::default() },
            })
            .collect();
        let run = async move {
            let tasks: Vec<_> = watchers.into_iter().map(|one| tokio::spawn(one.run())).collect();
            let mut all = Vec::new();
            for task in tasks {
                all.push(task.await.expect("a watcher ends well"));
            }
            all
        };
        Watchers { until, thread: std::thread::spawn(move || block_on(run)) }
    }

    /// Waits until all have seen revision `last`, which is a change of a watched key.
    pub fn finish(self, last: i64) -> Vec<Watched> {
        self.until.store(last, Ordering::Relaxed);
        self.thread.join().expect("the watchers end well")
    }
}

struct Watcher {
    clock: Clock,
    members: Vec<String>,
    until: Arc<AtomicI64>,
    seen: Watched,
}

impl Watcher {
    async fn run(mut self) -> Watched {
        let mut member = self.seen.member;
        let mut deadline = None;
        while !self.has_ended(&mut deadline) {
            let opened = tokio::time::timeout(CONNECT_TIMEOUT, async {
                let client = Client::try_connect(&self.members[member]).await?;
                client.try_stream_with(PATH, &create(self.next_revision())).await
            });
            if let Some(mut stream) = opened.await.ok().flatten() {
                self.follow(&mut stream, &mut deadline).await;
                self.seen.resumed += 1;
            }
            member = (member + 1) % self.members.len();
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        self.seen
    }

    fn last(&self) -> i64 {
        self.seen.changes.last().map_or(0, |(change, _)| change.revision)
    }

    fn next_revision(&self) -> i64 {
        self.seen.from.max(self.last() + 1)
    }

    fn has_ended(&mut self, deadline: &mut Option<tokio::time::Instant>) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        if self.seen.wrong.is_some() || (until > 0 && self.last() >= until) {
            return true;
        }
        if until == 0 {
            return false;
        }
        let now = tokio::time::Instant::now();
        if now >= *deadline.get_or_insert(now + END_TIMEOUT) {
            self.seen.wrong = Some(format!(
                "it has come to revision {} only, not to {until}, after {END_TIMEOUT:?}",
                self.last()
            ));
            return true;
        }
        false
    }

    async fn follow(
        &mut self,
        stream: &mut Stream<WatchRequest, WatchResponse>,
        deadline: &mut Option<tokio::time::Instant>,
    ) {
        while !self.has_ended(deadline) {
            match tokio::time::timeout(LOOK, stream.try_next()).await {
                Err(_) => {}
                Ok(None | Some(None)) => return,
                Ok(Some(Some(response))) if response.canceled => {
                    if response.compact_revision > 0 {
                        self.seen.wrong = Some(format!("nobody compacted, yet {response:?}"));
                    }
                    return;
                }
                Ok(Some(Some(response))) => self.take(&response),
            }
        }
    }

    fn take(&mut self, response: &WatchResponse) {
        let (last, now) = (self.last(), self.clock.now());
        let changes = changes_of(response);
        // A revision comes whole: whoever resumes behind it would miss the rest.
        if let Some(change) = changes.first().filter(|change| change.revision <= last) {
            self.seen.wrong = Some(format!("{change:?} came after revision {last}"));
        }
        let header = response.header.map_or(0, |header| header.revision);
        if let Some(change) = changes.last().filter(|change| change.revision > header) {
            self.seen.wrong = Some(format!("{change:?} came with a header of revision {header}"));
        }
        self.seen.changes.extend(changes.into_iter().map(|change| (change, now)));
    }
}

fn create(start_revision: i64) -> WatchRequest {
    let create = WatchCreateRequest {
        key: PREFIX.into(),
        range_end: PREFIX_END.into(),
        start_revision,
        ..Default::default()
    };
    WatchRequest { request_union: Some(WatchRequestUnion::Create(create)) }
}

/// Everything that one member tells of the keys' past, up to the change at revision `last`.
pub(super) async fn all_changes(address: &str, last: i64) -> Vec<Change> {
    let client = Client::connect(address).await;
    let mut stream: Stream<WatchRequest, WatchResponse> =
        client.stream_with(PATH, &create(1)).await;
    let mut all: Vec<Change> = Vec::new();
    while all.last().is_none_or(|change| change.revision < last) {
        let response = stream.next().await.expect("the stream goes on");
        assert!(!response.canceled, "{response:?}");
        all.extend(changes_of(&response));
    }
    all
}
