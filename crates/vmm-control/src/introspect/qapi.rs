//! The interface as a QAPI schema: the language that QEMU's own generator reads.
//!
//! Each definition has the documentation comment that the generator wants; names that its rules would refuse are listed
//! in pragmas at the top. Events that QEMU does not have, and fds, have no place in the language; the comments name them.

use std::fmt::Write;

use qmp_command::Feature;
use qmp_command::schema::{Branch, EnumValue, Member, TypeDef, TypeRef};

use super::text::{all_features, feature_text, innermost, is_implicit, wrap};
use super::{CommandSignature, EventSignature, Interface};

const WIDTH: usize = 70;

/// The schema, as the text of one module.
pub fn generate(interface: &Interface) -> String {
    let mut out =
        String::from("# -*- Mode: Python -*-\n# vim: filetype=python\n\n##\n# = QMP interface\n##\n\n");
    pragmas(&mut out, interface);
    for def in interface.types().iter().filter(|def| !is_inline(def)) {
        definition(&mut out, def);
    }
    for signature in interface.commands() {
        command(&mut out, interface, signature);
    }
    for signature in interface.events() {
        event(&mut out, interface, signature);
    }
    out
}

fn pragmas(out: &mut String, interface: &Interface) {
    let commands = interface.commands().map(|command| command.metadata.name).filter(|name| is_unusual(name));
    let returns = interface.commands().filter(|command| !returns_objects(interface, &command.returns));
    let types = interface.types().iter().filter(|def| has_unusual_names(def));
    let lists: [(&str, Vec<String>); 3] = [
        ("command-name-exceptions", commands.map(str::to_owned).collect()),
        ("command-returns-exceptions", returns.map(|command| command.metadata.name.to_owned()).collect()),
        ("member-name-exceptions", types.map(|def| public_name(def.name())).collect()),
    ];
    out.push_str("{ 'pragma': { 'doc-required': true } }\n");
    for (name, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
        let _ = writeln!(out, "{{ 'pragma': {{ '{name}': [ {} ] }} }}", quoted(list));
    }
}

/// Whether a command returns what the generator expects it to: objects, lists of them, or nothing.
fn returns_objects(interface: &Interface, returns: &TypeRef) -> bool {
    match innermost(returns) {
        TypeRef::Empty => true,
        TypeRef::Named(name) => {
            matches!(interface.types().get(name), Some(TypeDef::Struct { .. } | TypeDef::Union { .. }))
        }
        _ => false,
    }
}

/// Whether a name is one that the generator takes only when a pragma lists where it stands.
fn is_unusual(name: &str) -> bool {
    name.contains(|c: char| c == '_' || c.is_ascii_uppercase())
}

fn has_unusual_names(def: &TypeDef) -> bool {
    names_within(def).iter().any(|name| is_unusual(name))
}

/// Whether a struct is written where it is used. No pragma reaches the members there, so they must have usual names.
fn is_inline(def: &TypeDef) -> bool {
    is_implicit(def.name()) && matches!(def, TypeDef::Struct { .. }) && !has_unusual_names(def)
}

/// A type's name; for one that QAPI keeps to itself, such as `q_obj_add-fd-arg`, one made of it: `AddFdArg`.
fn public_name(name: &str) -> String {
    let Some(rest) = name.strip_prefix("q_") else { return name.to_owned() };
    let words = rest.strip_prefix("obj_").unwrap_or(rest).split(|c: char| !c.is_ascii_alphanumeric());
    let capitalised = words.map(|word| {
        let (first, others) = word.split_at(word.len().min(1));
        first.to_ascii_uppercase() + others
    });
    capitalised.collect()
}

fn names_within(def: &TypeDef) -> Vec<&'static str> {
    match def {
        TypeDef::Struct { members, .. } | TypeDef::Union { base: members, .. } => {
            members.iter().map(|member| member.name).collect()
        }
        TypeDef::Enum { values, .. } => values.iter().map(|value| value.name).collect(),
        TypeDef::Alternate { branches, .. } => branches.iter().map(|branch| branch.name).collect(),
    }
}

