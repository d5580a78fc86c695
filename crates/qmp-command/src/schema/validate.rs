//! QAPI's rules, held against what was described.

use std::collections::{HashMap, HashSet};

use super::Types;
use super::definition::{Branch, Member, TypeDef, TypeRef};
use super::error::{Place, SchemaError};

/// Whether `name` may be the name of a command, an event, a type or a member: a letter, then letters, digits, `-` and
/// `_`, all ASCII. A downstream extension's name has a prefix of two underscores, a reversed domain name and an
/// underscore: `__com.example_drive-id`.
pub fn is_qapi_name(name: &str) -> bool {
    let name = without_downstream_prefix(name);
    name.starts_with(|first: char| first.is_ascii_alphabetic()) && has_qapi_letters(name)
}

/// The same for a value of an enum, which may also start with a digit.
fn is_enum_value(name: &str) -> bool {
    let name = without_downstream_prefix(name);
    name.starts_with(|first: char| first.is_ascii_alphanumeric()) && has_qapi_letters(name)
}

fn has_qapi_letters(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn without_downstream_prefix(name: &str) -> &str {
    let Some((domain, rest)) = name.strip_prefix("__").and_then(|name| name.split_once('_')) else {
        return name;
    };
    let is_domain = !domain.is_empty()
        && domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    if is_domain { rest } else { name }
}

/// Holds all that can be reached from `root` against QAPI's rules: names, duplicates, what may stand where.
///
/// # Errors
/// All the mistakes, in the order of the types, with those first that were noticed while the types were described.
/// Never an empty list.
pub fn validate(types: &Types, root: &TypeRef) -> Result<(), Vec<SchemaError>> {
    let mut check = Check { types, errors: types.errors().to_vec(), seen: HashSet::new() };
    if *root != TypeRef::Empty {
        check.reference(root, &Place::default());
    }
    if check.errors.is_empty() { Ok(()) } else { Err(check.errors) }
}

struct Check<'a> {
    types: &'a Types,
    errors: Vec<SchemaError>,
    seen: HashSet<&'static str>,
}

impl<'a> Check<'a> {
    fn refuse(&mut self, place: &Place, reason: impl Into<String>) {
        self.errors.push(SchemaError::inexpressible(place.clone(), reason));
    }

    fn reference(&mut self, ty: &TypeRef, place: &Place) {
        match ty {
            TypeRef::Named(name) => self.named(name, place),
            TypeRef::Array(element) if matches!(**element, TypeRef::Array(_)) => {
                self.refuse(place, format!("QAPI has no list of lists, such as {ty}"));
            }
            TypeRef::Array(element) => self.reference(element, place),
            TypeRef::Empty => {
                self.refuse(place, "() is no value; QAPI has it for arguments and returns only")
            }
            TypeRef::Str
            | TypeRef::Int(_)
            | TypeRef::Number
            | TypeRef::Bool
            | TypeRef::Null
            | TypeRef::Any => {}
        }
    }

    fn named(&mut self, name: &'static str, place: &Place) {
        let Some(def) = self.types.get(name) else {
            self.refuse(place, format!("the type {name:?} is not defined"));
            return;
        };
        if !self.seen.insert(name) {
            return;
        }
        let owner = Place::of_type(name);
        if !is_qapi_name(name) {
            self.errors.push(SchemaError::IllegalName { place: owner.clone(), name: name.to_owned() });
        }
        if def.name() != name {
            self.refuse(
                &owner,
                format!("it is registered under this name, but calls itself {:?}", def.name()),
            );
        }
        self.features(def.features(), &owner);
        match def {
            TypeDef::Struct { members, .. } => self.members(members, name, &mut Names::default()),
            TypeDef::Enum { values, .. } => {
                let mut names = Names::default();
                for value in values {
                    self.value_name(value.name, name, &mut names);
                    self.features(&value.features, &Place::of_member(name, value.name));
                }
            }
            TypeDef::Union { base, tag, branches, .. } => self.union(name, base, tag, branches),
            TypeDef::Alternate { branches, .. } => self.alternate(name, branches),
        }
    }

    fn members(&mut self, members: &'a [Member], owner: &'static str, names: &mut Names) {
        for member in members {
            let place = Place::of_member(owner, member.name);
            if !is_qapi_name(member.name) {
                self.errors
                    .push(SchemaError::IllegalName { place: place.clone(), name: member.name.to_owned() });
            }
            if !names.insert(member.name) {
                self.errors.push(SchemaError::Duplicate { place: place.clone() });
            }
            self.features(&member.features, &place);
            self.reference(&member.ty, &place);
        }
    }

