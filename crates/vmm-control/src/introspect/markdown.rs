//! The interface as a reference manual in Markdown.

use std::fmt::Write;

use qmp_command::Feature;
use qmp_command::schema::{Branch, Member, TypeDef, TypeRef};

use super::text::{feature_text, innermost, is_implicit};
use super::{CommandSignature, EventSignature, Interface};

const INTRODUCTION: &str = "\
# Reference

Generated from the program; do not edit. All commands, events and types of its QMP monitors. Arguments, members and data
that may be absent are marked optional; everything else must be there.

A command without a return value returns an empty object. Errors have the class `GenericError` unless said otherwise;
an unknown command gets `CommandNotFound`.

";

/// What stands over commands that belong to no group.
const UNGROUPED: &str = "Further commands";

/// The manual.
pub fn generate(interface: &Interface) -> String {
    let mut out = String::from(INTRODUCTION);
    let mut groups: Vec<&str> = Vec::new();
    for group in interface.commands().map(group_of) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    // Those without a group come last.
    groups.sort_by_key(|group| *group == UNGROUPED);
    for group in groups {
        let _ = writeln!(out, "## {group}\n");
        interface
            .commands()
            .filter(|command| group_of(command) == group)
            .for_each(|signature| command(&mut out, interface, signature));
    }
    out.push_str("## Events\n\n");
    interface.events().for_each(|signature| event(&mut out, interface, signature));
    out.push_str("## Types\n\n");
    let types = interface.types().iter().filter(|def| !is_implicit(def.name()));
    types.for_each(|def| definition(&mut out, def));
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn group_of(command: &CommandSignature) -> &'static str {
    if command.metadata.group.is_empty() { UNGROUPED } else { command.metadata.group }
}

fn command(out: &mut String, interface: &Interface, signature: &CommandSignature) {
    let metadata = &signature.metadata;
    let _ = writeln!(out, "### {}\n", metadata.name);
    paragraph(out, metadata.doc);
    data(out, interface, "Arguments", &signature.arguments);
    if signature.returns != TypeRef::Empty {
        let _ = writeln!(out, "Returns: {}.\n", type_name(&signature.returns));
    }
    let notes = [
        (metadata.allow_oob, "It may be executed out-of-band."),
        (metadata.allow_preconfig, "It may be used before the machine is initialised."),
        (metadata.takes_fd, "It takes a file descriptor that comes with it by SCM_RIGHTS."),
    ];
    let notes: Vec<_> = notes.iter().filter(|(holds, _)| *holds).map(|(_, note)| *note).collect();
    if !notes.is_empty() {
        paragraph(out, &notes.join(" "));
    }
    features(out, metadata.features.iter().copied().map(Feature::name));
}

fn event(out: &mut String, interface: &Interface, signature: &EventSignature) {
    let spec = &signature.spec;
    let _ = writeln!(out, "### {}\n", spec.name());
    paragraph(out, spec.description());
    data(out, interface, "Data", &signature.data);
    if spec.is_extension() {
        paragraph(out, "Only sessions that turned it on with [x-events](#x-events) get it.");
    }
    if spec.is_throttled() {
        paragraph(out, "At most one a second is sent; of those that come sooner, the last.");
    }
    features(out, spec.features().iter().copied().map(Feature::name));
}

/// Arguments or data: a table, or, where the type has a name of its own, a link to it.
fn data(out: &mut String, interface: &Interface, title: &str, ty: &TypeRef) {
    let TypeRef::Named(name) = ty else { return };
    match interface.types().get(name) {
        Some(TypeDef::Struct { members: list, .. }) if is_implicit(name) => members(out, title, list),
        _ => {
            let _ = writeln!(out, "{title}: {}.\n", type_name(ty));
        }
    }
}

