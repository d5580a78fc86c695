//! From an [`Interface`] to the list of [`SchemaInfo`].

use std::collections::HashMap;

use qmp_command::Feature;
use qmp_command::schema::{EnumValue, IntKind, Member, TypeDef, TypeRef, Types};
use qmp_protocol::Value;

use super::info::{
    JsonType, SchemaInfo, SchemaInfoAlternate, SchemaInfoAlternateMember, SchemaInfoArray, SchemaInfoBuiltin,
    SchemaInfoCommand, SchemaInfoEnum, SchemaInfoEnumMember, SchemaInfoEvent, SchemaInfoObject,
    SchemaInfoObjectMember, SchemaInfoObjectVariant, SchemaMeta,
};
use crate::introspect::{CommandSignature, EventSignature, Interface};

/// The schema of an interface.
pub fn generate(interface: &Interface) -> Vec<SchemaInfo> {
    let mut names = Names::default();
    let mut list: Vec<_> = interface.commands().map(|command| names.command(command)).collect();
    list.extend(interface.events().map(|event| names.event(event)));
    // Describing a type may meet further ones, which go to the end of the queue.
    let mut next = 0;
    while let Some(ty) = names.met.get(next).cloned() {
        list.push(names.ty(interface.types(), &ty));
        next += 1;
    }
    list
}

/// The types that were met, with their names in the schema.
#[derive(Default)]
struct Names {
    /// In the order in which they were met.
    met: Vec<TypeRef>,
    names: HashMap<TypeRef, String>,
    /// How many numbers are taken.
    numbers: usize,
}

impl Names {
    /// The name by which the schema refers to a type.
    fn name(&mut self, ty: &TypeRef) -> String {
        let ty = one_integer(ty);
        if let Some(name) = self.names.get(&ty) {
            return name.clone();
        }
        self.met.push(ty.clone());
        let name = match &ty {
            TypeRef::Array(element) => format!("[{}]", self.name(element)),
            TypeRef::Named(_) | TypeRef::Empty => {
                self.numbers += 1;
                (self.numbers - 1).to_string()
            }
            builtin => builtin_name(builtin).to_owned(),
        };
        self.names.insert(ty, name.clone());
        name
    }

    fn command(&mut self, command: &CommandSignature) -> SchemaInfo {
        let metadata = &command.metadata;
        let meta = SchemaMeta::Command(SchemaInfoCommand {
            arg_type: self.name(&command.arguments),
            ret_type: self.name(&command.returns),
            allow_oob: metadata.allow_oob.then_some(true),
        });
        let features = metadata.features.iter().copied().map(Feature::name);
        SchemaInfo { name: metadata.name.to_owned(), meta, features: list(features) }
    }

    fn event(&mut self, event: &EventSignature) -> SchemaInfo {
        let meta = SchemaMeta::Event(SchemaInfoEvent { arg_type: self.name(&event.data) });
        let features = event.spec.features().iter().copied().map(Feature::name);
        SchemaInfo { name: event.spec.name().to_owned(), meta, features: list(features) }
    }

    fn ty(&mut self, types: &Types, ty: &TypeRef) -> SchemaInfo {
        let name = self.name(ty);
        let (meta, features) = match ty {
            TypeRef::Array(element) => {
                (SchemaMeta::Array(SchemaInfoArray { element_type: self.name(element) }), None)
            }
            TypeRef::Named(name) => match types.get(name) {
                Some(def) => (self.definition(def), list(def.features().iter().copied())),
                // The router has checked that there is a definition.
                None => (object(Vec::new()), None),
            },
            TypeRef::Empty => (object(Vec::new()), None),
            builtin => (SchemaMeta::Builtin(SchemaInfoBuiltin { json_type: json_type(builtin) }), None),
        };
        SchemaInfo { name, meta, features }
    }

    fn definition(&mut self, def: &TypeDef) -> SchemaMeta {
        match def {
            TypeDef::Struct { members, .. } => object(self.members(members)),
            TypeDef::Enum { values, .. } => SchemaMeta::Enum(SchemaInfoEnum {
                members: values.iter().map(enum_member).collect(),
                values: values.iter().map(|value| value.name.to_owned()).collect(),
            }),
            TypeDef::Union { base, tag, branches, .. } => {
                let members = self.members(base);
                let variants = branches.iter().map(|branch| SchemaInfoObjectVariant {
                    case: branch.name.to_owned(),
                    ty: self.name(&branch.ty),
                });
                SchemaMeta::Object(SchemaInfoObject {
                    members,
                    variants: Some(variants.collect()),
                    tag: Some((*tag).to_owned()),
                })
            }
            TypeDef::Alternate { branches, .. } => SchemaMeta::Alternate(SchemaInfoAlternate {
                members: branches
                    .iter()
                    .map(|branch| SchemaInfoAlternateMember { ty: self.name(&branch.ty) })
                    .collect(),
            }),
        }
    }

    fn members(&mut self, members: &[Member]) -> Vec<SchemaInfoObjectMember> {
        members
            .iter()
            .map(|member| SchemaInfoObjectMember {
                name: member.name.to_owned(),
                ty: self.name(&member.ty),
                default: member.optional.then_some(Value::Null),
                features: list(member.features.iter().copied()),
            })
            .collect()
    }
}

