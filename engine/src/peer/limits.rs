//! Every bound of what members tell each other, with its reason.

use super::frame::HEADER_BYTES;
use crate::limits::LOG_PAYLOAD_BYTES;

/// Bytes of a message in one frame. Longer messages are cut, so that what is urgent waits for one
/// piece of a long one and not for all of it; large enough that headers and checks cost nothing.
pub const FRAME_BYTES: usize = 128 << 10;

/// Bytes that a connection reads at once: two whole frames, so that moving what is left of one to
/// the front of the buffer is seldom.
pub const READ_BYTES: usize = 2 * (FRAME_BYTES + HEADER_BYTES);

/// Bytes that one write gathers, with which something urgent may have to wait for the socket; it goes
/// beyond by one frame at most.
pub const BATCH_BYTES: usize = 256 << 10;

/// Bytes of a frame before both ends know each other: a greeting with its name, or a refusal.
pub const HANDSHAKE_BYTES: usize = 4 << 10;

/// Bytes of a member's name, and of the words of a refusal.
pub const NAME_BYTES: usize = 1 << 10;
pub const REASON_BYTES: usize = 2 << 10;

/// Peer URLs in a greeting, and bytes of each. Those beyond are left out: one is enough to be dialed.
pub const URLS: usize = 8;
pub const URL_BYTES: usize = 256;

/// Bytes of a member's message without entries: some numbers, but those about a snapshot tell the
/// membership, with all the lives of members that there ever were (some 65,536 pairs).
pub const SHORT_BYTES: usize = 4 << 20;

/// Bytes of a message with entries: one entry as large as the log can hold. What was received so far
/// and as much again is all that it takes while it comes in.
pub const APPEND_BYTES: usize = LOG_PAYLOAD_BYTES + (64 << 20);

/// Bytes of a part of a snapshot. Leaders send 1 MiB.
pub const SNAPSHOT_BYTES: usize = 16 << 20;

/// Bytes of a forwarded request: what a door may be allowed to take (`--max-request-bytes`), with
/// what surrounds it here.
pub const REQUEST_BYTES: usize = 128 << 20;

/// Bytes of an answer to one: a transaction may read as much as it likes. gRPC clients take no
/// message beyond 2 GiB, and an archive's pointers reach no farther.
pub const ANSWER_BYTES: usize = 1 << 30;

/// Bytes of a question to join, or the answer: 32 members with some URLs each.
pub const JOIN_BYTES: usize = 1 << 20;

/// Transactions within transactions, more than doors let through (100).
pub const NESTED_TRANSACTIONS: usize = 128;

/// Messages of raft without entries that wait for one peer. Raft says everything again, so beyond
/// this the oldest go: they are the least true.
pub const SHORT_QUEUE: usize = 4096;

/// Bytes of entries that wait for one peer. Twice what raft lets be unanswered, so that nothing is
/// dropped unless a connection stands still.
pub const APPEND_QUEUE_BYTES: usize = 64 << 20;

/// Bytes of parts of snapshots that wait for one peer: raft sends one at a time.
pub const SNAPSHOT_QUEUE_BYTES: usize = 8 << 20;

/// Requests forwarded to one peer that have no answer yet, and their bytes while they wait to be
/// sent. Beyond, they are refused.
pub const REQUESTS: usize = 16_384;
pub const REQUEST_QUEUE_BYTES: usize = 256 << 20;

/// Answers that wait for one peer. There are no more than requests; those of a peer that takes
/// nothing are dropped with the connection.
pub const ANSWERS: usize = REQUESTS;

/// A message up to this long gets its memory at once; a longer one as it comes in.
pub const ASSEMBLED_AT_ONCE: usize = 4 << 20;

const _: () = assert!(APPEND_BYTES < u32::MAX as usize);
const _: () = assert!(ANSWER_BYTES < i32::MAX as usize);
const _: () = assert!(REQUEST_BYTES <= ANSWER_BYTES);
const _: () = assert!(HANDSHAKE_BYTES > 64 + NAME_BYTES + URLS * (URL_BYTES + 2));
const _: () = assert!(HANDSHAKE_BYTES > 4 + REASON_BYTES && HANDSHAKE_BYTES < FRAME_BYTES);
