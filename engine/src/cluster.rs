//! Who makes up a cluster, as operators and doors see it. Raft's own part of it, who votes, is in
//! [`mainstay_raft::Membership`]; names and addresses are documents.

mod encoding;

use bytes::Bytes;
use mainstay_raft::Membership;

/// Documents with the facts of members have names that begin with this.
pub const MEMBER_PREFIX: &[u8] = b"member/";

/// One member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberInfo {
    /// Raft's id of it, too. Not 0.
    pub id: u64,
    /// Empty until it has started for the first time.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it. Empty until it has started for the first time.
    pub client_urls: Vec<String>,
    /// It has no vote. Raft's membership decides that, whatever a document says.
    pub is_learner: bool,
}

/// A step in who is a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    Add {
        id: u64,
        peer_urls: Vec<String>,
        is_learner: bool,
    },
    Remove {
        id: u64,
    },
    /// Gives a learner its vote, once it has caught up.
    Promote {
        id: u64,
    },
}

/// New facts about a member; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberUpdate {
    pub id: u64,
    pub name: Option<String>,
    pub peer_urls: Option<Vec<String>>,
    pub client_urls: Option<Vec<String>>,
}

/// What one member knows of its cluster at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClusterStatus {
    pub member_id: u64,
    /// 0 when there is none, as far as this member knows.
    pub leader: u64,
    pub term: u64,
    /// The newest entry in its log.
    pub last_index: u64,
    pub committed_index: u64,
    pub applied_index: u64,
    pub is_learner: bool,
}

/// How a member that is not alone behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterOptions {
    pub name: String,
    /// Where other members reach this one.
    pub peer_urls: Vec<String>,
    /// Where clients reach this one.
    pub client_urls: Vec<String>,
    /// Milliseconds between two of a leader's signs of life.
    pub heartbeat_ms: u64,
    /// Milliseconds without one, after which there is an election.
    pub election_ms: u64,
    /// Ask before a campaign whether it could be won.
    pub pre_vote: bool,
    /// Refuse changes of members that would leave too few of them at work.
    pub strict_reconfig: bool,
    /// Learners at once.
    pub max_learners: usize,
    /// Begin a cluster of this member alone, with the data that it has.
    pub force_new_cluster: bool,
    /// Looked at by a member that has no identity yet.
    pub initial: Initial,
}

/// How a member begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Initial {
    #[default]
    Alone,
    /// With others, all of which begin now and know the same.
    New { cluster_id: u64, member_id: u64, members: Vec<MemberInfo> },
    /// Its cluster exists and has it for a member: one of these knows everything.
    Join { peer_urls: Vec<String> },
}

impl Default for ClusterOptions {
    fn default() -> ClusterOptions {
        ClusterOptions {
            name: String::from("default"),
            peer_urls: Vec::new(),
            client_urls: Vec::new(),
            heartbeat_ms: 100,
            election_ms: 1000,
            pre_vote: true,
            strict_reconfig: true,
            max_learners: 1,
            force_new_cluster: false,
            initial: Initial::Alone,
        }
    }
}

impl ClusterOptions {
    /// Raft's options: its tick is a heartbeat's interval.
    pub fn raft_options(&self) -> mainstay_raft::Options {
        let ticks = self.election_ms.div_ceil(self.heartbeat_ms.max(1)).clamp(2, 1000);
        mainstay_raft::Options {
            election_ticks: u32::try_from(ticks).expect("clamped"),
            heartbeat_ticks: 1,
            pre_vote: self.pre_vote,
            ..mainstay_raft::Options::default()
        }
    }
}

impl MemberInfo {
    /// The name of the document that holds the facts of member `id`.
    pub fn document_name(id: u64) -> Bytes {
        let mut name = MEMBER_PREFIX.to_vec();
        name.extend_from_slice(format!("{id:016x}").as_bytes());
        name.into()
    }

    /// The member that a document of this name is about.
    pub fn id_of_document(name: &[u8]) -> Option<u64> {
        let hex = std::str::from_utf8(name.strip_prefix(MEMBER_PREFIX)?).ok()?;
        u64::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 16)
    }
}

/// Everybody who is a member, in order of id: `facts` gives the content of a document by its name.
pub fn members<'a>(
    membership: &Membership,
    facts: impl Fn(&[u8]) -> Option<&'a Bytes>,
) -> Vec<MemberInfo> {
    let info = |id: u64| {
        let document = facts(&MemberInfo::document_name(id));
        let known = document.and_then(|content| MemberInfo::decode(content)).unwrap_or_default();
        MemberInfo { id, is_learner: membership.is_learner(id), ..known }
    };
    membership.members().into_iter().map(info).collect()
}
