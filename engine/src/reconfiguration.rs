//! Whether members may change: etcd's rules, as the leader applies them before it proposes anything.
//!
//! Plain data in, a verdict out. A rule protects either the cluster (a quorum must stay) or its
//! operator (no URL twice, no member that there is not).

use std::collections::BTreeSet;

use crate::cluster::{ClusterOptions, MemberChange, MemberInfo, MemberUpdate};
use crate::error::StoreError;

/// How changes are checked, as the operator wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconfiguration {
    /// Refuse what could cost the quorum.
    pub strict: bool,
    /// Learners that there may be.
    pub learners_max: usize,
}

impl Reconfiguration {
    pub fn of(options: &ClusterOptions) -> Reconfiguration {
        Reconfiguration { strict: options.strict_reconfig, learners_max: options.max_learners }
    }
}

impl Default for Reconfiguration {
    /// As in etcd.
    fn default() -> Reconfiguration {
        Reconfiguration::of(&ClusterOptions::default())
    }
}

/// What the leader knows when a change is asked for.
pub struct Situation<'a> {
    /// Everybody, this member included.
    pub members: &'a [MemberInfo],
    /// This member, which leads.
    pub own_id: u64,
    /// Other members that have been heard of lately.
    pub heard_lately: BTreeSet<u64>,
    pub rules: Reconfiguration,
}

impl Situation<'_> {
    fn find(&self, id: u64) -> Option<&MemberInfo> {
        self.members.iter().find(|member| member.id == id)
    }

    fn voters(&self) -> impl Iterator<Item = &MemberInfo> {
        self.members.iter().filter(|member| !member.is_learner)
    }

    /// Voters that can be talked to, this member included.
    fn connected_voters(&self) -> usize {
        let connected = |member: &&MemberInfo| {
            member.id == self.own_id || self.heard_lately.contains(&member.id)
        };
        self.voters().filter(connected).count()
    }

    fn has_peer_url(&self, urls: &[String], except: Option<u64>) -> bool {
        let others = self.members.iter().filter(|member| Some(member.id) != except);
        others.flat_map(|member| &member.peer_urls).any(|url| urls.contains(url))
    }
}

