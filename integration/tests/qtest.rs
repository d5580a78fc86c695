//! QEMU's own test harness and vmmd: the way it starts a machine, what it asks on its line, how it ends it; and, where
//! they have been built, its programs themselves.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};
use vmm_integration::LIMIT;
use vmm_integration::qtest::TestDriven;
use vmm_integration::vmm::program;

fn vmmd(options: &[&str]) -> TestDriven {
    TestDriven::start(&program().to_string_lossy(), options)
}

const NONE: [&str; 5] = ["-nodefaults", "-machine", "none", "-accel", "qtest"];

#[test]
fn it_connects_answers_and_ends_well() {
    let mut machine = vmmd(&NONE);
    assert_eq!(machine.ask("endianness"), "OK little");
    let greeting = machine.qmp().greeting();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let version = &greeting["QMP"]["version"];
    assert_eq!(names(version), ["package", "qemu"]);
    assert_eq!(names(&version["qemu"]), ["major", "micro", "minor"]);
    machine.process().signal(Signal::TERM).unwrap();
    assert_eq!(machine.process().wait_exit(LIMIT).unwrap().code(), Some(0));
}

#[test]
fn what_it_cannot_do_it_says() {
    let mut machine = vmmd(&NONE);
    assert_eq!(machine.ask("make_coffee black"), "FAIL Unknown command 'make_coffee'");
    assert_eq!(machine.ask("inb 0x71"), "FAIL this machine has no I/O ports");
    assert_eq!(machine.ask("clock_step 10"), "OK 10");
    assert_eq!(machine.ask("endianness"), "OK little");
}

#[test]
fn a_clock_that_stands_is_moved_by_the_test_only() {
    let mut machine =
        vmmd(&["-machine", "board", "-rtc", "base=2006-06-17T16:01:21,clock=vm", "-accel", "qtest"]);
    assert_eq!(machine.ask("outb 0x70 0"), "OK");
    assert_eq!(machine.ask("inb 0x71"), "OK 0x0021");
    machine.qmp().negotiate();
    machine.qmp().run("cont");
    assert_eq!(machine.ask("inb 0x71"), "OK 0x0021");
    assert_eq!(machine.ask("clock_step 999999999"), "OK 999999999");
    assert_eq!(machine.ask("inb 0x71"), "OK 0x0021");
    assert_eq!(machine.ask("clock_step 1"), "OK 1000000000");
    assert_eq!(machine.ask("inb 0x71"), "OK 0x0022");
}

/// What QEMU's test of queries expects to fail without further options. All others must succeed.
const FAILING: [(&str, &str); 8] = [
    ("query-spice", "CommandNotFound"),
    ("query-replay", "CommandNotFound"),
    ("query-xen-replication-status", "CommandNotFound"),
    ("query-acpi-ospm-status", "GenericError"),
    ("query-balloon", "DeviceNotActive"),
    ("query-hotpluggable-cpus", "GenericError"),
    ("query-vm-generation-id", "GenericError"),
    ("query-sgx", "GenericError"),
];

#[test]
fn every_query_without_arguments_answers() {
    let mut machine = vmmd(&NONE);
    let client = machine.qmp();
    client.negotiate();
    let Value::Array(list) = client.run("query-qmp-schema") else { panic!("no list") };
    let schema: BTreeMap<&str, &Value> = list.iter().map(|it| (it["name"].as_str().unwrap(), it)).collect();
    let of = |entity: &Value, key: &str| schema[entity[key].as_str().unwrap()];
    let mut asked = 0;
    for command in list.iter().filter(|it| it["meta-type"] == "command" && it["name"] != "add-fd") {
        let needs = of(command, "arg-type")["members"].as_array().unwrap();
        let answers = of(command, "ret-type");
        let nothing = answers["meta-type"] == "object" && answers["members"] == json!([]);
        if nothing || needs.iter().any(|member| member.get("default").is_none()) {
            continue;
        }
        let name = command["name"].as_str().unwrap();
        let answer = client.call(name, json!({})).map_err(|error| error.class);
        match FAILING.iter().find(|(failing, _)| *failing == name) {
            Some((_, class)) => assert_eq!(answer.unwrap_err(), *class, "{name}"),
            None => assert!(answer.is_ok(), "{name}: {answer:?}"),
        }
        asked += 1;
    }
    assert!(asked >= 10, "only {asked} queries were asked");
}

/// The programs themselves, unmodified, where `QTEST_PROGRAMS` names the directory that they were built in.
#[test]
fn qemus_own_programs_pass() {
    let Some(programs) = std::env::var_os("QTEST_PROGRAMS").map(PathBuf::from) else {
        return eprintln!(
            "SKIPPED: QTEST_PROGRAMS does not name the directory of a QEMU 7.2 build with qmp-test and qmp-cmd-test"
        );
    };
    // They take the architecture from the name.
    let dir = tempfile::tempdir().unwrap();
    let vmmd = dir.path().join("vmmd-system-x86_64");
    symlink(std::fs::canonicalize(program()).unwrap(), &vmmd).unwrap();
    let tests = ["protocol", "preconfig", "missing-any-arg"].map(|name| format!("/x86_64/qmp/{name}"));
    let mut lines: Vec<Vec<&str>> = tests.iter().map(|test| vec!["qmp-test", "-p", test]).collect();
    lines.push(vec!["qmp-cmd-test"]);
    for line in lines {
        let output = Command::new(programs.join(line[0]))
            .args(&line[1..])
            .env("QTEST_QEMU_BINARY", &vmmd)
            .env("TMPDIR", dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{line:?}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("\nok 1 "), "{line:?} tests nothing: {said}");
    }
}