fn definition(out: &mut String, def: &TypeDef) {
    let name = public_name(def.name());
    let mut comment = Comment::new(&name, def.doc());
    let text = match def {
        TypeDef::Struct { members: list, .. } => {
            list.iter().for_each(|member| comment.part(member.name, member.doc));
            format!("'struct': '{name}',\n  'data': {}", members(list))
        }
        TypeDef::Enum { values, .. } => {
            values.iter().for_each(|value| comment.part(value.name, value.doc));
            let values: Vec<_> = values.iter().map(enum_value).collect();
            format!("'enum': '{name}',\n  'data': [ {} ]", values.join(",\n            "))
        }
        TypeDef::Union { base, tag, branches: list, .. } => {
            base.iter().for_each(|member| comment.part(member.name, member.doc));
            let base = members(base);
            format!(
                "'union': '{name}',\n  'base': {base},\n  'discriminator': '{tag}',\n  'data': {}",
                branches(list)
            )
        }
        TypeDef::Alternate { branches: list, .. } => {
            list.iter().for_each(|branch| comment.part(branch.name, branch.doc));
            format!("'alternate': '{name}',\n  'data': {}", branches(list))
        }
    };
    comment.features(&all_features(def));
    comment.write(out);
    let _ = writeln!(out, "{{ {text}{} }}", features(def.features()));
}

fn command(out: &mut String, interface: &Interface, signature: &CommandSignature) {
    let metadata = &signature.metadata;
    let mut comment = Comment::new(metadata.name, metadata.doc);
    let mut text = format!("'command': '{}'", metadata.name);
    text += &data(&mut comment, interface, &signature.arguments);
    let own: Vec<_> = metadata.features.iter().copied().map(Feature::name).collect();
    comment.features(&own);
    if signature.returns != TypeRef::Empty {
        comment.returns(&signature.returns);
        let _ = write!(text, ",\n  'returns': {}", reference(&signature.returns));
    }
    for (flag, set) in [("allow-oob", metadata.allow_oob), ("allow-preconfig", metadata.allow_preconfig)] {
        if set {
            let _ = write!(text, ",\n  '{flag}': true");
        }
    }
    comment.write(out);
    let _ = writeln!(out, "{{ {text}{} }}", features(&own));
}

fn event(out: &mut String, interface: &Interface, signature: &EventSignature) {
    let spec = &signature.spec;
    let mut comment = Comment::new(spec.name(), spec.description());
    let mut text = format!("'event': '{}'", spec.name());
    text += &data(&mut comment, interface, &signature.data);
    let own: Vec<_> = spec.features().iter().copied().map(Feature::name).collect();
    comment.features(&own);
    comment.write(out);
    let _ = writeln!(out, "{{ {text}{} }}", features(&own));
}

/// A command's arguments or an event's data: by name, or, where the type has none of its own, member by member.
fn data(comment: &mut Comment, interface: &Interface, ty: &TypeRef) -> String {
    let TypeRef::Named(name) = ty else { return String::new() };
    match interface.types().get(name) {
        Some(def @ TypeDef::Struct { members: list, .. }) if is_inline(def) => {
            list.iter().for_each(|member| comment.part(member.name, member.doc));
            if list.is_empty() { String::new() } else { format!(",\n  'data': {}", members(list)) }
        }
        Some(TypeDef::Union { .. }) => format!(",\n  'boxed': true,\n  'data': {}", reference(ty)),
        _ => format!(",\n  'data': {}", reference(ty)),
    }
}

fn members(members: &[Member]) -> String {
    let list = members.iter().map(|member| {
        let star = if member.optional { "*" } else { "" };
        let ty = reference(&member.ty);
        match features(&member.features).as_str() {
            "" => format!("'{star}{}': {ty}", member.name),
            own => format!("'{star}{}': {{ 'type': {ty}{own} }}", member.name),
        }
    });
    braces(&list.collect::<Vec<_>>())
}

/// Branches without members are left out, as the language wants it.
fn branches(branches: &[Branch]) -> String {
    let list = branches.iter().filter(|branch| branch.ty != TypeRef::Empty);
    braces(&list.map(|branch| format!("'{}': {}", branch.name, reference(&branch.ty))).collect::<Vec<_>>())
}

fn enum_value(value: &EnumValue) -> String {
    match features(&value.features).as_str() {
        "" => format!("'{}'", value.name),
        own => format!("{{ 'name': '{}'{own} }}", value.name),
    }
}

