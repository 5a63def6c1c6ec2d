//! Writes the table: one line a type, one indented line a field, sorted, so that a change between
//! versions reads well. `apiserver/src/kube/schema/text.rs` reads it and documents it.

use std::fmt::Write;

use super::definitions::{FieldRow, Types};

/// The whole table as text.
pub(crate) fn render(version: &str, types: &Types) -> String {
    let mut out = format!("kubernetes {version}\n");
    for (name, row) in types {
        out.push_str(name);
        if row.atomic {
            out.push_str(" atomic");
        }
        // DeleteOptions and WatchEvent belong to every group: naming one is enough.
        let kinds = if row.kinds.len() > 2 { &row.kinds[..1] } else { &row.kinds[..] };
        for kind in kinds {
            let _ = write!(out, " kind={kind}");
        }
        out.push('\n');
        for (name, field) in &row.fields {
            render_field(&mut out, name, field);
        }
    }
    out
}

fn render_field(out: &mut String, name: &str, field: &FieldRow) {
    let _ = write!(out, " {name} {}", field.kind);
    if !field.numbers.is_empty() {
        let numbers: Vec<String> = field.numbers.iter().map(u32::to_string).collect();
        let _ = write!(out, " #{}", numbers.join("."));
    }
    let flags = [
        (field.required, "required"),
        (field.value, "value"),
        (field.always, "always"),
        (field.merge, "merge"),
        (field.retain_keys, "retainKeys"),
    ];
    for (_, word) in flags.iter().filter(|(set, _)| *set) {
        let _ = write!(out, " {word}");
    }
    if let Some(key) = &field.merge_key {
        let _ = write!(out, " key={key}");
    }
    out.push('\n');
}
