//! Keys that live by leases: a holder grants one, puts a key with it, and renews it for a while. The key must not go
//! before the time of the last renewal is over, whoever leads, and must go some time after it.

use std::thread::JoinHandle;
use std::time::Duration;

use mainstay_proto::kv::{PutRequest, PutResponse, RangeRequest, RangeResponse};
use mainstay_proto::lease::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
};

use super::{Clock, Micros};
use crate::grpc::{Client, Failure, Stream, block_on};

const TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Between two looks at the key.
const LOOK: Duration = Duration::from_millis(100);
/// Tries of anything, one after the other on all members, before the cluster counts as dead.
const TRIES: usize = 200;

/// What a lease is to do.
#[derive(Debug, Clone, Copy)]
pub struct LeaseHolder {
    pub number: usize,
    pub ttl_seconds: i64,
    /// How long it is renewed, every third of its time; zero: never.
    pub renewed_for: Duration,
    /// How long after its time it may still live: an election, and the time that a new leader gives.
    pub grace: Duration,
}

/// What happened to one.
#[derive(Debug, Clone)]
pub struct LeaseStory {
    pub holder: LeaseHolder,
    /// When the last renewal that was answered (or the grant) was asked for: it lives at least its time from then.
    pub renewed: Micros,
    /// Renewals that were answered.
    pub renewals: usize,
    /// When the key was first seen to be gone.
    pub gone: Option<Micros>,
    /// A renewal was answered with "there is no such lease" while it should have lived.
    pub forgotten: Option<Micros>,
}

impl LeaseStory {
    /// # Errors
    /// Says what should not have happened.
    pub fn check(&self) -> Result<(), String> {
        let due = self.renewed + self.holder.ttl_seconds as Micros * 1_000_000;
        match (self.gone, self.forgotten) {
            (_, Some(at)) if at < due => Err(format!("forgotten before {due}: {self:?}")),
            (Some(at), _) if at < due => Err(format!("the key went before {due}: {self:?}")),
            (None, _) => Err(format!("the key never went: {self:?}")),
            _ => Ok(()),
        }
    }
}

impl LeaseHolder {
    /// Lives its life on a thread of its own.
    pub fn start(self, clock: Clock, members: Vec<String>) -> JoinHandle<LeaseStory> {
        std::thread::spawn(move || block_on(Life { holder: self, clock, members }.run()))
    }
}

struct Life {
    holder: LeaseHolder,
    clock: Clock,
    members: Vec<String>,
}

impl Life {
    fn key(&self) -> String {
        format!("/leased/{}", self.holder.number)
    }

    /// Asks one member after the other until one answers; when the answered question was asked.
    async fn until_answered<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        ask: impl Fn(String) -> F,
    ) -> (T, Micros) {
        for attempt in 0..TRIES {
            let member = (self.holder.number + attempt) % self.members.len();
            let asked_at = self.clock.now();
            let answer = tokio::time::timeout(TIMEOUT, ask(self.members[member].clone())).await;
            if let Some(answer) = answer.ok().flatten() {
                return (answer, asked_at);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        panic!("{what} was not answered in {TRIES} tries");
    }

    async fn run(self) -> LeaseStory {
        // An id of its own: a grant that was not answered may have been done.
        let id = 0x1ea5e000 + self.holder.number as i64;
        let (_, granted) = self
            .until_answered("the grant", |member| grant(member, id, self.holder.ttl_seconds))
            .await;
        let key = self.key();
        self.until_answered("the put", |member| put(member, key.clone(), id)).await;
        let mut story = LeaseStory {
            holder: self.holder,
            renewed: granted,
            renewals: 0,
            gone: None,
            forgotten: None,
        };
        self.renew(id, &mut story).await;
        self.watch(&mut story).await;
        story
    }

    async fn renew(&self, id: i64, story: &mut LeaseStory) {
        let every = Duration::from_millis(self.holder.ttl_seconds as u64 * 1000 / 3);
        let end = self.clock.now() + self.holder.renewed_for.as_micros() as Micros;
        while self.clock.now() + (every.as_micros() as Micros) < end {
            tokio::time::sleep(every).await;
            let (ttl, asked) = self.until_answered("a renewal", |member| renew(member, id)).await;
            if ttl <= 0 {
                story.forgotten = Some(self.clock.now());
                return;
            }
            (story.renewed, story.renewals) = (asked, story.renewals + 1);
        }
    }

    /// Looks until the key is gone.
    async fn watch(&self, story: &mut LeaseStory) {
        let lives = Duration::from_secs(self.holder.ttl_seconds as u64) + self.holder.grace;
        let until = story.renewed + lives.as_micros() as Micros;
        let key = self.key();
        while self.clock.now() < until {
            let (found, _) =
                self.until_answered("a read", |member| exists(member, key.clone())).await;
            if !found {
                story.gone = Some(self.clock.now());
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn grant(member: String, id: i64, ttl: i64) -> Option<()> {
    let client = Client::try_connect(&member).await?;
    let request = LeaseGrantRequest { ttl, id };
    let path = "/etcdserverpb.Lease/LeaseGrant";
    let answer: Result<LeaseGrantResponse, Failure> = client.try_unary(path, &request).await?;
    match answer {
        Ok(granted) => {
            assert_eq!((granted.id, granted.ttl), (id, ttl));
            Some(())
        }
        // An earlier try was done after all.
        Err(failure) if failure.message.contains("lease already exists") => Some(()),
        Err(_) => None,
    }
}

async fn put(member: String, key: String, lease: i64) -> Option<()> {
    let client = Client::try_connect(&member).await?;
    let request = PutRequest { key: key.into(), value: "held".into(), lease, ..Default::default() };
    let answer: Result<PutResponse, Failure> =
        client.try_unary("/etcdserverpb.KV/Put", &request).await?;
    answer.ok().map(|_| ())
}

/// The time that is left; 0 when there is no such lease.
async fn renew(member: String, id: i64) -> Option<i64> {
    let client = Client::try_connect(&member).await?;
    let request = LeaseKeepAliveRequest { id };
    let mut stream: Stream<LeaseKeepAliveRequest, LeaseKeepAliveResponse> =
        client.try_stream_with("/etcdserverpb.Lease/LeaseKeepAlive", &request).await?;
    stream.try_next().await?.map(|answer| answer.ttl)
}

async fn exists(member: String, key: String) -> Option<bool> {
    let client = Client::try_connect(&member).await?;
    let request = RangeRequest { key: key.into(), ..Default::default() };
    let answer: Result<RangeResponse, Failure> =
        client.try_unary("/etcdserverpb.KV/Range", &request).await?;
    answer.ok().map(|found| !found.kvs.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_that_end_early_or_never_are_noticed() {
        let holder = LeaseHolder {
            number: 0,
            ttl_seconds: 5,
            renewed_for: Duration::ZERO,
            grace: Duration::ZERO,
        };
        let story =
            |gone, forgotten| LeaseStory { holder, renewed: 1000, renewals: 0, gone, forgotten };
        for (gone, forgotten, good) in [
            (Some(5_001_001), None, true),
            (Some(4_999_999), None, false),
            (None, None, false),
            (Some(5_001_001), Some(4_000_000), false),
        ] {
            assert_eq!(story(gone, forgotten).check().is_ok(), good, "{gone:?} {forgotten:?}");
        }
    }
}
