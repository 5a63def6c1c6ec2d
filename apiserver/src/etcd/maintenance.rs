//! Service Maintenance.
//!
//! There is nothing to defragment, so that succeeds at once; a downgrade is validated and never begun.

use std::rc::Rc;

use mainstay_proto::maintenance::{
    AlarmAction, AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest,
    DefragmentResponse, DowngradeAction, DowngradeInfo, DowngradeRequest, DowngradeResponse,
    HashKvRequest, HashKvResponse, HashRequest, HashResponse, MoveLeaderRequest,
    MoveLeaderResponse, StatusRequest, StatusResponse,
};

use super::errors::{self, EtcdError, from_store};
use super::{Door, ETCD_CLUSTER_VERSION, ETCD_MINOR_VERSION, ETCD_VERSION};
use crate::cli::LogLevel;
use crate::net::grpc::Status;
use crate::{log, metrics};

pub(super) async fn status(
    door: Rc<Door>,
    _request: StatusRequest,
) -> Result<StatusResponse, Status> {
    let status = door.store.status();
    let alarms = door.options.alarms.list(AlarmType::None);
    let leaderless = (status.leader == 0).then(|| errors::NO_LEADER.1.to_owned());
    Ok(StatusResponse {
        header: Some(door.header(status.revision)),
        version: ETCD_VERSION.to_owned(),
        db_size: door.store.disk_bytes().await as i64,
        leader: status.leader,
        raft_index: status.raft_index,
        raft_term: status.raft_term,
        raft_applied_index: status.raft_applied_index,
        errors: leaderless.into_iter().chain(alarms.iter().map(describe)).collect(),
        db_size_in_use: status.live_bytes as i64,
        is_learner: status.is_learner,
        storage_version: ETCD_CLUSTER_VERSION.to_owned(),
        // 0 for none.
        db_size_quota: door.options.alarms.quota().bytes() as i64,
        downgrade_info: Some(DowngradeInfo::default()),
    })
}

/// Lists, raises and takes back alarms. As in etcd, a kind of none raises none, and an alarm that
/// is not there is taken back without an answer.
pub(super) async fn alarm(door: Rc<Door>, request: AlarmRequest) -> Result<AlarmResponse, Status> {
    let kind = AlarmType::try_from(request.alarm).map_err(|_| errors::UNKNOWN_ALARM)?;
    let alarm = AlarmMember { member_id: request.member_id, alarm: request.alarm };
    let alarms = &door.options.alarms;
    let shown = match AlarmAction::try_from(request.action).map_err(|_| errors::UNKNOWN_ALARM)? {
        AlarmAction::Get => alarms.list(kind),
        _ if kind == AlarmType::None => Vec::new(),
        AlarmAction::Activate => {
            alarms.activate(&door.store, alarm).await.map_err(from_store)?;
            vec![alarm]
        }
        AlarmAction::Deactivate => {
            let was_there = alarms.deactivate(&door.store, alarm).await.map_err(from_store)?;
            was_there.then_some(alarm).into_iter().collect()
        }
    };
    Ok(AlarmResponse { header: Some(door.header(door.store.revision())), alarms: shown })
}

/// As etcd prints an alarm among the errors of a status.
fn describe(alarm: &AlarmMember) -> String {
    let kind = match AlarmType::try_from(alarm.alarm) {
        Ok(AlarmType::NoSpace) => "NOSPACE",
        Ok(AlarmType::Corrupt) => "CORRUPT",
        Ok(AlarmType::None) | Err(_) => "NONE",
    };
    // Fields that are zero are left out, and each is followed by a space.
    match alarm.member_id {
        0 => format!("alarm:{kind} "),
        member => format!("memberID:{member} alarm:{kind} "),
    }
}

/// There is no database file whose free pages could be given back: nothing to do, which is said in
/// the log, as some operators plan for it. etcd's answer to this has no header either.
pub(super) async fn defragment(
    _door: Rc<Door>,
    _request: DefragmentRequest,
) -> Result<DefragmentResponse, Status> {
    metrics::server().defragments.add(1);
    log::write(
        LogLevel::Info,
        format_args!("Defragment: there is nothing to defragment, compaction frees all by itself"),
    );
    Ok(DefragmentResponse { header: None })
}

