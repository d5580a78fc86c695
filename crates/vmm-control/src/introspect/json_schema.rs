//! The interface as a JSON Schema (2020-12): the root describes a request, `$defs` everything else.
//!
//! In `$defs` stand `request:COMMAND`, `return:COMMAND`, `event:NAME` and `type:NAME`. Requests refuse members that are
//! unknown, as QMP does; what a server sends may grow, so replies and events do not.

use qmp_command::schema::{Branch, EnumValue, Member, TypeDef, TypeRef};
use serde_json::{Map, Value, json};

use super::Interface;
use super::text::range;

/// The schema, indented, with a line break at its end.
pub fn generate(interface: &Interface) -> String {
    let mut defs = Map::new();
    let mut requests = Vec::new();
    for command in interface.commands() {
        let name = command.metadata.name;
        requests.push(json!({ "$ref": format!("#/$defs/request:{name}") }));
        defs.insert(format!("request:{name}"), request(name, command, interface));
        defs.insert(format!("return:{name}"), reference(&command.returns));
    }
    for event in interface.events() {
        defs.insert(format!("event:{}", event.spec.name()), describe_event(event));
    }
    for def in interface.types().iter() {
        defs.insert(format!("type:{}", def.name()), definition(def));
    }
    let root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "QMP request",
        "oneOf": requests,
        "$defs": defs,
    });
    format!("{root:#}\n")
}

fn request(name: &str, command: &super::CommandSignature, interface: &Interface) -> Value {
    let mut arguments = reference(&command.arguments);
    arguments["unevaluatedProperties"] = json!(false);
    let verb = |verb: &str| json!({ "properties": { verb: { "const": name } }, "required": [verb] });
    let mut verbs = vec![verb("execute")];
    if command.metadata.allow_oob {
        verbs.push(verb("exec-oob"));
    }
    let mut request = json!({
        "type": "object",
        "description": command.metadata.doc,
        "oneOf": verbs,
        "properties": { "arguments": arguments, "id": true },
        "unevaluatedProperties": false,
    });
    if has_mandatory_member(interface, &command.arguments) {
        request["required"] = json!(["arguments"]);
    }
    if command.metadata.features.iter().any(|feature| feature.name() == "deprecated") {
        request["deprecated"] = json!(true);
    }
    request
}

/// Whether the empty object, which is what absent arguments are, would be refused.
fn has_mandatory_member(interface: &Interface, ty: &TypeRef) -> bool {
    let TypeRef::Named(name) = ty else { return false };
    match interface.types().get(name) {
        Some(TypeDef::Struct { members, .. } | TypeDef::Union { base: members, .. }) => {
            members.iter().any(|member| !member.optional)
        }
        _ => false,
    }
}

fn describe_event(event: &super::EventSignature) -> Value {
    let mut required = vec!["event", "timestamp"];
    let mut properties = json!({
        "event": { "const": event.spec.name() },
        "timestamp": {
            "type": "object",
            "properties": { "seconds": { "type": "integer" }, "microseconds": { "type": "integer" } },
            "required": ["seconds", "microseconds"],
        },
    });
    if event.data != TypeRef::Empty {
        properties["data"] = reference(&event.data);
        required.push("data");
    }
    json!({
        "type": "object",
        "description": event.spec.description(),
        "properties": properties,
        "required": required,
    })
}

fn reference(ty: &TypeRef) -> Value {
    match ty {
        TypeRef::Str => json!({ "type": "string" }),
        TypeRef::Int(kind) => {
            let (least, most) = range(*kind);
            // Both fit: the range of u64 and i64 together.
            let number =
                |n: i128| i64::try_from(n).map_or_else(|_| json!(u64::try_from(n).ok()), |n| json!(n));
            json!({ "type": "integer", "minimum": number(least), "maximum": number(most) })
        }
        TypeRef::Number => json!({ "type": "number" }),
        TypeRef::Bool => json!({ "type": "boolean" }),
        TypeRef::Null => json!({ "type": "null" }),
        TypeRef::Any => json!({}),
        TypeRef::Empty => json!({ "type": "object" }),
        TypeRef::Array(element) => json!({ "type": "array", "items": reference(element) }),
        TypeRef::Named(name) => json!({ "$ref": format!("#/$defs/type:{name}") }),
    }
}

fn definition(def: &TypeDef) -> Value {
    let mut value = match def {
        TypeDef::Struct { members, .. } => object(members),
        TypeDef::Enum { values, .. } => {
            let constants: Vec<_> = values.iter().map(constant).collect();
            json!({ "type": "string", "oneOf": constants })
        }
        TypeDef::Union { base, tag, branches, .. } => {
            let mut value = object(base);
            value["allOf"] = branches.iter().filter_map(|branch| variant(tag, branch)).collect();
            value
        }
        TypeDef::Alternate { branches, .. } => {
            let choices: Vec<_> = branches.iter().map(|branch| reference(&branch.ty)).collect();
            json!({ "oneOf": choices })
        }
    };
    annotate(&mut value, def.doc(), def.features());
    value
}

fn object(members: &[Member]) -> Value {
    let properties: Map<_, _> = members
        .iter()
        .map(|member| {
            let mut value = reference(&member.ty);
            annotate(&mut value, member.doc, &member.features);
            (member.name.to_owned(), value)
        })
        .collect();
    let required: Vec<_> =
        members.iter().filter(|member| !member.optional).map(|member| member.name).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

/// What one value of the tag adds; nothing for a branch without members.
fn variant(tag: &str, branch: &Branch) -> Option<Value> {
    (branch.ty != TypeRef::Empty).then(|| {
        json!({
            "if": { "properties": { tag: { "const": branch.name } }, "required": [tag] },
            "then": reference(&branch.ty),
        })
    })
}

fn constant(value: &EnumValue) -> Value {
    let mut constant = json!({ "const": value.name });
    annotate(&mut constant, value.doc, &value.features);
    constant
}

fn annotate(value: &mut Value, doc: &str, features: &[&str]) {
    if !doc.is_empty() {
        value["description"] = json!(doc);
    }
    if features.contains(&"deprecated") {
        value["deprecated"] = json!(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::introspect::sample;

    #[test]
    fn every_kind_of_definition() {
        let schema: Value = serde_json::from_str(&generate(&sample::interface())).unwrap();
        let defs = &schema["$defs"];
        assert_eq!(schema["oneOf"][0], json!({ "$ref": "#/$defs/request:x-draw" }));
        let request = &defs["request:x-draw"];
        assert_eq!(request["oneOf"].as_array().map(Vec::len), Some(2), "in-band and out-of-band");
        assert_eq!(
            request["properties"]["arguments"],
            json!({ "$ref": "#/$defs/type:Shape", "unevaluatedProperties": false })
        );
        assert_eq!(
            defs["return:x-draw"]["items"],
            json!({ "type": "integer", "minimum": -128, "maximum": 127 })
        );
        assert_eq!(defs["type:Round"]["properties"]["radii"]["items"]["maximum"], json!(u64::MAX));
        let shape = &defs["type:Shape"];
        assert_eq!(shape["required"], json!(["kind"]));
        assert_eq!(
            shape["allOf"],
            json!([{
                "if": { "properties": { "kind": { "const": "round" } }, "required": ["kind"] },
                "then": { "$ref": "#/$defs/type:Round" },
            }])
        );
        assert_eq!(defs["type:NameOrRound"]["oneOf"][0], json!({ "type": "string" }));
        assert_eq!(defs["event:X_DREW"]["required"], json!(["event", "timestamp", "data"]));
        assert_eq!(defs["event:X_DONE"]["properties"].get("data"), None);
    }
}
