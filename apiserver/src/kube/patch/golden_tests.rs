//! Compares with recorded answers of a kube-apiserver: the objects and errors that patches give,
//! and the managedFields after every write. The recordings lie outside of the project; without
//! them these tests say that they compared nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::apply::{
    ApplyError, Conflict, FieldFilter, Request, apply, manager_of_user_agent, update_managed_fields,
};
use super::{go_value, json as json_patch, merge, strategic};
use crate::kube::codec::normalize;
use crate::kube::schema::golden::{first_difference, say, shared_folder};
use crate::kube::schema::{Resource, Schema};

/// Recorded times are placeholders; entries that change get this one.
const NOW: &str = "${time}";

/// Writes after which the server itself changes what the patch has made, so that the answer does
/// not show it: the scenario, the step (all when empty), and what happens.
const CHANGED_AFTERWARDS: [(&str, &str, &str); 9] = [
    ("delete/ownerreferences", "PATCH /configmaps/child", "equal owner references become one"),
    ("mergepatch/basic", "status is ignored", "the status is reset"),
    ("node/leases-tokens", "", "storage does not tell an empty list from none"),
    ("secrets/types", "", "stringData goes into data"),
    ("services/type-changes", "", "addresses and ports are allocated and released"),
    ("services/update-ports", "", "ports are allocated"),
    ("subresources/pod-status", "", "the phase is reset"),
    ("validation/persistentvolumeclaims-07", "create", "an unusable data source is dropped"),
    ("subresources/resize", "other fields", "everything but resources is reset"),
];

struct Step<'a> {
    name: String,
    title: &'a str,
    method: &'a str,
    path: &'a str,
    query: &'a str,
    resource: &'a Resource,
    subresource: &'a str,
    body: &'a Value,
    content_type: &'a str,
    manager: String,
    status: u64,
    answer: &'a Value,
}