/// The hash of everything there is. etcd hashes its file; as there, members can be compared with
/// each other and with nothing else.
pub(super) async fn hash(door: Rc<Door>, _request: HashRequest) -> Result<HashResponse, Status> {
    let hashed = door.store.hash_kv(0).await.map_err(from_store)?;
    Ok(HashResponse {
        header: Some(door.header(hashed.current_revision)),
        hash: folded(hashed.hash),
    })
}

/// The hash of what lived at a revision.
pub(super) async fn hash_kv(
    door: Rc<Door>,
    request: HashKvRequest,
) -> Result<HashKvResponse, Status> {
    let hashed = door.store.hash_kv(request.revision).await.map_err(from_store)?;
    Ok(HashKvResponse {
        header: Some(door.header(hashed.current_revision)),
        hash: folded(hashed.hash),
        // etcd says -1 when nothing was ever compacted.
        compact_revision: match hashed.compacted_revision {
            0 => -1,
            revision => revision,
        },
        hash_revision: hashed.revision,
    })
}

/// All of a hash, in the half that etcd's answer has room for.
fn folded(hash: u64) -> u32 {
    (hash >> 32) as u32 ^ hash as u32
}

/// The leader is asked to hand over to another member. etcd's answer has no header.
pub(super) async fn move_leader(
    door: Rc<Door>,
    request: MoveLeaderRequest,
) -> Result<MoveLeaderResponse, Status> {
    if !door.store.is_leader() {
        return Err(errors::NOT_LEADER.into());
    }
    if request.target_id != door.store.status().member_id {
        door.store.move_leader(request.target_id).await.map_err(from_store)?;
    }
    Ok(MoveLeaderResponse { header: None })
}

/// Validates as a member of version 3.6 does, and cancels what is not there, as etcd
/// does without an error. Mainstay itself has no older version to go down to.
pub(super) async fn downgrade(
    door: Rc<Door>,
    request: DowngradeRequest,
) -> Result<DowngradeResponse, Status> {
    match request.action() {
        DowngradeAction::Validate => check_target(&request.version)?,
        DowngradeAction::Cancel => {}
        DowngradeAction::Enable => {
            check_target(&request.version)?;
            return Err(errors::unimplemented("mainstay can't be downgraded to a version of etcd"));
        }
    }
    let header = Some(door.header(door.store.revision()));
    Ok(DowngradeResponse { header, version: ETCD_MINOR_VERSION.to_owned() })
}

/// The one version that a cluster of version 3.6 can go down to, as `3.5` or `3.5.x`.
fn check_target(version: &str) -> Result<(), EtcdError> {
    let numbers: Option<Vec<u64>> = version.split('.').map(number).collect();
    match numbers.as_deref() {
        Some([3, 5] | [3, 5, _]) => Ok(()),
        Some([_, _] | [_, _, _]) => Err(errors::DOWNGRADE_TARGET),
        _ => Err(errors::DOWNGRADE_FORMAT),
    }
}

fn number(digits: &str) -> Option<u64> {
    let good = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_described_as_etcd_does() {
        for (member_id, alarm, expected) in [
            (10276657743932975437, 1, "memberID:10276657743932975437 alarm:NOSPACE "),
            (0, 2, "alarm:CORRUPT "),
        ] {
            assert_eq!(describe(&AlarmMember { member_id, alarm }), expected);
        }
    }

    #[test]
    fn downgrade_targets() {
        for (version, expected) in [
            ("3.5", Ok(())),
            ("3.5.0", Ok(())),
            ("3.5.9", Ok(())),
            ("3.4", Err(errors::DOWNGRADE_TARGET)),
            ("3.6.0", Err(errors::DOWNGRADE_TARGET)),
            ("", Err(errors::DOWNGRADE_FORMAT)),
            ("3", Err(errors::DOWNGRADE_FORMAT)),
            ("v3.5", Err(errors::DOWNGRADE_FORMAT)),
            ("3.5.", Err(errors::DOWNGRADE_FORMAT)),
            ("3.5.0.0", Err(errors::DOWNGRADE_FORMAT)),
            ("+3.5", Err(errors::DOWNGRADE_FORMAT)),
        ] {
            assert_eq!(check_target(version), expected, "{version}");
        }
    }
}
