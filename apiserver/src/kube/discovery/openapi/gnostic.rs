//! OpenAPI v2 in protobuf, in the messages of the gnostic project (`openapi.v2.Document`): what
//! clients ask for that compare or merge objects by their schemas, and older kubectls.

use serde_json::Value;

use crate::kube::codec::protobuf::wire::{put_bytes, put_varint};
use crate::kube::codec::yaml_text;

/// The content types by which the form is asked for; the second one is that of the answer.
pub const CONTENT_TYPES: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];

/// A document of OpenAPI v2 as a message.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&DOCUMENT, document, &mut out);
    out
}

/// How the members of a JSON object become fields of a message.
struct Message {
    /// Member, numbers from the outermost message inwards, and what the innermost field holds.
    members: &'static [(&'static str, &'static [u32], Kind)],
    /// The number of the field for members whose names begin with `x-`; 0 when it has none.
    extensions: u32,
}

enum Kind {
    Text,
    Flag,
    Texts,
    One(&'static Message),
    Many(&'static Message),
    /// Names and messages; the second numbers are those of messages around each.
    Map(&'static [u32], &'static Message),
    Parameters,
    Requirement,
    SchemaOrFlag,
}

static DOCUMENT: Message = Message {
    members: &[
        ("swagger", &[1], Kind::Text),
        ("info", &[2], Kind::One(&INFO)),
        ("paths", &[8, 2], Kind::Map(&[], &PATH)),
        ("definitions", &[9, 1], Kind::Map(&[], &SCHEMA)),
        ("security", &[12], Kind::Requirement),
        ("securityDefinitions", &[13, 1], Kind::Map(&[2], &API_KEY)),
    ],
    extensions: 16,
};

static INFO: Message = Message {
    members: &[("title", &[1], Kind::Text), ("version", &[2], Kind::Text)],
    extensions: 7,
};

static API_KEY: Message = Message {
    members: &[
        ("type", &[1], Kind::Text),
        ("name", &[2], Kind::Text),
        ("in", &[3], Kind::Text),
        ("description", &[4], Kind::Text),
    ],
    extensions: 5,
};

static PATH: Message = Message {
    members: &[
        ("get", &[2], Kind::One(&OPERATION)),
        ("put", &[3], Kind::One(&OPERATION)),
        ("post", &[4], Kind::One(&OPERATION)),
        ("delete", &[5], Kind::One(&OPERATION)),
        ("options", &[6], Kind::One(&OPERATION)),
        ("head", &[7], Kind::One(&OPERATION)),
        ("patch", &[8], Kind::One(&OPERATION)),
        ("parameters", &[9], Kind::Parameters),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    members: &[
        ("tags", &[1], Kind::Texts),
        ("description", &[3], Kind::Text),
        ("operationId", &[5], Kind::Text),
        ("produces", &[6], Kind::Texts),
        ("consumes", &[7], Kind::Texts),
        ("parameters", &[8], Kind::Parameters),
        ("responses", &[9, 1], Kind::Map(&[1], &RESPONSE)),
        ("schemes", &[10], Kind::Texts),
    ],
    extensions: 13,
};

static RESPONSE: Message = Message {
    members: &[("description", &[1], Kind::Text), ("schema", &[2, 1], Kind::One(&SCHEMA))],
    extensions: 5,
};

static BODY_PARAMETER: Message = Message {
    members: &[
        ("description", &[1], Kind::Text),
        ("name", &[2], Kind::Text),
        ("in", &[3], Kind::Text),
        ("required", &[4], Kind::Flag),
        ("schema", &[5], Kind::One(&SCHEMA)),
    ],
    extensions: 6,
};

static QUERY_PARAMETER: Message = Message {
    members: &[
        ("required", &[1], Kind::Flag),
        ("in", &[2], Kind::Text),
        ("description", &[3], Kind::Text),
        ("name", &[4], Kind::Text),
        ("type", &[6], Kind::Text),
        ("format", &[7], Kind::Text),
        ("uniqueItems", &[20], Kind::Flag),
    ],
    extensions: 23,
};

static PATH_PARAMETER: Message = Message {
    members: &[
        ("required", &[1], Kind::Flag),
        ("in", &[2], Kind::Text),
        ("description", &[3], Kind::Text),
        ("name", &[4], Kind::Text),
        ("type", &[5], Kind::Text),
        ("format", &[6], Kind::Text),
        ("uniqueItems", &[19], Kind::Flag),
    ],
    extensions: 22,
};

static SCHEMA: Message = Message {
    members: &[
        ("$ref", &[1], Kind::Text),
        ("format", &[2], Kind::Text),
        ("description", &[4], Kind::Text),
        ("required", &[19], Kind::Texts),
        ("additionalProperties", &[21], Kind::SchemaOrFlag),
        ("type", &[22, 1], Kind::Text),
        ("items", &[23, 1], Kind::One(&SCHEMA)),
        ("allOf", &[24], Kind::Many(&SCHEMA)),
        ("properties", &[25, 1], Kind::Map(&[], &SCHEMA)),
    ],
    extensions: 31,
};

fn put_message(message: &Message, value: &Value, out: &mut Vec<u8>) {
    for (name, numbers, kind) in message.members {
        if let (Some(member), Some((inner, outer))) = (value.get(name), numbers.split_last()) {
            put_inside(outer, out, |out| put_member(kind, *inner, member, out));
        }
    }
    let Some(members) = value.as_object().filter(|_| message.extensions != 0) else { return };
    for (name, value) in members.iter().filter(|(name, _)| name.starts_with("x-")) {
        put_inside(&[message.extensions], out, |out| {
            put_bytes(out, NAME, name.as_bytes());
            put_inside(&[VALUE], out, |out| {
                put_bytes(out, YAML, yaml_text::write(value).as_bytes())
            });
        });
    }
}

/// Of an entry of a map.
const NAME: u32 = 1;
const VALUE: u32 = 2;
/// Of a value of any kind.
const YAML: u32 = 2;

/// Writes what `write` writes as a message in messages of these numbers, the outermost first.
fn put_inside(numbers: &[u32], out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    if numbers.is_empty() {
        return write(out);
    }
    let mut message = Vec::new();
    write(&mut message);
    for (place, number) in numbers.iter().enumerate().rev() {
        if place == 0 {
            return put_bytes(out, *number, &message);
        }
        let inner = std::mem::take(&mut message);
        put_bytes(&mut message, *number, &inner);
    }
}

fn put_member(kind: &Kind, number: u32, value: &Value, out: &mut Vec<u8>) {
    let list = || value.as_array().into_iter().flatten();
    match kind {
        Kind::Text => put_bytes(out, number, value.as_str().unwrap_or("").as_bytes()),
        Kind::Flag => put_varint(out, number, value.as_bool().unwrap_or(false).into()),
        Kind::Texts => list().for_each(|text| put_member(&Kind::Text, number, text, out)),
        Kind::One(message) => put_inside(&[number], out, |out| put_message(message, value, out)),
        Kind::Many(message) => list().for_each(|one| {
            put_inside(&[number], out, |out| put_message(message, one, out));
        }),
        Kind::Map(around, message) => {
            for (name, value) in value.as_object().into_iter().flatten() {
                put_inside(&[number], out, |out| {
                    put_bytes(out, NAME, name.as_bytes());
                    put_inside(&[&[VALUE], *around].concat(), out, |out| {
                        put_message(message, value, out);
                    });
                });
            }
        }
        Kind::Parameters => list().for_each(|one| put_parameter(number, one, out)),
        Kind::Requirement => list().for_each(|one| put_requirement(number, one, out)),
        Kind::SchemaOrFlag => put_inside(&[number], out, |out| match value {
            Value::Bool(allowed) => put_varint(out, 2, (*allowed).into()),
            schema => put_inside(&[1], out, |out| put_message(&SCHEMA, schema, out)),
        }),
    }
}

/// A parameter is one of several messages, by where it is.
fn put_parameter(number: u32, parameter: &Value, out: &mut Vec<u8>) {
    let (numbers, message): (&[u32], _) = match parameter.get("in").and_then(Value::as_str) {
        Some("body") => (&[1, 1], &BODY_PARAMETER),
        Some("path") => (&[1, 2, 4], &PATH_PARAMETER),
        _ => (&[1, 2, 3], &QUERY_PARAMETER),
    };
    let numbers = [&[number], numbers].concat();
    put_inside(&numbers, out, |out| put_message(message, parameter, out));
}

/// Names of security definitions, each with a list of texts.
fn put_requirement(number: u32, requirement: &Value, out: &mut Vec<u8>) {
    for (name, scopes) in requirement.as_object().into_iter().flatten() {
        put_inside(&[number, 1], out, |out| {
            put_bytes(out, NAME, name.as_bytes());
            put_inside(&[VALUE], out, |out| put_member(&Kind::Texts, 1, scopes, out));
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_and_their_extensions() {
        let schema = json!({
            "type": "array", "items": {"$ref": "#/x"}, "x-kubernetes-list-type": "set",
        });
        let mut out = Vec::new();
        put_message(&SCHEMA, &schema, &mut out);
        let expected = [
            // type (22) holds texts (1)
            &b"\xb2\x01\x07\x0a\x05array"[..],
            // items (23) holds schemas (1), which hold references (1)
            b"\xba\x01\x07\x0a\x05\x0a\x03#/x",
            // an extension (31): a name (1) and a value (2) in YAML (2)
            b"\xfa\x01\x20\x0a\x16x-kubernetes-list-type\x12\x06\x12\x04set\n",
        ]
        .concat();
        assert_eq!(out, expected);
    }

    #[test]
    fn parameters_by_their_place() {
        for (place, expected) in [
            ("body", &b"\x4a\x0a\x0a\x08\x0a\x06\x1a\x04body"[..]),
            ("path", b"\x4a\x0c\x0a\x0a\x12\x08\x22\x06\x12\x04path"),
            ("query", b"\x4a\x0d\x0a\x0b\x12\x09\x1a\x07\x12\x05query"),
        ] {
            let mut out = Vec::new();
            put_message(&PATH, &json!({"parameters": [{"in": place}]}), &mut out);
            assert_eq!(out, expected, "{place}");
        }
    }

    #[test]
    fn maps_are_lists_of_names_and_values() {
        let document = json!({"paths": {"/a": {}}, "security": [{"T": []}]});
        assert_eq!(
            encode(&document),
            b"\x42\x08\x12\x06\x0a\x02/a\x12\x00\x62\x07\x0a\x05\x0a\x01T\x12\x00"
        );
    }
}
