//! All members of a cluster under measurement (or the one server that is alone): started together,
//! killed and started again one by one, always ended, their directories always removed.

use super::peer::{MemberPlace, Peer};
use super::server::{DATA, ScratchDirectory, Server, free_ports};
use crate::limits;
use crate::load::grpc::{CallError, Channel, Endpoint, Method};
use crate::load::wire;
use bytes::{Bytes, BytesMut};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// gRPC's code for what may be asked again.
const UNAVAILABLE: u32 = 14;

/// A member: running, or its directory.
enum Seat {
    Running(Server),
    Down(ScratchDirectory),
    /// Its directory was lost with it.
    Gone,
}

/// A cluster.
pub struct Fleet {
    peer: Peer,
    parent: PathBuf,
    label: String,
    ports: Vec<[u16; 2]>,
    seats: Vec<Seat>,
    ready_after: Duration,
}

/// What a member says of itself and of the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its own id.
    pub member: u64,
    /// The leader's; 0 when it knows none.
    pub leader: u64,
    /// Its newest revision.
    pub revision: u64,
    /// Raft's term.
    pub term: u64,
}

impl Fleet {
    /// Starts `members` of `peer` with fresh directories beneath `parent`, and waits until each
    /// answers a linearizable read. One alone is started as a server that is no cluster.
    ///
    /// # Errors
    /// When one cannot be started or does not answer; with the end of its log.
    pub fn start(peer: &Peer, parent: &Path, label: &str, members: usize) -> Result<Self, String> {
        let mut fleet = Self {
            peer: peer.clone(),
            parent: parent.to_owned(),
            label: label.to_owned(),
            ports: Vec::new(),
            seats: Vec::new(),
            ready_after: Duration::ZERO,
        };
        if members == 1 {
            let server = Server::start(peer, ScratchDirectory::create(parent, label)?)?;
            fleet.ready_after = server.ready_after();
            fleet.seats.push(Seat::Running(server));
            return Ok(fleet);
        }
        let started = Instant::now();
        for _ in 0..members {
            fleet.ports.push(free_ports()?);
        }
        for member in 0..members {
            let directory = fleet.directory(member)?;
            let server = fleet.spawn(member, directory, "new")?;
            fleet.seats.push(Seat::Running(server));
        }
        (0..members).try_for_each(|member| fleet.wait_ready(member))?;
        fleet.ready_after = started.elapsed();
        Ok(fleet)
    }

    fn directory(&self, member: usize) -> Result<ScratchDirectory, String> {
        ScratchDirectory::create(&self.parent, &format!("{}-m{member}", self.label))
    }

    fn initial_cluster(&self) -> String {
        let urls = self.ports.iter().enumerate();
        let urls = urls.map(|(member, [_, peer])| format!("m{member}=http://127.0.0.1:{peer}"));
        urls.collect::<Vec<_>>().join(",")
    }

    fn spawn(
        &self,
        member: usize,
        directory: ScratchDirectory,
        state: &str,
    ) -> Result<Server, String> {
        let (name, cluster) = (format!("m{member}"), self.initial_cluster());
        let ports = self.ports[member];
        let place = MemberPlace { name: &name, ports, cluster: &cluster, state };
        let flags = self.peer.member_flags(&directory.path().join(DATA), &place);
        Server::spawn(&self.peer, &flags, ports[0], directory)
    }

    fn wait_ready(&mut self, member: usize) -> Result<(), String> {
        match &mut self.seats[member] {
            Seat::Running(server) => server.wait_ready(&self.peer),
            _ => Err(format!("member {member} of {} does not run", self.peer.name)),
        }
    }

    /// How many members there are, running or not.
    #[must_use]
    pub fn size(&self) -> usize {
        self.seats.len()
    }

