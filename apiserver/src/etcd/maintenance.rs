//! Service Maintenance.
//!
//! Status and alarms are answered; there is nothing to defragment, so that succeeds at once.
//! Hash, HashKV, MoveLeader to others and Downgrade are refused with a text.

use std::rc::Rc;

use mainstay_proto::maintenance::{
    AlarmAction, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    DowngradeInfo, DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest,
    HashResponse, MoveLeaderRequest, MoveLeaderResponse, StatusRequest, StatusResponse,
};

use super::{Door, ETCD_CLUSTER_VERSION, ETCD_VERSION, errors};
use crate::net::grpc::Status;

pub(super) async fn status(
    door: Rc<Door>,
    _request: StatusRequest,
) -> Result<StatusResponse, Status> {
    let status = door.store.status();
    Ok(StatusResponse {
        header: Some(door.header(status.revision)),
        version: ETCD_VERSION.to_owned(),
        db_size: status.disk_bytes as i64,
        leader: status.member_id,
        raft_index: status.raft_index,
        raft_term: status.raft_term,
        raft_applied_index: status.raft_index,
        errors: Vec::new(),
        db_size_in_use: status.live_bytes as i64,
        is_learner: false,
        storage_version: ETCD_CLUSTER_VERSION.to_owned(),
        db_size_quota: 0, // there is none
        downgrade_info: Some(DowngradeInfo::default()),
    })
}

/// No alarm is ever raised here (there is no quota, and corruption ends the process), so the list
/// is empty and there is nothing to disarm.
pub(super) async fn alarm(door: Rc<Door>, request: AlarmRequest) -> Result<AlarmResponse, Status> {
    if request.action() == AlarmAction::Activate && request.alarm() != AlarmType::None {
        return Err(errors::unimplemented(
            "mainstay has no alarms: it has no space quota and stops by itself on corruption",
        ));
    }
    let header = Some(door.header(door.store.revision()));
    Ok(AlarmResponse { header, alarms: Vec::new() })
}

/// There is no database file whose free pages could be given back: nothing to do. etcd's answer to
/// this has no header either.
pub(super) async fn defragment(
    _door: Rc<Door>,
    _request: DefragmentRequest,
) -> Result<DefragmentResponse, Status> {
    Ok(DefragmentResponse { header: None })
}

pub(super) async fn hash(_door: Rc<Door>, _request: HashRequest) -> Result<HashResponse, Status> {
    Err(errors::unimplemented("mainstay has no etcd database file to hash"))
}

pub(super) async fn hash_kv(
    _door: Rc<Door>,
    _request: HashKvRequest,
) -> Result<HashKvResponse, Status> {
    Err(errors::unimplemented("HashKV is not implemented by mainstay yet"))
}

pub(super) async fn move_leader(
    _door: Rc<Door>,
    _request: MoveLeaderRequest,
) -> Result<MoveLeaderResponse, Status> {
    Err(errors::BAD_LEADER_TRANSFEREE.into())
}

pub(super) async fn downgrade(
    _door: Rc<Door>,
    _request: DowngradeRequest,
) -> Result<DowngradeResponse, Status> {
    Err(errors::unimplemented("mainstay can't be downgraded to a version of etcd"))
}
