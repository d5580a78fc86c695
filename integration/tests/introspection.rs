//! `query-qmp-schema`, held against QEMU's own and read by a client that knows nothing of ours.
//!
//! For every command and event that both have, the structure must be equal: members, what is optional, features,
//! out-of-band. Enum values, union branches and alternates' choices may be fewer, never other, but for what 11.1 has. Names of types are
//! numbers on both sides, so structures are compared with all names resolved.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use serde_json::{Map, Value};
use vmm_integration::client::Client;
use vmm_integration::process::Stranger;
use vmm_integration::qtest::qemu_is_here;
use vmm_integration::vmm::Vmm;

const QEMU: &str = "qemu-system-x86_64";

/// Types of objects that QEMU 7.2 has not, and 11.1 has; and an instance of yank that is ours.
const NEWER: [&str; 3] = ["monitor-qmp", "monitor-hmp", "x-vfio-user"];

/// Members that QEMU 7.2's types have not, by where they are: properties of ours of objects that it has too.
const OURS: [(&str, &str); 9] = [
    ("chardev-add arg-type.backend(socket).data", "allowed-uids"),
    ("chardev-add arg-type.backend(socket).data", "allowed-gids"),
    ("chardev-add arg-type.backend(socket).data", "insecure"),
    ("object-add arg-type(x-vfio-user-server)", "allowed-gids"),
    ("object-add arg-type(iothread)", "cpu-affinity"),
    ("object-add arg-type(x-vfio-user-server)", "iothread"),
    ("object-add arg-type(x-vfio-user-server)", "reconnect"),
    ("object-add arg-type(x-vfio-user-server)", "allowed-uids"),
    ("object-add arg-type(x-vfio-user-server)", "dma"),
];

/// A schema, by name. Commands, events and types share one space of names.
struct Schema(BTreeMap<String, Value>);

impl Schema {
    fn of(client: &mut Client) -> Self {
        let Value::Array(list) = client.run("query-qmp-schema") else { panic!("no list") };
        Self(list.into_iter().map(|entity| (entity["name"].as_str().unwrap().to_owned(), entity)).collect())
    }

    fn get(&self, name: &str) -> &Map<String, Value> {
        self.0.get(name).unwrap_or_else(|| panic!("nothing is named {name}")).as_object().unwrap()
    }

    fn entities(&self) -> impl Iterator<Item = &str> {
        let of = |meta: &Value| meta == "command" || meta == "event";
        self.0.iter().filter(move |(_, entity)| of(&entity["meta-type"])).map(|(name, _)| name.as_str())
    }
}

/// Compares what two schemas say, and notes all differences.
struct Comparison<'a> {
    ours: &'a Schema,
    theirs: &'a Schema,
    /// Pairs of types that were compared already, or are being so: types may refer to themselves.
    seen: HashSet<(String, String)>,
    differences: Vec<String>,
}

impl Comparison<'_> {
    fn note(&mut self, place: &str, what: &str, ours: impl std::fmt::Debug, theirs: impl std::fmt::Debug) {
        self.differences.push(format!("{place}: {what}: ours {ours:?}, QEMU's {theirs:?}"));
    }

    /// A member of two objects that is no reference: must be the same, or be absent in both.
    fn same(&mut self, place: &str, key: &str, ours: &Map<String, Value>, theirs: &Map<String, Value>) {
        let set = |map: &Map<String, Value>| match map.get(key) {
            Some(Value::Array(list)) => Some(list.iter().map(ToString::to_string).collect::<BTreeSet<_>>()),
            other => other.map(|value| BTreeSet::from([value.to_string()])),
        };
        if set(ours) != set(theirs) {
            self.note(place, key, ours.get(key), theirs.get(key));
        }
    }

    fn entity(&mut self, name: &str) {
        let (ours, theirs) = (self.ours.get(name), self.theirs.get(name));
        for key in ["meta-type", "allow-oob", "features"] {
            self.same(name, key, ours, theirs);
        }
        for key in ["arg-type", "ret-type"] {
            self.reference(&format!("{name} {key}"), ours.get(key), theirs.get(key));
        }
    }

    fn reference(&mut self, place: &str, ours: Option<&Value>, theirs: Option<&Value>) {
        match (ours.and_then(Value::as_str), theirs.and_then(Value::as_str)) {
            (Some(ours), Some(theirs)) => self.types(place, ours, theirs),
            (None, None) => {}
            (ours, theirs) => self.note(place, "type", ours, theirs),
        }
    }

    fn types(&mut self, place: &str, ours: &str, theirs: &str) {
        if !self.seen.insert((ours.to_owned(), theirs.to_owned())) {
            return;
        }
        let (ours, theirs) = (self.ours.get(ours), self.theirs.get(theirs));
        for key in ["meta-type", "json-type", "features", "tag"] {
            self.same(place, key, ours, theirs);
        }
        if ours["meta-type"] != theirs["meta-type"] {
            return;
        }
        match ours["meta-type"].as_str().unwrap() {
            "builtin" => self.same(place, "name", ours, theirs),
            "array" => {
                self.reference(&format!("{place}[]"), ours.get("element-type"), theirs.get("element-type"));
            }
            "enum" => self.values(place, ours, theirs),
            "object" => self.object(place, ours, theirs),
            "alternate" => self.choices(place, ours, theirs),
            other => panic!("{place} is a {other}"),
        }
    }

    fn values(&mut self, place: &str, ours: &Map<String, Value>, theirs: &Map<String, Value>) {
        let all = by(theirs, "members", "name");
        for (name, value) in by(ours, "members", "name") {
            if NEWER.contains(&name.as_str()) {
                continue;
            }
            if all.get(&name) != Some(&value) {
                self.note(place, "value", value, all.get(&name));
            }
        }
        let listed: BTreeSet<_> =
            ours["values"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        assert_eq!(listed, by(ours, "members", "name").keys().map(String::as_str).collect(), "{place}");
    }

    fn object(&mut self, place: &str, ours: &Map<String, Value>, theirs: &Map<String, Value>) {
        let (mut mine, all) = (by(ours, "members", "name"), by(theirs, "members", "name"));
        for (_, name) in OURS.iter().filter(|(where_it_is, _)| *where_it_is == place) {
            let member = mine.remove(*name);
            assert!(
                member.is_some_and(|member| member.contains_key("default")),
                "{place}.{name} is not optional"
            );
        }
        if !mine.keys().eq(all.keys()) {
            self.note(place, "members", mine.keys(), all.keys());
        }
        for (name, member) in &mine {
            let Some(their) = all.get(name) else { continue };
            let place = format!("{place}.{name}");
            for key in ["default", "features"] {
                self.same(&place, key, member, their);
            }
            self.reference(&place, member.get("type"), their.get("type"));
        }
        let all = by(theirs, "variants", "case");
        for (case, variant) in by(ours, "variants", "case") {
            if NEWER.contains(&case.as_str()) {
                continue;
            }
            let their = all.get(&case).and_then(|variant| variant.get("type"));
            self.reference(&format!("{place}({case})"), variant.get("type"), their);
        }
    }

    /// Each of our choices must be one of theirs; they have no names.
    fn choices(&mut self, place: &str, ours: &Map<String, Value>, theirs: &Map<String, Value>) {
        let theirs = by(theirs, "members", "type");
        for choice in by(ours, "members", "type").keys() {
            let fits = theirs.keys().any(|their| {
                let seen = self.seen.clone();
                let mut alone =
                    Comparison { ours: self.ours, theirs: self.theirs, seen, differences: Vec::new() };
                alone.types(place, choice, their);
                alone.differences.is_empty()
            });
            if !fits {
                self.note(place, "choice", choice, theirs.keys());
            }
        }
    }
}

