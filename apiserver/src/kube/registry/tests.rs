//! What all resources do alike, on storage in memory.

use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use serde_json::{Value, json};

use super::catalog::Catalog;
use super::context::{Now, Random, WriteContext};
use super::delete::Deleted;
use super::list::ListReader;
use super::patch::PatchKind;
use super::update::Change;
use super::{Registry, Target, into_object};
use crate::kube::object::{self, Object};
use crate::kube::request::options::{DeleteOptions, ListOptions, Propagation, WriteOptions};
use crate::kube::request::query::Query;
use crate::kube::resources::services::AddressRange;
use crate::kube::schema::Schema;
use crate::kube::status::ApiError;
use crate::kube::storage::memory::Memory;

fn now() -> Now {
    Now::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
}

/// Storage in memory never lets one wait.
fn done<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing to wait for")
}

/// Names, where to go on, how many are left.
type ListedPage = (Vec<String>, Option<String>, Option<usize>);

struct World(Rc<Registry>);

impl World {
    /// An empty cluster with the namespace `ns`.
    fn new() -> World {
        let registry = Registry {
            storage: Rc::new(Memory::default()),
            catalog: Catalog::new(Schema::builtin()),
            random: Random::default(),
            service_addresses: AddressRange::parse("10.0.0.0/24").unwrap(),
            policy: Default::default(),
        };
        let world = World(Rc::new(registry));
        world.create("", "namespaces", json!({"metadata": {"name": "ns"}})).unwrap();
        world
    }

    fn target(&self, group: &str, plural: &str, name: &str) -> Target {
        let entry = self.0.catalog.entry(group, "v1", plural).unwrap().clone();
        let namespace = if entry.resource.namespaced { "ns" } else { "" };
        Target {
            entry,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: String::new(),
        }
    }

    fn context(&self) -> WriteContext {
        WriteContext {
            options: WriteOptions::default(),
            field_manager: "test".to_owned(),
            now: now(),
            warnings: Default::default(),
            user: crate::kube::authn::User::server(),
        }
    }

    fn create(&self, group: &str, plural: &str, object: Value) -> Result<Object, ApiError> {
        let target = self.target(group, plural, "");
        done(self.0.create(&target, into_object(object), &self.context()))
    }

    fn update(&self, plural: &str, name: &str, object: Value) -> Result<Object, ApiError> {
        let target = self.target("", plural, name);
        let saved = done(self.0.update(&target, into_object(object), &self.context()))?;
        Ok(saved.object)
    }

    fn merge(&self, target: &Target, patch: Value) -> Result<Object, ApiError> {
        let body = patch.to_string();
        let context = self.context();
        let patched = self.0.patch(target, PatchKind::Merge, body.as_bytes(), &context);
        Ok(done(patched)?.object)
    }

    fn get(&self, target: &Target) -> Result<Object, ApiError> {
        done(self.0.load(target)).map(|(object, _)| object)
    }

    fn list(&self, query: &str) -> Result<ListedPage, ApiError> {
        let options = ListOptions::read(&Query::parse(query), false)?;
        let limited = options.limit > 0;
        let target = self.target("", "configmaps", "");
        let mut reader = done(ListReader::open(self.0.clone(), target, options))?;
        let mut names = Vec::new();
        let (mut token, mut remaining) = (None, None);
        let mut take = |items: Vec<crate::kube::storage::Stored>| {
            names.extend(items.iter().map(|stored| {
                let key = String::from_utf8_lossy(&stored.key).into_owned();
                key.rsplit('/').next().unwrap_or("").to_owned()
            }));
        };
        if limited {
            let (head, items) = done(reader.read_limited())?;
            take(items);
            (token, remaining) = (head.continue_token, head.remaining);
        } else {
            while let Some(chunk) = done(reader.next_chunk())? {
                take(chunk);
            }
        }
        Ok((names, token, remaining))
    }
}

fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "1"}})
}

fn message<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
    result.unwrap_err().status().message.clone()
}

#[test]
fn a_new_object_gets_its_identity() {
    let world = World::new();
    let object = world.create("", "configmaps", config_map("x")).unwrap();
    assert_eq!(object::namespace(&object), "ns");
    assert_eq!(object::uid(&object).len(), 36);
    assert_eq!(object::meta_text(&object, "creationTimestamp"), "2023-11-14T22:13:20Z");
    assert_eq!(object::meta_text(&object, "resourceVersion"), "2");
    assert_eq!(
        message(world.create("", "configmaps", config_map("x"))),
        "configmaps \"x\" already exists"
    );
    assert_eq!(world.get(&world.target("", "configmaps", "x")), Ok(object));
}

