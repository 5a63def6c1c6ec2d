//! Reads the field numbers out of prost's generated source: `#[prost(…, tag = "5")]` above
//! `pub name: …`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{SchemaError, error};

/// A message's fields by normalised name, see [`normal_name`].
pub(crate) type Message = BTreeMap<String, MessageField>;
/// Messages by `package.normalisedname`.
pub(crate) type Messages = BTreeMap<String, Message>;

#[derive(Debug, Clone)]
pub(crate) struct MessageField {
    pub(crate) number: u32,
    /// The message that the field holds, named as in [`Messages`]; empty for scalars.
    pub(crate) message: String,
}

/// Names are compared without case and separators: the two sides differ in both.
pub(crate) fn normal_name(name: &str) -> String {
    name.trim_start_matches("r#")
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|character| character.to_ascii_lowercase())
        .collect()
}

/// The message's name in [`Messages`] for an OpenAPI name.
pub(crate) fn message_name(definition: &str) -> String {
    let (package, name) = definition.rsplit_once('.').unwrap_or(("", definition));
    format!("{package}.{}", normal_name(name))
}

/// All messages below the crate's `src`.
pub(crate) fn read_folder(folder: &Path) -> Result<Messages, SchemaError> {
    let mut messages = Messages::new();
    read_package(folder, "io.k8s", &mut messages)?;
    Ok(messages)
}

fn read_package(folder: &Path, package: &str, out: &mut Messages) -> Result<(), SchemaError> {
    let failed = |source| SchemaError::Read { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("").to_owned();
        if path.is_dir() {
            // Rust writes `kube_aggregator` where the definitions say `kube-aggregator`.
            read_package(&path, &format!("{package}.{}", name.replace('_', "-")), out)?;
        } else if name == "mod.rs" {
            read_source(&error::read(&path)?, package, out);
        }
    }
    Ok(())
}

fn read_source(source: &str, package: &str, out: &mut Messages) {
    let mut message: Option<(String, Message)> = None;
    let mut number = None;
    for line in source.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("pub struct ") {
            let name = rest.split([' ', '{']).next().unwrap_or("");
            message = Some((format!("{package}.{}", normal_name(name)), Message::new()));
        } else if line == "}" {
            if let Some((name, fields)) = message.take() {
                out.insert(name, fields);
            }
        } else if let Some(tag) = tag_of(line) {
            number = Some(tag);
        } else if let Some(rest) = line.strip_prefix("pub ")
            && let Some((field, rust_type)) = rest.split_once(':')
            && let Some((_, fields)) = message.as_mut()
            && let Some(number) = number.take()
        {
            let message = message_of(rust_type, package);
            fields.insert(normal_name(field), MessageField { number, message });
        }
    }
}

fn tag_of(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once("tag = \"")?;
    rest.split('"').next()?.parse().ok()
}

/// The message named by a type such as `::core::option::Option<super::super::core::v1::Pod>`.
/// Only messages of the same package are wanted: those are the ones written inline.
fn message_of(rust_type: &str, package: &str) -> String {
    let inner = rust_type.rsplit('<').next().unwrap_or("").trim_end_matches(['>', ',']);
    match inner.is_empty() || inner.contains("::") {
        true => String::new(),
        false => format!("{package}.{}", normal_name(inner)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_generated_source() {
        let source = "
            /// A volume.
            pub struct Volume {
                #[prost(string, optional, tag = \"1\")]
                pub name: ::core::option::Option<::prost::alloc::string::String>,
                #[prost(message, optional, tag = \"2\")]
                pub volume_source: ::core::option::Option<VolumeSource>,
                #[prost(message, optional, tag = \"5\")]
                pub r#type: ::core::option::Option<super::super::meta::v1::Time>,
            }
            pub struct VolumeSource {
                #[prost(btree_map = \"string, string\", tag = \"3\")]
                pub host_path:
                    ::prost::alloc::collections::BTreeMap<String, String>,
            }";
        let mut messages = Messages::new();
        read_source(source, "io.k8s.api.core.v1", &mut messages);
        let told: Vec<String> = messages
            .iter()
            .flat_map(|(name, fields)| {
                fields.iter().map(move |(field, row)| {
                    format!("{name}.{field} {} {}", row.number, row.message)
                })
            })
            .collect();
        let expected = [
            "io.k8s.api.core.v1.volume.name 1 ",
            "io.k8s.api.core.v1.volume.type 5 ",
            "io.k8s.api.core.v1.volume.volumesource 2 io.k8s.api.core.v1.volumesource",
            "io.k8s.api.core.v1.volumesource.hostpath 3 ",
        ];
        assert_eq!(told, expected);
    }
}