impl<'a> Step<'a> {
    /// A request to a built-in resource whose body and answer are known.
    fn read(scenario: &str, step: &'a Value) -> Option<Step<'a>> {
        let method = step["method"].as_str()?;
        let (path, query) = match step["path"].as_str()?.split_once('?') {
            Some(parts) => parts,
            None => (step["path"].as_str()?, ""),
        };
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match parts[..] {
            ["api", version, ref rest @ ..] => ("", version, rest),
            ["apis", group, version, ref rest @ ..] => (group, version, rest),
            _ => return None,
        };
        let rest = match rest {
            ["namespaces", _, rest @ ..] if !rest.is_empty() && rest[0] != "status" => rest,
            rest => rest,
        };
        let resource = Schema::builtin().resource(group, version, rest.first()?)?;
        let header = |name: &str| step["headers"][name].as_str();
        let agent = header("User-Agent").unwrap_or("golden/1.0");
        let named = query.split('&').find_map(|pair| pair.strip_prefix("fieldManager="));
        Some(Step {
            title: step["name"].as_str().unwrap_or_default(),
            name: format!("{scenario}: {method} {} {}", step["path"], step["name"]),
            method,
            path,
            query,
            resource,
            subresource: rest.get(2).copied().unwrap_or_default(),
            body: &step["body"],
            content_type: header("Content-Type").unwrap_or("application/json"),
            manager: named.map_or_else(|| manager_of_user_agent(agent), str::to_string),
            status: step["expect"]["status"].as_u64()?,
            answer: &step["expect"]["body"],
        })
    }

    /// Where the object is kept between steps.
    fn key(&self) -> String {
        let path = self.path.strip_suffix(self.subresource).unwrap_or(self.path);
        let path = path.trim_end_matches('/');
        match (self.method, self.answer["metadata"]["name"].as_str()) {
            ("POST", Some(name)) => format!("{path}/{name}"),
            _ => path.to_string(),
        }
    }

    fn request(&'a self, filter: &'a FieldFilter, api_version: &'a str) -> Request<'a> {
        Request {
            schema: Schema::builtin(),
            type_id: self.resource.type_id,
            api_version,
            manager: &self.manager,
            subresource: self.subresource,
            now: NOW,
            filter,
        }
    }

    fn api_version(&self) -> String {
        match self.resource.group.as_str() {
            "" => self.resource.version.clone(),
            group => format!("{group}/{}", self.resource.version),
        }
    }

    /// The answer, when it is the whole object.
    fn object(&self) -> Option<&Value> {
        let is_kind = self.answer["kind"] == json!(self.resource.kind)
            && self.answer["apiVersion"] == json!(self.api_version());
        (matches!(self.status, 200 | 201) && is_kind).then_some(self.answer)
    }
}

#[derive(Default)]
struct Tally {
    compared: BTreeMap<&'static str, usize>,
    differences: Vec<String>,
}

impl Tally {
    fn note(&mut self, what: &'static str, difference: Option<String>) {
        *self.compared.entry(what).or_default() += 1;
        self.differences.extend(difference);
    }
}

fn scenarios() -> Vec<(String, Vec<Value>)> {
    let mut files: Vec<PathBuf> = Vec::new();
    let root = shared_folder().join("golden");
    let Ok(areas) = fs::read_dir(&root) else {
        eprintln!("NOT COMPARED: {} is missing", root.display());
        return Vec::new();
    };
    for area in areas.map(|area| area.unwrap().path()).filter(|area| area.is_dir()) {
        files.extend(fs::read_dir(area).unwrap().map(|file| file.unwrap().path()));
    }
    files.sort();
    let read = |file: PathBuf| {
        let scenario: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let steps = scenario["steps"].as_array().cloned().unwrap_or_default();
        (scenario["id"].as_str().unwrap_or_default().to_string(), steps)
    };
    let is_json = |file: &PathBuf| file.extension().is_some_and(|end| end == "json");
    files.into_iter().filter(is_json).map(read).collect()
}

#[test]
fn recorded_writes() {
    let mut tally = Tally::default();
    for (id, steps) in scenarios() {
        let mut objects: BTreeMap<String, Value> = BTreeMap::new();
        let steps: Vec<Step<'_>> = steps.iter().filter_map(|step| Step::read(&id, step)).collect();
        for (index, step) in steps.iter().enumerate() {
            let key = step.key();
            let changed_afterwards = CHANGED_AFTERWARDS.iter().any(|(scenario, name, _)| {
                *scenario == id && (name.is_empty() || step.title == *name)
            });
            let refused = step.status >= 400;
            let live = objects.get(&key).or_else(|| {
                // For a refusal, the object as it is a little later will do.
                let mut later = steps[index..].iter().filter(|later| later.key() == key);
                later.find_map(Step::object).filter(|_| refused)
            });
            if !changed_afterwards {
                compare(step, live, &mut tally);
            }
            if step.query.contains("dryRun") {
                continue;
            }
            match step.object() {
                Some(object) => drop(objects.insert(key, object.clone())),
                // What the object has become is not known.
                None if step.method != "GET" && step.status < 300 => drop(objects.remove(&key)),
                None => {}
            }
        }
    }
    for (what, least) in [
        ("JSON patch", 40),
        ("merge patch", 100),
        ("strategic merge patch", 50),
        ("patch refused", 7),
        ("apply", 250),
        ("apply refused", 20),
        ("create", 150),
        ("update", 200),
    ] {
        say(what, tally.compared.get(what).copied().unwrap_or_default(), least);
    }
    assert!(tally.differences.is_empty(), "{}", tally.differences.join("\n"));
}

fn compare(step: &Step<'_>, live: Option<&Value>, tally: &mut Tally) {
    let filter = match step.subresource {
        "" => FieldFilter::except_fields(&[&["status"]]),
        "status" => FieldFilter::except_fields(&[&["spec"]]),
        _ => FieldFilter::All,
    };
    let api_version = step.api_version();
    let request = step.request(&filter, &api_version);
    let unknown_body = step.body.is_string() || step.body.to_string().contains("\"$var\"");
    if unknown_body {
        return;
    }
    match (step.method, step.content_type) {
        ("PATCH", "application/apply-patch+yaml") => compare_apply(step, &request, live, tally),
        ("PATCH", content_type) => {
            let Some(live) = live else { return };
            compare_patch(step, content_type, live, tally);
            compare_update(step, &request, Some(live), tally);
        }
        ("PUT", _) if live.is_some() => compare_update(step, &request, live, tally),
        ("POST", _) if step.subresource.is_empty() => compare_update(step, &request, None, tally),
        _ => {}
    }
}

fn compare_apply(step: &Step<'_>, request: &Request<'_>, live: Option<&Value>, tally: &mut Tally) {
    if live.is_none() && step.status == 200 {
        return;
    }
    let force = step.query.contains("force=true");
    let live = live.and_then(Value::as_object);
    match (apply(request, live, step.body, force).map(Value::Object), step.object()) {
        (Ok(mut object), Some(answer)) => {
            normalize(request.schema, request.type_id, &mut object);
            let difference =
                not_covered(&object, answer, "").or_else(|| entries_differ(&object, answer));
            tally.note("apply", difference.map(|d| format!("{}: {d}", step.name)));
        }
        (Err(error), None) if matches!(step.status, 400 | 409 | 500) => {
            let status = match &error {
                ApplyError::Conflicts(_) => 409,
                ApplyError::BadRequest(_) => 400,
                ApplyError::Internal(_) => 500,
            };
            let causes = match &error {
                ApplyError::Conflicts(conflicts) => json!(conflicts.list().iter().map(|conflict| json!({
                    "reason": Conflict::CAUSE, "message": conflict.cause_message(), "field": conflict.path
                })).collect::<Vec<_>>()),
                _ => Value::Null,
            };
            let mine = json!([status, error.to_string(), causes]);
            let theirs =
                json!([step.status, step.answer["message"], step.answer["details"]["causes"]]);
            let difference =
                (mine != theirs).then(|| format!("{}: {mine} instead of {theirs}", step.name));
            tally.note("apply refused", difference);
        }
        (Err(error), Some(_)) => tally.note("apply", Some(format!("{}: {error}", step.name))),
        _ => {}
    }
}

fn compare_patch(step: &Step<'_>, content_type: &str, live: &Value, tally: &mut Tally) {
    let (result, what) = match content_type {
        "application/json-patch+json" => {
            (json_patch::apply(live, step.body).map_err(|error| error.to_string()), "JSON patch")
        }
        "application/merge-patch+json" => {
            let mut object = live.clone();
            let result = merge::apply(&mut object, step.body.clone());
            (result.map(|()| object).map_err(|error| error.to_string()), "merge patch")
        }
        "application/strategic-merge-patch+json" => {
            let (schema, type_id) = (Schema::builtin(), step.resource.type_id);
            let result = strategic::apply(schema, type_id, live.clone(), step.body.clone());
            let converted = result.map_err(|error| error.to_string()).and_then(|object| {
                match strategic::conversion_problem(schema, type_id, &object) {
                    None => Ok(object),
                    Some(problem) => Err(format!(
                        " \"\" is invalid: patch: Invalid value: {:?}: {problem}",
                        go_value(step.body)
                    )),
                }
            });
            (converted, "strategic merge patch")
        }
        _ => return,
    };
    let named = |difference: String| format!("{}: {difference}", step.name);
    match (result, step.object()) {
        (Ok(mut object), Some(answer)) => {
            normalize(Schema::builtin(), step.resource.type_id, &mut object);
            tally.note(what, not_covered(&object, answer, "").map(named));
        }
        (Err(error), None) if step.status >= 400 => {
            let message = step.answer["message"].as_str().unwrap_or_default();
            let untold = message == json_patch::UNPROCESSABLE_MESSAGE;
            let differs = message != error && !untold;
            tally.note(
                "patch refused",
                differs.then(|| named(format!("{error} instead of {message}"))),
            );
        }
        (Err(error), Some(_)) => tally.note(what, Some(named(error))),
        (Ok(_), None) => {} // refused by something else
        _ => {}
    }
}

fn compare_update(step: &Step<'_>, request: &Request<'_>, live: Option<&Value>, tally: &mut Tally) {
    let Some(answer) = step.object() else { return };
    if answer["metadata"].get("managedFields").is_none() {
        return;
    }
    let mut new = answer.as_object().unwrap().clone();
    new["metadata"].as_object_mut().unwrap().remove("managedFields");
    update_managed_fields(request, live.and_then(Value::as_object), &mut new);
    let new = Value::Object(new);
    let difference = match live {
        Some(_) => entries_differ(&new, answer),
        // Admission and the strategy fill in more after that; nobody owns it.
        None => not_covered(
            &answer["metadata"]["managedFields"],
            &new["metadata"]["managedFields"],
            ".managedFields",
        ),
    };
    let what = if live.is_some() { "update" } else { "create" };
    tally.note(what, difference.map(|d| format!("{}: {d}", step.name)));
}

fn entries_differ(mine: &Value, theirs: &Value) -> Option<String> {
    let sorted = |object: &Value| {
        let mut list = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        list.sort_by_key(Value::to_string);
        Value::Array(list)
    };
    let (mine, theirs) = (sorted(mine), sorted(theirs));
    (mine != theirs).then(|| first_difference(&theirs, &mine, "managedFields"))
}

/// Where the answer lacks something of the object or has something else. More may be in it:
/// defaults and what the server sets.
fn not_covered(mine: &Value, theirs: &Value, path: &str) -> Option<String> {
    match (mine, theirs) {
        (Value::Object(mine), Value::Object(theirs)) => mine.iter().find_map(|(name, value)| {
            let server_sets = ["resourceVersion", "generation", "managedFields"];
            if path == ".metadata" && server_sets.contains(&name.as_str()) {
                return None;
            }
            let path = format!("{path}.{name}");
            match theirs.get(name) {
                Some(theirs) => not_covered(value, theirs, &path),
                None => Some(format!("{path}: {value} is not in the answer")),
            }
        }),
        (Value::Array(mine), Value::Array(theirs)) if mine.len() == theirs.len() => {
            let mut pairs = mine.iter().zip(theirs);
            pairs.find_map(|(mine, theirs)| not_covered(mine, theirs, &format!("{path}[]")))
        }
        (mine, theirs) if mine == theirs => None,
        // Not set by the patch, so that a default took its place.
        (mine, _) if mine.is_null() || *mine == json!(0) => None,
        (mine, theirs) => Some(format!("{path}: {mine} instead of {theirs}")),
    }
}