    fn value_name(&mut self, value: &str, owner: &str, names: &mut Names) {
        let place = Place::of_member(owner, value);
        if !is_enum_value(value) {
            self.errors.push(SchemaError::IllegalName { place: place.clone(), name: value.to_owned() });
        }
        if !names.insert(value) {
            self.errors.push(SchemaError::Duplicate { place });
        }
    }

    fn union(&mut self, name: &'static str, base: &'a [Member], tag: &str, branches: &'a [Branch]) {
        let mut names = Names::default();
        self.members(base, name, &mut names);
        match base.iter().find(|member| member.name == tag) {
            None => self
                .refuse(&Place::of_type(name), format!("the base has no member {tag:?}, which is the tag")),
            Some(member) if member.optional || !self.is_enum(&member.ty) => {
                self.refuse(
                    &Place::of_member(name, tag),
                    "the tag must be a mandatory member of an enum type",
                );
            }
            Some(_) => {}
        }
        let mut tags = Names::default();
        for branch in branches {
            self.value_name(branch.name, name, &mut tags);
            self.branch(name, branch, &names);
        }
    }

    /// A branch's members stand beside those of the base, so their names must differ.
    fn branch(&mut self, union: &'static str, branch: &Branch, base: &Names) {
        let place = Place::of_member(union, branch.name);
        let TypeRef::Named(name) = branch.ty else {
            if branch.ty != TypeRef::Empty {
                self.refuse(&place, format!("a branch is a struct, and {} is none", branch.ty));
            }
            return;
        };
        self.named(name, &place);
        match self.types.get(name) {
            Some(TypeDef::Struct { members, .. } | TypeDef::Union { base: members, .. }) => {
                for clash in members.iter().filter(|member| base.contains(member.name)) {
                    self.errors.push(SchemaError::Duplicate { place: Place::of_member(name, clash.name) });
                }
            }
            Some(_) => self.refuse(&place, format!("a branch is a struct, and {name:?} is none")),
            None => {}
        }
    }

    /// No two branches of an alternate may look the same on the wire.
    fn alternate(&mut self, name: &'static str, branches: &'a [Branch]) {
        let mut kinds: HashMap<&'static str, &'static str> = HashMap::new();
        for branch in branches {
            let place = Place::of_member(name, branch.name);
            self.reference(&branch.ty, &place);
            let Some(kind) = self.wire_kind(&branch.ty) else {
                self.refuse(&place, format!("{} cannot be a branch of an alternate", branch.ty));
                continue;
            };
            if let Some(other) = kinds.insert(kind, branch.name) {
                self.refuse(
                    &place,
                    format!("it cannot be told from the branch {other:?}: both are a JSON {kind}"),
                );
            }
        }
    }

    fn is_enum(&self, ty: &TypeRef) -> bool {
        matches!(ty, TypeRef::Named(name) if matches!(self.types.get(name), Some(TypeDef::Enum { .. })))
    }

    fn wire_kind(&self, ty: &TypeRef) -> Option<&'static str> {
        Some(match ty {
            TypeRef::Str => "string",
            TypeRef::Int(_) | TypeRef::Number => "number",
            TypeRef::Bool => "boolean",
            TypeRef::Null => "null",
            TypeRef::Array(_) => "array",
            TypeRef::Any | TypeRef::Empty => return None,
            TypeRef::Named(name) => match self.types.get(name)? {
                TypeDef::Struct { .. } | TypeDef::Union { .. } => "object",
                TypeDef::Enum { .. } => "string",
                TypeDef::Alternate { .. } => return None,
            },
        })
    }

    fn features(&mut self, features: &[&'static str], place: &Place) {
        let mut names = Names::default();
        for feature in features {
            if !is_qapi_name(feature) {
                self.refuse(place, format!("{feature:?} is no name for a feature"));
            }
            if !names.insert(feature) {
                self.refuse(place, format!("the feature {feature:?} stands twice"));
            }
        }
    }
}

/// Names of one object. QAPI makes C identifiers of them, so `a-b` and `a_b` are the same.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    fn insert(&mut self, name: &str) -> bool {
        self.0.insert(name.replace('-', "_"))
    }

    fn contains(&self, name: &str) -> bool {
        self.0.contains(&name.replace('-', "_"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in [
            "a",
            "fdset-id",
            "x_y",
            "qmp_capabilities",
            "A9",
            "__com.example_drive-id",
            "__org.qemu-project_x",
        ] {
            assert!(is_qapi_name(good), "{good}");
        }
        for bad in [
            "",
            "9a",
            "-a",
            "_a",
            "a b",
            "a.b",
            "\u{e9}",
            "a\u{e9}",
            "__com.example_",
            "__com.example_9",
            "___x",
            "__a",
        ] {
            assert!(!is_qapi_name(bad), "{bad}");
        }
        assert!(is_enum_value("9a") && is_enum_value("__com.example_9") && !is_enum_value(""));
    }
}
