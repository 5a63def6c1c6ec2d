//! Reads the table's text: the types (`table.txt`, generated) and the resources (`resources.txt`,
//! written by hand).
//!
//! A type is a line of its name and words; its fields follow, indented by one space:
//!
//! ```text
//! io.k8s.api.core.v1.Pod kind=/v1/Pod
//!  metadata io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta #1 value
//! ```
//!
//! After a field's name comes its kind: a scalar's word, a type's name, `[]kind` for an atomic
//! list, `[set]kind`, `[key,key]kind` for a list that is a map by these keys, `{}kind` for a map,
//! `{atomic}kind` for one that server-side apply takes as a whole. Then `#5` for the protobuf
//! number (`#2.1`: number 1 in the message that is field 2), `required`, `value`, `always`,
//! `merge`, `retainKeys` and `key=…`.

use std::collections::HashMap;
use std::sync::Arc;

use thiserror::Error;

use super::{Field, FieldKind, GroupVersionKind, ListKind, SchemaOr, TypeDef, TypeId};

/// The table's text is not as described.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("schema table, line {line}: {problem}")]
pub struct TableError {
    pub line: usize,
    pub problem: String,
}

/// Types of the texts, in their order. The first line of each is a title.
pub(super) fn parse_types(texts: &[&str]) -> Result<Vec<Arc<TypeDef>>, TableError> {
    let ids = type_ids(texts);
    let mut types: Vec<TypeDef> = Vec::with_capacity(ids.len());
    for (number, line) in texts.iter().flat_map(|text| numbered_lines(text)) {
        let error = |problem: String| TableError { line: number, problem };
        if let Some(field) = line.strip_prefix(' ') {
            let owner = types.last_mut().ok_or_else(|| error("a field without a type".into()))?;
            owner.fields.push(parse_field(field, &ids).map_err(error)?);
        } else {
            types.push(parse_type(line).map_err(error)?);
        }
    }
    for type_def in &mut types {
        type_def.fields.sort_by(|a, b| a.json_name.cmp(&b.json_name));
    }
    Ok(types.into_iter().map(Arc::new).collect())
}

/// Every line after the first with its number, from 2.
pub(super) fn numbered_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().skip(1).map(|(index, line)| (index + 1, line));
    lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
}

fn type_ids<'t>(texts: &[&'t str]) -> HashMap<&'t str, TypeId> {
    let lines = texts.iter().flat_map(|text| numbered_lines(text));
    let types = lines.filter(|(_, line)| !line.starts_with(' '));
    types
        .enumerate()
        .map(|(index, (_, line))| (line.split(' ').next().unwrap_or(""), TypeId(index as u32)))
        .collect()
}

fn parse_type(line: &str) -> Result<TypeDef, String> {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or("").to_owned();
    let mut type_def = TypeDef { name, fields: Vec::new(), gvk: None, atomic: false, open: false };
    for word in words {
        match word.split_once('=') {
            None if word == "atomic" => type_def.atomic = true,
            Some(("kind", kind)) => type_def.gvk = Some(parse_kind_name(kind)?),
            _ => return Err(format!("{word:?} is not a word for a type")),
        }
    }
    Ok(type_def)
}

/// `group/version/Kind`; the core group is empty.
pub(super) fn parse_kind_name(text: &str) -> Result<GroupVersionKind, String> {
    match text.split('/').collect::<Vec<_>>()[..] {
        [group, version, kind] => Ok(GroupVersionKind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
        }),
        _ => Err(format!("{text:?} is not group/version/Kind")),
    }
}

fn parse_field(line: &str, ids: &HashMap<&str, TypeId>) -> Result<Field, String> {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or("").to_owned();
    let kind = parse_kind(words.next().unwrap_or(""), ids)?;
    let mut field = Field::new(name, kind);
    for word in words {
        match word {
            "required" => field.required = true,
            "value" => field.by_value = true,
            "always" => field.always_written = true,
            "merge" => field.patch_merge = true,
            "retainKeys" => field.patch_retain_keys = true,
            _ => parse_field_word(word, &mut field)?,
        }
    }
    Ok(field)
}

