//! Every bound of the network layer, with its reason.

use std::time::Duration;

/// Connections to one listener, on all its cores together, unless `--max-connections` says
/// otherwise; more are refused in words. A connection costs some tens of kilobytes, so this is a few
/// gigabytes: far above a large cluster's clients.
pub const CONNECTIONS: usize = 100_000;

/// Clients that one core is telling that there is no room. Further ones are cut off without a word.
pub const REFUSALS_PER_CORE: usize = 64;

/// How long telling one may take.
pub const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause between two lines of the log about refused connections.
pub const REFUSAL_LOG_MS: u64 = 10_000;

/// HTTP/2 streams that a client may have open on one connection, unless `--max-concurrent-streams`
/// says otherwise. etcd has no such limit, and a client that holds a watch on each of them waits for
/// ever when it reaches one, so the bound is generous: it keeps a single connection below about
/// 100 MB.
pub const STREAMS_PER_CONNECTION: u32 = 10_000;

/// What an open stream costs, about, bytes: its state, its handler, its place in tables.
pub const STREAM_BYTES: usize = 4 << 10;

/// Streams that a connection may have however much the process holds: who has few is not the one
/// to refuse.
pub const STREAMS_ALWAYS: usize = 100;

/// Bytes of decoded header fields in one HTTP/2 request: grpc-go's 16 MiB default is far more
/// than anyone sends, kube-apiserver allows 1 MiB. Impersonation and tokens need a few KiB.
pub const HEADER_LIST_BYTES: u32 = 256 << 10;

/// Bytes of request line and header fields in HTTP/1.1; Go's default is 1 MiB.
pub const HTTP1_HEADER_BYTES: usize = 256 << 10;

/// How long an HTTP/1.1 connection may idle between two requests, and how long the head of the next
/// one may take. kube-apiserver closes idle connections after 90 s.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// How long a client may take for its first bytes: one that connects and says nothing holds a slot.
pub const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the head of the first HTTP/1.1 request may take once it has begun (slowloris).
pub const FIRST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A request's body that is waited for as a whole must bring [`BODY_PACE_BYTES`] in each such time
/// (R.U.D.Y.). Streams of messages may pause as long as they like.
pub const BODY_PACE: Duration = Duration::from_secs(15);

/// ... far below what the slowest usable network carries.
pub const BODY_PACE_BYTES: usize = 1 << 10;

/// How often an HTTP/2 connection that has something under way is looked at: does it move?
pub const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Checks that a header block, or the connection's first frames, may take: 10 to 15 s.
pub const HEADER_CHECKS: u32 = 2;

/// Checks that any one frame may take: 20 to 25 s for at most 16 KiB.
pub const FRAME_CHECKS: u32 = 4;

/// Checks in which a client may take nothing of an answer: 30 to 35 s. Then the answer is dropped; so
/// is the connection of one that takes no bytes at all.
pub const STALLED_CHECKS: u32 = 6;

/// Less than so many bytes of an answer between two checks is nothing.
pub const PROGRESS_BYTES: usize = 16 << 10;

/// ... and so is less than this part of the most that waited: a whole answer goes within some 64
/// checks, about five minutes, or it is not being read.
pub const PROGRESS_SHARE: usize = 64;

/// Checks between two renewals of what [`CONTROL_FRAMES`] and [`RESETS`] allow: 30 s.
pub const RENEWAL_CHECKS: u32 = 6;

/// How long a connection that was told why it ends may take to hear it.
pub const LINGER: Duration = Duration::from_secs(1);

/// ... and bytes of what it still sends that are thrown away meanwhile, so that the kernel does not
/// reset the connection under the words.
pub const LINGER_BYTES: usize = 1 << 20;

/// How long a TLS handshake may take: a client that connects and says nothing holds a slot.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of the largest message that is sent, as in etcd: what is longer has to be asked for in parts.
pub const SENT_MESSAGE_BYTES: usize = i32::MAX as usize;

/// How often handshakes look for new certificate files, milliseconds: a look is a system call for
/// each file.
pub const FILE_LOOK_MS: u64 = 1000;

/// Files that were written so recently are read again, as their time would not tell a second change:
/// some file systems count in whole seconds.
pub const FILE_TIME_GRAIN: Duration = Duration::from_secs(2);

/// A silent HTTP/2 connection is pinged after this long, as kube-apiserver does, unless
/// `--grpc-keepalive-interval` says otherwise ...
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// ... and closed when the answer takes longer than this (grpc-go's server waits 20 s).
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// What a client may send on one stream before we have read it: one whole large request.
pub const STREAM_WINDOW_BYTES: u32 = 2 << 20;

