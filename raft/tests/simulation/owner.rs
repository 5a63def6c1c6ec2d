//! What the owner of a node does: writes, applies, reads, takes snapshots; and what clients ask it.

use bytes::Bytes;
use mainstay_raft::{Damage, EntriesWanted, Node, ReadState, Ready, Snapshot, SnapshotWanted};

use crate::bugs::Bug;
use crate::checks;
use crate::disk::{State, Write, append};
use crate::world::{Event, TICK, World};

impl World {
    pub(crate) fn carry_out(&mut self, id: u64, mut ready: Ready) {
        let member = self.members.get_mut(&id).expect("every id is a member");
        let life = member.life;
        append(&mut member.view, &ready.entries);
        for entry in &ready.repairs {
            member.view.insert(entry.index, entry.clone());
        }
        self.statistics.repairs += ready.repairs.len() as u64;
        if ready.write != 0 {
            member.pending.push_back(Write::of(&ready));
            let delay = self.random.between(1, self.weather.write_delay);
            member.disk_busy_until = member.disk_busy_until.max(self.now) + delay;
            let delay = member.disk_busy_until - self.now;
            self.at(delay, Event::Written { id, life });
        }
        if let Some(install) = ready.install.take() {
            let member = self.members.get_mut(&id).expect("every id is a member");
            member.keeps_tail = install.keeps_tail;
            let delay = member.disk_busy_until.max(self.now) - self.now + 1;
            self.at(delay, Event::Installed { id, life });
        }
        for message in std::mem::take(&mut ready.messages) {
            self.send(message);
        }
        for wanted in ready.entries_wanted.drain(..) {
            let delay = self.random.between(1, 60);
            self.at(delay, Event::EntriesRead { id, life, wanted });
        }
        for wanted in ready.snapshots_wanted.drain(..) {
            let delay = self.random.between(1, 200);
            self.at(delay, Event::SnapshotRead { id, life, wanted: Box::new(wanted) });
        }
        let member = self.members.get_mut(&id).expect("every id is a member");
        for read in ready.reads.drain(..) {
            if let Some(floor) = member.asked.remove(&read.context) {
                member.reads.push((read, floor));
            }
        }
        for context in ready.failed_reads.drain(..) {
            member.asked.remove(&context);
        }
        if self.bug == Some(Bug::AcknowledgesBeforeWriting)
            && ready.write != 0
            && let Some(node) = &mut member.node
        {
            node.written(ready.write);
        }
        self.apply(id, ready.commit);
    }

    fn apply(&mut self, id: u64, commit: u64) {
        loop {
            let member = self.members.get_mut(&id).expect("every id is a member");
            let target = match self.bug {
                Some(Bug::AppliesUncommitted) => commit.max(member.disk.last().0),
                Some(Bug::CommitsOlderTermByCounting) => commit.max(member.counted()),
                _ => commit,
            };
            if member.state.applied >= target {
                break;
            }
            let Some(entry) = member.view.get(&(member.state.applied + 1)).cloned() else {
                panic!("State Machine Safety: {id} has to apply an entry that it never had");
            };
            member.state.apply(&entry);
            let term = member.term();
            let first = self.checks.applied(&entry, member.state, id, term);
            if let Some((proposed, floor)) = member.proposals.remove(&entry.index)
                && proposed == entry.term
            {
                self.statistics.writes += 1;
                self.checks.answered("write", entry.index, floor);
            }
            if first {
                self.statistics.committed += 1;
                let leaders = self.members.values().filter(|leader| leader.leads());
                for leader in leaders.filter(|leader| leader.term() >= term) {
                    checks::complete(leader, &entry);
                }
            }
        }
        self.after_apply(id, commit);
    }

    fn after_apply(&mut self, id: u64, commit: u64) {
        let bug = self.bug;
        let member = self.members.get_mut(&id).expect("every id is a member");
        let applied = member.state.applied;
        if let Some(node) = &mut member.node
            && applied <= commit
        {
            node.applied(applied);
        }
        let early = bug == Some(Bug::ReadsBeforeApplying);
        let ripe = |read: &(ReadState, u64)| early || read.0.index <= applied;
        let done: Vec<_> = member.reads.extract_if(.., |read| ripe(read)).collect();
        for (_, floor) in done {
            self.statistics.reads += 1;
            self.checks.answered("read", applied, floor);
        }
        self.snapshot(id);
    }

    /// Takes a snapshot now and then, and drops the log before it, or a bit less.
    fn snapshot(&mut self, id: u64) {
        let every = self.weather.snapshot_every;
        let kept = self.random.between(0, 8);
        let member = self.members.get_mut(&id).expect("every id is a member");
        let applied = member.state.applied;
        let Some(node) = &mut member.node else { return };
        let durable = member.disk.log.get(&applied).map(|entry| entry.term);
        if applied < member.disk.snapshot.applied + every
            || applied > node.commit()
            || durable != node.term_at(applied)
            || self.random.chance(800)
        {
            return;
        }
        let state = member.state;
        // Only a state that is known to be right may take the log's place.
        if self.checks.committed.get(&applied).is_none_or(|(_, expected)| *expected != state) {
            panic!("State Machine Safety: {id} would keep another state");
        }
        let unwritten = member.pending.len();
        if unwritten > 0 {
            return;
        }
        member.disk.snapshot = state;
        let index = applied.saturating_sub(kept).min(applied);
        if index > member.disk.base.0 && node.compact(index) {
            member.disk.compact(index);
            member.view = member.view.split_off(&(index + 1));
        }
    }

