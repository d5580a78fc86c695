//! Whether a type's serde implementation reads what its description says.
//!
//! The derives keep the two together, but either can be written by hand, and some of serde's attributes are not seen
//! by the description. A difference would show as a wrong complaint to a client, long after; so it is looked for when
//! a command is registered.

use std::collections::HashSet;

use serde::de::DeserializeOwned;

use super::probe::{Asked, Step, probe};
use crate::schema::{Branch, EnumValue, IntKind, Member, Place, SchemaError, TypeDef, TypeRef, Types};

/// Whether `T` reads what `described` says, all types that it contains included.
///
/// Found are: members that serde reads and nobody described (`alias`), or the other way round; another order; members
/// that are optional in one and not in the other (`default`); other types; enums with other values; structs and
/// enums that serde buffers (`flatten`, `tag` and `untagged` without this crate's derive).
///
/// Alternates, and branches of a union whose base refuses made-up values, are taken on trust.
///
/// # Errors
/// The first difference, with the type's and the member's name.
///
/// ```
/// use qmp_command::arguments::check_type;
/// use qmp_command::schema::{Member, QapiType, TypeDef, TypeRef, Types};
///
/// #[derive(serde::Deserialize)]
/// struct Getfd {
///     #[serde(alias = "name")]
///     fdname: String,
/// }
///
/// impl QapiType for Getfd {
///     fn describe(types: &mut Types) -> TypeRef {
///         types.define::<Self>("Getfd", |_| TypeDef::Struct {
///             name: "Getfd",
///             doc: "",
///             features: vec![],
///             members: vec![Member::new("fdname", TypeRef::Str)],
///         })
///     }
/// }
///
/// let mut types = Types::new();
/// let described = Getfd::describe(&mut types);
/// assert_eq!(
///     check_type::<Getfd>(&types, &described).unwrap_err().to_string(),
///     "member \"name\" of \"Getfd\": serde reads it, but it is not described; is it an alias?"
/// );
/// ```
pub fn check_type<T: DeserializeOwned>(types: &Types, described: &TypeRef) -> Result<(), SchemaError> {
    let mut check = Check { types, seen: HashSet::new(), probe: probe::<T> };
    match (described, probe::<T>(&[])) {
        // `()`, or a struct without members.
        (TypeRef::Empty, Some(Asked::Unit | Asked::Struct([]))) => Ok(()),
        _ => check.value(described, &mut Vec::new(), &Place::default()),
    }
}

/// Whether the struct `T` has exactly the described members, by name and in order; [`check_type`] goes deeper.
///
/// # Errors
/// The first difference, with the member's name.
pub fn check_fields<T: DeserializeOwned>(members: &[Member]) -> Result<(), SchemaError> {
    let owner = std::any::type_name::<T>();
    match probe::<T>(&[]) {
        Some(Asked::Struct(fields)) => same_members(owner, members, fields),
        Some(Asked::Flat) => Ok(()),
        asked => Err(SchemaError::mismatch(Place::of_type(owner), difference("a struct", asked))),
    }
}

struct Check<'a> {
    types: &'a Types,
    seen: HashSet<&'static str>,
    probe: fn(&[Step]) -> Option<Asked>,
}

impl<'a> Check<'a> {
    /// Holds what is asked for at the end of `path` against `described`.
    fn value(&mut self, described: &TypeRef, path: &mut Vec<Step>, place: &Place) -> Result<(), SchemaError> {
        let asked = (self.probe)(path);
        let fits = match (described, asked) {
            (TypeRef::Named(name), _) => return self.named(name, asked, path, place),
            (TypeRef::Array(element), Some(Asked::List)) => {
                return within(path, Step::Element, |path| self.value(element, path, place));
            }
            (TypeRef::Int(IntKind::Size), Some(Asked::Int(kind))) => kind == IntKind::Uint64,
            (TypeRef::Int(described), Some(Asked::Int(kind))) => *described == kind,
            (TypeRef::Str, Some(Asked::Str))
            | (TypeRef::Number, Some(Asked::Number))
            | (TypeRef::Bool, Some(Asked::Bool))
            | (TypeRef::Null | TypeRef::Empty, Some(Asked::Unit))
            | (TypeRef::Any, Some(Asked::Anything)) => true,
            _ => false,
        };
        if fits {
            Ok(())
        } else {
            Err(SchemaError::mismatch(place.clone(), difference(&described.to_string(), asked)))
        }
    }

    fn named(
        &mut self,
        name: &'static str,
        asked: Option<Asked>,
        path: &mut Vec<Step>,
        place: &Place,
    ) -> Result<(), SchemaError> {
        let Some(def) = self.types.get(name) else {
            return Err(SchemaError::inexpressible(
                place.clone(),
                format!("the type {name:?} is not defined"),
            ));
        };
        if !self.seen.insert(name) {
            return Ok(());
        }
        match (def, asked) {
            (TypeDef::Struct { members, .. }, Some(Asked::Struct(fields))) => {
                same_members(name, members, fields)?;
                self.members(name, members, path)
            }
            (TypeDef::Enum { values, .. }, Some(Asked::Enum(variants))) => {
                same_values(name, values, variants)
            }
            (TypeDef::Union { base, branches, .. }, Some(Asked::Flat)) => {
                self.union(name, base, branches, path)
            }
            (TypeDef::Alternate { .. }, _) => Ok(()),
            (def, asked) => {
                let kind = match def {
                    TypeDef::Struct { .. } => "a struct",
                    TypeDef::Enum { .. } => "an enum",
                    TypeDef::Union { .. } | TypeDef::Alternate { .. } => "a union",
                };
                Err(SchemaError::mismatch(Place::of_type(name), difference(kind, asked)))
            }
        }
    }

