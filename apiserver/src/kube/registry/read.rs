//! Reading one object.

use super::{Registry, Target, storage_error};
use crate::kube::limits::FRESHNESS_WAIT;
use crate::kube::status::ApiError;
use crate::kube::storage::{Storage, StorageError, Stored};

impl Registry {
    /// The stored bytes of one object, not older than `min_revision`.
    pub async fn get_stored(
        &self,
        target: &Target,
        min_revision: Option<i64>,
    ) -> Result<Stored, ApiError> {
        self.wait_for(min_revision.unwrap_or(0)).await?;
        let (stored, _) = self.storage.get(target.key().as_bytes()).await.map_err(storage_error)?;
        stored.ok_or_else(|| target.not_found())
    }

    /// Waits until the store has reached a revision, not for ever.
    pub async fn wait_for(&self, revision: i64) -> Result<(), ApiError> {
        wait_for(&*self.storage, revision).await
    }
}

async fn wait_for(storage: &dyn Storage, revision: i64) -> Result<(), ApiError> {
    use mainstay_engine::runtime::timer;
    const STEP: std::time::Duration = std::time::Duration::from_millis(20);
    let steps = FRESHNESS_WAIT.as_millis() / STEP.as_millis();
    for _ in 0..steps {
        if storage.revision() >= revision {
            return Ok(());
        }
        timer::sleep(STEP).await;
    }
    let error = StorageError::Future { requested: revision, current: storage.revision() };
    Err(storage_error(error))
}
