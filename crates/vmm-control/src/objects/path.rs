//! Finding objects by path, whole or partial.

use std::sync::Arc;

use super::node::Node;

/// No object stands deeper, so no longer path is looked for: what a client sends costs little.
const DEEPEST: usize = 64;

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Resolved {
    /// This one object.
    Found(Arc<Node>),
    /// Nothing.
    NotFound,
    /// A partial path that fits several objects.
    Ambiguous,
}

impl Resolved {
    pub(crate) fn found(self) -> Option<Arc<Node>> {
        match self {
            Self::Found(node) => Some(node),
            Self::NotFound | Self::Ambiguous => None,
        }
    }
}

/// An absolute path begins with `/`; any other is the end of one, and must fit one object only.
pub(crate) fn resolve(root: &Arc<Node>, path: &str) -> Resolved {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).take(DEEPEST + 1).collect();
    if parts.len() > DEEPEST {
        return Resolved::NotFound;
    }
    if path.starts_with('/') {
        return descend(root, &parts).map_or(Resolved::NotFound, Resolved::Found);
    }
    let mut found = None;
    match partial(root, &parts, &mut found) {
        Err(Ambiguous) => Resolved::Ambiguous,
        Ok(()) => found.map_or(Resolved::NotFound, Resolved::Found),
    }
}

fn descend(from: &Arc<Node>, parts: &[&str]) -> Option<Arc<Node>> {
    parts.iter().try_fold(from.clone(), |node, part| node.child(part))
}

struct Ambiguous;

fn partial(node: &Arc<Node>, parts: &[&str], found: &mut Option<Arc<Node>>) -> Result<(), Ambiguous> {
    if let Some(fits) = descend(node, parts)
        && found.replace(fits).is_some()
    {
        return Err(Ambiguous);
    }
    node.children().iter().try_for_each(|child| partial(child, parts, found))
}

#[cfg(test)]
mod tests {
    use super::super::object::Plain;
    use super::*;

    fn add(parent: &Arc<Node>, name: &str) -> Arc<Node> {
        let node = Node::new(parent.path_of(name), "container".to_owned(), Arc::new(Plain));
        assert!(parent.attach(node.clone()));
        node
    }

    fn paths(root: &Arc<Node>, path: &str) -> String {
        match resolve(root, path) {
            Resolved::Found(node) => node.path.clone(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn whole_and_partial_paths() {
        let root = Node::new("/".to_owned(), "container".to_owned(), Arc::new(Plain));
        let (objects, machine) = (add(&root, "objects"), add(&root, "machine"));
        add(&objects, "a");
        add(&add(&machine, "peripheral"), "a");
        add(&objects, "b");
        for (path, expected) in [
            ("/", "/"),
            ("//objects//b/", "/objects/b"),
            ("/objects/nope", "NotFound"),
            ("/b", "NotFound"),
            ("b", "/objects/b"),
            ("objects/a", "/objects/a"),
            ("peripheral", "/machine/peripheral"),
            ("a", "Ambiguous"),
            ("", "Ambiguous"),
            ("nope", "NotFound"),
        ] {
            assert_eq!(paths(&root, path), expected, "{path}");
        }
        assert_eq!(paths(&root, &"/x".repeat(1 << 20)), "NotFound");
    }
}
