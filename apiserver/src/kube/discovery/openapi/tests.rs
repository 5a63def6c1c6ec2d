//! The documents against those of Kubernetes, up to differences that are listed here.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::kube::schema::golden;

fn openapi() -> OpenApi {
    OpenApi::new(Schema::builtin())
}

/// As if everything had working behaviour: what the table holds, not what is switched on.
fn everything() -> OpenApi {
    let schema = Schema::builtin();
    let rows = schema.resources().iter().map(|row| {
        let mut row = Resource::clone(row);
        row.served = true;
        row.subresources.iter_mut().for_each(|sub| sub.served = true);
        Arc::new(row)
    });
    let schema = Schema::new(schema.types().to_vec(), rows.collect());
    OpenApi::new(Box::leak(Box::new(schema)))
}

fn json_of(openapi: &OpenApi, path: &str) -> Value {
    serde_json::from_slice(&openapi.document(path).unwrap().bytes).unwrap()
}

#[test]
fn every_path_of_the_index_has_a_document() {
    let openapi = openapi();
    let index = openapi.index(&[("apis/example.com/v1".into(), "AB".into())]);
    let paths = index["paths"].as_object().unwrap();
    let custom = &paths["apis/example.com/v1"]["serverRelativeURL"];
    assert_eq!(custom, "/openapi/v3/apis/example.com/v1?hash=AB");
    for path in paths.keys().filter(|path| !path.contains("example.com")) {
        let document = json_of(&openapi, path);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for name in paths::referenced_types(&document) {
            assert!(schemas.contains_key(&name), "{path}: {name}");
        }
    }
    assert!(openapi.document("apis/none/v1").is_none());
}

#[test]
fn kubectl_finds_field_validation() {
    let document = json_of(&openapi(), "apis/apps/v1");
    let patch =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    let parameters = patch["parameters"].as_array().unwrap();
    assert!(parameters.iter().any(|parameter| parameter["name"] == "fieldValidation"));
}

#[cfg(feature = "explain-docs")]
#[test]
fn types_and_fields_are_described() {
    let document = json_of(&openapi(), "api/v1");
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let (mut fields, mut described) = (0, 0);
    for schema in schemas.values() {
        for property in schema["properties"].as_object().into_iter().flat_map(|map| map.values()) {
            fields += 1;
            described += usize::from(property["description"].is_string());
        }
    }
    println!("{described} of {fields} fields are described");
    assert!(described * 100 > fields * 90, "{described} of {fields}");
}

/// Takes away what is told differently on purpose: descriptions, and the object around a reference.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(all)) = map.get("allOf")
                && let [single] = &all[..]
            {
                return plain(single);
            }
            let kept = map.iter().filter(|(key, value)| {
                let ignored = ["description", "default", "x-kubernetes-unions"];
                !(ignored.contains(&key.as_str()) && !value.is_object() || *key == "default")
            });
            Value::Object(kept.map(|(key, value)| (key.clone(), plain(value))).collect())
        }
        Value::Array(list) => list.iter().map(plain).collect(),
        other => other.clone(),
    }
}

/// A list of names without its order, which means nothing.
fn sorted(value: &Value) -> Value {
    let mut value = value.clone();
    if let Value::Array(list) = &mut value {
        list.sort_by_key(Value::to_string);
    }
    value
}

