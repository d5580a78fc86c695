//! A schema as it is compared: read from JSON, by name.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Deserializer};

use super::StabilityError;

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) commands: BTreeMap<String, Command>,
    pub(super) events: BTreeMap<String, Event>,
    types: HashMap<String, Type>,
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) arguments: String,
    pub(super) returns: String,
    pub(super) oob: bool,
    pub(super) features: BTreeSet<String>,
}

#[derive(Debug)]
pub(super) struct Event {
    pub(super) data: String,
    pub(super) features: BTreeSet<String>,
}

#[derive(Debug)]
pub(super) enum Type {
    /// By how its values look in JSON.
    Builtin(String),
    Enum(BTreeMap<String, BTreeSet<String>>),
    Array(String),
    Object(Object),
    Alternate(Vec<String>),
}

#[derive(Debug)]
pub(super) struct Object {
    pub(super) members: BTreeMap<String, Member>,
    pub(super) tag: Option<String>,
    /// Types, by the tag's value.
    pub(super) variants: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) ty: String,
    pub(super) optional: bool,
    pub(super) features: BTreeSet<String>,
}

/// Anything of a schema.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Entity {
    name: String,
    meta_type: String,
    #[serde(default)]
    features: BTreeSet<String>,
    arg_type: Option<String>,
    ret_type: Option<String>,
    #[serde(default)]
    allow_oob: bool,
    json_type: Option<String>,
    element_type: Option<String>,
    members: Option<Vec<Part>>,
    tag: Option<String>,
    #[serde(default)]
    variants: Vec<Variant>,
    /// An enum's, in schemas that have no members there (QEMU before 6.2).
    values: Option<Vec<String>>,
}

/// A member of an object, an enum or an alternate.
#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "type")]
    ty: String,
    #[serde(default, deserialize_with = "is_there")]
    default: bool,
    #[serde(default)]
    features: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Variant {
    case: String,
    #[serde(rename = "type")]
    ty: String,
}

/// `true` for anything, null too.
fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

fn wrong(what: impl Into<String>) -> StabilityError {
    StabilityError::Schema(what.into())
}

impl Model {
    pub(super) fn parse(text: &str) -> Result<Self, StabilityError> {
        let entities: Vec<Entity> = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let mut model = Self::default();
        for entity in entities {
            model.add(entity)?;
        }
        model.check()?;
        Ok(model)
    }

    fn add(&mut self, entity: Entity) -> Result<(), StabilityError> {
        let name = entity.name.clone();
        let missing = |key: &str| wrong(format!("{key} of '{name}' is missing"));
        let ty = match entity.meta_type.as_str() {
            "command" => {
                let command = Command {
                    arguments: entity.arg_type.ok_or_else(|| missing("arg-type"))?,
                    returns: entity.ret_type.ok_or_else(|| missing("ret-type"))?,
                    oob: entity.allow_oob,
                    features: entity.features,
                };
                self.commands.insert(name, command);
                return Ok(());
            }
            "event" => {
                let data = entity.arg_type.ok_or_else(|| missing("arg-type"))?;
                self.events.insert(name, Event { data, features: entity.features });
                return Ok(());
            }
            "builtin" => Type::Builtin(entity.json_type.ok_or_else(|| missing("json-type"))?),
            "array" => Type::Array(entity.element_type.ok_or_else(|| missing("element-type"))?),
            "enum" => {
                let members = entity.members.unwrap_or_default().into_iter();
                let values = entity.values.unwrap_or_default().into_iter();
                let named = values.map(|name| (name, BTreeSet::new()));
                Type::Enum(named.chain(members.map(|part| (part.name, part.features))).collect())
            }
            "alternate" => {
                let parts = entity.members.ok_or_else(|| missing("members"))?;
                Type::Alternate(parts.into_iter().map(|part| part.ty).collect())
            }
            "object" => {
                let parts = entity.members.ok_or_else(|| missing("members"))?.into_iter();
                let member = |part: Part| {
                    (part.name, Member { ty: part.ty, optional: part.default, features: part.features })
                };
                let variants = entity.variants.into_iter().map(|variant| (variant.case, variant.ty));
                Type::Object(Object {
                    members: parts.map(member).collect(),
                    tag: entity.tag,
                    variants: variants.collect(),
                })
            }
            other => return Err(wrong(format!("'{name}' is of the unknown kind '{other}'"))),
        };
        self.types.insert(name, ty);
        Ok(())
    }

    /// Every reference leads somewhere.
    fn check(&self) -> Result<(), StabilityError> {
        let commands = self.commands.values().flat_map(|it| [&it.arguments, &it.returns]);
        let events = self.events.values().map(|it| &it.data);
        let types = self.types.values().flat_map(|ty| match ty {
            Type::Builtin(_) | Type::Enum(_) => Vec::new(),
            Type::Array(element) => vec![element],
            Type::Alternate(types) => types.iter().collect(),
            Type::Object(it) => {
                it.members.values().map(|member| &member.ty).chain(it.variants.values()).collect()
            }
        });
        match commands.chain(events).chain(types).find(|name| !self.types.contains_key(*name)) {
            Some(name) => Err(wrong(format!("there is no type '{name}'"))),
            None => Ok(()),
        }
    }

    /// The type of a name that [`check`](Self::check) has seen.
    pub(super) fn ty(&self, name: &str) -> &Type {
        &self.types[name]
    }
}