fn definition(out: &mut String, def: &TypeDef) {
    let _ = writeln!(out, "### {}\n", def.name());
    paragraph(out, def.doc());
    match def {
        TypeDef::Struct { members: list, .. } => members(out, "Member", list),
        TypeDef::Enum { values, .. } => {
            out.push_str("| Value | |\n|---|---|\n");
            for value in values {
                let _ = writeln!(out, "| `{}` | {} |", value.name, cell(value.doc, &value.features));
            }
            out.push('\n');
        }
        TypeDef::Union { base, tag, branches: list, .. } => {
            members(out, "Member", base);
            branches(out, &format!("`{tag}` is"), "further members", list);
        }
        TypeDef::Alternate { branches: list, .. } => branches(out, "Choice", "type", list),
    }
    features(out, def.features().iter().copied());
}

fn members(out: &mut String, title: &str, members: &[Member]) {
    if members.is_empty() {
        return;
    }
    let _ = writeln!(out, "| {title} | Type | |\n|---|---|---|");
    for member in members {
        let optional = if member.optional { ", optional" } else { "" };
        let (ty, about) = (type_name(&member.ty), cell(member.doc, &member.features));
        let _ = writeln!(out, "| `{}` | {ty}{optional} | {about} |", member.name);
    }
    out.push('\n');
}

fn branches(out: &mut String, title: &str, what: &str, branches: &[Branch]) {
    let _ = writeln!(out, "| {title} | {what} | |\n|---|---|---|");
    for branch in branches {
        let ty = if branch.ty == TypeRef::Empty { "none".to_owned() } else { type_name(&branch.ty) };
        let _ = writeln!(out, "| `{}` | {ty} | {} |", branch.name, cell(branch.doc, &branch.features));
    }
    out.push('\n');
}

fn features<'a>(out: &mut String, features: impl Iterator<Item = &'a str>) {
    for feature in features {
        let _ = writeln!(out, "Feature `{feature}`: {}\n", feature_text(feature));
    }
}

fn paragraph(out: &mut String, text: &str) {
    if !text.is_empty() {
        let _ = writeln!(out, "{text}\n");
    }
}

/// A table's cell: on one line, without what would end it.
fn cell(doc: &str, features: &[&str]) -> String {
    let mut text = doc.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    for feature in features {
        let _ = write!(text, " Feature `{feature}`: {}", feature_text(feature));
    }
    text.trim_start().to_owned()
}

/// A type, with a link to its description if it has one here.
fn type_name(ty: &TypeRef) -> String {
    let name = match innermost(ty) {
        TypeRef::Named(name) => format!("[{name}](#{})", name.to_lowercase()),
        builtin => builtin.to_string(),
    };
    if matches!(ty, TypeRef::Array(_)) { format!("list of {name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::introspect::sample;

    #[test]
    fn every_kind_of_entry() {
        let text = generate(&sample::interface());
        for part in [
            "## Drawing\n\n### x-draw\n\nDraws.\n\nArguments: [Shape](#shape).\n\nReturns: list of int8.\n\n\
             It may be executed out-of-band.\n\nFeature `unstable`: It may change or go away without notice.\n",
            "## Further commands\n\n### x-erase\n\nErases.\n\n| Arguments | Type | |\n|---|---|---|\n\
             | `what_id` | str, optional | Which. |\n\nReturns: list of [NameOrRound](#nameorround).\n",
            "### X_DREW\n\nDrawn.\n\nData: [Round](#round).\n\nAt most one a second is sent;",
            "### X_DONE\n\nDone.\n\nOnly sessions that turned it on",
            "| `count` | uint16, optional | How many \\| how often. Feature `unstable`: It may change",
            "| `kind` is | further members | |\n|---|---|---|\n| `round` | [Round](#round) | With a radius. |\n\
             | `flat` | none | Without. |\n",
        ] {
            assert!(text.contains(part), "{part}\nis missing in\n{text}");
        }
        assert!(text.ends_with(" |\n") && !text.contains("q_obj_"), "{text}");
    }
}