#[test]
fn schemas_are_those_of_kubernetes() {
    let openapi = openapi();
    let mut compared = 0;
    let mut differences: BTreeMap<String, usize> = BTreeMap::new();
    for (path, entry) in &openapi.entries {
        let Content::GroupVersion { .. } = entry.content else { continue };
        let file = format!("kubernetes/openapi-spec/v3/{}_openapi.json", path.replace('/', "__"));
        let Some(text) = golden::shared(&file) else { return };
        let theirs: Value = serde_json::from_str(&text).unwrap();
        let mine = json_of(&openapi, path);
        for (name, schema) in mine["components"]["schemas"].as_object().unwrap() {
            let Some(expected) = theirs["components"]["schemas"].get(name) else {
                *differences.entry(format!("{path}: {name} is additional")).or_default() += 1;
                continue;
            };
            compared += 1;
            let (mine, theirs) = (plain(schema), plain(expected));
            for (field, value) in mine["properties"].as_object().into_iter().flatten() {
                let mut expected = theirs["properties"][field].clone();
                // Told as what it means: a list without a type is atomic, a map granular.
                if value["type"] == "array" && expected["x-kubernetes-list-type"].is_null() {
                    expected["x-kubernetes-list-type"] = json!("atomic");
                }
                if expected["x-kubernetes-map-type"] == "granular" {
                    expected.as_object_mut().unwrap().remove("x-kubernetes-map-type");
                }
                if *value != expected {
                    let difference = golden::first_difference(&expected, value, field);
                    *differences.entry(format!("{name}: {difference}")).or_default() += 1;
                }
            }
            for key in ["required", "type", "x-kubernetes-map-type", "format", "oneOf"] {
                if sorted(&mine[key]) != sorted(&theirs[key]) {
                    let difference = format!("{name}: {key} {} not {}", mine[key], theirs[key]);
                    *differences.entry(difference).or_default() += 1;
                }
            }
        }
    }
    let differences: Vec<&String> = differences.keys().collect();
    // The table knows bytes, not that they are a list of them.
    let known = "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIServiceSpec: \
                 caBundle.x-kubernetes-list-type: lacks \"atomic\"";
    assert_eq!(differences, [known]);
    golden::say("schemas", compared, 1_000);
}

#[test]
fn structures_held_by_value_are_those_of_kubernetes() {
    let openapi = openapi();
    let mut compared = 0;
    let mut different = Vec::new();
    for (path, entry) in &openapi.entries {
        let Content::GroupVersion { .. } = entry.content else { continue };
        let file = format!("kubernetes/openapi-spec/v3/{}_openapi.json", path.replace('/', "__"));
        let Some(text) = golden::shared(&file) else { return };
        let theirs: Value = serde_json::from_str(&text).unwrap();
        for (name, schema) in json_of(&openapi, path)["components"]["schemas"].as_object().unwrap()
        {
            for (field, value) in schema["properties"].as_object().into_iter().flatten() {
                let expected = &theirs["components"]["schemas"][name]["properties"][field];
                let reference = value["allOf"][0]["$ref"].as_str().unwrap_or("");
                if value["allOf"].is_null()
                    || reference.ends_with(".Time")
                    || reference.ends_with(".MicroTime")
                {
                    continue;
                }
                compared += 1;
                if value["default"].is_null() != expected["default"].is_null() {
                    different.push(format!("{name}.{field}"));
                }
            }
        }
    }
    different.sort();
    different.dedup();
    assert_eq!(different, Vec::<String>::new());
    golden::say("fields that refer to a structure", compared, 500);
}

#[test]
fn recorded_index() {
    let mut compared = 0;
    for exchange in golden::exchanges(&["openapi"]) {
        if exchange.path == "/openapi/v3" {
            let index = openapi().index(&[]);
            for path in exchange.expect["body"]["paths"]["$superset"].as_object().unwrap().keys() {
                let is_served = index["paths"].get(path).is_some();
                let is_virtual = path.contains("authentication") || path.contains("authorization");
                assert!(is_served || is_virtual, "{path} is missing");
                compared += 1;
            }
        }
    }
    golden::say("paths of the recorded index", compared, 40);
}

