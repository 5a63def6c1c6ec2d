use serde_json::json;

use super::*;
use crate::kube::codec::decode_object;
use crate::kube::codec::json::parse;
use crate::kube::schema::GroupVersionKind;
use crate::kube::schema::golden;

fn type_id(name: &str) -> TypeId {
    Schema::builtin().type_named(name).unwrap()
}

fn decode(type_name: &str, text: &str) -> Result<Decoded, DecodeError> {
    decode_node(Schema::builtin(), type_id(type_name), parse(text.as_bytes()).unwrap())
}

#[test]
fn unknown_and_duplicate_fields_are_told_and_dropped() {
    let text = r#"{"metadata":{"name":"x","name":"y","labels":{"a":"1","a":"2"},"x":1},
        "spec":{"containers":[{"name":"c","ports":[{"containerPort":1,"y":{}}]}]},"Spec":{}}"#;
    let decoded = decode("io.k8s.api.core.v1.Pod", text).unwrap();
    let expected = [
        "duplicate field \"metadata.name\"",
        "duplicate field \"metadata.labels.a\"",
        "unknown field \"metadata.x\"",
        "unknown field \"spec.containers[0].ports[0].y\"",
        "unknown field \"Spec\"",
    ];
    assert_eq!(decoded.strict_errors, expected);
    assert_eq!(decoded.value["metadata"], json!({"name": "y", "labels": {"a": "2"}}));
    let ports = &decoded.value["spec"]["containers"][0]["ports"];
    assert_eq!(ports, &json!([{"containerPort": 1}]));
}

