//! Deleting all objects that selectors select.

use std::rc::Rc;

use super::context::Now;
use super::list::ListReader;
use super::{Registry, Target};
use crate::kube::admission;
use crate::kube::authn::User;
use crate::kube::object::{self, Object};
use crate::kube::request::options::{DeleteOptions, ListOptions};
use crate::kube::status::ApiError;

impl Registry {
    /// Deletes what `list` selects and hands each object, as it was, to `deleted`, which may keep it
    /// or not: a collection can be larger than memory. Gives the list's revision.
    pub async fn delete_collection(
        self: &Rc<Self>,
        target: &Target,
        list: ListOptions,
        options: &DeleteOptions,
        user: &User,
        now: Now,
        deleted: &mut dyn FnMut(Object),
    ) -> Result<i64, ApiError> {
        let mut reader = ListReader::open(self.clone(), target.clone(), list).await?;
        let revision = reader.revision();
        while let Some(chunk) = reader.next_chunk().await? {
            for stored in chunk {
                let found = self.decode(&target.entry, &stored)?;
                let one = Target {
                    name: object::name(&found).to_owned(),
                    namespace: object::namespace(&found).to_owned(),
                    ..target.clone()
                };
                admission::delete(self, &one, user).await?;
                match self.delete(&one, options, now).await {
                    Err(error) if error.code() != http::StatusCode::NOT_FOUND => return Err(error),
                    _ => deleted(found),
                }
            }
        }
        Ok(revision)
    }
}
