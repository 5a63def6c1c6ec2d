//! Every bound of connections between members, with its reason.

use std::time::Duration;

/// How long a connection to a peer may take to come about, TLS included.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the greetings of both ends may take.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause after the first attempt to dial that failed, and the longest: a member that comes back
/// is found before anybody would vote without it.
pub(super) const BACKOFF_FIRST: Duration = Duration::from_millis(20);
pub(super) const BACKOFF_MOST: Duration = Duration::from_secs(1);

/// The pause when the peer says that this member was removed.
pub(super) const REMOVED_PAUSE: Duration = Duration::from_secs(30);

/// How often a connection is asked whether it still leads somewhere.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(1);

/// Milliseconds without any answer to that, after which the connection is given up. As in etcd.
pub(super) const SILENCE_MS: u64 = 5000;

/// Milliseconds that one write may take. It has some 400 KB at most: a network that takes longer is
/// of no use.
pub(super) const WRITE_MS: u64 = 10_000;

/// Milliseconds without anything received on a connection that a peer opened. It pings every second.
pub(super) const IDLE_MS: u64 = 10_000;

/// How long one who is told why the connection ends may take to hear it.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// Connections whose other end has not said who it is.
pub(super) const STRANGERS: usize = 64;

/// The pause after a connection that could not be accepted.
pub(super) const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How long a request that could not be sent waits for its refusal.
pub(super) const BOUNCE_DELAY: Duration = Duration::from_millis(10);

/// How long somebody who asks to join waits for one answer, TLS included; and for any answer.
pub(super) const JOIN_TIMEOUT: Duration = Duration::from_secs(5);
pub(super) const JOIN_PATIENCE: Duration = Duration::from_secs(30);

/// The same for one that begins a cluster: mostly the others are not there yet.
pub(super) const KNOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause between two rounds of asking.
pub(super) const JOIN_PAUSE: Duration = Duration::from_millis(500);
