//! What the writers of texts share.

use qmp_command::schema::{IntKind, Member, TypeDef, TypeRef};

/// Breaks `text` at spaces into lines of at most `width` characters, unless a word is longer. Its own line breaks count
/// as spaces; an empty line stays one.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split("\n\n") {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        if !line.is_empty() {
            lines.push(line);
        }
    }
    lines
}

/// Whether a struct exists only as the arguments of a command or the data of an event: QAPI keeps such names to itself,
/// so its members are written where it is used.
pub(super) fn is_implicit(name: &str) -> bool {
    name.starts_with("q_")
}

/// The features of a type and of its parts, each once, in order.
pub(super) fn all_features(def: &TypeDef) -> Vec<&'static str> {
    let parts: Vec<&[&'static str]> = match def {
        TypeDef::Struct { members, .. } | TypeDef::Union { base: members, .. } => features_of(members),
        TypeDef::Enum { values, .. } => values.iter().map(|value| &*value.features).collect(),
        TypeDef::Alternate { .. } => Vec::new(),
    };
    let mut all: Vec<&'static str> = Vec::new();
    for feature in def.features().iter().chain(parts.into_iter().flatten()) {
        if !all.contains(feature) {
            all.push(feature);
        }
    }
    all
}

fn features_of(members: &[Member]) -> Vec<&[&'static str]> {
    members.iter().map(|member| &*member.features).collect()
}

/// What a feature tells a client.
pub(super) fn feature_text(feature: &str) -> &'static str {
    match feature {
        "deprecated" => "It still works, and will go away.",
        "unstable" => "It may change or go away without notice.",
        _ => "Clients can tell by it what to expect.",
    }
}

/// The smallest and the largest value of an integer type.
pub(super) fn range(kind: IntKind) -> (i128, i128) {
    match kind {
        IntKind::Int8 => (i8::MIN.into(), i8::MAX.into()),
        IntKind::Int16 => (i16::MIN.into(), i16::MAX.into()),
        IntKind::Int32 => (i32::MIN.into(), i32::MAX.into()),
        IntKind::Int64 => (i64::MIN.into(), i64::MAX.into()),
        IntKind::Uint8 => (0, u8::MAX.into()),
        IntKind::Uint16 => (0, u16::MAX.into()),
        IntKind::Uint32 => (0, u32::MAX.into()),
        IntKind::Uint64 | IntKind::Size => (0, u64::MAX.into()),
    }
}

/// What a list's elements are, however deep it is; anything else is itself.
pub(super) fn innermost(ty: &TypeRef) -> &TypeRef {
    match ty {
        TypeRef::Array(element) => innermost(element),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("one two\nthree", 7), ["one two", "three"]);
        assert_eq!(wrap("a\n\nb", 7), ["a", "", "b"]);
        assert_eq!(wrap("muchtoolong x", 4), ["muchtoolong", "x"]);
        assert!(wrap("", 4).is_empty());
    }
}
