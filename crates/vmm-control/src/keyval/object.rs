//! The text of an object that is to be made.

use qmp_command::schema::{TypeRef, Types};
use qmp_protocol::{Object, Value};

use super::arguments::arguments;
use super::error::KeyvalError;
use super::tree::parse;

/// The key of the first item, when it has none.
const TYPE: &str = "qom-type";

/// The type that is written with its socket's members beside its own.
const FLAT: &str = "x-vfio-user-server";

/// Members of an address of a socket.
const ADDRESS: [&str; 7] = ["type", "path", "abstract", "tight", "str", "host", "port"];

/// The arguments of `object-add`, whose type `ty` is described in `types`: `TYPE,id=ID,...`, as on QEMU's command line.
///
/// QEMU's manual writes `x-vfio-user-server,id=v,type=unix,path=P,device=d`, where `socket.type=unix,socket.path=P` would
/// be expected; both mean the same here.
///
/// # Errors
/// Those of [`parse`] and [`arguments`].
pub fn object(text: &str, types: &Types, ty: &TypeRef) -> Result<Object, KeyvalError> {
    let mut given = parse(text, Some(TYPE))?;
    if given.get(TYPE).and_then(Value::as_str) == Some(FLAT) && !given.contains_key("socket") {
        let members = ADDRESS.iter().filter_map(|name| Some((*name, given.remove(name)?)));
        let address: Object = members.collect();
        if !address.is_empty() {
            given.insert("socket".to_owned(), address.into());
        }
    }
    arguments(&given, types, ty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use qmp_command::QapiType;

    #[derive(serde::Deserialize, QapiType)]
    #[serde(rename_all = "kebab-case")]
    #[expect(dead_code, reason = "only described")]
    struct Export {
        qom_type: String,
        id: String,
        socket: Address,
    }

    #[derive(serde::Deserialize, QapiType)]
    #[expect(dead_code, reason = "only described")]
    struct Address {
        r#type: String,
        path: String,
        r#abstract: Option<bool>,
    }

    fn read(text: &str) -> Result<String, String> {
        let mut types = Types::new();
        let ty = Export::describe(&mut types);
        let object = object(text, &types, &ty).map_err(|error| error.to_string())?;
        Ok(serde_json::to_string(object.get("socket").unwrap()).unwrap())
    }

    #[test]
    fn a_socket_may_be_written_flat() {
        let flat = read("x-vfio-user-server,id=v,type=unix,path=p,abstract=on").unwrap();
        let nested =
            read("x-vfio-user-server,id=v,socket.type=unix,socket.path=p,socket.abstract=on").unwrap();
        assert_eq!(flat, nested);
        for (text, error) in [
            ("x-vfio-user-server,id=v", "Parameter 'socket' is missing"),
            ("x-vfio-user-server,id=v,path=p", "Parameter 'socket.type' is missing"),
            ("x-vfio-user-server,id=v,type=unix", "Parameter 'socket.path' is missing"),
            ("x-vfio-user-server,id=v,socket.type=unix,path=p", "Parameter 'socket.path' is missing"),
            ("x-other,id=v,type=unix,path=p", "Parameter 'socket' is missing"),
        ] {
            assert_eq!(read(text).unwrap_err(), error, "{text}");
        }
    }
}