/// As in etcd: a member has started once it has told its name.
fn has_started(member: &MemberInfo) -> bool {
    !member.name.is_empty()
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Whether `change` may be proposed.
///
/// # Errors
/// `MemberNotFound`, `MemberExists`, `PeerUrlExists`, `MemberNotLearner`, `TooManyLearners`; and, if the rules are strict, `NotEnoughStartedMembers` and
/// `UnhealthyCluster`.
pub fn check_change(situation: &Situation<'_>, change: &MemberChange) -> Result<(), StoreError> {
    match change {
        MemberChange::Add { id, peer_urls, is_learner } => {
            check_quorum_of_addition(situation, *is_learner)?;
            if situation.find(*id).is_some() {
                return Err(StoreError::MemberExists(*id));
            }
            if situation.has_peer_url(peer_urls, None) {
                return Err(StoreError::PeerUrlExists);
            }
            let learners = situation.members.iter().filter(|member| member.is_learner).count();
            match *is_learner && learners >= situation.rules.learners_max {
                true => Err(StoreError::TooManyLearners),
                false => Ok(()),
            }
        }
        MemberChange::Remove { id } => {
            check_quorum_of_removal(situation, *id)?;
            situation.find(*id).map(|_| ()).ok_or(StoreError::MemberNotFound(*id))
        }
        MemberChange::Promote { id } => {
            // Whether it has caught up, raft knows.
            let member = situation.find(*id).ok_or(StoreError::MemberNotFound(*id))?;
            if !member.is_learner {
                return Err(StoreError::MemberNotLearner(*id));
            }
            check_quorum_of_promotion(situation)
        }
    }
}

/// Whether what is known of a member may change so.
///
/// # Errors
/// `MemberNotFound`, `PeerUrlExists`.
pub fn check_update(situation: &Situation<'_>, update: &MemberUpdate) -> Result<(), StoreError> {
    if situation.find(update.id).is_none() {
        return Err(StoreError::MemberNotFound(update.id));
    }
    let urls = update.peer_urls.as_deref().unwrap_or_default();
    match situation.has_peer_url(urls, Some(update.id)) {
        true => Err(StoreError::PeerUrlExists),
        false => Ok(()),
    }
}

/// A voter that is added counts at once, and can't agree to anything before it has started.
fn check_quorum_of_addition(situation: &Situation<'_>, learner: bool) -> Result<(), StoreError> {
    let voters = situation.voters().count();
    // A member that is alone must be allowed to get company.
    if !situation.rules.strict || voters == 1 {
        return Ok(());
    }
    let started = situation.voters().filter(|member| has_started(member)).count();
    if !learner && started < quorum(voters + 1) {
        return Err(StoreError::NotEnoughStartedMembers);
    }
    match situation.connected_voters() < quorum(voters + 1) {
        true => Err(StoreError::UnhealthyCluster),
        false => Ok(()),
    }
}

/// What stays has to be able to agree without the one that goes.
fn check_quorum_of_removal(situation: &Situation<'_>, id: u64) -> Result<(), StoreError> {
    let member = situation.find(id);
    if !situation.rules.strict || member.is_some_and(|member| member.is_learner) {
        return Ok(());
    }
    let rest = || situation.voters().filter(|member| member.id != id);
    let started = rest().filter(|member| has_started(member)).count();
    if started < quorum(rest().count()) {
        return Err(StoreError::NotEnoughStartedMembers);
    }
    // One that is down takes no part in any quorum: it may go.
    if id != situation.own_id && !situation.heard_lately.contains(&id) {
        return Ok(());
    }
    let voters = situation.voters().count();
    match situation.connected_voters() - 1 < quorum(voters - 1) {
        true => Err(StoreError::UnhealthyCluster),
        false => Ok(()),
    }
}

/// The learner counts as a voter that has started.
fn check_quorum_of_promotion(situation: &Situation<'_>) -> Result<(), StoreError> {
    let voters = situation.voters().count() + 1;
    let started = situation.voters().filter(|member| has_started(member)).count() + 1;
    match situation.rules.strict && started < quorum(voters) {
        true => Err(StoreError::NotEnoughStartedMembers),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in `vVlL`: voters and learners that have started (large) or not (small), with ids from 1.
    fn members(pattern: &str) -> Vec<MemberInfo> {
        let member = |(place, letter): (usize, char)| MemberInfo {
            id: place as u64 + 1,
            name: if letter.is_uppercase() { format!("m{place}") } else { String::new() },
            peer_urls: vec![format!("http://m{place}:2380")],
            client_urls: Vec::new(),
            is_learner: letter.eq_ignore_ascii_case(&'l'),
        };
        pattern.chars().enumerate().map(member).collect()
    }

    fn check(pattern: &str, down: &[u64], rules: Reconfiguration, change: &MemberChange) -> String {
        let members = members(pattern);
        let situation = Situation {
            members: &members,
            own_id: 1,
            heard_lately: members
                .iter()
                .filter(|member| has_started(member) && !down.contains(&member.id))
                .map(|member| member.id)
                .collect(),
            rules,
        };
        let verdict = check_change(&situation, change);
        verdict.map_or_else(|error| format!("{error:?}"), |()| "ok".to_owned())
    }

    fn add(is_learner: bool) -> MemberChange {
        MemberChange::Add { id: 99, peer_urls: vec!["http://new:2380".to_owned()], is_learner }
    }

    #[test]
    fn additions() {
        for (pattern, down, is_learner, expected) in [
            ("V", &[][..], false, "ok"),
            ("V", &[], true, "ok"),
            ("VV", &[], false, "ok"),
            ("VV", &[2], false, "UnhealthyCluster"),
            ("Vv", &[], false, "NotEnoughStartedMembers"),
            ("Vv", &[], true, "UnhealthyCluster"),
            ("VVV", &[], false, "ok"),
            ("VVV", &[3], false, "UnhealthyCluster"),
            ("VVv", &[], false, "NotEnoughStartedMembers"),
            ("VVVVV", &[5], false, "ok"),
            ("VVVVV", &[4, 5], false, "UnhealthyCluster"),
            ("VVVL", &[], true, "TooManyLearners"),
            ("VVVl", &[], false, "ok"),
        ] {
            let found = check(pattern, down, Reconfiguration::default(), &add(is_learner));
            assert_eq!(found, expected, "{pattern} without {down:?}, learner {is_learner}");
        }
        let lax = Reconfiguration { strict: false, learners_max: 2 };
        assert_eq!(check("Vvv", &[], lax, &add(false)), "ok");
        assert_eq!(check("VVVL", &[2, 3], lax, &add(true)), "ok");
        let twice = |id, url: &str| MemberChange::Add {
            id,
            peer_urls: vec!["http://new:1".to_owned(), url.to_owned()],
            is_learner: false,
        };
        let rules = Reconfiguration::default();
        assert_eq!(check("VVV", &[], rules, &twice(99, "http://m2:2380")), "PeerUrlExists");
        assert_eq!(check("VVV", &[], rules, &twice(3, "http://new:2")), "MemberExists(3)");
    }

    #[test]
    fn removals() {
        for (pattern, down, id, expected) in [
            ("V", &[][..], 1, "NotEnoughStartedMembers"),
            ("V", &[], 9, "MemberNotFound(9)"),
            ("VV", &[], 2, "ok"),
            ("VV", &[], 1, "ok"),
            ("VV", &[2], 1, "UnhealthyCluster"),
            ("Vv", &[], 2, "ok"),
            ("VVV", &[], 3, "ok"),
            ("VVV", &[3], 3, "ok"),
            ("VVV", &[3], 2, "UnhealthyCluster"),
            ("VVv", &[], 2, "NotEnoughStartedMembers"),
            ("VVVVV", &[5], 2, "ok"),
            ("VVVVV", &[4, 5], 2, "UnhealthyCluster"),
            ("VVVVV", &[4, 5], 4, "ok"),
            ("VVL", &[2, 3], 3, "ok"),
        ] {
            let change = MemberChange::Remove { id };
            let found = check(pattern, down, Reconfiguration::default(), &change);
            assert_eq!(found, expected, "{pattern} without {down:?}, removing {id}");
        }
        let lax = Reconfiguration { strict: false, ..Reconfiguration::default() };
        assert_eq!(check("VVV", &[3], lax, &MemberChange::Remove { id: 2 }), "ok");
    }

    #[test]
    fn promotions() {
        for (pattern, id, expected) in [
            ("VVVL", 4, "ok"),
            ("VVVL", 3, "MemberNotLearner(3)"),
            ("VVVL", 9, "MemberNotFound(9)"),
            ("VvvL", 4, "NotEnoughStartedMembers"),
            ("VvL", 3, "ok"),
        ] {
            let change = MemberChange::Promote { id };
            let found = check(pattern, &[], Reconfiguration::default(), &change);
            assert_eq!(found, expected, "{pattern}, promoting {id}");
        }
    }

    #[test]
    fn updates() {
        let members = members("VV");
        let situation = Situation {
            members: &members,
            own_id: 1,
            heard_lately: BTreeSet::new(),
            rules: Reconfiguration::default(),
        };
        for (id, url, expected) in [
            (2, "http://new:1", Ok(())),
            (2, "http://m1:2380", Ok(())),
            (2, "http://m0:2380", Err(StoreError::PeerUrlExists)),
            (9, "http://new:1", Err(StoreError::MemberNotFound(9))),
        ] {
            let peer_urls = Some(vec![url.to_owned()]);
            let update = MemberUpdate { id, peer_urls, ..MemberUpdate::default() };
            assert_eq!(check_update(&situation, &update), expected, "{id} {url}");
        }
    }
}
