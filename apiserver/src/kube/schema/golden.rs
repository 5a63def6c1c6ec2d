//! Recorded requests and answers of a kube-apiserver, for tests. They lie outside of the project;
//! without them a test says that it compared nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Resource, Schema};
use crate::kube::codec::Format;

/// One recorded request and its answer.
pub(crate) struct Exchange {
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Value,
    pub(crate) body: Option<Value>,
    /// A body that is protobuf.
    pub(crate) protobuf: Option<Vec<u8>>,
    pub(crate) status: u64,
    pub(crate) expect: Value,
    /// A protobuf answer.
    pub(crate) recorded_base64: Option<String>,
}

/// A file beside the project, or an announcement that it is missing.
pub(crate) fn shared(path: &str) -> Option<String> {
    let file = shared_folder().join(path);
    let text = fs::read_to_string(&file);
    text.inspect_err(|error| eprintln!("NOT COMPARED: {}: {error}", file.display())).ok()
}

pub(crate) fn shared_folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared"))
}

/// Says how much was compared; at least `least`, when there are recordings at all.
pub(crate) fn say(what: &str, compared: usize, least: usize) {
    println!("{what}: {compared} compared");
    let present = shared_folder().join("golden").is_dir();
    assert!(!present || compared >= least, "{what}: only {compared} compared");
}

/// All exchanges of these areas (of all when none is named), in a fixed order.
pub(crate) fn exchanges(areas: &[&str]) -> Vec<Exchange> {
    files(areas).iter().flat_map(|file| read(file)).collect()
}

/// The scenarios of these areas as they are written.
pub(crate) fn scenario_texts(areas: &[&str]) -> Vec<(String, String)> {
    let texts = files(areas).into_iter().map(|file| {
        let text = fs::read_to_string(&file).unwrap();
        (file.display().to_string(), text)
    });
    texts.collect()
}

fn files(areas: &[&str]) -> Vec<PathBuf> {
    let root = shared_folder().join("golden");
    let mut files: Vec<PathBuf> = Vec::new();
    for area in folder(&root) {
        let name = area.file_name().unwrap().to_string_lossy().into_owned();
        if areas.is_empty() || areas.contains(&name.as_str()) {
            files.extend(
                folder(&area)
                    .into_iter()
                    .filter(|file| file.extension().is_some_and(|e| e == "json")),
            );
        }
    }
    files
}

