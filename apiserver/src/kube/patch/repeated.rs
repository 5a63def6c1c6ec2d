//! Fields that a document has twice.

use crate::kube::codec::node::Node;

/// Adds a problem for every field that stands twice in its object.
pub fn repeated_keys(node: &Node<'_>, path: &str, problems: &mut Vec<String>) {
    match node {
        Node::Object(members) => {
            for (index, (key, value)) in members.iter().enumerate() {
                let dot = if path.is_empty() { "" } else { "." };
                let place = format!("{path}{dot}{key}");
                if members[..index].iter().any(|(other, _)| other == key) {
                    problems.push(format!("duplicate field \"{place}\""));
                }
                repeated_keys(value, &place, problems);
            }
        }
        Node::List(list) => {
            for (index, value) in list.iter().enumerate() {
                repeated_keys(value, &format!("{path}[{index}]"), problems);
            }
        }
        _ => {}
    }
}
