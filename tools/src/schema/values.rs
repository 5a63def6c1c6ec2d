//! Says which fields are held by value: Go leaves out an optional value that is zero, but writes a
//! structure whether it was set or not. Rules cover most fields, a hand list the rest.

use super::SchemaError;
use super::definitions::{FieldRow, Types};
use super::join::lines;

/// Applies the rules, then the list `value|pointer|always TYPE name…`.
pub(crate) fn mark(types: &mut Types, text: &str) -> Result<(), SchemaError> {
    for row in types.values_mut() {
        for (name, field) in &mut row.fields {
            field.value = is_usually_by_value(name, field);
        }
    }
    for (line, words) in lines(text) {
        let bad = |name: &str| SchemaError::List { line, problem: format!("{name} is not known") };
        let [word, type_name, ref names @ ..] = words[..] else { return Err(bad("the line")) };
        for name in names {
            let row = types.get_mut(type_name).ok_or_else(|| bad(type_name))?;
            let field = row.fields.get_mut(*name).ok_or_else(|| bad(name))?;
            match word {
                "value" => field.value = true,
                "pointer" => field.value = false,
                "always" => field.always = true,
                _ => return Err(bad(word)),
            }
        }
    }
    Ok(())
}

/// Optional strings and the three parts of every object are; what is required is, unless it is a
/// list or map, where it makes no difference.
fn is_usually_by_value(name: &str, field: &FieldRow) -> bool {
    let is_list_or_map = field.kind.starts_with(['[', '{']);
    let is_struct = field.kind.starts_with("io.k8s");
    let is_part = is_struct && matches!(name, "metadata" | "spec" | "status");
    is_part || field.kind == "string" || (field.required && !is_list_or_map)
}
