//! What revisions and times say without looking at any content: who was told of a revision before
//! somebody else asked.

use super::history::{History, Operation, Outcome, Request, Revision};

/// The greatest revision that somebody had been told of when each operation was sent, in the order of
/// the history. What changes something has to come behind it, what reads may not be before it.
///
/// # Errors
/// Two changes have one revision, or an answer is older than one that was there before it was asked.
pub(super) fn floors(history: &History) -> Result<Vec<Revision>, String> {
    unique(history)?;
    let operations = &history.operations;
    let mut returns: Vec<(u64, Revision)> = operations
        .iter()
        .filter_map(|operation| match &operation.outcome {
            Outcome::Answered { returned, response } => Some((*returned, response.revision())),
            Outcome::Unknown | Outcome::Refused => None,
        })
        .collect();
    returns.sort_unstable();
    let mut order: Vec<usize> = (0..operations.len()).collect();
    order.sort_by_key(|&number| operations[number].invoked);
    let mut floors = vec![history.start_revision; operations.len()];
    let (mut floor, mut told) = (history.start_revision, returns.into_iter().peekable());
    for number in order {
        let invoked = operations[number].invoked;
        while let Some((_, revision)) = told.next_if(|(returned, _)| *returned < invoked) {
            floor = floor.max(revision);
        }
        floors[number] = floor;
        behind(&operations[number], floor)?;
    }
    Ok(floors)
}

fn behind(operation: &Operation, floor: Revision) -> Result<(), String> {
    let Outcome::Answered { returned, response } = &operation.outcome else { return Ok(()) };
    if *returned < operation.invoked {
        return Err(format!("answered before it was asked: {operation:?}"));
    }
    let (revision, wrote) = (response.revision(), response.wrote());
    let stale_is_well = matches!(&operation.request, Request::Read(read) if read.serializable);
    match revision < floor {
        true if !stale_is_well => {
            Err(format!("stale: revision {floor} was known when this was asked: {operation:?}"))
        }
        _ if wrote && revision == floor => {
            Err(format!("revision {floor} was known before it was made: {operation:?}"))
        }
        _ => Ok(()),
    }
}

fn unique(history: &History) -> Result<(), String> {
    let wrote = |operation: &&Operation| match &operation.outcome {
        Outcome::Answered { response, .. } => response.wrote(),
        Outcome::Unknown | Outcome::Refused => false,
    };
    let mut writes: Vec<(Revision, &Operation)> = history
        .operations
        .iter()
        .filter(wrote)
        .filter_map(|operation| match &operation.outcome {
            Outcome::Answered { response, .. } => Some((response.revision(), operation)),
            Outcome::Unknown | Outcome::Refused => None,
        })
        .collect();
    writes.sort_by_key(|(revision, _)| *revision);
    for pair in writes.windows(2) {
        if pair[0].0 == pair[1].0 {
            return Err(format!("two writes with one revision: {:?} and {:?}", pair[0], pair[1]));
        }
    }
    Ok(())
}
