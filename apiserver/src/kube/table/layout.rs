//! Reads `columns.txt`, which describes its own words: the columns of every resource, and how the
//! cell of an object is made.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::cells::{self, CellFunction};
use super::{Cells, age};
use crate::kube::discovery::openapi;
use crate::kube::object::{self, Object};
use crate::kube::resources::selector_text;

const COLUMNS: &str = include_str!("columns.txt");
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const NAME_LINE: &str = "Name | string name | @ObjectMeta.name | name";
const AGE_LINE: &str = "Age | string | @ObjectMeta.creationTimestamp | age";

/// The tables of all resources.
#[derive(Debug)]
pub(super) struct Layouts {
    all: Vec<Layout>,
    /// By `group/plural`.
    places: HashMap<&'static str, usize>,
}

/// What the tables of one resource look like.
#[derive(Debug, Default)]
pub(super) struct Layout {
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    /// Empty for a cell without a heading.
    name: &'static str,
    kind: &'static str,
    format: &'static str,
    /// 1 is shown with `-o wide` only.
    priority: u32,
    description: Description,
    cell: Cell,
}

#[derive(Debug)]
enum Description {
    Text(&'static str),
    /// A field's own description, without this sentence.
    Field {
        type_name: String,
        field: &'static str,
        without: &'static str,
    },
}

/// How a cell is made of an object. Paths lead through fields; a text stands for what is absent.
#[derive(Debug)]
enum Cell {
    Text(Path, &'static str),
    Number(Path),
    Flag(Path, bool),
    Value(Path, &'static str),
    Count(Path),
    List(Path, &'static str),
    Each(Path, &'static str, &'static str),
    Selector(Path, &'static str),
    Function(CellFunction),
}

type Path = Vec<&'static str>;

/// The tables, read at the first use.
pub(super) fn layouts() -> &'static Layouts {
    static READ: LazyLock<Layouts> =
        LazyLock::new(|| parse(COLUMNS).expect("the embedded columns are tested to be readable"));
    &READ
}

impl Layouts {
    /// The tables of a resource; the last resort is its name and when it was created.
    pub(super) fn of(&self, group: &str, plural: &str) -> &Layout {
        let place = self.places.get(format!("{group}/{plural}").as_str());
        &self.all[place.copied().unwrap_or(0)]
    }
}

impl Layout {
    pub(super) fn column_definitions(&self) -> Value {
        let shown = self.columns.iter().filter(|column| !column.name.is_empty());
        shown.map(Column::definition).collect()
    }

    pub(super) fn cells(&self, object: &Object, now_unix_seconds: i64) -> Cells {
        self.columns.iter().map(|column| column.cell.of(object, now_unix_seconds)).collect()
    }
}

impl Column {
    fn definition(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format,
            "description": self.description.text(), "priority": self.priority,
        })
    }
}

impl Description {
    fn text(&self) -> &str {
        match self {
            Description::Text(text) => text,
            Description::Field { type_name, field, without } => {
                let text = openapi::field_description(type_name, field).unwrap_or("");
                text.strip_suffix(without).unwrap_or(text).trim_end()
            }
        }
    }
}

impl Cell {
    fn of(&self, object: &Object, now_unix_seconds: i64) -> Value {
        let at = |path: &Path| object::at(object, path).filter(|value| !value.is_null());
        match self {
            Cell::Text(path, otherwise) => match at(path) {
                Some(Value::String(text)) if !text.is_empty() => text.as_str().into(),
                Some(Value::Number(number)) => number.to_string().into(),
                _ => (*otherwise).into(),
            },
            Cell::Number(path) => object::integer_at(object, path).into(),
            Cell::Flag(path, otherwise) => {
                at(path).and_then(Value::as_bool).unwrap_or(*otherwise).into()
            }
            Cell::Value(path, otherwise) => {
                at(path).cloned().unwrap_or_else(|| (*otherwise).into())
            }
            Cell::Count(path) => match at(path) {
                Some(Value::Array(list)) => list.len().into(),
                Some(Value::Object(map)) => map.len().into(),
                _ => 0.into(),
            },
            Cell::List(path, otherwise) => {
                let texts = object::list_at(object, path).iter().filter_map(Value::as_str);
                or(texts.collect::<Vec<_>>().join(","), otherwise)
            }
            Cell::Each(path, field, otherwise) => {
                let parts = object::list_at(object, path).iter();
                let texts = parts.map(|part| part.get(field).and_then(Value::as_str).unwrap_or(""));
                or(texts.collect::<Vec<_>>().join(","), otherwise)
            }
            Cell::Selector(path, otherwise) => {
                or(selector_text(at(path).unwrap_or(&Value::Null)), otherwise)
            }
            Cell::Function(function) => function(object, now_unix_seconds),
        }
    }
}

fn or(text: String, otherwise: &'static str) -> Value {
    if text.is_empty() { otherwise.into() } else { text.into() }
}

/// Reads the text; its first line is a title.
fn parse(text: &'static str) -> Result<Layouts, String> {
    let mut layouts = Layouts { all: Vec::new(), places: HashMap::new() };
    for (index, line) in text.lines().enumerate().skip(1) {
        let wrong = |problem: String| format!("columns.txt, line {}: {problem}", index + 1);
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        if let Some(column) = line.strip_prefix(' ') {
            let owner = layouts.all.last_mut().ok_or_else(|| wrong("no resource".to_owned()))?;
            owner.columns.push(parse_column(column).map_err(wrong)?);
        } else {
            layouts.places.extend(line.split(' ').map(|name| (name, layouts.all.len())));
            layouts.all.push(Layout::default());
        }
    }
    match layouts.all.is_empty() {
        true => Err("columns.txt names no resource".to_owned()),
        false => Ok(layouts),
    }
}

fn parse_column(line: &'static str) -> Result<Column, String> {
    let line = match line {
        "Name" => NAME_LINE,
        "Age" => AGE_LINE,
        line => line,
    };
    let parts: Vec<&str> = line.split('|').map(str::trim).collect();
    let [name, kind, description, cell] = parts[..] else {
        return Err("a name, a type, a description and a cell are expected".to_owned());
    };
    let (kind, format) = kind.split_once(' ').unwrap_or((kind, ""));
    let priority = u32::from(kind.ends_with('*'));
    let kind = kind.trim_end_matches('*');
    if !["string", "integer", "boolean", "date"].contains(&kind) {
        return Err(format!("{kind:?} is not a type"));
    }
    let description = parse_description(description)?;
    Ok(Column { name, kind, format, priority, description, cell: parse_cell(cell)? })
}

fn parse_description(text: &'static str) -> Result<Description, String> {
    let Some(path) = text.strip_prefix('@') else { return Ok(Description::Text(text)) };
    let (path, without) = path.split_once(" without ").unwrap_or((path, ""));
    let (owner, field) = path.rsplit_once('.').ok_or_else(|| format!("{path:?} is no field"))?;
    let type_name = match owner {
        "ObjectMeta" => OBJECT_META.to_owned(),
        owner => format!("io.k8s.api.{owner}"),
    };
    Ok(Description::Field { type_name, field, without })
}

fn parse_cell(text: &'static str) -> Result<Cell, String> {
    let (text, otherwise) = text.split_once(" else ").unwrap_or((text, ""));
    let words: Vec<&'static str> = text.split(' ').collect();
    let path = |path: &'static str| path.split('.').collect::<Path>();
    Ok(match words[..] {
        ["text", at] => Cell::Text(path(at), otherwise),
        ["number", at] => Cell::Number(path(at)),
        ["flag", at] => Cell::Flag(path(at), otherwise == "true"),
        ["value", at] => Cell::Value(path(at), otherwise),
        ["count", at] => Cell::Count(path(at)),
        ["list", at] => Cell::List(path(at), otherwise),
        ["each", at, field] => Cell::Each(path(at), field, otherwise),
        ["selector", at] => Cell::Selector(path(at), otherwise),
        ["name"] => Cell::Function(|object, _| object::name(object).into()),
        ["age"] => Cell::Function(|object, now| age(object, now).into()),
        ["created"] => Cell::Function(|object, _| {
            object::at(object, &["metadata", "creationTimestamp"]).cloned().unwrap_or(Value::Null)
        }),
        [word] => Cell::Function(
            cells::function(word).ok_or_else(|| format!("there is no function {word}"))?,
        ),
        _ => return Err(format!("{text:?} is not a cell")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn cells_of_paths() {
        let object = into_object(json!({
            "a": {"text": "x", "number": 3, "flag": true, "list": ["p", "q"], "empty": ""},
            "parts": [{"name": "c"}, {"name": "d"}], "labels": {"k": "v"},
        }));
        for (cell, expected) in [
            ("text a.text", json!("x")),
            ("text a.number", json!("3")),
            ("text a.empty else <none>", json!("<none>")),
            ("text a.b.c", json!("")),
            ("number a.number", json!(3)),
            ("number a.other", json!(0)),
            ("flag a.flag", json!(true)),
            ("flag a.other", json!(false)),
            ("flag a.other else true", json!(true)),
            ("value a.number else <none>", json!(3)),
            ("value a.other else <none>", json!("<none>")),
            ("count a.list", json!(2)),
            ("count labels", json!(1)),
            ("list a.list", json!("p,q")),
            ("list a.other else <none>", json!("<none>")),
            ("each parts name", json!("c,d")),
            ("each other name else <unset>", json!("<unset>")),
            ("selector labels", json!("k=v")),
            ("selector other else <none>", json!("<none>")),
        ] {
            assert_eq!(parse_cell(cell).unwrap().of(&object, 0), expected, "{cell}");
        }
    }

    #[test]
    fn lines_with_mistakes_are_refused() {
        for (text, problem) in [
            ("title\n Name\n", "line 2: no resource"),
            ("title\n/pods\n A | string | x\n", "line 3: a name, a type"),
            ("title\n/pods\n A | strange | x | name\n", "\"strange\" is not a type"),
            ("title\n/pods\n A | string | x | unheard\n", "no function unheard"),
            ("title\n/pods\n A | string | @x | name\n", "\"x\" is no field"),
            ("title\n", "no resource"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(problem), "{text:?}: {error}");
        }
    }
}
