//! The JSON paths that definitions use: field names, and elements of lists for columns.

use serde_json::Value;

/// A path such as `.spec.replicas`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath {
    text: String,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    /// From the end when negative.
    Element(i64),
    /// Every element.
    All,
    /// The elements whose field has this value: `[?(@.type=="Ready")]`
    Where(Vec<String>, String),
}

impl JsonPath {
    /// Reads a path; `None` when it is none that is understood.
    pub fn parse(text: &str) -> Option<JsonPath> {
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = match rest.strip_prefix('[') {
                Some(inner) => bracket(inner)?,
                None => field(rest.strip_prefix('.')?)?,
            };
            steps.push(step);
            rest = after;
        }
        (!steps.is_empty()).then(|| JsonPath { text: text.to_owned(), steps })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names of a path of nothing but fields.
    pub fn fields(&self) -> Option<Vec<&str>> {
        self.steps
            .iter()
            .map(|step| match step {
                Step::Field(name) => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }

    /// The first value at the path.
    pub fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.find_all(value).into_iter().next()
    }

    /// All values at the path.
    pub fn find_all<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        self.steps.iter().fold(vec![value], |values, step| {
            values.into_iter().flat_map(|value| step.of(value)).collect()
        })
    }
}

impl Step {
    fn of<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let list = value.as_array().map_or(&[][..], Vec::as_slice);
        match self {
            Step::Field(name) => value.get(name).into_iter().collect(),
            Step::Element(place) => {
                let place = if *place < 0 { place + list.len() as i64 } else { *place };
                usize::try_from(place).ok().and_then(|place| list.get(place)).into_iter().collect()
            }
            Step::All => match value {
                Value::Object(members) => members.values().collect(),
                _ => list.iter().collect(),
            },
            Step::Where(path, wanted) => list
                .iter()
                .filter(|element| {
                    let found = path.iter().try_fold(*element, |value, name| value.get(name));
                    match found {
                        Some(Value::String(text)) => text == wanted,
                        Some(other) => {
                            serde_json::from_str::<Value>(wanted).is_ok_and(|one| one == *other)
                        }
                        None => false,
                    }
                })
                .collect(),
        }
    }
}

fn field(rest: &str) -> Option<(Step, &str)> {
    let mut name = String::new();
    let mut characters = rest.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '.' | '[' => return (!name.is_empty()).then(|| (Step::Field(name), &rest[place..])),
            '\\' => name.push(characters.next()?.1),
            other => name.push(other),
        }
    }
    (!name.is_empty()).then_some((Step::Field(name), ""))
}

fn bracket(inner: &str) -> Option<(Step, &str)> {
    if let Some(filter) = inner.strip_prefix("?(@.") {
        let (condition, after) = filter.split_once(")]")?;
        let (path, wanted) = condition.split_once("==")?;
        let wanted = wanted.trim().trim_matches(['"', '\'']).to_owned();
        let path = path.trim().split('.').map(str::to_owned).collect();
        return Some((Step::Where(path, wanted), after));
    }
    let (content, after) = inner.split_once(']')?;
    let step = match content {
        "*" => Step::All,
        quoted if quoted.starts_with(['\'', '"']) => {
            Step::Field(quoted.trim_matches(['"', '\'']).to_owned())
        }
        number => Step::Element(number.parse().ok()?),
    };
    Some((step, after))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_values() {
        let value = json!({"spec": {"a.b": 1, "list": [{"n": "x", "v": 1}, {"n": "y", "v": 2}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        for (path, expected) in [
            (".spec['a.b']", vec![json!(1)]),
            (".spec.a\\.b", vec![json!(1)]),
            (".spec.list[0].n", vec![json!("x")]),
            (".spec.list[-1].n", vec![json!("y")]),
            (".spec.list[*].v", vec![json!(1), json!(2)]),
            (".status.conditions[?(@.type==\"Ready\")].status", vec![json!("True")]),
            (".nope.x", vec![]),
        ] {
            let parsed = JsonPath::parse(path).expect("a path");
            let found: Vec<Value> = parsed.find_all(&value).into_iter().cloned().collect();
            assert_eq!(found, expected, "{path}");
        }
        for wrong in ["", "spec", ".spec[", ".spec[x]", "."] {
            assert_eq!(JsonPath::parse(wrong), None, "{wrong:?}");
        }
    }
}
