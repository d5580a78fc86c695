//! The types of the schema's own description. Their names and members are QEMU's.

use qmp_command::QapiType;
use qmp_protocol::Value;
use serde::{Deserialize, Serialize};

/// A command, an event or a type.
#[derive(Clone, Debug, Serialize, QapiType)]
pub struct SchemaInfo {
    /// The name of a command or an event. For a type a name of no meaning, by which the others refer to it.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    #[qapi(union = "meta-type")]
    pub meta: SchemaMeta,
    /// Its features; absent when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<String>>,
}

/// What an entity of the schema is.
#[derive(Clone, Debug, Serialize, QapiType)]
#[serde(tag = "meta-type", rename_all = "kebab-case")]
#[qapi(tag_type = "SchemaMetaType")]
pub enum SchemaMeta {
    /// A type of QAPI's own.
    Builtin(SchemaInfoBuiltin),
    /// A string out of a list.
    Enum(SchemaInfoEnum),
    /// A list.
    Array(SchemaInfoArray),
    /// A struct or a union.
    Object(SchemaInfoObject),
    /// A value of one of several JSON types.
    Alternate(SchemaInfoAlternate),
    /// A command.
    Command(SchemaInfoCommand),
    /// An event.
    Event(SchemaInfoEvent),
}

/// A type of QAPI's own.
#[derive(Clone, Debug, Serialize, Deserialize, QapiType)]
#[serde(rename_all = "kebab-case")]
pub struct SchemaInfoBuiltin {
    /// How its values look in JSON.
    pub json_type: JsonType,
}

/// What a value is in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, QapiType)]
#[serde(rename_all = "lowercase")]
#[qapi(name = "JSONType")]
pub enum JsonType {
    /// A string.
    String,
    /// A number.
    Number,
    /// A number without fraction and exponent.
    Int,
    /// True or false.
    Boolean,
    /// Null.
    Null,
    /// An object.
    Object,
    /// An array.
    Array,
    /// Anything.
    Value,
}

/// A string out of a list.
#[derive(Clone, Debug, Serialize, Deserialize, QapiType)]
pub struct SchemaInfoEnum {
    /// The values, in no particular order.
    pub members: Vec<SchemaInfoEnumMember>,
    /// The values once more, without features. Read `members` instead.
    #[qapi(features(deprecated))]
    pub values: Vec<String>,
}

/// A value of an enum.
#[derive(Clone, Debug, Serialize, Deserialize, QapiType)]
pub struct SchemaInfoEnumMember {
    /// The string.
    pub name: String,
    /// Its features; absent when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<String>>,
}

/// A list.
#[derive(Clone, Debug, Serialize, Deserialize, QapiType)]
#[serde(rename_all = "kebab-case")]
pub struct SchemaInfoArray {
    /// The type of its elements.
    pub element_type: String,
}

/// A struct or a union.
#[derive(Clone, Debug, Serialize, Deserialize, QapiType)]
pub struct SchemaInfoObject {
    /// The members that are always possible, in no particular order.
    pub members: Vec<SchemaInfoObjectMember>,
    /// In a union, the member that decides on the variant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// In a union, what further members each of the tag's values brings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variants: Option<Vec<SchemaInfoObjectVariant>>,
}

/// A member of a struct or a union.
#[derive(Clone, Debug, Serialize, Deserialize, QapiType)]
pub struct SchemaInfoObjectMember {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: String,
    /// Present when the member is optional. It is null: what an absent member means stands in the manual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Its features; absent when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<String>>,
}

/// What one value of a union's tag means.
#[derive(Clone, Debug, Serialize, Deserialize, QapiType)]
pub struct SchemaInfoObjectVariant {
    /// The tag's value.
    pub case: String,
    /// The object type whose members are added.
    #[serde(rename = "type")]
    pub ty: String,
}

/// A value of one of several JSON types.
#[derive(Clone, Debug, Serialize, Deserialize, QapiType)]
pub struct SchemaInfoAlternate {
    /// The possible types, in no particular order.
    pub members: Vec<SchemaInfoAlternateMember>,
}

/// A possible type of an alternate.
#[derive(Clone, Debug, Serialize, Deserialize, QapiType)]
pub struct SchemaInfoAlternateMember {
    /// The type.
    #[serde(rename = "type")]
    pub ty: String,
}

/// A command.
#[derive(Clone, Debug, Serialize, Deserialize, QapiType)]
#[serde(rename_all = "kebab-case")]
pub struct SchemaInfoCommand {
    /// The object type of its arguments.
    pub arg_type: String,
    /// The type of what it returns.
    pub ret_type: String,
    /// Present and true when it may be executed out-of-band.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_oob: Option<bool>,
}

/// An event.
#[derive(Clone, Debug, Serialize, Deserialize, QapiType)]
#[serde(rename_all = "kebab-case")]
pub struct SchemaInfoEvent {
    /// The object type of its data.
    pub arg_type: String,
}
