//! Deleting all objects that selectors select.

use std::rc::Rc;

use super::context::Now;
use super::list::ListReader;
use super::{Registry, Target};
use crate::kube::admission;
use crate::kube::object::{self, Object};
use crate::kube::request::options::{DeleteOptions, ListOptions};
use crate::kube::status::ApiError;

impl Registry {
    /// Deletes what `list` selects; gives the objects as they were, and the list's revision.
    pub async fn delete_collection(
        self: &Rc<Self>,
        target: &Target,
        list: ListOptions,
        options: &DeleteOptions,
        now: Now,
    ) -> Result<(Vec<Object>, i64), ApiError> {
        let mut reader = ListReader::open(self.clone(), target.clone(), list).await?;
        let revision = reader.revision();
        let mut objects = Vec::new();
        while let Some(chunk) = reader.next_chunk().await? {
            for stored in chunk {
                let found = self.decode(&target.entry, &stored)?;
                let one = Target {
                    name: object::name(&found).to_owned(),
                    namespace: object::namespace(&found).to_owned(),
                    ..target.clone()
                };
                admission::delete(self, &one).await?;
                match self.delete(&one, options, now).await {
                    Err(error) if error.code() != http::StatusCode::NOT_FOUND => return Err(error),
                    _ => objects.push(found),
                }
            }
        }
        Ok((objects, revision))
    }
}
