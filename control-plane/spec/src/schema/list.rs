//! Lists of documents, as `kubectl get -o yaml` prints them: each item is a document of its own.
//! What is in an item is read elsewhere.

use crate::yaml::{Content, Node};

/// Kinds that hold documents in `items`.
const LISTS: [&str; 4] = [
    "List",
    "TestWorkflowList",
    "TestWorkflowTemplateList",
    "TestWorkflowExecutionList",
];

/// The items of a list; nothing when it is another document.
pub(crate) fn items(node: &Node) -> Option<&[Node]> {
    let kind = match &node.get("kind")?.content {
        Content::Scalar(scalar) => scalar.text.as_str(),
        Content::List(_) | Content::Map(_) => return None,
    };
    match &node.get("items")?.content {
        Content::List(items) if LISTS.contains(&kind) => Some(items),
        _ => None,
    }
}