    pub(crate) fn written(&mut self, id: u64, life: u64) {
        let bug = self.bug;
        if self.alive(id, life).is_none() {
            return;
        }
        let Some(member) = self.members.get_mut(&id) else { return };
        let Some(write) = member.pending.pop_front() else { return };
        let number = write.number;
        member.disk.write(write, bug);
        if bug != Some(Bug::AcknowledgesBeforeWriting) {
            self.with(id, |node| node.written(number));
        }
    }

    pub(crate) fn installed(&mut self, id: u64, life: u64) {
        if self.alive(id, life).is_none() {
            return;
        }
        let member = self.members.get_mut(&id).expect("every id is a member");
        let late = member.pending.iter().any(Write::has_entries);
        assert!(!late, "no entries are taken while a snapshot is being installed");
        let keeps_tail = member.keeps_tail;
        let state: State = member.disk.install(keeps_tail);
        match keeps_tail {
            true => member.view = member.view.split_off(&(state.applied + 1)),
            false => member.view.clear(),
        }
        if self.bug != Some(Bug::InstallsLogWithoutState) {
            self.checks.installed(state, id);
            if state.applied > member.state.applied {
                member.state = state;
            }
        }
        self.statistics.installs += 1;
        self.log(|| format!("{id} installed {}", state.applied));
        self.with(id, Node::snapshot_installed);
    }

    pub(crate) fn entries_read(&mut self, id: u64, life: u64, wanted: EntriesWanted) {
        let Some(member) = self.alive(id, life) else { return };
        let from = wanted.from;
        if from <= member.disk.base.0 {
            self.with(id, |node| node.entries_compacted(from));
            return;
        }
        let mut entries = Vec::new();
        for index in from..=wanted.to.min(from + 3) {
            match member.disk.log.get(&index) {
                Some(entry) if !member.disk.damaged.contains(&index) => entries.push(entry.clone()),
                _ => break,
            }
        }
        let damage = member.disk.log.get(&from).map(|entry| Damage {
            index: from,
            term: entry.term,
            kind: entry.kind,
        });
        self.with(id, |node| match (entries.is_empty(), damage) {
            (false, _) => node.entries_read(entries),
            (true, Some(damage)) => node.damaged(damage),
            // Cut off meanwhile: whoever needed them asks anew.
            (true, None) => node.entries_compacted(from),
        });
    }

    pub(crate) fn snapshot_read(&mut self, id: u64, life: u64, wanted: &SnapshotWanted) {
        let Some(member) = self.alive(id, life) else { return };
        let state = member.disk.snapshot;
        if state.applied == 0 {
            self.with(id, |node| node.snapshot_unavailable(wanted.to));
            return;
        }
        let bytes = state.encode();
        let name = (state.applied, state.digest);
        let same = |known: &Snapshot| (known.index, known.fingerprint) == name;
        let goes_on = wanted.snapshot.as_ref().is_some_and(same);
        let offset = if goes_on { wanted.offset } else { 0 };
        let start = bytes.len().min(offset as usize);
        let end = bytes.len().min(start + wanted.max_bytes);
        let data = Bytes::copy_from_slice(&bytes[start..end]);
        let done = end == bytes.len();
        self.with(id, |node| node.snapshot_part(wanted.to, name, offset, data, done));
    }

    /// A client does something, somewhere.
    pub(crate) fn client(&mut self) {
        let next = self.random.between(TICK / 8, self.weather.idle);
        self.at(next, Event::Client);
        let running = |id: &u64| self.paused.get(id).is_none_or(|until| *until <= self.now);
        let up = self.members.values().filter(|member| member.node.is_some());
        let up = up.filter(|member| running(&member.id));
        let up: Vec<u64> = up.map(|member| member.id).collect();
        let leaders: Vec<u64> = up.iter().copied().filter(|id| self.members[id].leads()).collect();
        self.operations += 1;
        let somebody = self.random.pick(&up);
        // Whoever believes to lead is asked most: it may be wrong.
        let leader = self.random.pick(&leaders);
        match self.random.between(0, 9) {
            0..=3 => {
                leader.and_then(|id| self.write(id));
            }
            4..=6 => leader.into_iter().for_each(|id| self.read(id)),
            _ => somebody.into_iter().for_each(|id| self.read(id)),
        }
    }

    pub(crate) fn write(&mut self, id: u64) -> Option<u64> {
        let data = Bytes::from(format!("{:08}", self.operations));
        let floor = self.checks.floor;
        let node = self.members.get_mut(&id)?.node.as_mut()?;
        let index = node.propose(data).ok()?;
        let term = node.term();
        self.members.get_mut(&id)?.proposals.insert(index, (term, floor));
        self.pump(id);
        Some(index)
    }

    fn read(&mut self, id: u64) {
        let (context, floor) = (self.operations, self.checks.floor);
        let member = self.members.get_mut(&id).expect("every id is a member");
        if self.bug == Some(Bug::ReadsWithoutAsking) && member.leads() {
            let applied = member.state.applied;
            self.checks.answered("read", applied, floor);
            return;
        }
        member.asked.insert(context, floor);
        let taken = self.with(id, |node| node.read_index(context).is_ok());
        if taken != Some(true) {
            self.members.get_mut(&id).expect("every id is a member").asked.remove(&context);
        }
    }
}
