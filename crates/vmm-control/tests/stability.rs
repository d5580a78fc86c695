//! The helper that holds a plane to a frozen schema, and our own interface held by it.
//!
//! `tests/schema/minimal.json` is what a plane without features offers. Every plane must go with it, whatever its
//! features: they only add. `tests/schema/full.json` is what one with all features offers. Both are frozen anew with
//! `VMM_CONTROL_FREEZE=1 cargo test -p vmm-control --test stability our_own`, the latter with
//! `--all-features`.

#![expect(clippy::unwrap_used, reason = "in helpers of tests, too, it is how a test fails")]

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vmm_control::introspect::stability::{StabilityError, assert_compatible, breaks, check, freeze};
use vmm_control::{Command, Context, ControlPlane, EventSpec, Feature, QapiType, RunState, RunStateCell};

const ALL: bool = cfg!(all(feature = "hmp", feature = "tcp", feature = "metrics", feature = "vfio-user"));
const NONE: bool =
    cfg!(not(any(feature = "hmp", feature = "tcp", feature = "metrics", feature = "vfio-user")));

fn plain() -> ControlPlane {
    ControlPlane::builder(RunStateCell::new(RunState::Running)).build().unwrap()
}

#[tokio::test]
async fn our_own_interface_is_stable() {
    let plane = plain();
    if ALL {
        assert_compatible(&plane, "tests/schema/full.json");
    }
    if NONE {
        assert_compatible(&plane, "tests/schema/minimal.json");
    } else {
        // Never frozen with a feature on.
        check(&plane, "tests/schema/minimal.json").unwrap();
    }
}

/// How it is drawn.
#[derive(Serialize, Deserialize, QapiType)]
#[serde(rename_all = "lowercase")]
enum Style {
    /// Thin.
    Thin,
    /// Thick.
    Thick,
}

/// What is drawn.
#[derive(Serialize, Deserialize, QapiType)]
struct Shape {
    radii: Vec<u32>,
    style: Option<Style>,
}

mod later {
    use super::*;

    /// The same types, a release later.
    #[derive(Serialize, Deserialize, QapiType)]
    #[serde(rename_all = "lowercase")]
    pub(super) enum Style {
        /// Thin.
        Thin,
        /// With dots.
        Dotted,
    }

    /// What is drawn.
    #[derive(Serialize, Deserialize, QapiType)]
    pub(super) struct Shape {
        pub(super) radii: Vec<String>,
        pub(super) style: Style,
        pub(super) layer: u8,
    }
}

#[tokio::test]
async fn a_plane_that_breaks_clients_is_told_where() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("schema.json");
    let builder = || ControlPlane::builder(RunStateCell::new(RunState::Running));
    let before = builder()
        .command(Command::new("__com.example_draw").handler(async |_: Context, it: Shape| Ok(it)))
        .command(
            Command::new("x-try").feature(Feature::Unstable).handler(async |_: Context, (): ()| Ok(1_u8)),
        )
        .event(EventSpec::extension::<Shape>("__COM.EXAMPLE_DREW"))
        .build()
        .unwrap();
    assert!(matches!(check(&before, &path), Err(StabilityError::File { .. })));
    freeze(&before, &path).unwrap();
    check(&before, &path).unwrap();
    assert_compatible(&before, &path);

    let after = builder()
        .command(Command::new("__com.example_draw").handler(async |_: Context, it: later::Shape| Ok(it)))
        .command(Command::new("__com.example_more").handler(async |_: Context, (): ()| Ok(())))
        .build()
        .unwrap();
    let error = check(&after, &path).unwrap_err().to_string();
    let expected = [
        "clients would break:",
        "  command __com.example_draw, argument radii[]: was an integer and is a string",
        "  command __com.example_draw, argument style: is mandatory now",
        "  command __com.example_draw, argument style: has no value 'thick' any more",
        "  command __com.example_draw, argument layer: is new and mandatory",
        "  command __com.example_draw, return value radii[]: was an integer and is a string",
        "  command __com.example_draw, return value style: has no value 'thick' any more",
        "  event __COM.EXAMPLE_DREW: is gone",
    ];
    assert_eq!(error.lines().collect::<Vec<_>>(), expected);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| assert_compatible(&after, &path)));
    let text = *panic.unwrap_err().downcast::<String>().unwrap();
    assert!(text.starts_with(&error) && text.contains("VMM_CONTROL_FREEZE=1"), "{text}");
}

