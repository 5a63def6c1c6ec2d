//! Reads `resources.txt`: the served resources, one line each, which describes its own words.

use std::collections::HashMap;
use std::sync::Arc;

use super::text::{TableError, numbered_lines, parse_kind_name};
use super::{GroupVersionKind, Resource, Subresource, TypeDef, TypeId};

const ALL_VERBS: &str = "create,delete,deletecollection,get,list,patch,update,watch";
const SUBRESOURCE_VERBS: &str = "get,patch,update";

/// The resources of the text, in its order; their kinds must be among `types`.
pub(super) fn parse_resources(
    text: &str,
    types: &[Arc<TypeDef>],
) -> Result<Vec<Arc<Resource>>, TableError> {
    let ids: HashMap<&GroupVersionKind, TypeId> = types
        .iter()
        .enumerate()
        .filter_map(|(index, row)| row.gvk.as_ref().map(|kind| (kind, TypeId(index as u32))))
        .collect();
    let mut resources: Vec<Resource> = Vec::new();
    for (number, line) in numbered_lines(text) {
        let error = |problem: String| TableError { line: number, problem };
        if let Some(line) = line.strip_prefix(' ') {
            let owner = resources.last_mut().ok_or_else(|| error("no resource above".into()))?;
            let subresource = parse_subresource(line, &owner.gvk()).map_err(error)?;
            owner.subresources.push(subresource);
        } else {
            resources.push(parse_resource(line, &ids).map_err(error)?);
        }
    }
    Ok(resources.into_iter().map(Arc::new).collect())
}

fn parse_resource(
    line: &str,
    ids: &HashMap<&GroupVersionKind, TypeId>,
) -> Result<Resource, String> {
    let words: Vec<&str> = line.split(' ').collect();
    let [group_version, plural, kind, scope, words @ ..] = &words[..] else {
        return Err("group/version, plural, Kind and scope are expected".to_owned());
    };
    let gvk = parse_kind_name(&format!("{group_version}/{kind}"))?;
    let type_id = *ids.get(&gvk).ok_or_else(|| format!("{gvk:?} is not in the table of types"))?;
    let mut resource = Resource {
        plural: (*plural).to_owned(),
        singular: kind.to_lowercase(),
        namespaced: match *scope {
            "Namespaced" => true,
            "Cluster" => false,
            other => return Err(format!("{other:?} is not a scope")),
        },
        short_names: Vec::new(),
        categories: Vec::new(),
        verbs: list(ALL_VERBS),
        subresources: Vec::new(),
        storage_prefix: (*plural).to_owned(),
        stored_as: gvk.clone(),
        stored: true,
        served: true,
        type_id,
        field_selectors: Vec::new(),
        group: gvk.group,
        version: gvk.version,
        kind: gvk.kind,
    };
    for word in words {
        match word.split_once('=') {
            None if *word == "virtual" => resource.stored = false,
            None if *word == "unserved" => resource.served = false,
            Some(("short", names)) => resource.short_names = list(names),
            Some(("categories", names)) => resource.categories = list(names),
            Some(("verbs", names)) => resource.verbs = list(names),
            Some(("fields", names)) => resource.field_selectors = list(names),
            Some(("storage", name)) => resource.storage_prefix = name.to_owned(),
            Some(("stored_as", kind)) => resource.stored_as = parse_kind_name(kind)?,
            _ => return Err(format!("{word:?} is not a word for a resource")),
        }
    }
    Ok(resource)
}

fn parse_subresource(line: &str, owner: &GroupVersionKind) -> Result<Subresource, String> {
    let mut words = line.split(' ');
    let mut subresource = Subresource {
        name: words.next().unwrap_or("").to_owned(),
        kind: owner.clone(),
        verbs: list(SUBRESOURCE_VERBS),
        served: true,
    };
    for word in words {
        match word.split_once('=') {
            None if word == "unserved" => subresource.served = false,
            Some(("verbs", names)) => subresource.verbs = list(names),
            Some(("kind", kind)) => subresource.kind = parse_kind_name(kind)?,
            _ => return Err(format!("{word:?} is not a word for a subresource")),
        }
    }
    Ok(subresource)
}

fn list(names: &str) -> Vec<String> {
    names.split(',').map(str::to_owned).collect()
}
