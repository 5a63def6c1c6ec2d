//! A network namespace for each member, joined by a bridge to which this machine is joined, too. The bridge has a namespace
//! of its own, so that no packet filter of the machine has a say. A direction of a link is cut by giving the neighbour's address the hardware address of nobody: packets leave and vanish without
//! a word to anybody, as on a real wire. That needs nothing but `ip`, root and a kernel with namespaces.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::member::Addresses;

/// An address on a bridge that nothing has.
const NOBODY: &str = "02:00:00:00:ff:ff";
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// The host's own number in the network.
const HOST: usize = 254;
/// Names begin with this and the process that made them.
const PREFIX: &str = "mst";

pub struct Namespaces {
    /// What all names of this network begin with.
    name: String,
    /// As `198.18.7`: the range is set aside for measuring devices, so no real network has it.
    subnet: String,
    members: usize,
}

impl Namespaces {
    pub(super) fn make(members: usize) -> Result<Namespaces, String> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        remove_those_of_dead_processes();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}x{number}", std::process::id());
        let taken = ip("-o -4 address show")?;
        let first = std::process::id() as usize + number * 16;
        let subnets = (0..256).map(|offset| format!("198.18.{}", (first + offset) % 256));
        let subnet = subnets.into_iter().find(|subnet| !taken.contains(&format!(" {subnet}.")));
        let subnet = subnet.ok_or("all of 198.18.0.0/16 is taken")?;
        let mut namespaces = Namespaces { name, subnet, members: 0 };
        namespaces.bridge()?;
        for member in 0..members {
            namespaces.grow(member)?;
        }
        Ok(namespaces)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn bridge(&self) -> Result<(), String> {
        let (name, subnet) = (&self.name, &self.subnet);
        ip(&format!("netns add {name}m"))?;
        ip(&format!("-n {name}m link add bridge type bridge"))?;
        ip(&format!("-n {name}m link set bridge up"))?;
        ip(&format!("link add {name} type veth peer name host netns {name}m"))?;
        ip(&format!("-n {name}m link set host master bridge up"))?;
        ip(&format!("address add {subnet}.{HOST}/24 dev {name}"))?;
        ip(&format!("link set {name} up"))?;
        Ok(())
    }

    /// A namespace for one more member.
    pub(super) fn grow(&mut self, member: usize) -> Result<(), String> {
        assert_eq!(member, self.members, "one after the other");
        let (name, address, hardware) = (&self.name, self.address(member), hardware(member));
        ip(&format!("netns add {name}m{member}"))?;
        self.members += 1;
        ip(&format!("-n {name}m link add v{member} type veth peer name e0 netns {name}m{member}"))?;
        ip(&format!("-n {name}m link set v{member} master bridge up"))?;
        ip(&format!("-n {name}m{member} link set e0 address {hardware}"))?;
        ip(&format!("-n {name}m{member} address add {address}/24 dev e0"))?;
        ip(&format!("-n {name}m{member} link set e0 up"))?;
        ip(&format!("-n {name}m{member} link set lo up"))?;
        for other in 0..member {
            self.neighbour(member, other, &self::hardware(other))?;
            self.neighbour(other, member, &hardware)?;
        }
        Ok(())
    }

    fn address(&self, member: usize) -> String {
        format!("{}.{}", self.subnet, member + 1)
    }

    pub(super) fn addresses(&self, member: usize) -> Addresses {
        let peer = format!("{}:{PEER_PORT}", self.address(member));
        Addresses {
            client: format!("{}:{CLIENT_PORT}", self.address(member)),
            peer_listen: peer.clone(),
            peer_advertised: peer,
        }
    }

    pub(super) fn command_prefix(&self, member: usize) -> Vec<String> {
        let name = format!("{}m{member}", self.name);
        ["ip", "netns", "exec", &name].map(str::to_owned).to_vec()
    }

    /// In the eyes of one member another has this hardware address.
    fn neighbour(&self, of: usize, other: usize, hardware: &str) -> Result<(), String> {
        let (name, address) = (&self.name, self.address(other));
        ip(&format!(
            "-n {name}m{of} neighbour replace {address} lladdr {hardware} dev e0 nud permanent"
        ))?;
        Ok(())
    }

    pub(super) fn cut(&self, from: usize, to: usize) -> Result<(), String> {
        self.neighbour(from, to, NOBODY)
    }

    pub(super) fn heal(&self) -> Result<(), String> {
        for from in 0..self.members {
            for to in (0..self.members).filter(|to| *to != from) {
                self.neighbour(from, to, &hardware(to))?;
            }
        }
        Ok(())
    }
}

fn hardware(member: usize) -> String {
    format!("02:00:00:00:00:{:02x}", member + 1)
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for member in 0..self.members {
            let _gone = ip(&format!("netns delete {}m{member}", self.name));
        }
        // The machine's end goes with the other one, but only when the kernel comes to it.
        let _gone = ip(&format!("link delete {}", self.name));
        let _gone = ip(&format!("netns delete {}m", self.name));
    }
}

/// What tests that were killed left behind.
fn remove_those_of_dead_processes() {
    let is_dead = |name: &str| {
        let rest = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('x'));
        let process = rest.and_then(|(process, _)| process.parse::<u32>().ok());
        process.is_some_and(|process| !std::path::Path::new(&format!("/proc/{process}")).exists())
    };
    for line in ip("netns list").unwrap_or_default().lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        if is_dead(name) {
            let _gone = ip(&format!("netns delete {name}"));
        }
    }
}

fn ip(arguments: &str) -> Result<String, String> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output();
    let output = output.map_err(|error| format!("ip does not run: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
