//! OpenAPI v2 (Swagger) in one document, from those of v3: references point elsewhere, bodies are
//! parameters, and a reference needs no object around it.

use serde_json::{Map, Value, json};

use super::KUBERNETES_VERSION;

/// One document of all paths and definitions.
pub(super) fn convert(documents: impl Iterator<Item = Value>) -> Value {
    let (mut paths, mut definitions) = (Map::new(), Map::new());
    for mut document in documents {
        if let Value::Object(operations) = document["paths"].take() {
            paths.extend(operations.into_iter().map(|(path, item)| (path, path_item(item))));
        }
        if let Value::Object(schemas) = document["components"]["schemas"].take() {
            let converted = schemas.into_iter().map(|(name, value)| {
                let value = leaf(&name).unwrap_or_else(|| schema(value));
                (name, value)
            });
            definitions.extend(converted);
        }
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
        "paths": paths,
        "definitions": definitions,
        "security": [{"BearerToken": []}],
        "securityDefinitions": {
            "BearerToken": {"type": "apiKey", "name": "authorization", "in": "header"}
        },
    })
}

/// v2 has no `oneOf`.
fn leaf(name: &str) -> Option<Value> {
    match name.rsplit('.').next()? {
        "Quantity" => Some(json!({"type": "string"})),
        "IntOrString" => Some(json!({"type": "string", "format": "int-or-string"})),
        _ => None,
    }
}

fn schema(value: Value) -> Value {
    match value {
        Value::Object(mut map) => {
            if let Some(Value::Array(all)) = map.remove("allOf") {
                map.remove("default");
                for part in all {
                    if let Value::Object(part) = part {
                        map.extend(part);
                    }
                }
            }
            let converted = map.into_iter().map(|(key, value)| match value {
                Value::String(reference) if key == "$ref" => {
                    let name = reference.replace("#/components/schemas/", "#/definitions/");
                    (key, Value::String(name))
                }
                // The keys in here are names of fields: one is called `allOf`.
                Value::Object(fields) if key == "properties" => {
                    let fields = fields.into_iter().map(|(name, field)| (name, schema(field)));
                    (key, Value::Object(fields.collect()))
                }
                value => (key, schema(value)),
            });
            Value::Object(converted.collect())
        }
        Value::Array(list) => list.into_iter().map(schema).collect(),
        other => other,
    }
}

fn path_item(item: Value) -> Value {
    let Value::Object(members) = item else { return item };
    let members = members.into_iter().map(|(key, value)| match key.as_str() {
        "parameters" => (key, parameters(value)),
        _ => (key, operation(value)),
    });
    Value::Object(members.collect())
}

fn parameters(list: Value) -> Value {
    let Value::Array(list) = list else { return json!([]) };
    list.into_iter()
        .map(|mut parameter| {
            // What v3 puts into a schema stands beside the name in v2.
            if let (Value::Object(own), Value::Object(schema)) =
                (parameter["schema"].take(), &mut parameter)
            {
                schema.remove("schema");
                schema.extend(own);
            }
            parameter
        })
        .collect()
}

fn operation(mut value: Value) -> Value {
    let mut all = parameters(value["parameters"].take());
    let body = value["requestBody"].take();
    let mut produces: Vec<Value> = Vec::new();
    if let Value::Object(content) = &body["content"] {
        let own = content.values().next().map_or(Value::Null, |content| content["schema"].clone());
        let required = body["required"].as_bool().unwrap_or(false);
        let parameter =
            json!({"name": "body", "in": "body", "required": required, "schema": schema(own)});
        all.as_array_mut().into_iter().for_each(|all| all.insert(0, parameter.clone()));
        value["consumes"] = content.keys().cloned().collect();
    }
    if let Value::Object(responses) = value["responses"].take() {
        let converted = responses.into_iter().map(|(status, mut response)| {
            if let Value::Object(content) = response["content"].take() {
                produces = content.keys().map(|key| Value::String(key.clone())).collect();
                if let Some(first) = content.into_iter().next() {
                    response["schema"] = schema(first.1["schema"].clone());
                }
            }
            remove(&mut response, "content");
            (status, response)
        });
        value["responses"] = Value::Object(converted.collect());
    }
    value["produces"] = produces.into();
    value["schemes"] = json!(["https"]);
    if value["consumes"].is_null() {
        value["consumes"] = json!(["*/*"]);
    }
    value["parameters"] = all;
    remove(&mut value, "requestBody");
    value
}

fn remove(value: &mut Value, key: &str) {
    if let Value::Object(map) = value {
        map.remove(key);
    }
}
