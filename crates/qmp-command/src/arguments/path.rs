//! Where in the arguments a value stands.

/// A chain of names and indices, kept on the stack while the decoder descends; it becomes text in errors only.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path<'a> {
    /// The arguments themselves.
    Root,
    /// A member of an object.
    Member { parent: &'a Path<'a>, name: &'a str },
    /// An element of a list.
    Element { parent: &'a Path<'a>, index: usize },
}

impl Path<'_> {
    /// The whole path: `actions[0].data.node`.
    pub(crate) fn full(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        if text.is_empty() { "arguments".to_owned() } else { text }
    }

    /// How many names and indices it has.
    pub(crate) fn depth(&self) -> usize {
        let mut depth = 0;
        let mut path = self;
        while let Self::Member { parent, .. } | Self::Element { parent, .. } = path {
            depth += 1;
            path = *parent;
        }
        depth
    }

    /// The name of the member of the arguments that it leads into.
    pub(crate) fn outermost(&self) -> &str {
        match self {
            Self::Member { parent: Self::Root, name } => name,
            Self::Member { parent, .. } | Self::Element { parent, .. } => parent.outermost(),
            Self::Root => "arguments",
        }
    }

    /// The last name alone, which some of QEMU's texts have instead; a list's element has none.
    pub(crate) fn last(&self) -> &str {
        match self {
            Self::Member { name, .. } => name,
            Self::Root | Self::Element { .. } => "null",
        }
    }

    fn write(&self, text: &mut String) {
        match self {
            Self::Root => {}
            Self::Member { parent, name } => {
                parent.write(text);
                if !matches!(parent, Self::Root) {
                    text.push('.');
                }
                text.push_str(name);
            }
            Self::Element { parent, index } => {
                parent.write(text);
                text.push_str(&format!("[{index}]"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_qemu_writes_them() {
        let actions = Path::Member { parent: &Path::Root, name: "actions" };
        let element = Path::Element { parent: &actions, index: 3 };
        let data = Path::Member { parent: &element, name: "data" };
        assert_eq!((data.full().as_str(), data.last()), ("actions[3].data", "data"));
        assert_eq!((element.full().as_str(), element.last()), ("actions[3]", "null"));
        assert_eq!(Path::Root.full(), "arguments");
    }
}
