//! A few nodes whose every step is taken by hand, and told in words.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use bytes::Bytes;
use mainstay_raft::{
    Body, Config, Damage, Entry, EntryKind, HardState, Membership, Message, Node, Options, Ready,
    RepairAnswer, Snapshot,
};

/// What a member has on its disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) base: (u64, u64),
    pub(crate) log: BTreeMap<u64, Entry>,
    pub(crate) damaged: BTreeSet<u64>,
    membership: (u64, Membership),
    partial: Option<(Snapshot, Vec<u8>)>,
    incarnation: u64,
}

pub(crate) struct Member {
    /// `None` while it is down.
    pub(crate) node: Option<Node>,
    pub(crate) disk: Disk,
    pending: VecDeque<Ready>,
    commit: u64,
}

#[derive(Default)]
pub(crate) struct Cluster {
    pub(crate) members: BTreeMap<u64, Member>,
    pub(crate) options: Options,
    /// On their way, in order.
    pub(crate) messages: VecDeque<Message>,
    /// Nothing gets to or from these.
    pub(crate) isolated: BTreeSet<u64>,
    /// Writes are done when the test says so.
    pub(crate) slow_disks: bool,
    /// What happened since it was last taken.
    pub(crate) told: String,
}

pub(crate) fn describe(entry: &Entry) -> String {
    let (index, term) = (entry.index, entry.term);
    match entry.kind {
        EntryKind::Normal if entry.data.is_empty() => format!("{index}@{term}"),
        EntryKind::Normal => {
            format!("{index}@{term} {:?}", String::from_utf8_lossy(&entry.data))
        }
        EntryKind::Membership => {
            let membership = Membership::decode(&entry.data).expect("as written");
            format!("{index}@{term} ({})", describe_membership(&membership))
        }
    }
}

pub(crate) fn describe_membership(membership: &Membership) -> String {
    let mut text = format!("voters {:?}", membership.voters);
    let mut list = |name: &str, ids: &[u64]| {
        if !ids.is_empty() {
            text.push_str(&format!(" {name} {ids:?}"));
        }
    };
    list("outgoing", &membership.outgoing);
    list("learners", &membership.learners);
    list("learners next", &membership.learners_next);
    list("returning", &membership.returning);
    if membership.auto_leave {
        text.push_str(" auto leave");
    }
    text
}

fn describe_all(entries: &[Entry]) -> String {
    entries.iter().map(describe).collect::<Vec<_>>().join(", ")
}

fn describe_body(body: &Body) -> String {
    match body {
        Body::VoteRequest { pre, last_index, last_term, transfer } => {
            let kind = if *pre { "pre-vote" } else { "vote" };
            let urgent = if *transfer { ", handed over" } else { "" };
            format!("{kind}? last {last_index}@{last_term}{urgent}")
        }
        Body::VoteResponse { pre, granted } => {
            let kind = if *pre { "pre-vote" } else { "vote" };
            format!("{kind} {}", if *granted { "granted" } else { "refused" })
        }
        Body::Append { prev_index, prev_term, entries, commit } => {
            let entries = if entries.is_empty() { "-".into() } else { describe_all(entries) };
            format!("append after {prev_index}@{prev_term}: {entries}; commit {commit}")
        }
        Body::AppendResponse { verified, durable } => {
            format!("accepted up to {verified}, durable up to {durable}")
        }
        Body::AppendRejected { prev_index, hint_index, hint_term } => {
            format!("rejected after {prev_index}, perhaps after {hint_index}@{hint_term}")
        }
        Body::Heartbeat { round, commit, .. } => format!("heartbeat {round}; commit {commit}"),
        Body::HeartbeatResponse { round, .. } => format!("heartbeat {round} heard"),
        Body::TimeoutNow => "campaign now".into(),
        Body::StaleTerm => "that term is over".into(),
        Body::ReadRequest { .. } => "read where?".into(),
        Body::ReadResponse { index, .. } => format!("read at {index}"),
        Body::SnapshotPart(part) => {
            let end = if part.done { ", the end" } else { "" };
            let (index, bytes) = (part.snapshot.index, part.data.len());
            format!("snapshot of {index}: {bytes} bytes from {} on{end}", part.offset)
        }
        Body::SnapshotResponse { snapshot, received } => {
            format!("snapshot of {}: {received} bytes received", snapshot.index)
        }
        Body::RepairRequest { index, entry_term } => format!("who has {index}@{entry_term}?"),
        Body::RepairResponse { index, entry_term, answer } => match answer {
            RepairAnswer::Intact(entry) => format!("here is {}", describe(entry)),
            RepairAnswer::Absent => format!("never had {index}@{entry_term}"),
            RepairAnswer::Unknown => format!("don't know about {index}@{entry_term} yet"),
            RepairAnswer::Compacted => format!("{index}@{entry_term} is in a snapshot"),
        },
    }
}