    fn members(
        &mut self,
        owner: &str,
        members: &'a [Member],
        path: &mut Vec<Step>,
    ) -> Result<(), SchemaError> {
        members.iter().try_for_each(|member| {
            let place = Place::of_member(owner, member.name);
            within(path, Step::Field(member.name), |path| self.member(member, path, &place))
        })
    }

    fn member(&mut self, member: &Member, path: &mut Vec<Step>, place: &Place) -> Result<(), SchemaError> {
        let is_option = (self.probe)(path) == Some(Asked::Option);
        match (member.optional, is_option) {
            (true, true) => within(path, Step::Some, |path| self.value(&member.ty, path, place)),
            (false, false) => self.value(&member.ty, path, place),
            (true, false) => Err(SchemaError::mismatch(
                place.clone(),
                "it is described as optional, but its Rust type is not an `Option`; `default` makes nothing optional",
            )),
            (false, true) => Err(SchemaError::mismatch(
                place.clone(),
                "it is an `Option`, but is not described as optional",
            )),
        }
    }

    fn union(
        &mut self,
        name: &'static str,
        base: &'a [Member],
        branches: &'a [Branch],
        path: &mut Vec<Step>,
    ) -> Result<(), SchemaError> {
        within(path, Step::Base, |path| match (self.probe)(path) {
            Some(Asked::Struct(fields)) => {
                same_members(name, base, fields)?;
                self.members(name, base, path)
            }
            asked => Err(SchemaError::mismatch(Place::of_type(name), difference("a union", asked))),
        })?;
        branches.iter().filter(|branch| branch.ty != TypeRef::Empty).try_for_each(|branch| {
            let place = Place::of_member(name, branch.name);
            within(path, Step::Branch(branch.name), |path| match (self.probe)(path) {
                None => Ok(()),
                Some(_) => self.value(&branch.ty, path, &place),
            })
        })
    }
}

/// Goes one step down and comes back.
fn within<T>(path: &mut Vec<Step>, step: Step, then: impl FnOnce(&mut Vec<Step>) -> T) -> T {
    path.push(step);
    let result = then(path);
    path.pop();
    result
}

fn same_members(owner: &str, members: &[Member], fields: &[&str]) -> Result<(), SchemaError> {
    let mismatch = |member: &str, reason| Err(SchemaError::mismatch(Place::of_member(owner, member), reason));
    if let Some(surplus) = fields.iter().find(|field| members.iter().all(|member| member.name != **field)) {
        return mismatch(surplus, "serde reads it, but it is not described; is it an alias?");
    }
    if let Some(absent) = members.iter().find(|member| !fields.contains(&member.name)) {
        return mismatch(
            absent.name,
            "it is described, but serde does not read it; is it renamed or skipped?",
        );
    }
    match members.iter().zip(fields).find(|(member, field)| member.name != **field) {
        Some((member, _)) => {
            mismatch(member.name, "serde reads the members in another order than is described")
        }
        None => Ok(()),
    }
}

fn same_values(owner: &str, values: &[EnumValue], variants: &[&str]) -> Result<(), SchemaError> {
    let mismatch = |value: &str, reason| Err(SchemaError::mismatch(Place::of_member(owner, value), reason));
    if let Some(surplus) = variants.iter().find(|variant| values.iter().all(|value| value.name != **variant))
    {
        return mismatch(surplus, "serde accepts this value, but it is not described; is it an alias?");
    }
    match values.iter().find(|value| !variants.contains(&value.name)) {
        Some(absent) => mismatch(absent.name, "this value is described, but serde does not accept it"),
        None => Ok(()),
    }
}

fn difference(described: &str, asked: Option<Asked>) -> String {
    let found = match asked {
        None => "nothing",
        Some(Asked::Struct(_)) => "a struct",
        Some(Asked::Flat) => "a union",
        Some(Asked::Enum(_)) => "an enum",
        Some(Asked::Option) => "an `Option`",
        Some(Asked::List) => "a list",
        Some(Asked::Str) => "a string",
        Some(Asked::Int(kind)) => kind.as_str(),
        Some(Asked::Number) => "a number",
        Some(Asked::Bool) => "a bool",
        Some(Asked::Unit) => "null",
        Some(Asked::Anything) => {
            "any value, as it does for `tag` and `untagged`; see `QapiType`'s derive for unions"
        }
        Some(Asked::Map) => "a map, as it does for `flatten`",
        Some(Asked::Other(what)) => what,
    };
    format!("it is described as {described}, but serde reads {found}")
}