/// A schema of one command `c` (arguments of type `a`, which it returns too) and these types.
fn schema(types: Value) -> Vec<Value> {
    let mut list = vec![
        json!({"name": "c", "meta-type": "command", "arg-type": "a", "ret-type": "empty"}),
        json!({"name": "r", "meta-type": "command", "arg-type": "empty", "ret-type": "a"}),
        json!({"name": "empty", "meta-type": "object", "members": []}),
    ];
    for json_type in ["string", "int", "number", "boolean", "value"] {
        list.push(json!({"name": json_type, "meta-type": "builtin", "json-type": json_type}));
    }
    list.extend(types.as_array().unwrap().iter().cloned());
    list
}

/// What breaks from one to the other: on the way in, on the way out.
#[track_caller]
fn broken(old: &[Value], new: &[Value]) -> (Vec<String>, Vec<String>) {
    let text = |list: &[Value]| serde_json::to_string(list).unwrap();
    let all = breaks(&text(old), &text(new)).unwrap();
    let of = |command: &str| {
        let mine = all.iter().filter(|it| it.place.starts_with(command));
        mine.map(|it| it.to_string().rsplit(": ").next().unwrap().to_owned()).collect()
    };
    (of("command c"), of("command r"))
}

fn object(members: Value) -> Value {
    json!({"name": "a", "meta-type": "object", "members": members})
}

fn of_type(ty: &str) -> Vec<Value> {
    schema(json!([object(json!([{"name": "m", "type": ty}])),
        {"name": "enum", "meta-type": "enum", "members": [{"name": "v"}, {"name": "w"}]},
        {"name": "more", "meta-type": "enum", "members": [{"name": "v"}, {"name": "w"}, {"name": "x"}]},
        {"name": "list", "meta-type": "array", "element-type": "int"},
        {"name": "alternate", "meta-type": "alternate", "members": [{"type": "int"}, {"type": "list"}]},
        {"name": "wider", "meta-type": "alternate", "members": [{"type": "int"}, {"type": "list"}, {"type": "string"}]}]))
}

#[test]
fn types_may_widen_in_arguments_and_narrow_in_answers() {
    for (narrow, wide) in [
        ("int", "number"),
        ("int", "value"),
        ("list", "value"),
        ("enum", "string"),
        ("int", "alternate"),
        ("list", "alternate"),
        ("alternate", "wider"),
    ] {
        let (narrow_one, wide_one) = (of_type(narrow), of_type(wide));
        let (arguments, returned) = broken(&narrow_one, &wide_one);
        assert_eq!(
            (arguments.len(), returned.len()),
            (0, 1),
            "{narrow} to {wide}: {arguments:?} {returned:?}"
        );
        let (arguments, returned) = broken(&wide_one, &narrow_one);
        assert_eq!(
            (arguments.len(), returned.len()),
            (1, 0),
            "{wide} to {narrow}: {arguments:?} {returned:?}"
        );
    }
    for (one, other) in
        [("int", "string"), ("list", "int"), ("boolean", "enum"), ("a", "list"), ("string", "alternate")]
    {
        let (arguments, returned) = broken(&of_type(one), &of_type(other));
        assert_eq!((arguments.len(), returned.len()), (1, 1), "{one} to {other}: {arguments:?} {returned:?}");
    }
    assert_eq!(broken(&of_type("enum"), &of_type("more")), (vec![], vec![]), "a value more");
    let gone = vec!["has no value 'x' any more".to_owned()];
    assert_eq!(broken(&of_type("more"), &of_type("enum")), (gone.clone(), gone), "a value less");
}

