//! What goes between this member and others, as etcd calls it.

use mainstay_engine::runtime::peers::PeerCounts;

use super::page::Page;

/// Which figure of a peer it is.
type Figure = fn(&PeerCounts) -> u64;

/// Those by peer alone: name, kind, label, what it means.
const BY_PEER: [(&str, &str, &str, &str, Figure); 4] = [
    (
        "etcd_network_peer_sent_bytes_total",
        "counter",
        "To",
        "The total number of bytes sent to peers.",
        |peer| peer.sent_bytes,
    ),
    (
        "etcd_network_peer_received_bytes_total",
        "counter",
        "From",
        "The total number of bytes received from peers.",
        |peer| peer.received_bytes,
    ),
    (
        "etcd_network_peer_sent_failures_total",
        "counter",
        "To",
        "The total number of messages to peers that were not sent.",
        |peer| peer.sent_failures,
    ),
    (
        "etcd_network_peer_received_failures_total",
        "counter",
        "From",
        "The total number of connections from peers that ended in the middle of something.",
        |peer| peer.received_failures,
    ),
];

/// Those between this member and a peer.
const BETWEEN: [(&str, &str, &str, Figure); 3] = [
    ("etcd_network_known_peers", "gauge", "The current number of known peers.", |_| 1),
    (
        "etcd_network_active_peers",
        "gauge",
        "The current number of active peer connections.",
        |peer| u64::from(peer.is_active),
    ),
    (
        "etcd_network_disconnected_peers_total",
        "counter",
        "The total number of disconnected peers.",
        |peer| peer.disconnects,
    ),
];

/// Nothing, for a member that is alone.
pub(super) fn write(page: &mut Page, member_id: u64, peers: &[PeerCounts]) {
    if peers.is_empty() {
        return;
    }
    for (name, kind, label, help, figure) in BY_PEER {
        page.head(name, kind, help);
        for peer in peers {
            page.line(name, &format!("{{{label}=\"{:x}\"}}", peer.id), figure(peer) as f64);
        }
    }
    for (name, kind, help, figure) in BETWEEN {
        page.head(name, kind, help);
        for peer in peers {
            let labels = format!("{{Local=\"{member_id:x}\",Remote=\"{:x}\"}}", peer.id);
            page.line(name, &labels, figure(peer) as f64);
        }
    }
    let name = "etcd_network_peer_round_trip_time_seconds";
    page.head(name, "histogram", "Round-Trip-Time histogram between peers.");
    for peer in peers {
        page.histogram(name, &format!("To=\"{:x}\"", peer.id), peer.round_trips);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_labels_that_etcd_gives_them() {
        let mut page = Page::default();
        write(&mut page, 0xab, &[]);
        assert_eq!(page.text(), "", "alone");
        let peer = PeerCounts {
            id: 0xcd,
            is_active: true,
            disconnects: 2,
            sent_bytes: 3,
            received_bytes: 4,
            sent_failures: 5,
            received_failures: 6,
            ..PeerCounts::default()
        };
        write(&mut page, 0xab, &[peer, PeerCounts { id: 0xef, ..PeerCounts::default() }]);
        for line in [
            "etcd_network_peer_sent_bytes_total{To=\"cd\"} 3",
            "etcd_network_peer_received_bytes_total{From=\"cd\"} 4",
            "etcd_network_peer_sent_failures_total{To=\"cd\"} 5",
            "etcd_network_peer_received_failures_total{From=\"cd\"} 6",
            "etcd_network_known_peers{Local=\"ab\",Remote=\"ef\"} 1",
            "etcd_network_active_peers{Local=\"ab\",Remote=\"cd\"} 1",
            "etcd_network_active_peers{Local=\"ab\",Remote=\"ef\"} 0",
            "etcd_network_disconnected_peers_total{Local=\"ab\",Remote=\"cd\"} 2",
            "etcd_network_peer_round_trip_time_seconds_count{To=\"cd\"} 0",
        ] {
            assert!(page.text().lines().any(|one| one == line), "{line}:\n{}", page.text());
        }
    }
}
