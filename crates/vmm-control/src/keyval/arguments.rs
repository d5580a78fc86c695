//! Texts as typed members.

use qmp_command::arguments::first_unexpected;
use qmp_command::schema::{Branch, EnumValue, IntKind, Member, TypeDef, TypeRef, Types};
use qmp_protocol::{Object, Value};

use super::error::KeyvalError;
use super::number;

/// Turns what [`parse`](super::parse) gave into an object of the type `ty`, which is a struct or a union described in
/// `types`.
///
/// Members are visited in declared order, and what was not declared comes last: the first mistake is the one that
/// QEMU names.
///
/// # Errors
/// QAPI's complaint about what does not fit.
pub fn arguments(given: &Object, types: &Types, ty: &TypeRef) -> Result<Object, KeyvalError> {
    object(given, types, ty, "")
}

/// The members of `given`, which stand at `path` (with a dot at its end, or nothing).
fn object(given: &Object, types: &Types, ty: &TypeRef, path: &str) -> Result<Object, KeyvalError> {
    let mut typed = Typed { given, types, path, done: Object::new(), asked: Vec::new() };
    typed.all_of(ty)?;
    typed.finish()
}

/// An object on its way.
struct Typed<'a> {
    given: &'a Object,
    types: &'a Types,
    path: &'a str,
    done: Object,
    asked: Vec<&'static str>,
}

impl Typed<'_> {
    /// All members of a struct, or of a union and the branch that its tag selects.
    fn all_of(&mut self, ty: &TypeRef) -> Result<(), KeyvalError> {
        let TypeRef::Named(name) = ty else { return Ok(()) };
        match self.types.get(name) {
            Some(TypeDef::Struct { members, .. }) => self.members(members),
            Some(TypeDef::Union { base, tag, branches, .. }) => {
                self.members(base)?;
                let selected = self.done.get(tag).and_then(Value::as_str);
                let branch: Option<&Branch> = branches.iter().find(|branch| Some(branch.name) == selected);
                branch.map_or(Ok(()), |branch| self.all_of(&branch.ty))
            }
            _ => Ok(()),
        }
    }

    fn members(&mut self, members: &[Member]) -> Result<(), KeyvalError> {
        members.iter().try_for_each(|member| self.member(member))
    }

    fn member(&mut self, member: &Member) -> Result<(), KeyvalError> {
        let path = format!("{}{}", self.path, member.name);
        self.asked.push(member.name);
        match self.given.get(member.name) {
            Some(given) => {
                let value = value(given, self.types, &member.ty, &path, member.name)?;
                self.done.insert(member.name.to_owned(), value);
                Ok(())
            }
            None if member.optional => Ok(()),
            None => Err(KeyvalError::Missing(path)),
        }
    }

    /// Complains of what was not asked for; of several, of the one that QEMU names.
    fn finish(self) -> Result<Object, KeyvalError> {
        let Some(name) = first_unexpected(self.given, self.asked.into_iter()) else { return Ok(self.done) };
        Err(KeyvalError::Unexpected(format!("{}{name}", self.path)))
    }
}

/// A value of the type `ty` at `path`, whose last part is `name`.
fn value(given: &Value, types: &Types, ty: &TypeRef, path: &str, name: &str) -> Result<Value, KeyvalError> {
    let expects = |expected| KeyvalError::Expects { name: path.to_owned(), expected };
    let text = || text(given, path);
    Ok(match ty {
        TypeRef::Str => Value::from(text()?),
        TypeRef::Int(kind) => integer(text()?, *kind, path, name)?,
        TypeRef::Number => Value::from(number::double(text()?).ok_or_else(|| expects("number"))?),
        TypeRef::Bool => Value::from(number::switch(text()?).ok_or_else(|| expects("'on' or 'off'"))?),
        TypeRef::Null if text()?.is_empty() => Value::Null,
        TypeRef::Null => return Err(expects("null")),
        TypeRef::Any => given.clone(),
        TypeRef::Empty => Value::Object(Object::new()),
        TypeRef::Array(element) => list(given, types, element, path)?,
        TypeRef::Named(named) => match types.get(named) {
            Some(TypeDef::Enum { values, .. }) => enumerated(text()?, values, name)?,
            Some(TypeDef::Alternate { branches, .. }) => alternate(given, types, branches, path, name)?,
            _ => match given {
                Value::Object(given) => object(given, types, ty, &format!("{path}."))?.into(),
                _ => {
                    return Err(KeyvalError::WrongType { name: path.to_owned(), expected: "object" });
                }
            },
        },
    })
}

