//! Who asks for a certificate is written into the request by the server, never by the client.

use serde_json::json;

use crate::kube::authn::User;
use crate::kube::object::{self, Object};

pub(super) fn create(request: &mut Object, user: &User) {
    let spec = object::map_mut(request, "spec");
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    spec.insert("username".to_owned(), user.name.as_str().into());
    spec.insert("groups".to_owned(), json!(user.groups));
    if !user.uid.is_empty() {
        spec.insert("uid".to_owned(), user.uid.as_str().into());
    }
    if !user.extra.is_empty() {
        spec.insert("extra".to_owned(), json!(user.extra));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn nobody_asks_in_the_name_of_others() {
        let mut request = into_object(json!({"spec": {"username": "root", "uid": "1"}}));
        let user = User { name: "alice".to_owned(), ..User::default() };
        create(&mut request, &user);
        assert_eq!(request["spec"], json!({"username": "alice", "groups": []}));
    }
}
