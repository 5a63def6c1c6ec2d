//! The question of somebody who wants to join, and the answer.

use rkyv::{Archive, Serialize};

use super::contents::{Contents, Reading};
use super::members::{self, MemberRow};
use super::{Decoded, Encoded, WireError, archive, decode_as};
use crate::peer::JoinAnswer;
use crate::peer::frame::{Kind, Received};

/// By its own peer URLs.
#[derive(Archive, Serialize)]
struct QuestionRow {
    peer_urls: Vec<u32>,
}

#[derive(Archive, Serialize)]
struct AnswerRow {
    cluster_id: u64,
    member_id: u64,
    members: Vec<MemberRow>,
}

/// Asks who is a member, and which of them has one of these peer URLs. `None` when that is too long.
pub fn join_question(peer_urls: &[String], version: u16) -> Option<Encoded> {
    let mut contents = Contents::default();
    let row = QuestionRow { peer_urls: members::url_rows(peer_urls, &mut contents) };
    within_limit(Encoded::new(Kind::JoinQuestion, version, archive(&row), contents))
}

pub fn join_answer(answer: &JoinAnswer, version: u16) -> Option<Encoded> {
    let mut contents = Contents::default();
    let row = AnswerRow {
        cluster_id: answer.cluster_id,
        member_id: answer.member_id,
        members: members::rows(&answer.members, &mut contents),
    };
    within_limit(Encoded::new(Kind::JoinAnswer, version, archive(&row), contents))
}

fn within_limit(encoded: Encoded) -> Option<Encoded> {
    (encoded.length() <= encoded.kind().limit()).then_some(encoded)
}

/// The peer URLs of whoever asks.
pub fn decode_join_question(received: &Received) -> Result<Vec<String>, WireError> {
    let read =
        |row: &ArchivedQuestionRow, reading: &mut Reading| members::urls(&row.peer_urls, reading);
    decode_as(&received.payload, read).map_err(|what| error(received, what))
}

pub fn decode_join_answer(received: &Received) -> Result<JoinAnswer, WireError> {
    let read = |row: &ArchivedAnswerRow, reading: &mut Reading| -> Decoded<JoinAnswer> {
        Ok(JoinAnswer {
            cluster_id: row.cluster_id.to_native(),
            member_id: row.member_id.to_native(),
            members: members::members(&row.members, reading)?,
        })
    };
    decode_as(&received.payload, read).map_err(|what| error(received, what))
}

fn error(received: &Received, what: &'static str) -> WireError {
    WireError { kind: received.kind, length: received.payload.len(), what }
}