#[test]
fn members_come_and_go() {
    let (none, mandatory) = (object(json!([])), object(json!([{"name": "m", "type": "int"}])));
    let optional = object(json!([{"name": "m", "type": "int", "default": null}]));
    let [none, mandatory, optional] = [none, mandatory, optional].map(|ty| schema(json!([ty])));
    let said = |text: &str| vec![text.to_owned()];
    let nothing = Vec::<String>::new();
    for (old, new, arguments, returned) in [
        (&none, &mandatory, said("is new and mandatory"), nothing.clone()),
        (&none, &optional, nothing.clone(), nothing.clone()),
        (&mandatory, &none, said("is gone"), said("is gone")),
        (&optional, &none, said("is gone"), said("is gone")),
        (&optional, &mandatory, said("is mandatory now"), nothing.clone()),
        (&mandatory, &optional, nothing.clone(), said("may be absent now")),
    ] {
        assert_eq!(broken(old, new), (arguments, returned));
    }
}

#[test]
fn names_of_types_say_nothing_and_types_may_hold_themselves() {
    let tree = |name: &str, leaf: &str| {
        let list = format!("[{name}]");
        schema(json!([
            object(json!([{"name": "children", "type": list}, {"name": "leaf", "type": leaf}])),
            {"name": list, "meta-type": "array", "element-type": name},
            {"name": name, "meta-type": "object", "members": [
                {"name": "children", "type": list}, {"name": "leaf", "type": leaf}]},
        ]))
    };
    assert_eq!(broken(&tree("7", "int"), &tree("9", "int")), (vec![], vec![]));
    let (arguments, returned) = broken(&tree("7", "int"), &tree("9", "string"));
    // Of the outer one and of those within.
    assert_eq!((arguments.len(), returned.len()), (2, 2), "{arguments:?}");
}

#[test]
fn unions() {
    let union = |of_v: Value| {
        schema(json!([
            {"name": "a", "meta-type": "object", "tag": "kind", "members": [{"name": "kind", "type": "tag"}],
             "variants": [{"case": "v", "type": "of-v"}, {"case": "w", "type": "empty"}]},
            {"name": "tag", "meta-type": "enum", "members": [{"name": "v"}, {"name": "w"}]},
            {"name": "of-v", "meta-type": "object", "members": of_v},
        ]))
    };
    let without = |values: Value| {
        schema(json!([
            {"name": "a", "meta-type": "object", "tag": "kind", "members": [{"name": "kind", "type": "tag"}],
             "variants": [{"case": "w", "type": "empty"}]},
            {"name": "tag", "meta-type": "enum", "members": values},
        ]))
    };
    let plain = schema(json!([object(json!([{"name": "kind", "type": "tag"}])),
        {"name": "tag", "meta-type": "enum", "members": [{"name": "v"}, {"name": "w"}]}]));
    let (one, two) = (json!([{"name": "m", "type": "int"}]), json!([{"name": "n", "type": "int"}]));
    let nothing = Vec::<String>::new();
    assert_eq!(broken(&union(one.clone()), &union(one.clone())), (nothing.clone(), nothing.clone()));
    let (arguments, returned) = broken(&union(one.clone()), &union(two));
    assert_eq!(arguments, ["is gone", "is new and mandatory"]);
    assert_eq!(returned, ["is gone"]);
    assert_eq!(broken(&plain, &union(one.clone())).0, ["is new and mandatory"]);
    assert_eq!(broken(&plain, &union(json!([]))), (nothing.clone(), nothing.clone()));
    let (both, w) = (json!([{"name": "v"}, {"name": "w"}]), json!([{"name": "w"}]));
    let none_of_v = vec!["has no members any more that come with 'v'".to_owned()];
    assert_eq!(broken(&union(one.clone()), &without(both.clone())), (none_of_v.clone(), none_of_v));
    assert_eq!(broken(&union(json!([])), &without(both)), (nothing.clone(), nothing.clone()));
    let no_v = vec!["has no value 'v' any more".to_owned()];
    assert_eq!(broken(&union(one.clone()), &without(w)), (no_v.clone(), no_v), "told once");
    let no_more = "has no members that depend on 'kind' any more";
    assert_eq!(broken(&union(one), &plain), (vec![no_more.to_owned()], vec![no_more.to_owned()]));
}

