//! A TCP proxy in front of every member's peer port. It tells who dialed by looking up whose socket that is, whatever
//! the protocol, so each direction between two members can be held back, slowed down or broken.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// Bytes read at once: with a delay of `d`, a connection carries at most this much every `d`.
const PIECE_BYTES: usize = 64 << 10;

/// The state of all links. A link is one direction between two members, whoever dialed.
#[derive(Debug, Clone, Default)]
pub struct Links {
    cut: BTreeSet<(usize, usize)>,
    delays: BTreeMap<(usize, usize), Duration>,
    /// How often the connections between two members were broken.
    breaks: BTreeMap<(usize, usize), u64>,
}

impl Links {
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    pub fn delay(&mut self, from: usize, to: usize, delay: Duration) {
        self.delays.insert((from, to), delay);
    }

    pub fn break_connections(&mut self, one: usize, other: usize) {
        *self.breaks.entry(pair(one, other)).or_default() += 1;
    }

    /// Nothing is cut and nothing slow.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.delays.clear();
    }

    fn breaks(&self, one: usize, other: usize) -> u64 {
        self.breaks.get(&pair(one, other)).copied().unwrap_or_default()
    }
}

fn pair(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

/// The proxies of a cluster, on a thread of their own.
pub struct Proxy {
    addresses: Vec<String>,
    links: watch::Sender<Links>,
    /// Which process each member is.
    processes: Arc<Mutex<BTreeMap<u32, usize>>>,
    _end: oneshot::Sender<()>,
}

impl Proxy {
    /// One in front of each of these addresses (`127.0.0.1:PORT`), which need not listen yet.
    pub fn start(targets: Vec<String>) -> Proxy {
        let (links, seen) = watch::channel(Links::default());
        let processes = Arc::new(Mutex::new(BTreeMap::new()));
        let (end, ended) = oneshot::channel();
        let listeners: Vec<std::net::TcpListener> = targets
            .iter()
            .map(|_| {
                let port = crate::cluster::free_port();
                std::net::TcpListener::bind(("127.0.0.1", port)).expect("a free port")
            })
            .collect();
        let addresses = listeners
            .iter()
            .map(|listener| listener.local_addr().expect("bound").to_string())
            .collect();
        let known = processes.clone();
        let serve = async move {
            for (member, (listener, target)) in listeners.into_iter().zip(targets).enumerate() {
                let end = End { member, target, links: seen.clone(), processes: known.clone() };
                tokio::spawn(end.serve(listener));
            }
            // The sender is dropped with the proxy.
            let _dropped = ended.await;
        };
        std::thread::spawn(move || crate::grpc::block_on(serve));
        Proxy { addresses, links, processes, _end: end }
    }

    /// Where the members are found through it.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// This member is this process now.
    pub fn runs(&self, member: usize, process: u32) {
        let mut processes = self.processes.lock().expect("no panic while held");
        processes.retain(|_, of| *of != member);
        processes.insert(process, member);
    }

    /// Changes what links do, for connections that are open, too.
    pub fn change(&self, change: impl FnOnce(&mut Links)) {
        self.links.send_modify(change);
    }
}

/// The proxy in front of one member.
#[derive(Clone)]
struct End {
    member: usize,
    target: String,
    links: watch::Receiver<Links>,
    processes: Arc<Mutex<BTreeMap<u32, usize>>>,
}

impl End {
    async fn serve(self, listener: std::net::TcpListener) {
        listener.set_nonblocking(true).expect("a socket");
        let listener = TcpListener::from_std(listener).expect("a socket");
        while let Ok((stream, dialer)) = listener.accept().await {
            let end = self.clone();
            tokio::spawn(async move { end.connect(stream, dialer).await });
        }
    }

    /// Joins a connection to the member; one whose dialer is nobody's is dropped.
    async fn connect(self, stream: TcpStream, dialer: SocketAddr) -> Option<()> {
        let processes = self.processes.lock().expect("no panic while held").clone();
        let from = processes.iter().find(|(process, _)| owns(**process, dialer));
        let from = *from?.1;
        let target = TcpStream::connect(&self.target).await.ok()?;
        stream.set_nodelay(true).ok()?;
        target.set_nodelay(true).ok()?;
        let (from_dialer, to_dialer) = stream.into_split();
        let (from_member, to_member) = target.into_split();
        let mut links = self.links.clone();
        let breaks = links.borrow_and_update().breaks(from, self.member);
        let there = pump((from, self.member), from_dialer, to_member, self.links.clone());
        let back = pump((self.member, from), from_member, to_dialer, self.links.clone());
        let broken = async move {
            let broken = links.wait_for(|links| links.breaks(from, self.member) != breaks).await;
            broken.is_ok()
        };
        tokio::select! {
            _both_ended = async { tokio::join!(there, back) } => {}
            _broken = broken => {}
        }
        Some(())
    }
}

/// Carries bytes one way until there are no more.
async fn pump(
    link: (usize, usize),
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut links: watch::Receiver<Links>,
) -> Option<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        // A reset arrives like an end: what a cut holds back is the same.
        let length = from.read(&mut piece).await.unwrap_or(0);
        let delay = {
            let links = links.wait_for(|links| !links.cut.contains(&link)).await.ok()?;
            links.delays.get(&link).copied().unwrap_or_default()
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if length == 0 {
            return to.shutdown().await.ok();
        }
        to.write_all(&piece[..length]).await.ok()?;
    }
}