#[test]
fn what_is_refused_is_told_in_known_words() {
    let world = World::new();
    for (plural, object, expected) in [
        (
            "configmaps",
            json!({}),
            "metadata.name: Required value: name or generateName is required",
        ),
        (
            "configmaps",
            json!({"metadata": {"name": "x", "namespace": "other"}}),
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            "configmaps",
            json!({"metadata": {"name": "x", "resourceVersion": "5"}}),
            "resourceVersion should not be set on objects to be created",
        ),
    ] {
        let text = message(world.create("", plural, object));
        assert!(text.ends_with(expected), "{text}");
    }
    let mut elsewhere = world.target("", "configmaps", "");
    elsewhere.namespace = "absent".to_owned();
    let context = world.context();
    let created = world.0.create(&elsewhere, into_object(config_map("x")), &context);
    assert_eq!(message(done(created)), "namespaces \"absent\" not found");
}

#[test]
fn updates_see_what_changed_in_between() {
    let world = World::new();
    let first = world.create("", "configmaps", config_map("x")).unwrap();
    let mut second = first.clone();
    object::map_mut(&mut second, "data").insert("b".to_owned(), "2".into());
    let saved = world.update("configmaps", "x", Value::Object(second.clone())).unwrap();
    assert_eq!(object::meta_text(&saved, "resourceVersion"), "3");
    let stale = message(world.update("configmaps", "x", Value::Object(first)));
    assert!(stale.contains("the object has been modified"), "{stale}");
    let same = world.update("configmaps", "x", Value::Object(saved.clone())).unwrap();
    assert_eq!(same, saved, "an update without a change writes nothing");
    let other = message(world.update("configmaps", "x", json!({"metadata": {"name": "zz"}})));
    assert_eq!(other, "the name of the object (zz) does not match the name on the URL (x)");
    let missing = message(world.update("configmaps", "absent", config_map("absent")));
    assert_eq!(missing, "configmaps \"absent\" not found");
}

#[test]
fn spec_and_status_are_written_apart() {
    let world = World::new();
    let deployment = json!({
        "metadata": {"name": "d"},
        "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
        "status": {"replicas": 7},
    });
    let created = world.create("apps", "deployments", deployment).unwrap();
    assert_eq!(created["status"], json!({}));
    assert_eq!(created["metadata"]["generation"], 1);
    let target = world.target("apps", "deployments", "d");
    let patched =
        world.merge(&target, json!({"spec": {"replicas": 2}, "status": {"replicas": 9}})).unwrap();
    assert_eq!((&patched["metadata"]["generation"], &patched["status"]), (&json!(2), &json!({})));
    let status = Target { subresource: "status".to_owned(), ..target.clone() };
    let patched =
        world.merge(&status, json!({"spec": {"replicas": 5}, "status": {"replicas": 2}})).unwrap();
    assert_eq!(patched["status"]["replicas"], 2);
    assert_eq!(patched["spec"]["replicas"], 2);
    assert_eq!(patched["metadata"]["generation"], 2);
    let scale = done(world.0.get_scale(&target)).unwrap();
    assert_eq!(scale["spec"]["replicas"], 2);
    assert_eq!(scale["status"]["selector"], "app=x");
}

#[test]
fn server_side_apply_creates_and_changes() {
    let world = World::new();
    let target = world.target("", "configmaps", "x");
    let apply = |data: Value| {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data}).to_string();
        done(world.0.apply(&target, body.as_bytes(), &world.context()))
    };
    let first = apply(json!({"a": "1"})).unwrap();
    assert!(first.created);
    let second = apply(json!({"b": "2"})).unwrap();
    assert!(!second.created);
    assert_eq!(second.object["data"], json!({"b": "2"}));
}

#[test]
fn deletion_waits_for_finalizers() {
    let world = World::new();
    let target = world.target("", "configmaps", "x");
    world
        .create(
            "",
            "configmaps",
            json!({"metadata": {"name": "x", "finalizers": ["example.com/f"]}}),
        )
        .unwrap();
    let deleted = done(world.0.delete(&target, &DeleteOptions::default(), now())).unwrap();
    let Deleted::Marked(marked) = deleted else { panic!("it has a finalizer") };
    assert!(object::is_being_deleted(&marked));
    world.merge(&target, json!({"metadata": {"finalizers": null}})).unwrap();
    assert_eq!(message(world.get(&target)), "configmaps \"x\" not found");
}

#[test]
fn foreground_deletion_leaves_a_finalizer() {
    let world = World::new();
    let target = world.target("", "configmaps", "x");
    world.create("", "configmaps", config_map("x")).unwrap();
    let options =
        DeleteOptions { propagation: Some(Propagation::Foreground), ..Default::default() };
    let deleted = done(world.0.delete(&target, &options, now())).unwrap();
    let Deleted::Marked(marked) = deleted else { panic!("dependents go first") };
    assert_eq!(object::finalizers(&marked), ["foregroundDeletion"]);
    let wrong = DeleteOptions { uid: Some("1".to_owned()), ..Default::default() };
    assert!(
        message(done(world.0.delete(&target, &wrong, now())))
            .contains("the UID in the precondition (1)")
    );
}

