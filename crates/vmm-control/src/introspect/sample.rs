//! An interface with one of everything, for the tests of those who describe it.

use qmp_command::schema::{Branch, TypeDef, TypeRef, Types};
use qmp_command::{Command, Context, Feature, QapiType, Router};
use qmp_monitor::EventSpec;
use serde::{Deserialize, Serialize};

use super::Interface;

/// A shape.
#[derive(Serialize, QapiType)]
struct Shape {
    /// Its form.
    #[serde(flatten)]
    #[qapi(union = "kind")]
    form: Form,
    /// How many | how often.
    #[qapi(features(unstable))]
    count: Option<u16>,
}

/// A form.
#[derive(Serialize, QapiType)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[qapi(tag_type = "FormType")]
enum Form {
    /// With a radius.
    Round(Round),
    /// Without.
    Flat,
}

/// Its size.
#[derive(Serialize, Deserialize, QapiType)]
struct Round {
    /// One per axis.
    radii: Vec<u64>,
}

/// The arguments of one command.
#[derive(Serialize, Deserialize, QapiType)]
#[qapi(name = "q_obj_x-erase-arg")]
struct Erase {
    /// Which.
    what_id: Option<String>,
}

/// A name or a size.
#[derive(Serialize)]
struct NameOrRound;

impl QapiType for NameOrRound {
    fn describe(types: &mut Types) -> TypeRef {
        types.define::<Self>("NameOrRound", |types| TypeDef::Alternate {
            name: "NameOrRound",
            doc: "A name or a size.",
            features: vec![],
            branches: vec![Branch::new("name", TypeRef::Str), Branch::new("round", Round::describe(types))],
        })
    }
}

/// Two commands, two events; a struct, an enum, a union, an alternate, arguments without a name.
pub(super) fn interface() -> Interface {
    let draw = Command::new("x-draw")
        .doc("Draws.")
        .allow_oob()
        .feature(Feature::Unstable)
        .handler(async |_: Context, _: Shape| Ok(Vec::<i8>::new()))
        .group("Drawing");
    let erase =
        Command::new("x-erase").doc("Erases.").handler(async |_: Context, _: Erase| Ok(vec![NameOrRound]));
    let router = Router::builder().commands([draw, erase]).build().unwrap();
    let events = [
        EventSpec::standard::<Round>("X_DREW").doc("Drawn.").feature(Feature::Deprecated).throttled(),
        EventSpec::extension::<()>("X_DONE").doc("Done."),
    ];
    Interface::new(&router, events).unwrap()
}
