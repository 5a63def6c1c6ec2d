//! Method Maintenance.Snapshot.

use std::path::Path;

use aws_lc_rs::digest;
use bytes::Bytes;
use mainstay_proto::maintenance::{SnapshotRequest, SnapshotResponse};

use super::client::{CallError, Client};
use crate::files::Draft;
use crate::progress::Progress;

/// Writes the server's database to `path` with its checksum, which is checked. Gives the length.
pub(super) async fn fetch(client: &Client, path: &Path) -> Result<u64, CallError> {
    let mut stream = client
        .stream::<_, SnapshotResponse>("/etcdserverpb.Maintenance/Snapshot", &SnapshotRequest {})
        .await?;
    let mut progress = Progress::new("fetching the snapshot");
    let mut context = digest::Context::new(&digest::SHA256);
    let mut draft: Option<Draft> = None;
    let mut held: Option<Bytes> = None;
    let mut received = 0;
    // The checksum is the last message: hold one back.
    while let Some(SnapshotResponse { blob, remaining_bytes, .. }) = stream.next().await? {
        if let Some(before) = held.replace(blob) {
            context.update(&before);
            received += before.len() as u64;
            let draft = match &mut draft {
                Some(draft) => draft,
                None => draft.insert(Draft::create(path)?),
            };
            draft.write(&before)?;
        }
        progress.show(received, received + remaining_bytes);
    }
    let (Some(sum), Some(mut draft)) = (held, draft) else {
        return Err(CallError::Failed("the server sent nothing".to_owned()));
    };
    if context.finish().as_ref() != &sum[..] {
        let reason = "what arrived does not match the server's checksum";
        return Err(CallError::Failed(reason.to_owned()));
    }
    draft.write(&sum)?;
    draft.complete()?;
    progress.end();
    Ok(received + sum.len() as u64)
}