/// What a client may send on one connection before we have read it.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// What one stream keeps ready for a client that reads slowly. A watch is a cursor, not a queue:
/// nothing more is encoded until the client has read.
pub const STREAM_SEND_BUFFER_BYTES: usize = 128 << 10;

/// Bytes that wait to be written to one HTTP/2 connection before nothing is added to them and
/// nothing more is read: some sixteen full frames. What is written at once takes fewer system calls.
pub const CONNECTION_OUTPUT_BYTES: usize = 256 << 10;

/// CONTINUATION frames of one header block (CVE-2024-27316): a block of the largest size takes 16
/// full ones.
pub const CONTINUATION_FRAMES: u32 = 64;

/// HTTP/2 frames that bring nothing (PING, SETTINGS, PRIORITY, empty DATA, ...) in
/// [`RENEWAL_CHECKS`], beyond some for each request and each frame of data (CVE-2019-9511 to
/// 9518). Go's server allows 10,000 that wait to be answered.
pub const CONTROL_FRAMES: u32 = 10_000;

/// Frames of data shorter than this, but a body's last, count among them: they cost as much
/// as others and bring next to nothing. Those with the end of a gRPC message are none: a client may
/// renew all its leases at once.
pub const TINY_DATA_BYTES: usize = 64;

/// Frames of data shorter than this that nobody reads are kept as one piece, and not each with an overhead.
pub const SMALL_DATA_BYTES: usize = 1 << 10;

/// Streams that end by a reset before they are answered, in [`RENEWAL_CHECKS`] (CVE-2023-44487). A
/// client may cancel everything it has open, and do so again.
pub const RESETS: u32 = 2 * STREAMS_PER_CONNECTION;

/// Pings without a stream that count as useless, unless they are so far apart: gRPC's rule.
pub const IDLE_PING_MS: u64 = 2 * 3600 * 1000;

/// Pings that come too early before the client is cut off: gRPC's number.
pub const PING_STRIKES: u32 = 2;

/// Read at once from a socket; one buffer of this size on each core.
pub const READ_BYTES: usize = 64 << 10;

/// At shutdown, requests in flight may finish for so long.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// The wait after an `accept` that failed (no more file descriptors, most often).
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Granularity of connection timers: deadlines here are seconds.
pub const TIMER_TICK: Duration = Duration::from_millis(100);

/// A body that is handed back as collected bytes, where the caller knows no better limit.
/// kube-apiserver takes 3 MiB of JSON.
pub const BODY_BYTES: usize = 3 << 20;

/// Bytes of requests that one core is receiving and has no use for yet, because the rest of a body
/// or of a message is missing. Eighty of the largest requests at once; what is beyond is refused
/// and may be tried again.
pub const RECEIVED_BYTES_PER_CORE: usize = 256 << 20;

/// Bytes of answers that wait for one client which takes none, above which it may begin no streams and
/// further answers are dropped: one that opens no window would have its every answer kept.
pub const PENDING_BYTES: usize = 8 << 20;

/// The same for a client that takes what it is sent: several lists of large stores at once.
pub const PENDING_BYTES_MOVING: usize = 256 << 20;

/// What may wait for a client however long it does not look, as long as there is room.
pub const PENDING_BYTES_FREE: usize = 1 << 20;

/// The same when there is no room, and what a request may bring then: everybody gets so much, so
/// that who behaves is served beside those who do not.
pub const HELD_BYTES_ALWAYS: usize = 16 << 10;

/// What a connection costs beside what it holds, about, bytes: buffers of the protocol, of TLS, tables.
pub const CONNECTION_BYTES: usize = 16 << 10;

/// Bytes that all clients together make this process hold before it sheds them, where nobody has
/// said better and the machine does not tell how large it is.
pub const HELD_BYTES: usize = 1 << 30;

/// No machine is so small that less would do: sixteen requests of the largest size on each of four
/// cores.
pub const HELD_BYTES_MIN: usize = 128 << 20;

/// Cores draw from that in such pieces, so that they meet at one number only now and then.
pub const HELD_PIECE_BYTES: usize = 1 << 20;

/// How long a peer may take to answer a connection, at each of its addresses.
pub const PEER_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const _: () = assert!(STREAM_WINDOW_BYTES < CONNECTION_WINDOW_BYTES);