fn braces(list: &[String]) -> String {
    if list.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", list.join(",\n            ")) }
}

fn features(features: &[&str]) -> String {
    if features.is_empty() { String::new() } else { format!(",\n  'features': [ {} ]", quoted(features)) }
}

fn quoted<S: std::fmt::Display>(names: &[S]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

/// A use of a type: names stand in quotes, lists bring their own.
fn reference(ty: &TypeRef) -> String {
    match ty {
        TypeRef::Array(element) => format!("[{}]", reference(element)),
        TypeRef::Named(name) => format!("'{}'", public_name(name)),
        builtin => format!("'{builtin}'"),
    }
}

/// A documentation comment in the making.
struct Comment(String);

impl Comment {
    fn new(name: &str, doc: &str) -> Self {
        let mut comment = Self(format!("\n##\n# @{name}:\n"));
        comment.blank();
        comment.lines(doc, "# ");
        comment
    }

    fn blank(&mut self) {
        self.0.push_str("#\n");
    }

    /// A doc comment's words are taken as they are: one that starts with `@` or `=` would begin a section if it came to
    /// stand at the beginning of a line.
    fn lines(&mut self, text: &str, prefix: &str) {
        let text = if text.is_empty() { "Not described." } else { text };
        for line in wrap(text, WIDTH - prefix.len()) {
            let _ = writeln!(self.0, "{}", format!("{prefix}{line}").trim_end());
        }
    }

    fn part(&mut self, name: &str, doc: &str) {
        self.blank();
        let _ = writeln!(self.0, "# @{name}:");
        self.lines(doc, "#     ");
    }

    fn features(&mut self, features: &[&str]) {
        if features.is_empty() {
            return;
        }
        self.blank();
        self.0.push_str("# Features:\n");
        for feature in features {
            self.part(feature, feature_text(feature));
        }
    }

    fn returns(&mut self, ty: &TypeRef) {
        self.blank();
        let list = if matches!(ty, TypeRef::Array(_)) { "a list of " } else { "" };
        let name = match innermost(ty) {
            TypeRef::Named(name) => format!("@{}", public_name(name)),
            builtin => builtin.to_string(),
        };
        let _ = writeln!(self.0, "# Returns: {list}{name}");
    }

    fn write(self, out: &mut String) {
        out.push_str(&self.0);
        out.push_str("##\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::introspect::sample;

    #[test]
    fn every_kind_of_definition() {
        let text = generate(&sample::interface());
        for part in [
            "{ 'pragma': { 'command-returns-exceptions': [ 'x-draw', 'x-erase' ] } }\n",
            "{ 'union': 'Shape',\n  'base': { 'kind': 'FormType',\n            '*count': { 'type': 'uint16',\n  \
             'features': [ 'unstable' ] } },\n  'discriminator': 'kind',\n  'data': { 'round': 'Round' } }\n",
            "{ 'enum': 'FormType',\n  'data': [ 'round',\n            'flat' ] }\n",
            "{ 'struct': 'Round',\n  'data': { 'radii': ['uint64'] } }\n",
            "{ 'alternate': 'NameOrRound',\n  'data': { 'name': 'str',\n            'round': 'Round' } }\n",
            "##\n# @x-draw:\n#\n# Draws.\n#\n# Features:\n#\n# @unstable:\n#     It may change or go away without \
             notice.\n#\n# Returns: a list of int8\n##\n{ 'command': 'x-draw',\n  'boxed': true,\n  'data': 'Shape',\n  \
             'returns': ['int8'],\n  'allow-oob': true,\n  'features': [ 'unstable' ] }\n",
            "# @what_id:\n#     Which.\n",
            "{ 'pragma': { 'member-name-exceptions': [ 'XEraseArg' ] } }\n",
            "{ 'struct': 'XEraseArg',\n  'data': { '*what_id': 'str' } }\n",
            "{ 'command': 'x-erase',\n  'data': 'XEraseArg',\n  'returns': ['NameOrRound'] }\n",
            "{ 'event': 'X_DREW',\n  'data': 'Round',\n  'features': [ 'deprecated' ] }\n",
            "{ 'event': 'X_DONE' }\n",
        ] {
            assert!(text.contains(part), "{part}is missing in\n{text}");
        }
    }
}
