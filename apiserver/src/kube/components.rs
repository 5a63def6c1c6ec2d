//! Component statuses, which are not stored but found out when somebody asks: of this server's own
//! store. Schedulers and controller managers tell of their health themselves.

use serde_json::json;

use super::health;
use super::object::Object;
use super::registry::{Registry, into_object};

/// The name under which clients look for the store.
const STORE: &str = "etcd-0";

/// The statuses of all components.
pub(super) async fn statuses(registry: &Registry) -> Vec<Object> {
    vec![status(health::storage_works(registry).await)]
}

fn status(store_works: bool) -> Object {
    let condition = match store_works {
        true => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        false => json!({
            "type": "Healthy", "status": "False",
            "message": "the store does not answer", "error": "storage is unavailable",
        }),
    };
    into_object(json!({
        "kind": "ComponentStatus", "apiVersion": "v1",
        "metadata": {"name": STORE}, "conditions": [condition],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::table;

    #[test]
    fn what_people_see() {
        for (works, shown) in [
            (true, ["Healthy", "ok", ""]),
            (false, ["Unhealthy", "the store does not answer", "storage is unavailable"]),
        ] {
            let cells = table::cells("", "componentstatuses", &status(works), 0);
            assert_eq!(cells[0], STORE);
            assert_eq!(cells[1..], shown);
        }
    }
}
