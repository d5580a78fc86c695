//! What `#[derive(QapiType)]` says about types.

use qmp_command::QapiType;
use qmp_command::schema::{Branch, EnumValue, IntKind, Member, TypeDef, TypeRef, Types, validate};
use serde::{Deserialize, Serialize};

fn describe<T: QapiType>() -> (TypeRef, Types) {
    let mut types = Types::new();
    let root = T::describe(&mut types);
    assert_eq!(validate(&types, &root), Ok(()));
    (root, types)
}

/// One device.
///
///   Indented, as it stands.
#[derive(Serialize, Deserialize, QapiType)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[qapi(name = "DeviceInfo", features(unstable, "savevm-monitor-nodes"))]
struct Device {
    /// Its name.
    device_id: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[qapi(features(deprecated))]
    kind: Option<Kind>,
    #[qapi(size)]
    memory: u64,
    #[qapi(size)]
    #[serde(skip_serializing_if = "Option::is_none")]
    chunks: Option<Vec<u64>>,
    r#in: Vec<Device>,
    #[serde(skip)]
    #[expect(dead_code, reason = "not on the wire")]
    cache: usize,
    wrapped: Wrapped,
}

/// What it is.
#[derive(Serialize, Deserialize, QapiType)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
#[expect(dead_code, reason = "only described")]
enum Kind {
    /// A disk.
    BlockDevice,
    #[serde(rename = "nic")]
    #[qapi(features(unstable))]
    Network = 7,
    #[serde(skip)]
    Hidden,
}

#[derive(Serialize, Deserialize, QapiType)]
struct Wrapped(Option<i32>);

#[test]
fn a_struct_is_described_in_full() {
    let (root, types) = describe::<Vec<Device>>();
    assert_eq!(root, TypeRef::Array(Box::new(TypeRef::Named("DeviceInfo"))));
    let list = |of| TypeRef::Array(Box::new(of));
    let expected = TypeDef::Struct {
        name: "DeviceInfo",
        doc: "One device.\n\n  Indented, as it stands.",
        features: vec!["unstable", "savevm-monitor-nodes"],
        members: vec![
            Member { doc: "Its name.", ..Member::new("device-id", TypeRef::Str) },
            Member { features: vec!["deprecated"], ..Member::new("type", TypeRef::Named("Kind")).optional() },
            Member::new("memory", TypeRef::Int(IntKind::Size)),
            Member::new("chunks", list(TypeRef::Int(IntKind::Size))).optional(),
            Member::new("in", list(TypeRef::Named("DeviceInfo"))),
            Member::new("wrapped", TypeRef::Int(IntKind::Int32)).optional(),
        ],
    };
    assert_eq!(types.get("DeviceInfo"), Some(&expected));
    let expected = TypeDef::Enum {
        name: "Kind",
        doc: "What it is.",
        features: vec![],
        values: vec![
            EnumValue { doc: "A disk.", ..EnumValue::new("BLOCK-DEVICE") },
            EnumValue { features: vec!["unstable"], ..EnumValue::new("nic") },
        ],
    };
    assert_eq!(types.get("Kind"), Some(&expected));
}

#[test]
fn the_description_is_what_serde_writes() {
    let device = Device {
        device_id: "a".into(),
        kind: Some(Kind::BlockDevice),
        memory: 1,
        chunks: None,
        r#in: vec![],
        cache: 0,
        wrapped: Wrapped(Some(2)),
    };
    assert_eq!(
        serde_json::to_string(&device).unwrap(),
        r#"{"device-id":"a","type":"BLOCK-DEVICE","memory":1,"in":[],"wrapped":2}"#
    );
}

/// Where bytes go.
#[derive(QapiType)]
#[serde(tag = "type", rename_all = "lowercase")]
#[expect(dead_code, reason = "only described")]
enum Backend {
    /// To a file.
    File(File),
    /// Nowhere.
    #[qapi(features(deprecated))]
    Null,
}

#[derive(Deserialize, QapiType)]
#[expect(dead_code, reason = "only described")]
struct File {
    path: String,
}

#[derive(QapiType)]
#[expect(dead_code, reason = "only described")]
struct Chardev {
    id: String,
    /// Which backend.
    #[qapi(union = "type")]
    backend: Backend,
    label: Option<String>,
}

fn branches() -> Vec<Branch> {
    vec![
        Branch { doc: "To a file.", ..Branch::new("file", TypeRef::Named("File")) },
        Branch { doc: "Nowhere.", features: vec!["deprecated"], ..Branch::new("null", TypeRef::Empty) },
    ]
}

#[test]
fn a_union_is_described_with_its_tags_enum() {
    let (root, types) = describe::<Backend>();
    assert_eq!(root, TypeRef::Named("Backend"));
    let expected = TypeDef::Union {
        name: "Backend",
        doc: "Where bytes go.",
        features: vec![],
        base: vec![Member::new("type", TypeRef::Named("BackendKind"))],
        tag: "type",
        branches: branches(),
    };
    assert_eq!(types.get("Backend"), Some(&expected));
    let Some(TypeDef::Enum { values, .. }) = types.get("BackendKind") else { panic!("no enum") };
    assert_eq!(values.iter().map(|value| value.name).collect::<Vec<_>>(), ["file", "null"]);
    assert_eq!(values[1].features, ["deprecated"]);
}