#[test]
fn values_get_their_one_form() {
    for (type_name, text, expected) in [
        (
            "core.v1.ResourceRequirements",
            r#"{"limits":{"cpu":"1000m","memory":0.5,"x":null}}"#,
            json!({"limits": {"cpu": "1", "memory": "500m", "x": "0"}}),
        ),
        ("core.v1.HTTPGetAction", r#"{"port":"http"}"#, json!({"port": "http"})),
        ("core.v1.HTTPGetAction", r#"{"port":80}"#, json!({"port": 80})),
        (
            "core.v1.Secret",
            r#"{"data":{"a":"YQ==","b":""},"stringData":{}}"#,
            json!({"metadata": {}, "data": {"a": "YQ==", "b": ""}}),
        ),
        (
            "core.v1.ConfigMap",
            r#"{"data":{"a":null},"binaryData":{}}"#,
            json!({"metadata": {}, "data": {"a": ""}}),
        ),
        (
            "coordination.v1.Lease",
            r#"{"spec":{"renewTime":"2026-01-02T03:04:05.123456+01:00"}}"#,
            json!({"metadata": {}, "spec": {"renewTime": "2026-01-02T02:04:05.123456Z"}}),
        ),
        (
            "apps.v1.Deployment",
            r#"{"spec":{"replicas":0}}"#,
            json!({"metadata": {}, "status": {}, "spec": {"replicas": 0, "selector": null, "strategy": {},
                "template": {"metadata": {}, "spec": {"containers": null}}}}),
        ),
    ] {
        let type_name = format!("io.k8s.api.{type_name}");
        assert_eq!(decode(&type_name, text).unwrap().value, expected, "{text}");
    }
}

#[test]
fn schemas_of_custom_resources() {
    let type_name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    let text = r#"{"items":{"type":"object","odd":1},"additionalProperties":false,
        "dependencies":{"a":["b"]},"default":{"any":[1,null]},"maximum":5,"minimum":0.5}"#;
    let decoded = decode(type_name, text).unwrap();
    let expected = json!({"items": {"type": "object"}, "additionalProperties": false,
        "dependencies": {"a": ["b"]}, "default": {"any": [1, null]}, "maximum": 5, "minimum": 0.5});
    assert_eq!(decoded.value, expected);
    assert!(decoded.strict_errors.is_empty());
    let error = decode(type_name, r#"{"additionalItems":5}"#).unwrap_err();
    assert_eq!(error.to_string(), "boolean or JSON schema expected");
}

#[test]
fn wrong_types_are_told_as_go_tells_them() {
    for (type_name, text, message) in [
        ("core.v1.Pod", r#"{"spec":5}"#, "number into Go struct field Pod.spec of type v1.PodSpec"),
        (
            "core.v1.Pod",
            r#"{"spec":{"nodeSelector":{"a":true}}}"#,
            "bool into Go struct field PodSpec.spec.nodeSelector of type string",
        ),
        (
            "core.v1.Pod",
            r#"{"spec":{"containers":[{"args":{}}]}}"#,
            "object into Go struct field Container.spec.containers.args of type []string",
        ),
        (
            "core.v1.Pod",
            r#"{"metadata":{"labels":[]}}"#,
            "array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            "core.v1.Pod",
            r#"{"spec":{"priority":1e3}}"#,
            "number 1e3 into Go struct field PodSpec.spec.priority of type int32",
        ),
    ] {
        let error = decode(&format!("io.k8s.api.{type_name}"), text).unwrap_err();
        assert_eq!(error.to_string(), format!("json: cannot unmarshal {message}"));
    }
}

/// Recorded requests with the recorded answers: the same errors and warnings.
#[test]
fn recorded_errors_and_warnings() {
    let mut compared = 0;
    for exchange in
        golden::exchanges(&["badrequest", "errors", "fieldvalidation", "protobuf", "yaml"])
    {
        let Some((resource, format, body)) = exchange.created_object() else { continue };
        let strict = exchange.path.contains("fieldValidation=Strict");
        let expected = resource.gvk();
        let result = decode_object(Schema::builtin(), resource.type_id, &expected, format, &body);
        let result = result.map_err(|error| error.to_string()).and_then(|decoded| {
            match decoded.strict_problem().filter(|_| strict) {
                Some(problem) => Err(cannot(&expected, problem)),
                None => Ok(decoded),
            }
        });
        match (result, exchange.decoding_error()) {
            (Err(mine), Some(theirs)) => assert_eq!(mine, theirs, "{}", exchange.id),
            (Ok(decoded), None) => {
                let warnings: Vec<String> = decoded
                    .warnings()
                    .iter()
                    .map(|error| format!("299 - \"{}\"", error.replace('"', "\\\"")))
                    .collect();
                if !exchange.path.contains("fieldValidation=Ignore") && exchange.status == 201 {
                    assert_eq!(warnings, exchange.field_warnings(), "{}", exchange.id);
                }
            }
            (mine, theirs) => panic!("{}: {mine:?} instead of {theirs:?}", exchange.id),
        }
        compared += 1;
    }
    golden::say("recorded errors and warnings", compared, 40);
}

fn cannot(kind: &GroupVersionKind, problem: String) -> String {
    crate::kube::codec::ObjectError::cannot_be_handled(kind, &kind.kind, problem).to_string()
}

/// What a kube-apiserver answered is in its normal form: decoding changes nothing.
#[test]
fn recorded_objects_are_in_normal_form() {
    let (mut compared, mut different) = (0, Vec::new());
    for exchange in golden::exchanges(&[]) {
        for (resource, object) in exchange.answered_objects() {
            compared += 1;
            let node = Node::from_value(&object);
            match decode_node(Schema::builtin(), resource.type_id, node) {
                Ok(decoded) if decoded.value == object => {
                    assert!(decoded.strict_errors.is_empty(), "{}", exchange.id);
                }
                Ok(decoded) => {
                    let difference = golden::first_difference(&object, &decoded.value, "");
                    different.push(format!("{} {difference}", resource.kind));
                }
                Err(error) => different.push(format!("{}: {error}", exchange.id)),
            }
        }
    }
    different.sort();
    different.dedup();
    assert!(different.is_empty(), "of {compared}:\n{}", different.join("\n"));
    golden::say("recorded objects in normal form", compared, 500);
}

/// The deepest documents must fit the stack that a thread has when nobody says otherwise.
#[test]
fn the_deepest_documents_fit_a_thread() {
    const STACK_BYTES: usize = 2 << 20;
    let type_name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    let depth = crate::kube::codec::limits::DEPTH - 1;
    let schemas = "{\"not\":".repeat(depth) + "{}" + &"}".repeat(depth);
    let lists = format!("{{\"default\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let work = move || {
        for text in [schemas, lists] {
            let decoded = decode(type_name, &text).unwrap();
            let message = crate::kube::codec::protobuf::encode_message(
                Schema::builtin(),
                type_id(type_name),
                &decoded.value,
            );
            let back = crate::kube::codec::protobuf::decode_message(
                Schema::builtin(),
                type_id(type_name),
                &message,
            );
            assert_eq!(back.unwrap(), decoded.value);
            let yaml = crate::kube::codec::yaml_text::write(&decoded.value);
            assert!(yaml.len() > depth);
            let _ = crate::kube::codec::yaml::parse(text.as_bytes());
        }
    };
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work).unwrap().join().unwrap();
}

proptest::proptest! {
    #[test]
    fn never_panics(text in r#"[\[\]{}":,a-z0-9 .-]{0,60}"#) {
        for name in ["io.k8s.api.core.v1.Pod", "io.k8s.api.apps.v1.Deployment"] {
            if let Ok(node) = parse(text.as_bytes()) {
                let _ = decode_node(Schema::builtin(), type_id(name), node);
            }
        }
    }
}