/// The type with all its integers of one width: the schema does not tell them apart.
fn one_integer(ty: &TypeRef) -> TypeRef {
    match ty {
        TypeRef::Int(_) => TypeRef::Int(IntKind::Int64),
        TypeRef::Array(element) => TypeRef::Array(Box::new(one_integer(element))),
        other => other.clone(),
    }
}

fn object(members: Vec<SchemaInfoObjectMember>) -> SchemaMeta {
    SchemaMeta::Object(SchemaInfoObject { members, tag: None, variants: None })
}

fn enum_member(value: &EnumValue) -> SchemaInfoEnumMember {
    SchemaInfoEnumMember { name: value.name.to_owned(), features: list(value.features.iter().copied()) }
}

/// A list of features, absent when it is empty.
fn list<'a>(features: impl Iterator<Item = &'a str>) -> Option<Vec<String>> {
    let features: Vec<_> = features.map(str::to_owned).collect();
    (!features.is_empty()).then_some(features)
}

fn json_type(builtin: &TypeRef) -> JsonType {
    match builtin {
        TypeRef::Str => JsonType::String,
        TypeRef::Int(_) => JsonType::Int,
        TypeRef::Number => JsonType::Number,
        TypeRef::Bool => JsonType::Boolean,
        TypeRef::Null => JsonType::Null,
        TypeRef::Any => JsonType::Value,
        TypeRef::Empty | TypeRef::Named(_) => JsonType::Object,
        TypeRef::Array(_) => JsonType::Array,
    }
}

fn builtin_name(builtin: &TypeRef) -> &'static str {
    match json_type(builtin) {
        JsonType::String => "str",
        JsonType::Int => "int",
        JsonType::Number => "number",
        JsonType::Boolean => "bool",
        JsonType::Null => "null",
        JsonType::Object | JsonType::Array | JsonType::Value => "any",
    }
}

#[cfg(test)]
mod tests {
    use qmp_command::{Command, Context, QapiType, Router};
    use qmp_monitor::EventSpec;
    use serde::{Deserialize, Serialize};
    use serde_json::{Value as Json, json};

    use super::*;

    /// A shape.
    #[derive(Serialize, QapiType)]
    struct Shape {
        #[serde(flatten)]
        #[qapi(union = "kind")]
        form: Form,
        /// How many.
        #[qapi(features(unstable))]
        count: Option<u16>,
    }

    #[derive(Serialize, QapiType)]
    #[serde(tag = "kind", rename_all = "kebab-case")]
    enum Form {
        Round(Round),
        Flat,
    }

    /// Its size.
    #[derive(Serialize, Deserialize, QapiType)]
    struct Round {
        radii: Vec<u64>,
    }

    fn schema() -> Json {
        let command = Command::new("x-draw")
            .allow_oob()
            .feature(Feature::Unstable)
            .handler(async |_: Context, _: Shape| Ok(Vec::<i8>::new()));
        let router = Router::builder().command(command).build().unwrap();
        let events = [
            EventSpec::standard::<Round>("X_DREW").feature(Feature::Deprecated),
            EventSpec::standard::<()>("X_DONE"),
        ];
        serde_json::to_value(generate(&Interface::new(&router, events).unwrap())).unwrap()
    }

    #[test]
    fn all_kinds_in_the_order_in_which_they_are_met() {
        let expected = json!([
            {"name": "x-draw", "meta-type": "command", "arg-type": "0", "ret-type": "[int]", "allow-oob": true,
             "features": ["unstable"]},
            {"name": "X_DREW", "meta-type": "event", "arg-type": "1", "features": ["deprecated"]},
            {"name": "X_DONE", "meta-type": "event", "arg-type": "2"},
            {"name": "0", "meta-type": "object", "tag": "kind", "members": [
                {"name": "kind", "type": "3"},
                {"name": "count", "type": "int", "default": null, "features": ["unstable"]},
            ], "variants": [{"case": "round", "type": "1"}, {"case": "flat", "type": "2"}]},
            {"name": "[int]", "meta-type": "array", "element-type": "int"},
            {"name": "int", "meta-type": "builtin", "json-type": "int"},
            {"name": "1", "meta-type": "object", "members": [{"name": "radii", "type": "[int]"}]},
            {"name": "2", "meta-type": "object", "members": []},
            {"name": "3", "meta-type": "enum", "members": [{"name": "round"}, {"name": "flat"}],
             "values": ["round", "flat"]},
        ]);
        assert_eq!(schema(), expected);
    }

    #[test]
    fn an_event_and_a_command_share_their_types() {
        #[derive(Serialize, QapiType)]
        #[qapi(name = "Round")]
        struct Other {
            x: u8,
        }
        let command = Command::new("x-draw").handler(async |_: Context, _: Shape| Ok(()));
        let router = Router::builder().command(command).build().unwrap();
        let error = Interface::new(&router, [EventSpec::standard::<Other>("X_DREW")]).unwrap_err();
        assert!(
            error.to_string().starts_with("the event \"X_DREW\": two types are named \"Round\""),
            "{error}"
        );
    }
}
