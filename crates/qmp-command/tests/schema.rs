//! QAPI's rules, one broken rule per case.

use qmp_command::schema::{Branch, EnumValue, IntKind, Member, QapiType, TypeDef, TypeRef, Types, validate};

fn array(of: TypeRef) -> TypeRef {
    TypeRef::Array(Box::new(of))
}

/// All that is wrong with the type `T`, which is defined as `def`.
fn errors(def: TypeDef) -> Vec<String> {
    errors_with(Types::new(), def)
}

fn errors_with(mut types: Types, def: TypeDef) -> Vec<String> {
    struct T;
    impl QapiType for T {
        fn describe(_: &mut Types) -> TypeRef {
            TypeRef::Named("T")
        }
    }
    let root = types.define::<T>("T", |_| def);
    let errors = validate(&types, &root).err().unwrap_or_default();
    errors.iter().map(ToString::to_string).collect()
}

fn structure(members: impl Into<Vec<Member>>) -> TypeDef {
    TypeDef::Struct { name: "T", doc: "", features: vec![], members: members.into() }
}

/// A registry with an enum `Kind` of `a` and `b`, and a struct `Part` with the member `x`.
fn parts() -> Types {
    struct Kind;
    struct Part;
    impl QapiType for Kind {
        fn describe(types: &mut Types) -> TypeRef {
            types.define::<Self>("Kind", |_| TypeDef::Enum {
                name: "Kind",
                doc: "",
                features: vec![],
                values: ["a", "b"].map(EnumValue::new).into(),
            })
        }
    }
    impl QapiType for Part {
        fn describe(types: &mut Types) -> TypeRef {
            types.define::<Self>("Part", |_| TypeDef::Struct {
                name: "Part",
                doc: "",
                features: vec![],
                members: vec![Member::new("x", TypeRef::Str)],
            })
        }
    }
    let mut types = Types::new();
    Kind::describe(&mut types);
    Part::describe(&mut types);
    types
}

#[test]
fn what_is_right_passes() {
    let names = ["a", "b-c", "__com.example_d", "x"];
    assert!(errors(structure(names.map(|name| Member::new(name, TypeRef::Any)))).is_empty());
    assert!(errors(structure([Member::new("me", array(TypeRef::Named("T"))).optional()])).is_empty());
    assert!(validate(&Types::new(), &TypeRef::Empty).is_ok());
    assert!(validate(&Types::new(), &array(TypeRef::Int(IntKind::Int64))).is_ok());
}

#[test]
fn names_are_checked() {
    assert_eq!(
        errors(structure([Member::new("9", TypeRef::Str), Member::new("a.b", TypeRef::Str)])),
        [
            "member \"9\" of \"T\": \"9\" is no QAPI name: a letter, then letters, digits, '-' and '_'",
            "member \"a.b\" of \"T\": \"a.b\" is no QAPI name: a letter, then letters, digits, '-' and '_'",
        ]
    );
    let feature = Member { features: vec!["no good", "a", "a"], ..Member::new("m", TypeRef::Str) };
    assert_eq!(
        errors(structure([feature])),
        [
            "member \"m\" of \"T\": \"no good\" is no name for a feature",
            "member \"m\" of \"T\": the feature \"a\" stands twice",
        ]
    );
    let other_name = TypeDef::Struct { name: "U", doc: "", features: vec![], members: vec![] };
    assert_eq!(errors(other_name), ["type \"T\": it is registered under this name, but calls itself \"U\""]);
}

#[test]
fn duplicates_are_found_though_they_differ_in_a_dash() {
    let twice = ["fd-name", "fd_name"].map(|name| Member::new(name, TypeRef::Str));
    assert_eq!(errors(structure(twice)), ["member \"fd_name\" of \"T\" is declared twice"]);
    let values = ["a", "0", "a", ""].map(EnumValue::new).into();
    assert_eq!(
        errors(TypeDef::Enum { name: "T", doc: "", features: vec![], values }),
        [
            "member \"a\" of \"T\" is declared twice",
            "member \"\" of \"T\": \"\" is no QAPI name: a letter, then letters, digits, '-' and '_'",
        ]
    );
}

#[test]
fn what_qapi_cannot_say_is_refused() {
    let members = [
        Member::new("unit", TypeRef::Empty),
        Member::new("lists", array(array(TypeRef::Str))),
        Member::new("unknown", TypeRef::Named("Nowhere")),
    ];
    assert_eq!(
        errors(structure(members)),
        [
            "member \"unit\" of \"T\": () is no value; QAPI has it for arguments and returns only",
            "member \"lists\" of \"T\": QAPI has no list of lists, such as [['str']]",
            "member \"unknown\" of \"T\": the type \"Nowhere\" is not defined",
        ]
    );
}

fn union(base: impl Into<Vec<Member>>, branches: impl Into<Vec<Branch>>) -> Vec<String> {
    let (base, branches) = (base.into(), branches.into());
    errors_with(parts(), TypeDef::Union { name: "T", doc: "", features: vec![], base, tag: "type", branches })
}

#[test]
fn unions_are_checked() {
    let tag = || Member::new("type", TypeRef::Named("Kind"));
    let part = || Branch::new("a", TypeRef::Named("Part"));
    assert!(union([tag()], [part(), Branch::new("b", TypeRef::Empty)]).is_empty());
    assert_eq!(union([], [part()]), ["type \"T\": the base has no member \"type\", which is the tag"]);
    let no_enum = "member \"type\" of \"T\": the tag must be a mandatory member of an enum type";
    assert_eq!(union([tag().optional()], [part()]), [no_enum]);
    assert_eq!(union([Member::new("type", TypeRef::Str)], [part()]), [no_enum]);
    assert_eq!(
        union([tag()], [Branch::new("a", TypeRef::Str)]),
        ["member \"a\" of \"T\": a branch is a struct, and str is none"]
    );
    assert_eq!(
        union([tag()], [Branch::new("a", TypeRef::Named("Kind"))]),
        ["member \"a\" of \"T\": a branch is a struct, and \"Kind\" is none"]
    );
    assert_eq!(union([tag()], [part(), part()]), ["member \"a\" of \"T\" is declared twice"]);
    assert_eq!(
        union([tag(), Member::new("x", TypeRef::Str)], [part()]),
        ["member \"x\" of \"Part\" is declared twice"]
    );
}

#[test]
fn an_alternates_branches_differ_on_the_wire() {
    let alternate = |types: &[TypeRef]| {
        let names = ["p", "q", "r"];
        let branches = types.iter().zip(names).map(|(ty, name)| Branch::new(name, ty.clone())).collect();
        errors_with(parts(), TypeDef::Alternate { name: "T", doc: "", features: vec![], branches })
    };
    assert!(alternate(&[TypeRef::Str, TypeRef::Named("Part"), TypeRef::Null]).is_empty());
    assert_eq!(
        alternate(&[TypeRef::Str, TypeRef::Named("Kind")]),
        ["member \"q\" of \"T\": it cannot be told from the branch \"p\": both are a JSON string"]
    );
    assert_eq!(alternate(&[TypeRef::Any]), ["member \"p\" of \"T\": any cannot be a branch of an alternate"]);
}
