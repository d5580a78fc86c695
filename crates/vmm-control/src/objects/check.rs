//! What can be wrong with a set of types: found when a plane is built, never while it runs.

use std::collections::HashSet;

use qmp_command::schema::{SchemaError, TypeRef, Types, validate};

use super::registry::ObjectType;

/// Why a set of types of objects and devices is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypeError {
    /// Two types of one name, or one whose name a built-in type has.
    #[error("the type {0:?} is registered twice")]
    Duplicate(&'static str),
    /// A name that no type can have.
    #[error("{0:?} is no name for a type: a letter or digit, then letters, digits, '-', '_' and '.'")]
    IllegalName(&'static str),
    /// The properties are nothing that QAPI can express, or serde reads them otherwise.
    #[error("the properties of the type {ty:?}: {source}")]
    Properties {
        /// The type.
        ty: &'static str,
        /// What is wrong.
        source: SchemaError,
    },
    /// [`SETTABLE`](super::Object::SETTABLE) names something that is no property.
    #[error("the type {ty:?} has no property {property:?} that could be settable")]
    NotSettable {
        /// The type.
        ty: &'static str,
        /// What is named.
        property: &'static str,
    },
    /// [`WRITE_ONLY`](super::Object::WRITE_ONLY) does.
    #[error("the type {ty:?} has no property {property:?} that could be write-only")]
    NotWriteOnly {
        /// The type.
        ty: &'static str,
        /// What is named.
        property: &'static str,
    },
}

/// Holds an author's types against each other, and against those whose names are `taken`.
pub(super) fn check<'a>(
    types: impl IntoIterator<Item = &'a ObjectType>,
    taken: impl IntoIterator<Item = String>,
) -> Result<(), TypeError> {
    let mut names: HashSet<String> = taken.into_iter().collect();
    for ty in types {
        if !is_type_name(ty.name()) {
            return Err(TypeError::IllegalName(ty.name()));
        }
        if !names.insert(ty.name().to_owned()) {
            return Err(TypeError::Duplicate(ty.name()));
        }
        properties(ty).map_err(|source| TypeError::Properties { ty: ty.name(), source })?;
        let is_property = |name: &str| ty.properties().iter().any(|property| property.name == name);
        if let Some(property) = ty.settable.iter().find(|name| !is_property(name)) {
            return Err(TypeError::NotSettable { ty: ty.name(), property });
        }
        if let Some(property) = ty.write_only.iter().find(|name| !is_property(name)) {
            return Err(TypeError::NotWriteOnly { ty: ty.name(), property });
        }
    }
    Ok(())
}

fn is_type_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn properties(ty: &ObjectType) -> Result<(), SchemaError> {
    let mut types = Types::new();
    let described = ty.describe(&mut types);
    if let Some(source) = validate(&types, &described).err().and_then(|errors| errors.into_iter().next()) {
        return Err(source);
    }
    match &described {
        TypeRef::Empty | TypeRef::Named(_) => (ty.check)(&types, &described),
        other => Err(SchemaError::arguments_not_a_struct(&other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Object, Plain};
    use super::*;
    use qmp_command::QapiType;
    use serde::{Deserialize, Serialize};

    fn plain(name: &'static str) -> ObjectType {
        ObjectType::new(name, |_, _| Ok(Plain))
    }

    fn refused(types: &[ObjectType]) -> String {
        check(types, ["device".to_owned()]).unwrap_err().to_string()
    }

    #[test]
    fn names_are_unique_and_can_be_typed() {
        assert!(check(&[plain("x-a"), plain("486-cpu"), plain("x.b_c")], []).is_ok());
        assert_eq!(refused(&[plain("x-a"), plain("x-a")]), "the type \"x-a\" is registered twice");
        assert_eq!(refused(&[plain("device")]), "the type \"device\" is registered twice");
        for bad in ["", "-a", "a b", "a,b", "a:b", "ä"] {
            assert!(matches!(check(&[plain(bad)], []), Err(TypeError::IllegalName(_))), "{bad:?}");
        }
    }

    /// Serde takes another name for the member than the one that is described.
    #[derive(Deserialize, Serialize)]
    struct Askew {
        #[serde(rename = "b")]
        a: bool,
    }

    impl QapiType for Askew {
        fn describe(types: &mut Types) -> TypeRef {
            use qmp_command::schema::{Member, TypeDef};
            types.define::<Self>("Askew", |_| TypeDef::Struct {
                name: "Askew",
                doc: "",
                features: Vec::new(),
                members: vec![Member::new("a", TypeRef::Bool)],
            })
        }
    }

    struct Thing;

    impl Object for Thing {
        type Properties = Askew;

        fn properties(&self) -> Askew {
            Askew { a: true }
        }
    }

    #[test]
    fn properties_are_what_they_are_described_to_be() {
        let error = refused(&[ObjectType::new("x-a", |_, _| Ok(Thing))]);
        assert!(
            error.starts_with("the properties of the type \"x-a\": member \"b\" of \"Askew\""),
            "{error}"
        );
    }

    struct Unreadable;

    impl Object for Unreadable {
        type Properties = ();

        const WRITE_ONLY: &'static [&'static str] = &["key"];

        fn properties(&self) {}
    }

    struct Unsettable;

    impl Object for Unsettable {
        type Properties = ();

        const SETTABLE: &'static [&'static str] = &["level"];

        fn properties(&self) {}
    }

    #[test]
    fn only_properties_are_settable_or_write_only() {
        let error = refused(&[ObjectType::new("x-a", |_, ()| Ok(Unsettable))]);
        assert_eq!(error, "the type \"x-a\" has no property \"level\" that could be settable");
        let error = refused(&[ObjectType::new("x-a", |_, ()| Ok(Unreadable))]);
        assert_eq!(error, "the type \"x-a\" has no property \"key\" that could be write-only");
    }
}