#[test]
fn paths_are_those_of_kubernetes() {
    let openapi = everything();
    let mut compared = 0;
    let mut different = Vec::new();
    for path in openapi.entries.keys() {
        let file = format!("kubernetes/openapi-spec/v3/{}_openapi.json", path.replace('/', "__"));
        let Some(text) = golden::shared(&file) else { return };
        let theirs: Value = serde_json::from_str(&text).unwrap();
        let mine = json_of(&openapi, path);
        for (path, operations) in mine["paths"].as_object().unwrap() {
            for (verb, operation) in operations.as_object().unwrap() {
                let expected = &theirs["paths"][path][verb];
                let told = |key: &str| (operation[key].clone(), expected[key].clone());
                let keys = [
                    "operationId",
                    "tags",
                    "x-kubernetes-action",
                    "x-kubernetes-group-version-kind",
                ];
                for (mine, theirs) in
                    keys.iter().map(|key| told(key)).filter(|_| verb != "parameters")
                {
                    compared += 1;
                    if mine != theirs {
                        different.push(format!("{verb} {path}: {mine} not {theirs}"));
                    }
                }
            }
            for verb in theirs["paths"][path].as_object().into_iter().flat_map(|verbs| verbs.keys())
            {
                if operations.get(verb).is_none() {
                    different.push(format!("{verb} {path} is missing"));
                }
            }
        }
        for path in theirs["paths"].as_object().unwrap().keys() {
            if mine["paths"].get(path).is_none() {
                different.push(format!("{path} is missing"));
            }
        }
    }
    assert_eq!(different, Vec::<String>::new());
    golden::say("operations", compared, 1_000);
}

#[test]
fn swagger_has_the_definitions_and_paths_of_kubernetes() {
    let openapi = openapi();
    let mine: Value = serde_json::from_slice(&openapi.swagger().bytes).unwrap();
    let deployment = &mine["definitions"]["io.k8s.api.apps.v1.Deployment"];
    let spec = &deployment["properties"]["spec"]["$ref"];
    assert_eq!(spec, "#/definitions/io.k8s.api.apps.v1.DeploymentSpec");
    let path = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}";
    let patch = &mine["paths"][path]["patch"];
    assert_eq!(patch["parameters"][0]["in"], "body");
    assert_eq!(patch["consumes"].as_array().unwrap().len(), 4);
    assert_eq!(
        patch["responses"]["200"]["schema"]["$ref"],
        "#/definitions/io.k8s.api.apps.v1.Deployment"
    );
    let Some(text) = golden::shared("kubernetes/openapi-spec/swagger.json") else { return };
    let theirs: Value = serde_json::from_str(&text).unwrap();
    let mut compared = 0;
    for (name, definition) in mine["definitions"].as_object().unwrap() {
        let expected = &theirs["definitions"][name];
        let names = |value: &Value| -> Vec<String> {
            value["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.clone())
                .collect()
        };
        assert_eq!(names(definition), names(expected), "{name}");
        assert_eq!(definition["type"], expected["type"], "{name}");
        for (field, value) in definition["properties"].as_object().into_iter().flatten() {
            for key in ["$ref", "type", "format"] {
                assert_eq!(value[key], expected["properties"][field][key], "{name}.{field} {key}");
            }
        }
        compared += 1;
    }
    let paths = mine["paths"].as_object().unwrap();
    let unknown: Vec<&String> =
        paths.keys().filter(|path| theirs["paths"].get(path.as_str()).is_none()).collect();
    assert_eq!(unknown, Vec::<&String>::new());
    golden::say("definitions", compared, 500);
}

#[test]
fn recorded_swagger() {
    let mine: Value = serde_json::from_slice(&everything().swagger().bytes).unwrap();
    let mut compared = 0;
    let mut missing = Vec::new();
    for exchange in golden::exchanges(&["openapi"]) {
        let expected = &exchange.expect["body"]["$superset"];
        for part in ["paths", "definitions"] {
            for name in
                expected[part]["$superset"].as_object().into_iter().flat_map(|map| map.keys())
            {
                compared += 1;
                if mine[part].get(name).is_none() {
                    missing.push(name.clone());
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    golden::say("paths and definitions of the recorded document", compared, 400);
}
