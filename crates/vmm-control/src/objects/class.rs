//! What is known of types by name: parents, properties, and the order in which QEMU would list them.

use qmp_command::QapiType;
use qmp_command::schema::{TypeDef, TypeRef, Types};
use qmp_protocol::order::NameTable;
use serde::Serialize;

/// A property, as `qom-list` and `qom-list-properties` describe it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, QapiType)]
#[qapi(name = "ObjectPropertyInfo")]
#[non_exhaustive]
pub struct PropertyInfo {
    /// Its name.
    pub name: String,
    /// Its type: that of a value, `child<TYPE>` for an object that stands here, `link<TYPE>` for one that stands elsewhere.
    #[serde(rename = "type")]
    pub ty: String,
    /// What it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its value when nobody says.
    #[serde(rename = "default-value", skip_serializing_if = "Option::is_none")]
    pub default_value: Option<Any>,
}

/// Any value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Any(serde_json::Value);

impl QapiType for Any {
    fn describe(_: &mut Types) -> TypeRef {
        TypeRef::Any
    }
}

impl PropertyInfo {
    pub(crate) fn new(name: impl Into<String>, ty: impl Into<String>) -> Self {
        Self { name: name.into(), ty: ty.into(), description: None, default_value: None }
    }
}

/// A type of object, as `qom-list-types` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, QapiType)]
#[qapi(name = "ObjectTypeInfo")]
#[non_exhaustive]
pub struct TypeInfo {
    /// Its name.
    pub name: String,
    /// Whether it cannot be instantiated. Absent when it can.
    #[serde(rename = "abstract", skip_serializing_if = "Option::is_none")]
    pub is_abstract: Option<bool>,
    /// The type it inherits from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

/// What a class is in the tree of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClassKind {
    /// It has instances.
    Concrete,
    /// Others inherit from it.
    Abstract,
    /// Others implement it; it is no type of objects.
    Interface,
}

/// A type, with the properties that it adds to its parent's.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) name: String,
    pub(crate) parent: Option<String>,
    pub(crate) kind: ClassKind,
    /// Interfaces that it implements.
    pub(crate) interfaces: Vec<&'static str>,
    properties: Vec<PropertyInfo>,
}

impl Class {
    pub(crate) fn new(name: &str, parent: Option<&str>, kind: ClassKind) -> Self {
        Self {
            name: name.to_owned(),
            parent: parent.map(str::to_owned),
            kind,
            interfaces: Vec::new(),
            properties: Vec::new(),
        }
    }

    pub(crate) fn implementing(mut self, interfaces: impl IntoIterator<Item = &'static str>) -> Self {
        self.interfaces.extend(interfaces);
        self
    }

    pub(crate) fn with(mut self, properties: impl IntoIterator<Item = PropertyInfo>) -> Self {
        self.properties.extend(properties);
        self
    }

    pub(crate) fn has(&self, property: &str) -> bool {
        self.properties.iter().any(|known| known.name == property)
    }

    /// In the order of a hash table of their names.
    pub(crate) fn properties(&self) -> Vec<&PropertyInfo> {
        let mut table = NameTable::new();
        for property in &self.properties {
            table.insert(property.name.as_str());
        }
        let find = |name: &&str| self.properties.iter().find(|property| property.name == *name);
        table.iter().filter_map(find).collect()
    }
}

/// The members of a properties' struct, as properties.
pub(crate) fn properties_of<P: QapiType>() -> Vec<PropertyInfo> {
    let mut types = Types::new();
    let TypeRef::Named(name) = P::describe(&mut types) else { return Vec::new() };
    let Some(TypeDef::Struct { members, .. }) = types.get(name) else { return Vec::new() };
    let info = |member: &qmp_command::schema::Member| PropertyInfo {
        description: (!member.doc.is_empty()).then(|| member.doc.to_owned()),
        ..PropertyInfo::new(member.name, type_name(&member.ty))
    };
    members.iter().map(info).collect()
}

/// What the object tree calls a type. Lists are called by their elements.
fn type_name(ty: &TypeRef) -> String {
    match ty {
        TypeRef::Str => "string".to_owned(),
        TypeRef::Int(_) => "int".to_owned(),
        TypeRef::Array(element) => type_name(element),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize, Serialize, QapiType)]
    struct Properties {
        /// How many.
        count: Option<u32>,
        on: bool,
        names: Vec<String>,
    }

    #[test]
    fn a_struct_says_what_properties_there_are() {
        let properties = properties_of::<Properties>();
        let all: Vec<_> = properties.iter().map(|p| (p.name.as_str(), p.ty.as_str())).collect();
        assert_eq!(all, [("count", "int"), ("on", "bool"), ("names", "string")]);
        assert_eq!(properties[0].description.as_deref(), Some("How many."));
    }
}