/// The objects in the list `key`, by one of their members.
fn by(entity: &Map<String, Value>, key: &str, name: &str) -> BTreeMap<String, Map<String, Value>> {
    let list = entity.get(key).and_then(Value::as_array).into_iter().flatten();
    list.map(|part| (part[name].as_str().unwrap().to_owned(), part.as_object().unwrap().clone())).collect()
}

/// QEMU's schema. It runs in the background, and so greets at the right time.
fn qemus() -> Schema {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("q.sock");
    let monitor = format!("unix:{},server=on,wait=off", socket.display());
    let argv = [QEMU, "-S", "-nodefaults", "-display", "none", "-machine", "none", "-qmp", &monitor];
    let _server = Stranger::daemonize(&argv, dir.path()).unwrap();
    let mut client = Client::connect(&socket).unwrap();
    client.negotiate();
    Schema::of(&mut client)
}

#[test]
fn what_both_have_is_the_same() {
    if !qemu_is_here(Path::new(QEMU)) {
        return;
    }
    let (ours, theirs) = (Schema::of(&mut Vmm::start().client(0)), qemus());
    let common: Vec<_> = ours.entities().filter(|name| theirs.0.contains_key(*name)).collect();
    assert!(common.len() >= 21, "only {common:?} were compared");
    let mut comparison =
        Comparison { ours: &ours, theirs: &theirs, seen: HashSet::new(), differences: Vec::new() };
    for name in &common {
        comparison.entity(name);
    }
    assert!(comparison.differences.is_empty(), "\n{}", comparison.differences.join("\n"));
    let beyond: Vec<_> = ours.entities().filter(|name| !theirs.0.contains_key(*name)).collect();
    eprintln!("{} compared; QEMU 7.2 has not: {beyond:?}", common.len());
}

#[test]
fn the_comparison_sees_a_difference() {
    let schema = |text: &str| {
        let list: Vec<Value> = serde_json::from_str(text).unwrap();
        Schema(list.into_iter().map(|e| (e["name"].as_str().unwrap().to_owned(), e)).collect())
    };
    let ours = schema(
        r#"[{"name": "c", "meta-type": "command", "arg-type": "0", "ret-type": "[1]"},
            {"name": "0", "meta-type": "object", "members": [{"name": "a", "type": "int", "default": null}]},
            {"name": "[1]", "meta-type": "array", "element-type": "1"},
            {"name": "1", "meta-type": "enum", "members": [{"name": "x"}, {"name": "z"}], "values": ["x", "z"]},
            {"name": "int", "meta-type": "builtin", "json-type": "int"}]"#,
    );
    let theirs = schema(
        r#"[{"name": "c", "meta-type": "command", "arg-type": "7", "ret-type": "[8]", "allow-oob": true},
            {"name": "7", "meta-type": "object", "members": [{"name": "a", "type": "str"}, {"name": "b", "type": "str"}]},
            {"name": "[8]", "meta-type": "array", "element-type": "8"},
            {"name": "8", "meta-type": "enum", "members": [{"name": "x"}, {"name": "y"}], "values": ["x", "y"]},
            {"name": "str", "meta-type": "builtin", "json-type": "string"}]"#,
    );
    let mut comparison =
        Comparison { ours: &ours, theirs: &theirs, seen: HashSet::new(), differences: Vec::new() };
    comparison.entity("c");
    let found = comparison.differences.join("\n");
    for part in [
        "c: allow-oob",
        "c arg-type: members",
        "c arg-type.a: default",
        "c arg-type.a: json-type",
        "c ret-type[]: value",
    ] {
        assert!(found.contains(part), "{part} is missing in\n{found}");
    }
}
