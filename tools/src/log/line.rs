//! Frames and items in words, and as JSON.

use mainstay_engine::Record;
use mainstay_engine::effect::{Control, Item};
use mainstay_engine::log::decode::decode_hard_state;
use mainstay_engine::log::frame::{FrameHeader, FrameKind};
use mainstay_engine::log::scan::ScannedFrame;
use mainstay_engine::log::segment::{Restart, file_name};
use mainstay_engine::log::{HardState, Membership};
use serde_json::{Value, json};

/// Bytes of a key or a name that are shown.
const SHOWN_BYTES: usize = 256;

pub(super) fn kind(header: &FrameHeader) -> &'static str {
    match header.kind {
        FrameKind::SegmentStart => "segment-start",
        FrameKind::Entry => "entry",
        FrameKind::HardState => "hard-state",
        FrameKind::Membership => "membership",
        FrameKind::Restart => "restart",
    }
}

/// A frame in one line.
pub(super) fn frame_text(frame: &ScannedFrame) -> String {
    let header = &frame.header;
    format!(
        "{} byte {} {} position {} index {} term {} revisions {}..{} ({} bytes)",
        file_name(header.segment),
        frame.offset,
        kind(header),
        header.position,
        header.index,
        header.term,
        header.revision_before,
        header.revision_after,
        frame.payload.len()
    )
}

pub(super) fn frame_json(frame: &ScannedFrame, items: Vec<Value>) -> Value {
    let header = &frame.header;
    json!({
        "file": file_name(header.segment),
        "offset": frame.offset,
        "kind": kind(header),
        "position": header.position,
        "durablePosition": header.durable_position,
        "index": header.index,
        "term": header.term,
        "revisionBefore": header.revision_before,
        "revisionAfter": header.revision_after,
        "payloadBytes": frame.payload.len(),
        "facts": facts(frame),
        "items": items,
    })
}

/// What a frame that holds no batch says, in words: raft's promises and members.
pub(super) fn facts(frame: &ScannedFrame) -> Option<String> {
    let promises = |state: HardState| {
        format!("term {} vote {:016x} commit {}", state.term, state.vote, state.commit)
    };
    match frame.header.kind {
        FrameKind::HardState => decode_hard_state(&frame.payload).ok().map(promises),
        FrameKind::Membership => Membership::decode(&frame.payload).map(|found| members(&found)),
        FrameKind::Restart => Restart::decode(&frame.payload).map(|restart| {
            format!("{}; {}", members(&restart.membership), promises(restart.hard_state))
        }),
        FrameKind::SegmentStart | FrameKind::Entry => None,
    }
}

fn members(membership: &Membership) -> String {
    let list = |ids: &[u64]| {
        let ids: Vec<String> = ids.iter().map(|id| format!("{id:016x}")).collect();
        ids.join(" ")
    };
    let mut text = format!("voters {}", list(&membership.voters));
    for (name, ids) in [
        ("outgoing", &membership.outgoing),
        ("learners", &membership.learners),
        ("learners next", &membership.learners_next),
    ] {
        if !ids.is_empty() {
            text.push_str(&format!(", {name} {}", list(ids)));
        }
    }
    text
}

/// An item, one line a change.
pub(super) fn item_text(item: &Item) -> Vec<String> {
    match item {
        Item::Effect(effect) => {
            let change = |record: &Record| {
                let key = shown(record.key());
                if record.is_tombstone() {
                    return format!("revision {} delete {key}", effect.revision);
                }
                format!(
                    "revision {} put {key} (created {}, version {}, lease {:x}, {} bytes)",
                    effect.revision,
                    record.create_revision(),
                    record.version(),
                    record.lease(),
                    record.value().len()
                )
            };
            effect.changes.iter().map(|one| change(&one.record)).collect()
        }
        Item::Deletion(deletion) => {
            let count = deletion.deleted.records().len();
            vec![format!("revision {} delete {count} keys", deletion.revision)]
        }
        Item::Control(control) => vec![match control {
            Control::LeaseGrant { id, ttl } => format!("lease {id:x} granted for {ttl} s"),
            Control::LeaseRevoke { id } => format!("lease {id:x} revoked"),
            Control::LeaseCheckpoint { remaining } => {
                format!("{} leases noted with the time they have left", remaining.len())
            }
            Control::Compact { revision } => format!("compact up to revision {revision}"),
            Control::Document { name, content } => {
                format!("document {} ({} bytes)", shown(name), content.len())
            }
        }],
    }
}

pub(super) fn item_json(item: &Item) -> Value {
    match item {
        Item::Effect(effect) => {
            let change = |record: &Record| {
                let mut change = json!({
                    "type": if record.is_tombstone() { "delete" } else { "put" },
                    "key": shown(record.key()),
                });
                if !record.is_tombstone() {
                    change["createRevision"] = record.create_revision().into();
                    change["version"] = record.version().into();
                    change["lease"] = record.lease().into();
                    change["valueBytes"] = record.value().len().into();
                }
                change
            };
            let changes: Vec<Value> =
                effect.changes.iter().map(|one| change(&one.record)).collect();
            json!({ "type": "effect", "revision": effect.revision, "changes": changes })
        }
        Item::Deletion(deletion) => {
            let count = deletion.deleted.records().len();
            json!({ "type": "deletion", "revision": deletion.revision, "keys": count })
        }
        Item::Control(Control::LeaseGrant { id, ttl }) => {
            json!({ "type": "leaseGrant", "lease": id, "ttl": ttl })
        }
        Item::Control(Control::LeaseRevoke { id }) => json!({ "type": "leaseRevoke", "lease": id }),
        Item::Control(Control::LeaseCheckpoint { remaining }) => {
            json!({ "type": "leaseCheckpoint", "remaining": remaining })
        }
        Item::Control(Control::Compact { revision }) => {
            json!({ "type": "compact", "revision": revision })
        }
        Item::Control(Control::Document { name, content }) => {
            json!({ "type": "document", "name": shown(name), "contentBytes": content.len() })
        }
    }
}

/// Bytes as text: what is not printable ASCII is escaped as in Rust's and Go's strings.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = bytes[..bytes.len().min(SHOWN_BYTES)].escape_ascii().to_string();
    if bytes.len() > SHOWN_BYTES { format!("{text}... ({} bytes)", bytes.len()) } else { text }
}