#[test]
fn lists_go_page_by_page_at_one_revision() {
    let world = World::new();
    for name in ["a", "b", "c", "d"] {
        world.create("", "configmaps", config_map(name)).unwrap();
    }
    let (names, token, remaining) = world.list("limit=2").unwrap();
    assert_eq!((names, remaining), (vec!["a".to_owned(), "b".to_owned()], Some(2)));
    let target = world.target("", "configmaps", "c");
    done(world.0.delete(&target, &DeleteOptions::default(), now())).unwrap();
    let (names, token, _) = world.list(&format!("limit=2&continue={}", token.unwrap())).unwrap();
    assert_eq!((names, token), (vec!["c".to_owned(), "d".to_owned()], None));
    assert_eq!(world.list("").unwrap().0, ["a", "b", "d"]);
    assert_eq!(world.list("fieldSelector=metadata.name%3Db").unwrap().0, ["b"]);
    assert_eq!(world.list("labelSelector=x").unwrap().0, Vec::<String>::new());
    let unknown = message(world.list("fieldSelector=data.a%3D1"));
    assert_eq!(
        unknown,
        "\"data.a\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    );
    done(world.0.storage.compact(world.0.storage.revision() + 1)).unwrap();
    let old =
        format!("limit=1&continue={}", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0");
    assert_eq!(world.list(&old).unwrap_err().code().as_u16(), 410);
}

#[test]
fn services_get_addresses_of_their_own() {
    let world = World::new();
    let service = |name: &str, address: &str| json!({"metadata": {"name": name}, "spec": {"clusterIP": address, "ports": [{"port": 80}]}});
    let first = world.create("", "services", service("a", "")).unwrap();
    let address = object::text_at(&first, &["spec", "clusterIP"]).to_owned();
    assert!(address.starts_with("10.0.0."), "{address}");
    let taken = message(world.create("", "services", service("b", &address)));
    assert!(taken.contains("provided IP is already allocated"), "{taken}");
    let target = world.target("", "services", "a");
    done(world.0.delete(&target, &DeleteOptions::default(), now())).unwrap();
    world.create("", "services", service("b", &address)).unwrap();
}

#[test]
fn node_ports_of_services_that_were_not_stored_are_free() {
    let world = World::new();
    let service = |name: &str, address: &str, port: i64| {
        json!({"metadata": {"name": name}, "spec": {
            "type": "NodePort", "clusterIP": address, "ports": [{"port": 80, "nodePort": port}],
        }})
    };
    let is_free = |port: i64| {
        let name = format!("check-{port}");
        world.create("", "services", service(&name, "", port)).unwrap();
    };
    world.create("", "services", service("a", "", 30_100)).unwrap();

    let exists = message(world.create("", "services", service("a", "", 30_200)));
    assert_eq!(exists, "services \"a\" already exists");
    is_free(30_200);

    let external = json!({"metadata": {"name": "b"}, "spec": {"type": "ExternalName", "externalName": "example.com"}});
    world.create("", "services", external).unwrap();
    let refused = message(world.update("services", "b", service("b", "192.0.2.1", 30_300)));
    assert!(refused.contains("is not in the valid range"), "{refused}");
    is_free(30_300);

    let target = world.target("", "services", "a");
    let (old, stored) = done(world.0.load(&target)).unwrap();
    let labels = json!({"metadata": {"labels": {"winner": "other"}}});
    world.merge(&target, labels).unwrap();
    let mut late = old.clone();
    object::map_mut(&mut late, "spec").insert(
        "ports".to_owned(),
        json!([{"port": 80, "targetPort": 80, "protocol": "TCP", "nodePort": 30_400}]),
    );
    let change = Change::Untracked(late);
    let lost = done(world.0.try_save(&target, change, &old, &stored, &world.context()));
    assert!(lost.unwrap().is_none());
    is_free(30_400);
    let taken = message(world.create("", "services", service("c", "", 30_100)));
    assert!(taken.contains("provided port is already allocated"), "{taken}");
}

#[test]
fn a_collection_is_deleted_object_by_object() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        world.create("", "configmaps", config_map(name)).unwrap();
    }
    let target = world.target("", "configmaps", "");
    let query = Query::parse("fieldSelector=metadata.name!=b");
    let list = ListOptions::read(&query, false).unwrap();
    let options = DeleteOptions::default();
    let mut names = Vec::new();
    let mut keep = |object: Object| names.push(object::name(&object).to_owned());
    let user = crate::kube::authn::User::server();
    let deletion = world.0.delete_collection(&target, list, &options, &user, now(), &mut keep);
    assert_eq!(done(deletion), Ok(4));
    assert_eq!(names, ["a", "c"]);
    assert_eq!(world.list("").unwrap().0, ["b"]);
}
