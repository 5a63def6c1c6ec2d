//! What lies between members: nothing, proxies, or the kernel's namespaces. Each direction of each link can be
//! cut for itself; what a cut holds back arrives late, as from a real network, unless TCP gives up first.

use std::time::Duration;

use super::MEMBERS_MAX;
use super::member::{Addresses, free_port};
use super::namespaces::Namespaces;
use crate::proxy::Proxy;

/// What a test needs of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Members reach each other directly; nothing can be cut.
    Direct,
    /// Links that can be cut: by the kernel where it lets us, else by proxies.
    Links,
    /// Links that can also be slow or break: by proxies.
    Proxies,
}

pub enum Network {
    Direct(Vec<Addresses>),
    Proxies { addresses: Vec<Addresses>, proxy: Proxy },
    Namespaces(Namespaces),
}

impl Network {
    pub(super) fn make(wanted: Wanted, members: usize) -> Network {
        match wanted {
            Wanted::Direct => Network::Direct((0..members).map(|_| direct()).collect()),
            Wanted::Proxies => Network::proxies(),
            Wanted::Links => match Namespaces::make(members) {
                Ok(namespaces) => {
                    eprintln!("links: network namespaces {}", namespaces.name());
                    Network::Namespaces(namespaces)
                }
                Err(reason) => {
                    eprintln!("links: proxies, as there are no network namespaces: {reason}");
                    Network::proxies()
                }
            },
        }
    }

    fn proxies() -> Network {
        let mut addresses: Vec<Addresses> = (0..MEMBERS_MAX).map(|_| direct()).collect();
        let targets = addresses.iter().map(|member| member.peer_listen.clone()).collect();
        let proxy = Proxy::start(targets);
        for (member, address) in addresses.iter_mut().zip(proxy.addresses()) {
            member.peer_advertised.clone_from(address);
        }
        Network::Proxies { addresses, proxy }
    }

    pub(super) fn addresses(&self, member: usize) -> Addresses {
        match self {
            Network::Direct(addresses) | Network::Proxies { addresses, .. } => {
                addresses[member].clone()
            }
            Network::Namespaces(namespaces) => namespaces.addresses(member),
        }
    }

    /// Room for one more member.
    pub(super) fn grow(&mut self, member: usize) -> Addresses {
        match self {
            Network::Direct(addresses) => addresses.push(direct()),
            Network::Proxies { .. } => {}
            Network::Namespaces(namespaces) => {
                namespaces.grow(member).expect("another namespace");
            }
        }
        self.addresses(member)
    }

    /// Words before a member's command line.
    pub(super) fn command_prefix(&self, member: usize) -> Vec<String> {
        match self {
            Network::Namespaces(namespaces) => namespaces.command_prefix(member),
            _ => Vec::new(),
        }
    }

    /// A member is this process now.
    pub(super) fn runs(&self, member: usize, process: u32) {
        if let Network::Proxies { proxy, .. } = self {
            proxy.runs(member, process);
        }
    }

    /// Nothing from one member arrives at the other any more; what goes the other way does.
    pub fn cut(&self, from: usize, to: usize) {
        match self {
            Network::Direct(_) => panic!("this network has no links to cut"),
            Network::Proxies { proxy, .. } => proxy.change(|links| links.cut(from, to)),
            Network::Namespaces(namespaces) => namespaces.cut(from, to).expect("a cut"),
        }
    }

    pub fn cut_both_ways(&self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// This member and the other `members` hear nothing of each other.
    pub fn isolate(&self, member: usize, members: usize) {
        for other in (0..members).filter(|other| *other != member) {
            self.cut_both_ways(member, other);
        }
    }

    /// All links are as they were.
    pub fn heal(&self) {
        match self {
            Network::Direct(_) => {}
            Network::Proxies { proxy, .. } => proxy.change(|links| links.heal()),
            Network::Namespaces(namespaces) => namespaces.heal().expect("whole links"),
        }
    }

    /// What travels from one member to the other takes so much longer (proxies only).
    pub fn delay(&self, from: usize, to: usize, delay: Duration) {
        let Network::Proxies { proxy, .. } = self else { panic!("only proxies delay") };
        proxy.change(|links| links.delay(from, to, delay));
    }

    /// Connections between the two break (proxies only).
    pub fn break_connections(&self, one: usize, other: usize) {
        let Network::Proxies { proxy, .. } = self else { panic!("only proxies break connections") };
        proxy.change(|links| links.break_connections(one, other));
    }
}

fn direct() -> Addresses {
    let [client, peer] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
    Addresses { client, peer_listen: peer.clone(), peer_advertised: peer }
}
