//! Prints how a few Rust types look to a QMP client: `cargo run -p qmp-derive --example describe`.

use qmp_command::QapiType;
use qmp_command::arguments::decode;
use qmp_command::schema::{Member, TypeDef, Types, validate};
use serde::Deserialize;

/// Adds a character device.
#[derive(Deserialize, QapiType)]
#[expect(dead_code, reason = "only described")]
struct ChardevAdd {
    /// The device's name.
    id: String,
    /// Where its bytes go.
    backend: Backend,
}

/// A character device's backend.
#[derive(QapiType)]
#[serde(tag = "type", rename_all = "lowercase")]
#[expect(dead_code, reason = "only described")]
enum Backend {
    /// Bytes are dropped.
    Null,
    /// Bytes are kept until they are read.
    Ringbuf(Ringbuf),
}

#[derive(Deserialize, QapiType)]
#[expect(dead_code, reason = "only described")]
struct Ringbuf {
    /// In bytes; a power of two.
    #[qapi(size)]
    size: Option<u64>,
}

fn main() {
    let mut types = Types::new();
    let root = ChardevAdd::describe(&mut types);
    if let Err(errors) = validate(&types, &root) {
        return errors.iter().for_each(|error| eprintln!("{error}"));
    }
    types.iter().for_each(print);

    println!("\nWhat a client is told:");
    for json in [
        r#"{"backend": {"type": "null"}}"#,
        r#"{"id": "a", "backend": {"type": "file"}}"#,
        r#"{"id": "a", "backend": {"type": "ringbuf", "size": "64k"}}"#,
        r#"{"id": "a", "backend": {"type": "null", "size": 65536}}"#,
        r#"{"id": "a", "backend": {"type": "ringbuf", "size": 65536}}"#,
    ] {
        let Ok(arguments) = serde_json::from_str(json) else { continue };
        match decode::<ChardevAdd>(arguments) {
            Ok(_) => println!("{json}\n  ok"),
            Err(error) => println!("{json}\n  {error}"),
        }
    }
}

fn print(def: &TypeDef) {
    match def {
        TypeDef::Struct { name, doc, members, .. } => {
            println!("struct {name}: {doc}");
            members.iter().for_each(print_member);
        }
        TypeDef::Enum { name, doc, values, .. } => {
            println!("enum {name}: {doc}");
            values.iter().for_each(|value| println!("  {}: {}", value.name, value.doc));
        }
        TypeDef::Union { name, doc, base, tag, branches, .. } => {
            println!("union {name}, by {tag}: {doc}");
            base.iter().for_each(print_member);
            branches.iter().for_each(|branch| println!("  {} -> {}: {}", branch.name, branch.ty, branch.doc));
        }
        TypeDef::Alternate { name, doc, .. } => println!("alternate {name}: {doc}"),
    }
}

fn print_member(member: &Member) {
    let star = if member.optional { "*" } else { "" };
    println!("  {star}{}: {}. {}", member.name, member.ty, member.doc);
}