fn text<'v>(given: &'v Value, path: &str) -> Result<&'v str, KeyvalError> {
    given.as_str().ok_or_else(|| KeyvalError::UnexpectedMembers(path.to_owned()))
}

/// An integer. One that its type is too small for is named by its last part alone.
fn integer(text: &str, kind: IntKind, path: &str, name: &str) -> Result<Value, KeyvalError> {
    let expects = |expected| KeyvalError::Expects { name: path.to_owned(), expected };
    let range = |expected| KeyvalError::Expects { name: name.to_owned(), expected };
    let signed = || number::signed(text).ok_or_else(|| expects("integer"));
    let unsigned = || number::unsigned(text).ok_or_else(|| expects("integer"));
    fn within<T: TryFrom<U>, U: Copy>(value: U, error: KeyvalError) -> Result<U, KeyvalError> {
        T::try_from(value).map(|_| value).map_err(|_| error)
    }
    Ok(match kind {
        IntKind::Int8 => Value::from(within::<i8, _>(signed()?, range("int8_t"))?),
        IntKind::Int16 => Value::from(within::<i16, _>(signed()?, range("int16_t"))?),
        IntKind::Int32 => Value::from(within::<i32, _>(signed()?, range("int32_t"))?),
        IntKind::Int64 => Value::from(signed()?),
        IntKind::Uint8 => Value::from(within::<u8, _>(unsigned()?, range("uint8_t"))?),
        IntKind::Uint16 => Value::from(within::<u16, _>(unsigned()?, range("uint16_t"))?),
        IntKind::Uint32 => Value::from(within::<u32, _>(unsigned()?, range("uint32_t"))?),
        IntKind::Uint64 => Value::from(unsigned()?),
        IntKind::Size => Value::from(number::size(text).ok_or_else(|| expects("size"))?),
    })
}

fn list(given: &Value, types: &Types, element: &TypeRef, path: &str) -> Result<Value, KeyvalError> {
    let Value::Array(elements) = given else {
        return Err(KeyvalError::WrongType { name: path.to_owned(), expected: "array" });
    };
    let typed = elements
        .iter()
        .enumerate()
        .map(|(place, given)| value(given, types, element, &format!("{path}.{place}"), "null"));
    typed.collect::<Result<Vec<_>, _>>().map(Value::from)
}

fn enumerated(text: &str, values: &[EnumValue], name: &str) -> Result<Value, KeyvalError> {
    match values.iter().any(|value| value.name == text) {
        true => Ok(Value::from(text)),
        false => Err(KeyvalError::NotAccepted { name: name.to_owned(), value: text.to_owned() }),
    }
}

