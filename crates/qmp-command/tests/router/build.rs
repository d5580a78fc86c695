//! What is wrong with a set of commands is said when the router is built, by name.

use std::collections::BTreeMap;

use qmp_command::schema::{Member, QapiType, TypeDef, TypeRef, Types};
use qmp_command::{BuildError, Command, Context, Router};
use serde::{Deserialize, Serialize};

fn named(name: &'static str) -> Command {
    Command::new(name).handler(async |_: Context, (): ()| Ok(()))
}

fn error(commands: impl IntoIterator<Item = Command>) -> String {
    Router::builder().commands(commands).build().unwrap_err().to_string()
}

#[test]
fn a_name_is_given_once() {
    assert_eq!(error([named("a"), named("b"), named("a")]), "the command \"a\" is registered twice");
    // QAPI keeps `-` and `_` apart in the names of commands.
    assert!(Router::builder().commands([named("x-a"), named("x_a")]).build().is_ok());
}

#[test]
fn names_are_qapis() {
    for name in ["", "1a", "-a", "a b", "a.b", "é", "a\n", "__a", "__com.example", "a\"b"] {
        let error = Router::builder().command(named(name)).build().unwrap_err();
        assert!(matches!(&error, BuildError::IllegalName(it) if it == name), "{name:?}: {error}");
    }
    for name in ["a", "query-version", "system_reset", "x-a1", "X", "__com.example_a", "__com.ex-ample_a-b"] {
        assert!(Router::builder().command(named(name)).build().is_ok(), "{name:?}");
    }
}

#[derive(Serialize, Deserialize, qmp_command::QapiType)]
struct Lists {
    fine: Vec<String>,
    lists: Vec<Vec<String>>,
}

#[derive(Serialize, Deserialize, qmp_command::QapiType)]
struct Outer {
    inner: Lists,
}

#[test]
fn a_type_that_qapi_cannot_express_is_named_with_its_field() {
    let complaint = "member \"lists\" of \"Lists\": QAPI has no list of lists, such as [['str']]";
    let argument = Command::new("argument").handler(async |_: Context, _: Lists| Ok(()));
    assert_eq!(error([argument]), format!("the command \"argument\": {complaint}"));
    let returned = Command::new("returned")
        .handler(async |_: Context, (): ()| Ok(Lists { fine: vec![], lists: vec![] }));
    assert_eq!(error([returned]), format!("the command \"returned\": {complaint}"));
    let nested = Command::new("nested").blocking(|_: Context, _: Outer| Ok(()));
    assert_eq!(error([nested]), format!("the command \"nested\": {complaint}"));
}

#[test]
fn arguments_are_an_object() {
    let text = Command::new("text").handler(async |_: Context, _: String| Ok(()));
    assert_eq!(
        error([text]),
        "the command \"text\": arguments must be a struct or a union, and str is neither"
    );
    let list = Command::new("list").handler(async |_: Context, _: Vec<u8>| Ok(()));
    assert_eq!(
        error([list]),
        "the command \"list\": arguments must be a struct or a union, and ['uint8'] is neither"
    );
    // A return value may be anything.
    assert!(
        Router::builder()
            .command(Command::new("n").handler(async |_: Context, (): ()| Ok(vec![1u8])))
            .build()
            .is_ok()
    );
}

/// Described by hand, and wrongly: serde reads `real`.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only decoded")]
struct Lying {
    real: String,
}

impl QapiType for Lying {
    fn describe(types: &mut Types) -> TypeRef {
        types.define::<Self>("Lying", |_| TypeDef::Struct {
            name: "Lying",
            doc: "",
            features: vec![],
            members: vec![Member::new("told", TypeRef::Str)],
        })
    }
}

#[test]
fn a_description_that_serde_does_not_read_is_refused() {
    let lying = Command::new("lying").handler(async |_: Context, _: Lying| Ok(()));
    let error = error([lying]);
    assert!(error.starts_with("the command \"lying\": member "), "{error}");
    assert!(error.contains("of \"Lying\""), "{error}");
}

mod elsewhere {
    use serde::Deserialize;

    /// Another type of the same name.
    #[derive(Deserialize, qmp_command::QapiType)]
    #[expect(dead_code, reason = "only described")]
    pub(super) struct Outer {
        other: bool,
    }
}

#[test]
fn two_types_of_one_name_are_refused_with_both_paths() {
    let one = Command::new("one").handler(async |_: Context, _: elsewhere::Outer| Ok(()));
    #[derive(Deserialize, qmp_command::QapiType)]
    #[expect(dead_code, reason = "only described")]
    struct Outer {
        here: bool,
    }
    let two = Command::new("two").handler(async |_: Context, _: Outer| Ok(()));
    let error = error([one, two]);
    assert!(error.starts_with("the command \"two\": two types are named \"Outer\": "), "{error}");
    assert!(error.contains("elsewhere::Outer"), "{error}");
}

#[test]
fn a_router_tells_what_it_knows() {
    #[derive(Deserialize, qmp_command::QapiType)]
    #[expect(dead_code, reason = "only described")]
    struct Arguments {
        n: i64,
    }
    let command = Command::new("b")
        .doc("Does b.")
        .allow_oob()
        .read_only()
        .handler(async |_: Context, _: Arguments| Ok(true));
    let router = Router::builder().commands([command, named("a")]).build().unwrap();
    let names: Vec<_> = router.commands().map(|command| command.name).collect();
    assert_eq!(names, ["b", "a"], "in the order of registration");
    let metadata: BTreeMap<_, _> = router.commands().map(|command| (command.name, command)).collect();
    assert!(metadata["b"].allow_oob && !metadata["a"].allow_oob);
    assert_eq!(metadata["b"].doc, "Does b.");
    assert_eq!(router.signature("b"), Some((&TypeRef::Named("Arguments"), &TypeRef::Bool)));
    assert!(router.types().get("Arguments").is_some());
    assert!(router.signature("c").is_none() && router.metadata("c").is_none());
}
