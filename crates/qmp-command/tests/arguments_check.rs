//! What registration finds out about a type whose serde implementation reads something else than is described.

#![expect(clippy::unwrap_used, reason = "in helpers of tests, too, it is how a test fails")]

use qmp_command::QapiType;
use qmp_command::arguments::{check_fields, check_type};
use qmp_command::schema::{Member, Null, TypeDef, TypeRef, Types, validate};
use qmp_protocol::Value;
use serde::Deserialize;
use serde::de::DeserializeOwned;

fn check<T: QapiType + DeserializeOwned>() -> Result<(), String> {
    let mut types = Types::new();
    let described = T::describe(&mut types);
    check_type::<T>(&types, &described).map_err(|error| error.to_string())
}

#[track_caller]
fn differs<T: QapiType + DeserializeOwned>(what: &str) {
    assert_eq!(check::<T>().unwrap_err(), what);
}

/// Describes `$name` by hand, as a struct with these members.
macro_rules! described {
    ($name:ident, $($member:expr),*) => {
        impl QapiType for $name {
            fn describe(types: &mut Types) -> TypeRef {
                types.define::<Self>(stringify!($name), |_| TypeDef::Struct {
                    name: stringify!($name),
                    doc: "",
                    features: vec![],
                    members: vec![$($member),*],
                })
            }
        }
    };
}

#[test]
fn derived_types_agree() {
    #[derive(Deserialize, QapiType)]
    #[serde(rename_all = "kebab-case")]
    #[expect(dead_code, reason = "only described")]
    struct All {
        text: String,
        a: i8,
        b: i16,
        c: i32,
        d: i64,
        e: u8,
        f: u16,
        g: u32,
        h: u64,
        #[qapi(size)]
        bytes: Option<u64>,
        number_list: Vec<f64>,
        yes_or_no: Option<bool>,
        null: Option<Null>,
        any: Value,
        nested: Option<Box<All>>,
        list: Vec<Nested>,
        choice: Choice,
        #[serde(rename = "type")]
        kind: Kind,
    }

    #[derive(Deserialize, QapiType)]
    #[expect(dead_code, reason = "only described")]
    struct Nested {
        again: Option<Vec<Nested>>,
        wrapped: Wrapped,
    }

    #[derive(Deserialize, QapiType)]
    struct Wrapped(#[expect(dead_code, reason = "only described")] String);

    #[derive(QapiType)]
    #[serde(tag = "kind")]
    #[expect(dead_code, reason = "only described")]
    enum Choice {
        One(Nested),
        Other,
    }

    #[derive(Deserialize, QapiType)]
    enum Kind {
        A,
        B,
    }

    assert_eq!(check::<All>(), Ok(()));
    assert_eq!(check::<()>(), Ok(()));
    let _ = [Kind::A, Kind::B];
}

#[test]
fn an_alias_is_found() {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only described")]
    struct Getfd {
        #[serde(alias = "name")]
        fdname: String,
    }
    described!(Getfd, Member::new("fdname", TypeRef::Str));
    differs::<Getfd>(
        "member \"name\" of \"Getfd\": serde reads it, but it is not described; is it an alias?",
    );
    let error = check_fields::<Getfd>(&[Member::new("fdname", TypeRef::Str)]).unwrap_err();
    assert!(error.to_string().starts_with("member \"name\" of \""), "{error}");
}

#[test]
fn a_default_is_found() {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only described")]
    struct Stop {
        #[serde(default)]
        force: bool,
    }
    described!(Stop, Member::new("force", TypeRef::Bool).optional());
    differs::<Stop>(
        "member \"force\" of \"Stop\": it is described as optional, but its Rust type is not an `Option`; `default` \
         makes nothing optional",
    );
}

#[test]
fn an_option_that_is_described_as_mandatory_is_found() {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only described")]
    struct Stop {
        force: Option<bool>,
    }
    described!(Stop, Member::new("force", TypeRef::Bool));
    differs::<Stop>("member \"force\" of \"Stop\": it is an `Option`, but is not described as optional");
}

#[test]
fn names_and_order_are_compared() {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only described")]
    struct Two {
        a: String,
        b: String,
    }
    described!(Two, Member::new("b", TypeRef::Str), Member::new("a", TypeRef::Str));
    differs::<Two>("member \"b\" of \"Two\": serde reads the members in another order than is described");
    let error =
        check_fields::<Two>(&["a", "b", "c"].map(|name| Member::new(name, TypeRef::Str))).unwrap_err();
    assert!(error.to_string().contains("it is described, but serde does not read it"), "{error}");
}

#[test]
fn types_are_compared_wherever_they_stand() {
    #[derive(Deserialize, QapiType)]
    #[expect(dead_code, reason = "only described")]
    struct Outer {
        list: Vec<Inner>,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only described")]
    struct Inner {
        size: Option<u32>,
    }
    described!(Inner, Member::new("size", TypeRef::Int(qmp_command::schema::IntKind::Uint64)).optional());
    differs::<Outer>("member \"size\" of \"Inner\": it is described as uint64, but serde reads uint32");
}

#[test]
fn what_serde_buffers_is_found() {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only described")]
    struct Flat {
        #[serde(flatten)]
        inner: std::collections::BTreeMap<String, String>,
    }
    described!(Flat, Member::new("inner", TypeRef::Str));
    differs::<Flat>(
        "type \"Flat\": it is described as a struct, but serde reads a map, as it does for `flatten`",
    );

    #[derive(Deserialize)]
    #[serde(tag = "type")]
    #[expect(dead_code, reason = "only described")]
    enum Tagged {
        A { a: String },
    }
    described!(Tagged, Member::new("type", TypeRef::Str));
    let error = check::<Tagged>().unwrap_err();
    assert!(error.contains("but serde reads any value, as it does for `tag` and `untagged`"), "{error}");
}

#[test]
fn enum_values_are_compared() {
    #[derive(Deserialize, QapiType)]
    #[expect(dead_code, reason = "only described")]
    struct Outer {
        mode: Option<Mode>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        On,
        Off,
    }

    impl QapiType for Mode {
        fn describe(types: &mut Types) -> TypeRef {
            types.define::<Self>("Mode", |_| TypeDef::Enum {
                name: "Mode",
                doc: "",
                features: vec![],
                values: ["on", "auto"].map(qmp_command::schema::EnumValue::new).into(),
            })
        }
    }
    differs::<Outer>(
        "member \"off\" of \"Mode\": serde accepts this value, but it is not described; is it an alias?",
    );
}

#[test]
fn branches_of_unions_are_reached() {
    #[derive(QapiType)]
    #[serde(tag = "type", rename_all = "lowercase")]
    #[expect(dead_code, reason = "only described")]
    enum Backend {
        Null,
        File(File),
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only described")]
    struct File {
        path: String,
        #[serde(alias = "bad")]
        out: Option<bool>,
    }
    described!(File, Member::new("path", TypeRef::Str), Member::new("out", TypeRef::Bool).optional());
    differs::<Backend>(
        "member \"bad\" of \"File\": serde reads it, but it is not described; is it an alias?",
    );
}

#[test]
fn what_is_described_can_be_validated() {
    let mut types = Types::new();
    let described = Option::<u8>::describe(&mut types);
    let errors = validate(&types, &described).unwrap_err();
    assert!(
        errors[0].to_string().starts_with("the type: an Option can only be a struct's member"),
        "{errors:?}"
    );
}
