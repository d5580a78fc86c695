//! A property's value from text, by the property's type.
//!
//! QEMU gives the text to the property itself, whose setter says what it takes. Here the type that `qom-list` shows says
//! it, and the QMP command's own complaints follow.

use qmp_command::{CommandError, CommandResult};
use qmp_protocol::Value;

use super::qom::properties;
use crate::hmp::HumanContext;
use crate::keyval::number;

/// The value that `text` is for a property. A property that is not there takes any; `qom-set` will say so.
pub(super) async fn value(
    context: &HumanContext,
    path: &str,
    property: &str,
    text: &str,
) -> CommandResult<Value> {
    let Ok(properties) = properties(context, path).await else { return Ok(text.into()) };
    match properties.iter().find(|known| known.name == property) {
        Some(known) => typed(&known.ty, property, text),
        None => Ok(text.into()),
    }
}

fn typed(ty: &str, property: &str, text: &str) -> CommandResult<Value> {
    let expects = |what: &str| CommandError::generic(format!("Parameter '{property}' expects {what}"));
    Ok(match ty {
        "bool" => number::switch(text).ok_or_else(|| expects("'on' or 'off'"))?.into(),
        "int" | "int8" | "int16" | "int32" | "int64" => {
            number::signed(text).ok_or_else(|| expects("int64"))?.into()
        }
        "uint8" | "uint16" | "uint32" | "uint64" => {
            number::unsigned(text).ok_or_else(|| expects("uint64"))?.into()
        }
        "size" => number::size(text).ok_or_else(|| expects("a non-negative number below 2^64"))?.into(),
        "number" | "double" => number::double(text).ok_or_else(|| expects("number"))?.into(),
        _ => text.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_by_type() {
        let ok = |ty, text| typed(ty, "p", text).unwrap();
        assert_eq!(ok("int", "0x10"), Value::from(16_i64));
        assert_eq!(ok("uint32", "7"), Value::from(7_i64));
        assert_eq!(ok("size", "1k"), Value::from(1024_i64));
        assert_eq!(ok("bool", "yes"), Value::from(true));
        assert_eq!(ok("number", "0.5"), Value::from(0.5));
        for ty in ["string", "str", "HostMemPolicy"] {
            assert_eq!(ok(ty, "bind"), Value::from("bind"));
        }
        let error = |ty, text| typed(ty, "p", text).unwrap_err().to_string();
        assert_eq!(error("int", "5k"), "Parameter 'p' expects int64");
        assert_eq!(error("uint8", "x"), "Parameter 'p' expects uint64");
        assert_eq!(error("bool", "maybe"), "Parameter 'p' expects 'on' or 'off'");
    }
}