/// The first choice of the value's shape: a text is a string, or what else a text can be.
fn alternate(
    given: &Value,
    types: &Types,
    branches: &[Branch],
    path: &str,
    name: &str,
) -> Result<Value, KeyvalError> {
    let is_scalar = |ty: &TypeRef| match ty {
        TypeRef::Named(named) => matches!(types.get(named), Some(TypeDef::Enum { .. })),
        TypeRef::Array(_) | TypeRef::Empty => false,
        _ => true,
    };
    let fits = |branch: &&Branch| match given {
        Value::Array(_) => matches!(branch.ty, TypeRef::Array(_)),
        Value::Object(_) => !is_scalar(&branch.ty) && !matches!(branch.ty, TypeRef::Array(_)),
        _ => is_scalar(&branch.ty),
    };
    match branches.iter().find(fits) {
        Some(branch) => value(given, types, &branch.ty, path, name),
        None => Err(KeyvalError::WrongType { name: path.to_owned(), expected: "another type" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyval::parse;
    use qmp_command::QapiType;
    use serde::Deserialize;

    #[derive(Deserialize, QapiType)]
    #[serde(rename_all = "kebab-case")]
    #[expect(dead_code, reason = "only described")]
    struct Memory {
        id: String,
        #[qapi(size)]
        size: u64,
        share: Option<bool>,
        prealloc_threads: Option<u32>,
        offset: Option<i64>,
        host_nodes: Option<Vec<u16>>,
        policy: Option<Policy>,
        socket: Option<Socket>,
        weight: Option<f64>,
    }

    #[derive(Deserialize, QapiType)]
    #[serde(rename_all = "lowercase")]
    enum Policy {
        Default,
        Bind,
    }

    #[derive(Deserialize, QapiType)]
    #[expect(dead_code, reason = "only described")]
    struct Socket {
        path: String,
        port: Option<u16>,
    }

    fn typed(text: &str) -> Result<String, String> {
        let mut types = Types::new();
        let ty = Memory::describe(&mut types);
        parse(text, Some("id"))
            .and_then(|given| arguments(&given, &types, &ty))
            .map(|object| {
                serde_json::to_string(
                    &object.iter().map(|(k, v)| (k.to_owned(), v.clone())).collect::<Vec<_>>(),
                )
                .unwrap()
            })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_type_from_text() {
        assert_eq!(
            typed("m,size=1k,share=off,prealloc-threads=0x10,offset=-1,host-nodes.0=3,policy=bind,socket.path=p,weight=0.5"),
            Ok(r#"[["id","m"],["size",1024],["share",false],["prealloc-threads",16],["offset",-1],["host-nodes",[3]],["policy","bind"],["socket",{"path":"p"}],["weight",0.5]]"#.to_owned())
        );
    }

    #[test]
    fn errors_are_qemus_and_come_in_its_order() {
        for (text, error) in [
            ("size=1", "Parameter 'id' is missing"),
            ("nope=1,share=x", "Parameter 'id' is missing"),
            ("m,share=x", "Parameter 'size' is missing"),
            ("m,size=x,share=x", "Parameter 'size' expects size"),
            ("m,size=-1", "Parameter 'size' expects size"),
            ("m,size=1,share=maybe", "Parameter 'share' expects 'on' or 'off'"),
            ("m,size=1,prealloc-threads=99999999999", "Parameter 'prealloc-threads' expects uint32_t"),
            ("m,size=1,prealloc-threads=-1", "Parameter 'prealloc-threads' expects uint32_t"),
            ("m,size=1,prealloc-threads=x", "Parameter 'prealloc-threads' expects integer"),
            ("m,size=1,offset=1k", "Parameter 'offset' expects integer"),
            ("m,size=1,offset=", "Parameter 'offset' expects integer"),
            ("m,size=1,host-nodes=0", "Invalid parameter type for 'host-nodes', expected: array"),
            ("m,size=1,host-nodes.0=x", "Parameter 'host-nodes.0' expects integer"),
            ("m,size=1,host-nodes.0=70000", "Parameter 'null' expects uint16_t"),
            ("m,size=1,policy=nope", "Parameter 'policy' does not accept value 'nope'"),
            ("m,size=1,socket=x", "Invalid parameter type for 'socket', expected: object"),
            ("m,size=1,socket.port=1", "Parameter 'socket.path' is missing"),
            ("m,size=1,socket.path=x,socket.port=70000", "Parameter 'port' expects uint16_t"),
            ("m,size=1,socket.path=x,socket.nope=1", "Parameter 'socket.nope' is unexpected"),
            ("m,size.x=1", "Parameters 'size.*' are unexpected"),
            ("m,size=1,weight=x", "Parameter 'weight' expects number"),
            ("m,size=1,nope=1", "Parameter 'nope' is unexpected"),
            ("m,size=1,nope.x=1", "Parameter 'nope' is unexpected"),
            ("m,size=1,nope.0=1", "Parameter 'nope' is unexpected"),
            ("m,size=1,foo=1,bar=1", "Parameter 'bar' is unexpected"),
        ] {
            assert_eq!(typed(text), Err(error.to_owned()), "{text}");
        }
    }
}