    /// From the first start to the last first answer.
    #[must_use]
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Server)> {
        self.seats.iter().enumerate().filter_map(|(member, seat)| match seat {
            Seat::Running(server) => Some((member, server)),
            _ => None,
        })
    }

    /// The processes that run.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        self.running().map(|(_, server)| server.process()).collect()
    }

    /// Where clients find the members: the leader first, so that whoever asks one member only
    /// asks the one that can answer alone.
    ///
    /// # Errors
    /// When the members agree on no leader.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, String> {
        let mut endpoints: Vec<Endpoint> =
            self.running().map(|(_, server)| server.endpoint().clone()).collect();
        if endpoints.len() > 1 {
            endpoints.rotate_left(self.leader()?);
        }
        Ok(endpoints)
    }

    /// The last lines that the members logged.
    #[must_use]
    pub fn log_end(&self) -> String {
        let ends =
            self.running().map(|(member, server)| format!("m{member}: {}", server.log_end()));
        ends.collect::<Vec<_>>().join("\n")
    }

    /// Asks all to end, and makes them end if they do not.
    pub fn stop(self) {
        for seat in self.seats {
            if let Seat::Running(server) = seat {
                server.stop();
            }
        }
    }

    /// The member that most agree leads; waits for one.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn leader(&self) -> Result<usize, String> {
        let deadline = Instant::now() + limits::LEADER_TIMEOUT;
        loop {
            let statuses: Vec<(usize, Status)> = self
                .running()
                .filter_map(|(member, server)| Some((member, status(server.endpoint())?)))
                .collect();
            if let Some(leader) = agreed(&statuses, self.size()) {
                return Ok(leader);
            }
            if Instant::now() > deadline {
                return Err(format!("{}: no leader; logs:\n{}", self.peer.name, self.log_end()));
            }
            std::thread::sleep(limits::STATUS_PAUSE);
        }
    }

    /// What a member says of itself.
    #[must_use]
    pub fn status(&self, member: usize) -> Option<Status> {
        match self.seats.get(member)? {
            Seat::Running(server) => status(server.endpoint()),
            _ => None,
        }
    }

    /// Ends a member by SIGKILL; its directory stays.
    pub fn kill(&mut self, member: usize) {
        self.seats[member] = match std::mem::replace(&mut self.seats[member], Seat::Gone) {
            Seat::Running(server) => server.end(libc::SIGKILL).map_or(Seat::Gone, Seat::Down),
            other => other,
        };
    }

    /// Starts a member that was killed, and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn restart(&mut self, member: usize) -> Result<(), String> {
        let Seat::Down(directory) = std::mem::replace(&mut self.seats[member], Seat::Gone) else {
            return Err(format!("member {member} of {} was not killed", self.peer.name));
        };
        self.seats[member] = Seat::Running(self.spawn(member, directory, "new")?);
        self.wait_ready(member)
    }

    /// Adds a member and starts it; does not wait until it answers. Gives its number and when its
    /// process was started.
    ///
    /// # Errors
    /// When the others do not take it, or it does not start.
    pub fn add(&mut self) -> Result<(usize, Instant), String> {
        let member = self.size();
        self.ports.push(free_ports()?);
        let mut request = Vec::new();
        let url = format!("http://127.0.0.1:{}", self.ports[member][1]);
        wire::put_bytes(&mut request, 1, url.as_bytes());
        let deadline = Instant::now() + limits::LEADER_TIMEOUT;
        loop {
            let leader = self.leader()?;
            let Seat::Running(server) = &self.seats[leader] else {
                return Err("the leader does not run".to_owned());
            };
            match ask(server.endpoint(), Method::MemberAdd, &request) {
                Ok(_) => break,
                // Members that have known each other for a few seconds only take nobody in.
                Err(CallError::Status { code: UNAVAILABLE, .. }) if Instant::now() < deadline => {
                    std::thread::sleep(limits::MEMBER_ADD_PAUSE);
                }
                Err(error) => {
                    return Err(format!("{}: no member can be added: {error}", self.peer.name));
                }
            }
        }
        let directory = self.directory(member)?;
        let started = Instant::now();
        let server = self.spawn(member, directory, "existing")?;
        self.seats.push(Seat::Running(server));
        Ok((member, started))
    }

    /// Whether the process of a member still runs.
    #[must_use]
    pub fn is_alive(&self, member: usize) -> bool {
        match &self.seats[member] {
            Seat::Running(server) => crate::proc::sample(server.process()).is_ok(),
            _ => false,
        }
    }
}

/// The member that says of itself that it leads, if most agree in its term and nobody knows a
/// later one.
fn agreed(statuses: &[(usize, Status)], size: usize) -> Option<usize> {
    let newest = statuses.iter().map(|(_, status)| status.term).max()?;
    let (leader, own) = statuses
        .iter()
        .find(|(_, status)| status.leader == status.member && status.term == newest)?;
    let agree = statuses.iter().filter(|(_, status)| status.leader == own.member);
    (own.member != 0 && agree.count() * 2 > size).then_some(*leader)
}

fn status(endpoint: &Endpoint) -> Option<Status> {
    let answer = ask(endpoint, Method::Status, &[]).ok()?;
    let header = wire::message(&answer, 1).ok()??;
    Some(Status {
        member: wire::number(header, 2).ok()?,
        leader: wire::number(&answer, 4).ok()?,
        revision: wire::number(header, 3).ok()?,
        term: wire::number(&answer, 6).ok()?,
    })
}

/// One question on a connection of its own.
fn ask(endpoint: &Endpoint, method: Method, message: &[u8]) -> Result<Bytes, CallError> {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.extend_from_slice(&[0]);
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(message);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CallError::Transport(error.to_string()))?;
    let work = async {
        let channel = Channel::open(endpoint).await?;
        channel.unary(method, frame.freeze(), limits::SERVER_PROBE_TIMEOUT).await
    };
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_one_that_most_agree_on() {
        let status = |member, leader, term| Status { member, leader, revision: 1, term };
        for (statuses, expected) in [
            (&[(0, status(1, 2, 5)), (1, status(2, 2, 5)), (2, status(3, 2, 5))][..], Some(1)),
            (&[(0, status(1, 2, 5)), (1, status(2, 2, 5))], Some(1)),
            (&[(1, status(2, 2, 5))], None),
            // One that does not know yet that it was deposed.
            (&[(0, status(1, 1, 4)), (1, status(2, 0, 5)), (2, status(3, 0, 5))], None),
            (&[(0, status(1, 1, 4)), (1, status(2, 2, 5)), (2, status(3, 2, 5))], Some(1)),
            (&[(0, status(1, 0, 5)), (1, status(2, 0, 5)), (2, status(3, 0, 5))], None),
            (&[], None),
        ] {
            assert_eq!(agreed(statuses, 3), expected, "{statuses:?}");
        }
    }
}