pub(crate) fn describe_message(message: &Message) -> String {
    let Message { from, to, term, body, .. } = message;
    format!("{from} -> {to} in term {term}: {}", describe_body(body))
}

impl Cluster {
    /// Voters from the beginning, and others that exist without being members.
    pub(crate) fn new(voters: &[u64], others: &[u64], options: Options) -> Cluster {
        let mut cluster = Cluster { options, ..Cluster::default() };
        for id in voters.iter().chain(others) {
            let membership = match voters.contains(id) {
                true => Membership::of_voters(voters),
                false => Membership::default(),
            };
            let disk = Disk { membership: (0, membership), ..Disk::default() };
            let member = Member { node: None, disk, pending: VecDeque::new(), commit: 0 };
            cluster.members.insert(*id, member);
            cluster.start(*id);
        }
        cluster
    }

    pub(crate) fn node(&mut self, id: u64) -> &mut Node {
        self.member(id).node.as_mut().expect("up")
    }

    pub(crate) fn member(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).expect("known")
    }

    pub(crate) fn start(&mut self, id: u64) {
        let options = self.options.clone();
        let disk = &self.member(id).disk;
        let mut terms: Vec<(u64, u64)> = Vec::new();
        let mut memberships = vec![disk.membership.clone()];
        for entry in disk.log.values() {
            if terms.last().is_none_or(|run| run.1 != entry.term) {
                terms.push((entry.index, entry.term));
            }
            if entry.kind == EntryKind::Membership && !disk.damaged.contains(&entry.index) {
                let membership = Membership::decode(&entry.data).expect("as written");
                memberships.push((entry.index, membership));
            }
        }
        let last = disk.log.last_key_value();
        let (last_index, last_term) = last.map_or(disk.base, |(index, entry)| (*index, entry.term));
        let damage = |index: &u64| {
            let Entry { term, kind, .. } = disk.log[index];
            Damage { index: *index, term, kind }
        };
        let config = Config {
            id,
            incarnation: disk.incarnation,
            hard_state: disk.hard_state,
            last_index,
            last_term,
            memberships,
            base_index: disk.base.0,
            base_term: disk.base.1,
            terms,
            applied: disk.base.0,
            damaged: disk.damaged.iter().map(damage).collect(),
            partial_snapshot: disk
                .partial
                .as_ref()
                .map(|(snapshot, bytes)| (snapshot.clone(), bytes.len() as u64)),
            seed: id,
            options,
            ..Config::default()
        };
        self.member(id).node = Some(Node::new(config));
    }

    /// Stops, and loses what was not written.
    pub(crate) fn crash(&mut self, id: u64) {
        let member = self.member(id);
        member.node = None;
        member.pending.clear();
        member.commit = 0;
    }

    pub(crate) fn lose_disk(&mut self, id: u64, incarnation: u64) {
        self.crash(id);
        self.member(id).disk = Disk { incarnation, ..Disk::default() };
    }

    pub(crate) fn tell(&mut self, text: &str) {
        writeln!(self.told, "{text}").expect("memory");
    }

    /// Takes what a node wants done; its disk may be slow. Whether there was anything.
    pub(crate) fn ready(&mut self, id: u64) -> bool {
        let Some(node) = &mut self.member(id).node else { return false };
        let ready = node.ready();
        let known = self.member(id).commit;
        let idle = Ready { commit: ready.commit, ..Ready::default() } == ready;
        if idle && ready.commit <= known {
            return false;
        }
        self.tell_ready(id, &ready, known);
        self.member(id).commit = ready.commit.max(known);
        self.messages.extend(ready.messages.iter().cloned());
        self.answer(id, &ready);
        if ready.write != 0 || ready.install.is_some() {
            self.member(id).pending.push_back(ready);
        }
        if !self.slow_disks {
            self.write(id, usize::MAX);
        }
        true
    }

    fn tell_ready(&mut self, id: u64, ready: &Ready, known: u64) {
        if let Some(HardState { term, vote, .. }) = ready.hard_state {
            self.tell(&format!("{id} writes term {term}, vote {vote}"));
        }
        if !ready.entries.is_empty() {
            self.tell(&format!("{id} writes {}", describe_all(&ready.entries)));
        }
        if !ready.repairs.is_empty() {
            self.tell(&format!("{id} mends {}", describe_all(&ready.repairs)));
        }
        for part in &ready.snapshot_parts {
            self.tell(&format!("{id} keeps {} bytes of a snapshot", part.data.len()));
        }
        if ready.commit > known {
            self.tell(&format!("{id} commits {}", ready.commit));
        }
        for read in &ready.reads {
            self.tell(&format!("{id} reads {} at {}", read.context, read.index));
        }
        for context in &ready.failed_reads {
            self.tell(&format!("{id} fails read {context}"));
        }
    }

    /// What an owner answers from its disk, at once.
    fn answer(&mut self, id: u64, ready: &Ready) {
        for wanted in &ready.entries_wanted {
            let disk = &self.member(id).disk;
            let entries: Vec<Entry> =
                disk.log.range(wanted.from..=wanted.to).map(|(_, entry)| entry.clone()).collect();
            self.tell(&format!("{id} reads entries {} to {}", wanted.from, wanted.to));
            self.node(id).entries_read(entries);
        }
        for wanted in &ready.snapshots_wanted {
            let base = self.member(id).disk.base.0;
            let content = format!("everything up to {base}");
            let start = content.len().min(wanted.offset as usize);
            let end = content.len().min(start + wanted.max_bytes);
            let data = Bytes::copy_from_slice(&content.as_bytes()[start..end]);
            let (offset, done) = (start as u64, end == content.len());
            self.node(id).snapshot_part(wanted.to, (base, base), offset, data, done);
        }
    }

    /// Finishes up to so many writes.
    pub(crate) fn write(&mut self, id: u64, count: usize) {
        for _ in 0..count {
            let member = self.member(id);
            let Some(ready) = member.pending.pop_front() else { return };
            let disk = &mut member.disk;
            disk.hard_state = ready.hard_state.unwrap_or(disk.hard_state);
            for entry in ready.entries {
                disk.log.split_off(&entry.index);
                disk.damaged.split_off(&entry.index);
                disk.log.insert(entry.index, entry);
            }
            for entry in ready.repairs {
                disk.damaged.remove(&entry.index);
                disk.log.insert(entry.index, entry);
            }
            for part in ready.snapshot_parts {
                if part.offset == 0 {
                    disk.partial = Some((part.snapshot.clone(), Vec::new()));
                }
                let (_, bytes) = disk.partial.as_mut().expect("begins at 0");
                bytes.extend_from_slice(&part.data);
            }
            let installed = ready.install.is_some();
            if let Some(install) = ready.install {
                let Snapshot { index, term, membership, .. } = install.snapshot;
                let (_, bytes) = disk.partial.take().expect("complete");
                let tail = disk.log.split_off(&(index + 1));
                disk.log = if install.keeps_tail { tail } else { BTreeMap::new() };
                disk.damaged.retain(|damaged| *damaged > index && install.keeps_tail);
                (disk.base, disk.membership) = ((index, term), (index, membership));
                let content = String::from_utf8_lossy(&bytes).into_owned();
                self.tell(&format!("{id} installs {content:?}"));
            }
            let Some(node) = &mut self.member(id).node else { return };
            if ready.write != 0 {
                node.written(ready.write);
            }
            if installed {
                node.snapshot_installed();
            }
        }
    }

    /// Drops the log up to `index`, of which there is a snapshot.
    pub(crate) fn compact(&mut self, id: u64, index: u64) {
        assert!(self.node(id).compact(index));
        let member = self.member(id);
        let term = member.disk.log[&index].term;
        for entry in member.disk.log.range(..=index).map(|(_, entry)| entry) {
            if entry.kind == EntryKind::Membership {
                let membership = Membership::decode(&entry.data).expect("as written");
                member.disk.membership = (entry.index, membership);
            }
        }
        member.disk.log = member.disk.log.split_off(&(index + 1));
        member.disk.base = (index, term);
    }

    pub(crate) fn damage(&mut self, id: u64, index: u64) {
        let member = self.member(id);
        member.disk.damaged.insert(index);
        let Entry { term, kind, .. } = member.disk.log[&index];
        if let Some(node) = &mut member.node {
            node.damaged(Damage { index, term, kind });
        }
    }

    /// Delivers the oldest message. Whether there was one.
    pub(crate) fn deliver_one(&mut self) -> bool {
        let Some(message) = self.messages.pop_front() else { return false };
        let (from, to) = (message.from, message.to);
        let lost = self.isolated.contains(&from) || self.isolated.contains(&to);
        let up = self.members.get(&to).is_some_and(|member| member.node.is_some());
        if lost || !up {
            self.tell(&format!("lost: {}", describe_message(&message)));
        } else {
            self.tell(&describe_message(&message));
            if let Err(error) = self.node(to).step(from, message) {
                self.tell(&format!("{to}: {error}"));
            }
        }
        true
    }

    /// Lets everything happen that can happen without time passing.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let ids: Vec<u64> = self.members.keys().copied().collect();
            let busy = ids.iter().filter(|id| self.ready(**id)).count();
            let delivered = self.deliver_one();
            if busy == 0 && !delivered {
                return;
            }
        }
        panic!("it never settles");
    }

    pub(crate) fn tick(&mut self, id: u64, count: u64) {
        for _ in 0..count {
            self.node(id).tick();
        }
    }
}
