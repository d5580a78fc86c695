//! The manual that is checked in is the one that the program writes; and the program writes all its forms.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::Command;

fn dump(form: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_vmmd")).args(["--dump-schema", form]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_manual_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/REFERENCE.md");
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let now = dump("markdown");
    let line = now.lines().zip(there.lines()).take_while(|(now, there)| now == there).count() + 1;
    assert!(now == there, "docs/REFERENCE.md is stale from line {line} on: run `make reference`");
}

#[test]
fn the_json_schema_leads_nowhere_into_the_void() {
    let schema: serde_json::Value = serde_json::from_str(&dump("json")).unwrap();
    let defs = schema["$defs"].as_object().unwrap();
    let mut left = vec![&schema];
    while let Some(value) = left.pop() {
        match value {
            serde_json::Value::Object(map) => {
                if let Some(name) = map.get("$ref") {
                    let name = name.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                    assert!(defs.contains_key(name), "{name}");
                }
                left.extend(map.values());
            }
            serde_json::Value::Array(list) => left.extend(list),
            _ => {}
        }
    }
    assert!(defs.contains_key("request:query-status") && defs.contains_key("event:STOP"));
}

/// The generator's own rules for comments and names, as far as they can be checked line by line.
#[test]
fn the_qapi_schema_is_well_formed() {
    let text = dump("qapi");
    let mut documented = None;
    for line in text.lines() {
        assert!(line.is_ascii() && !line.ends_with(' '), "{line}");
        if let Some(name) = line.strip_prefix("# @").and_then(|rest| rest.strip_suffix(':')) {
            documented = documented.or(Some(name.to_owned()));
        }
        let kinds = ["struct", "enum", "union", "alternate", "command", "event"];
        if let Some(kind) = kinds.iter().find(|kind| line.starts_with(&format!("{{ '{kind}': "))) {
            let name = line.split('\'').nth(3).unwrap();
            assert_eq!(documented.take().as_deref(), Some(name), "the comment before the {kind}");
        }
    }
    assert!(!text.contains("q_obj_"), "a name that QAPI keeps to itself");
    assert!(text.contains("{ 'command': 'getfd',\n  'data': { 'fdname': 'str' } }"), "{text}");
}
