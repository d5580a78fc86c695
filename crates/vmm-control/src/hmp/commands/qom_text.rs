//! A property's value from text.
//!
//! QEMU hands the text to the property itself, whose setter says what it takes. Here the type that the property was
//! declared with says it, and `qom-set` does the rest.

use qmp_command::schema::{IntKind, TypeDef, TypeRef, Types};
use qmp_command::{CommandError, CommandResult};
use qmp_protocol::{Object, Value};

use crate::hmp::HumanContext;
use crate::keyval::number;
use crate::objects::Objects;

/// Sets a property to what `text` means for it.
pub(super) async fn set(context: &HumanContext, path: &str, property: &str, text: &str) -> CommandResult<()> {
    let Some(ty) = declared(&context.human().plane().objects, path, property) else {
        // It is not there, or takes text, or cannot be set: `qom-set` knows.
        return assign(context, path, property, text.into()).await;
    };
    match value(&ty, property, text) {
        Ok(value) => assign(context, path, property, value).await,
        Err(complaint) => match assign(context, path, property, text.into()).await {
            // A property that can be set complains of the text's type, where QEMU complains of the text.
            Err(error) if error.to_string().starts_with("Invalid parameter type for ") => Err(complaint),
            other => other,
        },
    }
}

/// Sets a property to a value.
pub(super) async fn assign(
    context: &HumanContext,
    path: &str,
    property: &str,
    value: Value,
) -> CommandResult<()> {
    let arguments = [("path", path.into()), ("property", property.into()), ("value", value)];
    context.call("qom-set", &arguments.into_iter().collect::<Object>()).await
}

/// The type that a property was declared with.
fn declared(objects: &Objects, path: &str, property: &str) -> Option<TypeRef> {
    let node = objects.find(path)?;
    let registry = &objects.types;
    let ty = registry.object_type(&node.type_name).or_else(|| registry.device_type(&node.type_name))?;
    let mut types = Types::new();
    let TypeRef::Named(name) = ty.describe(&mut types) else { return None };
    let TypeDef::Struct { members, .. } = types.get(name)? else { return None };
    members.iter().find(|member| member.name == property).map(|member| member.ty.clone())
}

fn value(ty: &TypeRef, property: &str, text: &str) -> CommandResult<Value> {
    let expects = |what: &str| CommandError::generic(format!("Parameter '{property}' expects {what}"));
    Ok(match ty {
        TypeRef::Bool => number::switch(text).ok_or_else(|| expects("'on' or 'off'"))?.into(),
        TypeRef::Number => number::double(text).ok_or_else(|| expects("number"))?.into(),
        TypeRef::Int(IntKind::Size) => {
            number::size(text).ok_or_else(|| expects("a non-negative number below 2^64"))?.into()
        }
        TypeRef::Int(IntKind::Int8 | IntKind::Int16 | IntKind::Int32 | IntKind::Int64) => {
            number::signed(text).ok_or_else(|| expects("int64"))?.into()
        }
        TypeRef::Int(IntKind::Uint8 | IntKind::Uint16 | IntKind::Uint32 | IntKind::Uint64) => {
            number::unsigned(text).ok_or_else(|| expects("uint64"))?.into()
        }
        _ => text.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_by_type() {
        let ok = |ty, text| value(&ty, "p", text).unwrap();
        assert_eq!(ok(TypeRef::Int(IntKind::Int64), "0x10"), Value::from(16_i64));
        assert_eq!(ok(TypeRef::Int(IntKind::Uint32), "7"), Value::from(7_i64));
        assert_eq!(ok(TypeRef::Int(IntKind::Size), "1k"), Value::from(1024_i64));
        assert_eq!(ok(TypeRef::Bool, "yes"), Value::from(true));
        assert_eq!(ok(TypeRef::Number, "0.5"), Value::from(0.5));
        for ty in [TypeRef::Str, TypeRef::Named("HostMemPolicy")] {
            assert_eq!(ok(ty, "bind"), Value::from("bind"));
        }
        let error = |ty, text| value(&ty, "p", text).unwrap_err().to_string();
        assert_eq!(error(TypeRef::Int(IntKind::Int64), "5k"), "Parameter 'p' expects int64");
        assert_eq!(error(TypeRef::Int(IntKind::Uint8), "x"), "Parameter 'p' expects uint64");
        assert_eq!(error(TypeRef::Bool, "maybe"), "Parameter 'p' expects 'on' or 'off'");
    }
}
