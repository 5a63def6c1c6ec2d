//! Maintenance and the cluster.

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client};

use crate::{Checked, ensure};

pub async fn status(client: &mut Client) -> Checked {
    let status = client.status().await?;
    ensure(status.version().starts_with("3."), "a version of etcd's API");
    ensure(status.db_size() > 0 && status.leader() != 0, "a size and a leader");
    assert_eq!(status.raft_index(), status.raft_applied_index());
    ensure(client.defragment().await?.header().is_none(), "as etcd answers");
    Ok(())
}

pub async fn alarm(client: &mut Client) -> Checked {
    let none = client.alarm(AlarmAction::Get, AlarmType::None, None).await?;
    ensure(none.alarms().is_empty(), "no alarm");
    let member = client.status().await?.leader();
    let mut options = AlarmOptions::new();
    options.with_member(member);
    let raised =
        client.alarm(AlarmAction::Activate, AlarmType::Nospace, Some(options.clone())).await?;
    assert_eq!(raised.alarms().len(), 1);
    ensure(client.put("alarmed", "x", None).await.is_err(), "writes are refused");
    ensure(client.delete("alarmed", None).await.is_ok(), "deletions are not");
    let lowered = client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(options)).await?;
    assert_eq!(lowered.alarms().len(), 1);
    client.put("alarmed", "x", None).await?;
    Ok(())
}

pub async fn hash(client: &mut Client) -> Checked {
    let all = client.hash().await?;
    ensure(all.header().is_some() && all.hash() != 0, "a hash");
    let hash = client.hash_kv(0).await?;
    ensure(hash.hash() != 0 && hash.compact_version() != 0, "a hash and where history begins");
    assert_eq!(client.hash_kv(0).await?.hash(), hash.hash());
    Ok(())
}

pub async fn leadership(client: &mut Client) -> Checked {
    let leader = client.status().await?.leader();
    ensure(client.move_leader(leader).await?.header().is_none(), "it leads already");
    ensure(client.move_leader(leader ^ 1).await.is_err(), "there is no other");
    Ok(())
}

pub async fn members(client: &mut Client) -> Checked {
    let list = client.member_list().await?;
    let [member] = list.members() else { panic!("{list:?}") };
    ensure(!member.is_learner() && !member.client_urls().is_empty(), "a voter with URLs");
    let id = member.id();
    client.member_update(id, ["http://127.0.0.1:2380".to_owned()]).await?;
    ensure(client.member_remove(id).await.is_err(), "the last one stays");
    ensure(client.member_promote(id).await.is_err(), "it is no learner");
    Ok(())
}
