//! Watches, leases, locks and elections.

use std::time::Duration;

use etcd_client::{
    CampaignResponse, Client, EventType, LockOptions, ProclaimOptions, PutOptions, ResignOptions,
    WatchOptions,
};

use crate::{Checked, ensure};

pub async fn watch(client: &mut Client) -> Checked {
    let options = WatchOptions::new().with_prefix().with_prev_key();
    let mut stream = client.watch("watch/", Some(options)).await?;
    let created = stream.message().await?.expect("created");
    ensure(created.created() && !created.canceled(), "created");
    let id = created.watch_id();
    client.put("watch/1", "a", None).await?;
    client.put("watch/1", "b", None).await?;
    client.delete("watch/1", None).await?;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let answer = stream.message().await?.expect("events");
        assert_eq!(answer.watch_id(), id);
        for event in answer.events() {
            let before = event.prev_kv().map(|kv| kv.value_str().unwrap().to_owned());
            let value = event.kv().expect("always there").value_str()?.to_owned();
            seen.push((event.event_type(), value, before));
        }
    }
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        seen,
        [
            (EventType::Put, "a".to_owned(), None),
            (EventType::Put, "b".to_owned(), text("a")),
            (EventType::Delete, String::new(), text("b")),
        ]
    );
    stream.request_progress().await?;
    let progress = stream.message().await?.expect("progress");
    ensure(progress.events().is_empty() && !progress.canceled(), "progress");
    stream.cancel(id).await?;
    let canceled = stream.message().await?.expect("canceled");
    assert_eq!((canceled.watch_id(), canceled.canceled()), (id, true));
    Ok(())
}

pub async fn watch_history(client: &mut Client) -> Checked {
    let put = client.put("history", "1", None).await?;
    let revision = put.header().expect("a header").revision();
    client.put("history", "2", None).await?;
    let options = WatchOptions::new().with_start_revision(revision);
    let mut stream = client.watch("history", Some(options)).await?;
    let mut seen = 0;
    while seen < 2 {
        seen += stream.message().await?.expect("events").events().len();
    }
    assert_eq!(seen, 2);
    // Revision 1 has been compacted by an earlier check.
    let options = WatchOptions::new().with_start_revision(1);
    let mut stream = client.watch("history", Some(options)).await?;
    let mut last = stream.message().await?.expect("an answer");
    if !last.canceled() {
        last = stream.message().await?.expect("the end");
    }
    ensure(last.canceled() && last.compact_revision() > 1, "told where history begins");
    Ok(())
}

pub async fn lease(client: &mut Client) -> Checked {
    let lease = client.lease_grant(60, None).await?;
    assert_eq!(lease.ttl(), 60);
    let id = lease.id();
    client.put("leased", "x", Some(PutOptions::new().with_lease(id))).await?;
    let (mut keeper, mut answers) = client.lease_keep_alive(id).await?;
    keeper.keep_alive().await?;
    let answer = answers.message().await?.expect("an answer");
    assert_eq!((answer.id(), answer.ttl()), (id, 60));
    let options = etcd_client::LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(id, Some(options)).await?;
    assert_eq!((left.id(), left.granted_ttl(), left.keys()), (id, 60, &[b"leased".to_vec()][..]));
    ensure((50..=60).contains(&left.ttl()), "most of a minute");
    let all = client.leases().await?;
    ensure(all.leases().iter().any(|lease| lease.id() == id), "it is listed");
    client.lease_revoke(id).await?;
    assert_eq!(client.get("leased", None).await?.count(), 0);
    ensure(client.lease_revoke(id).await.is_err(), "it is gone");
    let gone = client.lease_time_to_live(id, None).await?;
    assert_eq!(gone.ttl(), -1);
    Ok(())
}

pub async fn lock(client: &mut Client) -> Checked {
    let held = client.lock("lock", None).await?;
    ensure(held.key().starts_with(b"lock/"), "a key below the name");
    let lease = client.lease_grant(60, None).await?.id();
    let mut other = client.clone();
    let options = LockOptions::new().with_lease(lease);
    {
        let waiting = other.lock("lock", Some(options.clone()));
        let timeout = tokio::time::timeout(Duration::from_millis(300), waiting).await;
        ensure(timeout.is_err(), "somebody else has it");
    }
    client.unlock(held.key()).await?;
    let held = other.lock("lock", Some(options)).await?;
    client.unlock(held.key()).await?;
    client.lease_revoke(lease).await?;
    Ok(())
}

pub async fn election(client: &mut Client) -> Checked {
    let lease = client.lease_grant(60, None).await?.id();
    let elected: CampaignResponse = client.campaign("election", "first", lease).await?;
    let leader = elected.leader().expect("a leader").clone();
    assert_eq!((leader.name(), leader.lease()), (&b"election"[..], lease));
    let mut observer = client.observe("election").await?;
    let told = observer.message().await?.expect("a leader");
    assert_eq!(told.kv().expect("a key").value(), b"first");
    let options = ProclaimOptions::new().with_leader(leader.clone());
    ensure(client.proclaim("second", Some(options)).await?.header().is_some(), "a header");
    let told = observer.message().await?.expect("a proclamation");
    assert_eq!(told.kv().expect("a key").value(), b"second");
    let now = client.leader("election").await?;
    assert_eq!(now.kv().expect("a key").value(), b"second");
    let options = ResignOptions::new().with_leader(leader);
    ensure(client.resign(Some(options)).await?.header().is_some(), "a header");
    ensure(client.leader("election").await.is_err(), "nobody leads");
    client.lease_revoke(lease).await?;
    Ok(())
}