/// Unions of these values, and branches with a mandatory member for some of them.
#[test]
fn branches_count_for_values_that_clients_knew() {
    let union = |values: Value, cases: &[&str]| {
        let variants: Vec<_> = cases.iter().map(|case| json!({"case": case, "type": "branch"})).collect();
        schema(json!([
            {"name": "a", "meta-type": "object", "tag": "kind", "members": [{"name": "kind", "type": "tag"}],
             "variants": variants},
            {"name": "tag", "meta-type": "enum", "members": values},
            {"name": "branch", "meta-type": "object", "members": [{"name": "m", "type": "int"}]},
        ]))
    };
    let value = |name: &str| json!({"name": name});
    let (v, w) = (value("v"), value("w"));
    let nothing = (Vec::<String>::new(), Vec::<String>::new());
    let both = union(json!([v, w]), &["w"]);
    let is_new = (vec!["is new and mandatory".to_owned()], vec![]);
    assert_eq!(broken(&both, &union(json!([v, w]), &["v", "w"])), is_new, "v needs a member now");
    assert_eq!(broken(&both, &union(json!([v, w, value("x")]), &["w", "x"])), nothing, "nobody says x yet");
    // The same where there was no branch at all.
    let plain = schema(json!([object(json!([{"name": "kind", "type": "tag"}])),
        {"name": "tag", "meta-type": "enum", "members": [v, w]}]));
    assert_eq!(broken(&plain, &union(json!([v, w]), &["v"])), is_new);
    assert_eq!(broken(&plain, &union(json!([v, w, value("x")]), &["x"])), nothing);
    // What comes with a value that may change may change.
    let unstable = json!({"name": "v", "features": ["unstable"]});
    let tried = union(json!([unstable, w]), &["w"]);
    assert_eq!(broken(&tried, &union(json!([unstable, w]), &["v", "w"])), nothing);
    assert_eq!(broken(&union(json!([unstable, w]), &["v", "w"]), &tried), nothing);
}

#[test]
fn commands_and_their_features() {
    let list = |command: Value| {
        let mut list = schema(json!([object(json!([]))]));
        list.remove(0);
        list.push(command);
        list
    };
    let command = |more: Value| {
        let mut all = json!({"name": "c", "meta-type": "command", "arg-type": "a", "ret-type": "a"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        list(all)
    };
    let plain = command(json!({}));
    let said = |old: &[Value], new: &[Value]| broken(old, new).0;
    assert_eq!(
        said(&command(json!({"allow-oob": true})), &plain),
        ["cannot be executed out-of-band any more"]
    );
    assert!(said(&plain, &command(json!({"allow-oob": true}))).is_empty());
    let featured = |name: &str| command(json!({"features": [name]}));
    assert_eq!(said(&featured("fast"), &plain), ["has no feature 'fast' any more"]);
    assert!(said(&plain, &featured("fast")).is_empty() && said(&plain, &featured("deprecated")).is_empty());
    assert!(said(&featured("deprecated"), &plain).is_empty());
    assert_eq!(said(&plain, &featured("unstable")), ["is unstable now"]);
    let none = list(json!({"name": "d", "meta-type": "command", "arg-type": "a", "ret-type": "a"}));
    assert_eq!(said(&plain, &none), ["is gone"]);
    assert!(said(&featured("unstable"), &none).is_empty(), "it was said that it may go");
}

#[test]
fn what_is_no_schema_is_said() {
    for (text, reason) in [
        ("{}", "expected a sequence"),
        (
            "[{\"name\": \"c\", \"meta-type\": \"command\", \"arg-type\": \"a\"}]",
            "ret-type of 'c' is missing",
        ),
        ("[{\"name\": \"c\", \"meta-type\": \"event\", \"arg-type\": \"a\"}]", "there is no type 'a'"),
        ("[{\"name\": \"c\", \"meta-type\": \"verb\"}]", "'c' is of the unknown kind 'verb'"),
    ] {
        let error = breaks(text, "[]").unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