#[test]
fn a_struct_with_a_union_is_a_union_with_a_larger_base() {
    let (_, types) = describe::<Chardev>();
    let expected = TypeDef::Union {
        name: "Chardev",
        doc: "",
        features: vec![],
        base: vec![
            Member::new("id", TypeRef::Str),
            Member { doc: "Which backend.", ..Member::new("type", TypeRef::Named("BackendKind")) },
            Member::new("label", TypeRef::Str).optional(),
        ],
        tag: "type",
        branches: branches(),
    };
    assert_eq!(types.get("Chardev"), Some(&expected));
    assert_eq!(types.iter().map(TypeDef::name).collect::<Vec<_>>(), ["Chardev", "BackendKind", "File"]);
}

/// A facade can hand the derive on under its own name.
mod facade {
    pub(crate) use qmp_command::{arguments, schema};
}

#[derive(Deserialize, QapiType)]
#[qapi(crate = "crate::facade")]
struct Elsewhere {
    at: ElsewhereUnion,
}

#[derive(QapiType)]
#[serde(tag = "kind")]
#[qapi(crate = "crate::facade", tag_type = "Where")]
enum ElsewhereUnion {
    Here,
}

#[derive(Deserialize, QapiType)]
#[serde(transparent)]
struct Transparent {
    inner: Elsewhere,
}

#[test]
fn the_crate_can_be_elsewhere() {
    let (root, types) = describe::<Transparent>();
    assert_eq!(root, TypeRef::Named("Elsewhere"));
    assert!(types.get("Where").is_some());
    let arguments = serde_json::from_str(r#"{"at": {"kind": "Here"}}"#).unwrap();
    let Transparent { inner: Elsewhere { at: ElsewhereUnion::Here } } =
        facade::arguments::decode(arguments).unwrap();
}

#[derive(Deserialize, Debug, PartialEq, QapiType)]
enum Shape {
    Round,
    Square,
}

#[derive(QapiType)]
#[serde(tag = "shape")]
#[qapi(tag_enum = "Shape")]
enum Peg {
    Round,
    Square,
}

#[derive(Deserialize, QapiType)]
struct Pegs {
    hole: Shape,
    peg: Peg,
}

#[test]
fn a_tag_can_be_a_type_that_there_is_already() {
    let (_, types) = describe::<Pegs>();
    let TypeDef::Union { base, .. } = types.get("Peg").unwrap() else { panic!() };
    assert_eq!(base[0].ty, TypeRef::Named("Shape"));
    let arguments = serde_json::from_str(r#"{"hole": "Square", "peg": {"shape": "Round"}}"#).unwrap();
    let pegs: Pegs = facade::arguments::decode(arguments).unwrap();
    assert!(matches!(pegs, Pegs { hole: Shape::Square, peg: Peg::Round }));
    let square = serde_json::from_str(r#"{"hole": "Round", "peg": {"shape": "Square"}}"#).unwrap();
    assert!(matches!(facade::arguments::decode(square), Ok(Pegs { peg: Peg::Square, .. })));
}

#[test]
fn a_hidden_mistake_is_found_when_the_type_is_registered() {
    #[derive(Deserialize, QapiType)]
    #[expect(dead_code, reason = "only described")]
    struct Bad {
        list: Vec<Option<u8>>,
        #[qapi(size)]
        small: u32,
        lists: Vec<Vec<String>>,
        fd_name: String,
        #[serde(rename = "fd-name")]
        other: String,
    }

    let mut types = Types::new();
    let root = Bad::describe(&mut types);
    let errors = validate(&types, &root).unwrap_err();
    let members: Vec<_> =
        errors.iter().map(|error| error.to_string().split('"').nth(1).unwrap().to_owned()).collect();
    assert_eq!(members, ["list", "small", "lists", "fd-name"]);
}

/// The generated code has type parameters, which must not hide an author's types.
#[test]
fn any_name_will_do() {
    #[derive(QapiType)]
    #[serde(tag = "t")]
    enum A {
        Null(D),
        Some,
    }

    #[derive(Deserialize, QapiType)]
    struct D {}

    #[derive(QapiType)]
    struct T {
        #[qapi(union = "t")]
        types: A,
        base: bool,
        rest: Option<bool>,
    }

    let arguments = serde_json::from_str(r#"{"t": "Null", "base": true}"#).unwrap();
    let T { types: A::Null(D {}), base: true, rest: None } =
        qmp_command::arguments::decode(arguments).unwrap()
    else {
        panic!("other values")
    };
    let arguments = serde_json::from_str(r#"{"t": "Some"}"#).unwrap();
    assert!(matches!(qmp_command::arguments::decode(arguments), Ok(A::Some)));
}