/// Whether a process has the socket that is bound to this address and connected.
fn owns(process: u32, address: SocketAddr) -> bool {
    let Some(socket) = socket_of(address) else { return false };
    let wanted = format!("socket:[{socket}]");
    let Ok(entries) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    entries.flatten().any(|entry| {
        std::fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
    })
}

/// The kernel's number of the socket with this local address.
fn socket_of(address: SocketAddr) -> Option<u64> {
    const LOCAL_ADDRESS: usize = 1;
    const NUMBER: usize = 9;
    let SocketAddr::V4(address) = address else { return None };
    let host = u32::from_ne_bytes(address.ip().octets());
    let wanted = format!("{host:08X}:{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let line =
        table.lines().find(|line| line.split_whitespace().nth(LOCAL_ADDRESS) == Some(&wanted))?;
    line.split_whitespace().nth(NUMBER)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// Two members that are both this very process: 0 dials 1.
    fn pair_over(proxy: &Proxy, listener: &std::net::TcpListener) -> [std::net::TcpStream; 2] {
        proxy.runs(0, std::process::id());
        let dialed = std::net::TcpStream::connect(&proxy.addresses()[1]).expect("it listens");
        let (accepted, _) = listener.accept().expect("joined");
        for stream in [&dialed, &accepted] {
            stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
        }
        [dialed, accepted]
    }

    fn arrives(from: &mut std::net::TcpStream, to: &mut std::net::TcpStream) -> bool {
        from.write_all(b"x").expect("open");
        to.read_exact(&mut [0]).is_ok()
    }

    #[test]
    fn directions_are_cut_for_themselves_and_what_was_held_back_arrives() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let target = listener.local_addr().expect("bound").to_string();
        let proxy = Proxy::start(vec!["127.0.0.1:1".to_owned(), target]);
        let [mut zero, mut one] = pair_over(&proxy, &listener);
        assert!(arrives(&mut zero, &mut one) && arrives(&mut one, &mut zero));

        proxy.change(|links| links.cut(0, 1));
        assert!(!arrives(&mut zero, &mut one), "cut");
        assert!(arrives(&mut one, &mut zero), "the other way is whole");
        proxy.change(Links::heal);
        one.read_exact(&mut [0]).expect("late, but it arrives");

        proxy.change(|links| links.break_connections(1, 0));
        assert_eq!(one.read(&mut [0]).ok(), Some(0), "broken");
    }

    #[test]
    fn nobody_unknown_gets_through() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let proxy = Proxy::start(vec![listener.local_addr().expect("bound").to_string()]);
        let mut dialed = std::net::TcpStream::connect(&proxy.addresses()[0]).expect("it listens");
        assert_eq!(dialed.read(&mut [0]).ok(), Some(0), "dropped");
    }
}