fn parse_field_word(word: &str, field: &mut Field) -> Result<(), String> {
    if let Some(key) = word.strip_prefix("key=") {
        field.patch_merge_key = Some(key.to_owned());
        return Ok(());
    }
    let unknown = || format!("{word:?} is not a word for a field");
    let numbers = word.strip_prefix('#').ok_or_else(unknown)?;
    let numbers: Result<Vec<u32>, _> = numbers.split('.').map(str::parse).collect();
    let mut numbers = numbers.map_err(|_| unknown())?;
    field.protobuf = numbers.pop().unwrap_or(0);
    field.protobuf_outer = numbers;
    Ok(())
}

fn parse_kind(text: &str, ids: &HashMap<&str, TypeId>) -> Result<FieldKind, String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (keys, element) = rest.split_once(']').ok_or("a list without ]")?;
        let list = match keys {
            "" => ListKind::Atomic,
            "set" => ListKind::Set,
            keys => ListKind::Map(keys.split(',').map(str::to_owned).collect()),
        };
        return Ok(FieldKind::List(list, Box::new(parse_kind(element, ids)?)));
    }
    if let Some(rest) = text.strip_prefix('{') {
        let (word, value) = rest.split_once('}').ok_or("a map without }")?;
        let value = Box::new(parse_kind(value, ids)?);
        return Ok(FieldKind::Map { atomic: word == "atomic", value });
    }
    match scalar_kind(text, ids) {
        Some(kind) => Ok(kind),
        None => {
            let id = ids.get(text).ok_or_else(|| format!("{text:?} is not a kind or a type"))?;
            Ok(FieldKind::Struct(*id))
        }
    }
}

fn scalar_kind(word: &str, ids: &HashMap<&str, TypeId>) -> Option<FieldKind> {
    let schema = || ids.get(JSON_SCHEMA).copied();
    Some(match word {
        "bool" => FieldKind::Boolean,
        "int32" => FieldKind::Int32,
        "int64" => FieldKind::Int64,
        "double" => FieldKind::Double,
        "string" => FieldKind::String,
        "bytes" => FieldKind::Bytes,
        "time" => FieldKind::Time,
        "microtime" => FieldKind::MicroTime,
        "quantity" => FieldKind::Quantity,
        "intorstring" => FieldKind::IntOrString,
        "any" => FieldKind::Any,
        "schemaorarray" => FieldKind::SchemaOr(SchemaOr::Array, schema()?),
        "schemaorbool" => FieldKind::SchemaOr(SchemaOr::Boolean, schema()?),
        "schemaorstrings" => FieldKind::SchemaOr(SchemaOr::Strings, schema()?),
        _ => return None,
    })
}

/// The type of a custom resource's schema, which holds itself in three ways.
const JSON_SCHEMA: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_word() {
        let text = "kubernetes 1.36\n\
            a.Pod atomic kind=apps/v1/Pod\n \
            z [ip,port]a.Pod #2.1 required value merge retainKeys key=ip\n \
            b {atomic}[set]string\n\
            a.Empty\n";
        let types = parse_types(&[text]).unwrap();
        assert_eq!(types.len(), 2);
        assert!(types[0].atomic);
        assert_eq!(types[0].gvk.as_ref().unwrap().kind, "Pod");
        let [b, z] = &types[0].fields[..] else { panic!("two fields") };
        let keys = ListKind::Map(vec!["ip".into(), "port".into()]);
        assert_eq!(z.kind, FieldKind::List(keys, Box::new(FieldKind::Struct(TypeId(0)))));
        assert_eq!((z.protobuf, &z.protobuf_outer[..]), (1, &[2][..]));
        assert!(z.required && z.by_value && z.patch_merge && z.patch_retain_keys);
        assert_eq!(z.patch_merge_key.as_deref(), Some("ip"));
        let set = FieldKind::List(ListKind::Set, Box::new(FieldKind::String));
        assert_eq!(b.kind, FieldKind::Map { atomic: true, value: Box::new(set) });
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for (text, line, word) in [
            ("v\n a string\n", 2, "a field without a type"),
            ("v\nt odd\n", 2, "odd"),
            ("v\nt kind=a/b\n", 2, "a/b"),
            ("v\nt\n a strange\n", 3, "strange"),
            ("v\nt\n a string #x\n", 3, "#x"),
            ("v\nt\n a [string\n", 3, "a list without ]"),
            ("v\nt\n a schemaorbool\n", 3, "schemaorbool"),
        ] {
            let error = parse_types(&[text]).unwrap_err();
            assert_eq!(error.line, line, "{text:?}");
            assert!(error.problem.contains(word), "{text:?}: {error}");
        }
    }
}