fn folder(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else {
        if !path.is_file() {
            eprintln!("NOT COMPARED: {} is missing", path.display());
        }
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn read(file: &Path) -> Vec<Exchange> {
    let scenario: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let steps = scenario["steps"].as_array().cloned().unwrap_or_default();
    let steps = steps.into_iter().filter(|step| step["method"].is_string());
    steps
        .map(|step| Exchange {
            id: format!("{} {}", scenario["id"], step["name"]),
            method: step["method"].as_str().unwrap().to_owned(),
            path: step["path"].as_str().unwrap_or("").to_owned(),
            headers: step["headers"].clone(),
            body: step.get("body").cloned(),
            protobuf: protobuf_body(&step),
            status: step["expect"]["status"].as_u64().unwrap_or(0),
            expect: step["expect"].clone(),
            recorded_base64: step["recorded_base64"].as_str().map(str::to_owned),
        })
        .collect()
}

/// The bytes of `body_protobuf` (a tree of numbers and values) or of `body_base64`.
fn protobuf_body(step: &Value) -> Option<Vec<u8>> {
    if let Some(text) = step["body_base64"].as_str() {
        return Some(STANDARD.decode(text).unwrap());
    }
    let tree = step.get("body_protobuf")?;
    let meta = json!([[1, tree["apiVersion"]], [2, tree["kind"]]]);
    let mut bytes = b"k8s\0".to_vec();
    bytes.extend(message_bytes(&json!([[1, meta], [2, tree["message"]], [3, ""], [4, ""]])));
    Some(bytes)
}

fn message_bytes(tree: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in tree.as_array().unwrap() {
        let number = field[0].as_u64().unwrap() as u8;
        let content = match &field[1] {
            Value::Number(number_value) => {
                bytes.extend([number << 3, number_value.as_u64().unwrap() as u8]);
                continue;
            }
            Value::String(text) => text.clone().into_bytes(),
            message => message_bytes(message),
        };
        assert!(number < 16 && content.len() < 128, "small messages only");
        bytes.extend([number << 3 | 2, content.len() as u8]);
        bytes.extend(content);
    }
    bytes
}

impl Exchange {
    /// The built-in resource and the bytes sent to create or replace an object of it.
    pub(crate) fn created_object(&self) -> Option<(Arc<Resource>, Format, Vec<u8>)> {
        let content_type = self.headers["Content-Type"].as_str().unwrap_or("application/json");
        let format = match content_type {
            _ if self.protobuf.is_some() => Format::Protobuf,
            "application/json" => Format::Json,
            "application/yaml" => Format::Yaml,
            _ => return None,
        };
        if !matches!(self.method.as_str(), "POST" | "PUT") {
            return None;
        }
        let body = match (&self.protobuf, self.body.as_ref()) {
            (Some(bytes), _) => bytes.clone(),
            (None, Some(Value::String(text))) => text.clone().into_bytes(),
            (None, Some(value)) => serde_json::to_vec(value).unwrap(),
            (None, None) => return None,
        };
        // Placeholders that stand for other than text would be a wrong type here.
        let generated = body.windows(2).any(|pair| pair == b"\"$");
        let resource = self.resource()?;
        (!generated && matches!(self.status, 201 | 400)).then_some((resource, format, body))
    }

    fn resource(&self) -> Option<Arc<Resource>> {
        let path = self.path.split('?').next().unwrap_or("");
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match parts[..] {
            ["api", version, ref rest @ ..] => ("", version, rest),
            ["apis", group, version, ref rest @ ..] => (group, version, rest),
            _ => return None,
        };
        let rest =
            if rest.first() == Some(&"namespaces") && rest.len() > 2 { &rest[2..] } else { rest };
        let plural = rest.first().filter(|_| rest.len() <= 2)?;
        Schema::builtin().resource(group, version, plural).cloned()
    }

    /// The message of an answer that refuses the bytes themselves.
    pub(crate) fn decoding_error(&self) -> Option<String> {
        let message = self.expect["body"]["message"].as_str()?;
        let about_bytes = ["cannot be handled as", "is unrecognized"];
        about_bytes.iter().any(|words| message.contains(words)).then(|| message.to_owned())
    }

    pub(crate) fn field_warnings(&self) -> Vec<String> {
        let warnings = self.expect["headers"]["warning"].as_array().cloned().unwrap_or_default();
        let warnings = warnings.iter().filter_map(Value::as_str).map(str::to_owned);
        warnings
            .filter(|text| text.contains(" field \\\"") || text.contains("already set in map"))
            .collect()
    }

    /// Whole objects of built-in kinds in the answer.
    pub(crate) fn answered_objects(&self) -> Vec<(Arc<Resource>, Value)> {
        let body = &self.expect["body"];
        if !matches!(self.status, 200 | 201)
            || self.headers["Accept"].as_str().is_some_and(|a| a.contains("as="))
        {
            return Vec::new();
        }
        let object = with_values_for_placeholders(body);
        let api_version = object["apiVersion"].as_str().unwrap_or("");
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let mut resources = Schema::builtin().resources().iter();
        let resource = resources.find(|row| {
            row.group == group
                && row.version == version
                && Some(row.kind.as_str()) == object["kind"].as_str()
        });
        let whole = !object.to_string().contains("\"$");
        resource.filter(|_| whole).map(|row| (row.clone(), object)).into_iter().collect()
    }
}

/// Placeholders of the recordings become values of their type; a value that stays a placeholder of
/// an unknown type keeps its `$`.
fn with_values_for_placeholders(value: &Value) -> Value {
    match value {
        Value::Array(list) => list.iter().map(with_values_for_placeholders).collect(),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| (key.clone(), with_values_for_placeholders(value)))
                .collect(),
        ),
        Value::String(text) if text.contains("${") => match text.as_str() {
            "${time}" => Value::from("2026-01-02T03:04:05Z"),
            "${microtime}" => Value::from("2026-01-02T03:04:05.000006Z"),
            text if text.starts_with("${nodeport") || text.starts_with("${int") => {
                Value::from(30_000)
            }
            "${b64}" => Value::from("YQ=="),
            text => Value::from(text.replace("${", "")),
        },
        other => other.clone(),
    }
}

/// Where two documents differ first, and how.
pub(crate) fn first_difference(theirs: &Value, mine: &Value, path: &str) -> String {
    match (theirs, mine) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            let key = keys.iter().find(|key| a.get(**key) != b.get(**key));
            let Some(key) = key else { return String::new() };
            let path = format!("{path}.{key}");
            match (a.get(*key), b.get(*key)) {
                (Some(a), Some(b)) => first_difference(a, b, &path),
                (Some(a), None) => format!("{path}: lacks {a}"),
                (None, b) => format!("{path}: adds {}", b.unwrap_or(&Value::Null)),
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let index = (0..a.len()).find(|index| a[*index] != b[*index]).unwrap_or(0);
            first_difference(&a[index], &b[index], &format!("{path}[]"))
        }
        (a, b) => format!("{path}: {b} instead of {a}"),
    }
}
