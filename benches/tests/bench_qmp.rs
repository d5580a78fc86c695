//! The load client against the floor: that every measurement still works, not what it measures.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use vmm_benches::load::cases::CASES;

/// Runs `bench-qmp` with the floor, and whatever else the arguments name, at a scale of milliseconds.
fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-qmp"));
    command.args(["--floor", env!("CARGO_BIN_EXE_qmp-floor"), "--skip", "vmmd,qemu"]);
    command.args(["--rounds", "1", "--seconds", "0.01", "--monitors", "8", "--sessions", "70"]);
    command.args(args).output().unwrap()
}

/// A file of its own in a directory of its own.
fn json_file() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("figures.json");
    (dir, path)
}

fn figures(path: &Path) -> Vec<Value> {
    let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    json["figures"].as_array().unwrap().clone()
}

#[test]
fn every_measurement_gives_its_figures_on_the_floor() {
    let (_dir, path) = json_file();
    let output = bench(&["--json", &path.display().to_string()]);
    assert!(output.status.success(), "{output:?}");

    let figures = figures(&path);
    for case in CASES {
        for figure in case.figures {
            let found = figures.iter().find(|found| {
                (&found["test"], &found["figure"], &found["server"])
                    == (&case.name.into(), &figure.name.into(), &"floor".into())
            });
            let median = found.and_then(|found| found["median"].as_f64());
            assert!(median.is_some_and(f64::is_finite), "{} {}: {found:?}", case.name, figure.name);
            assert!(
                case.name == "memory" || median.is_some_and(|median| median > 0.0),
                "{}: {found:?}",
                case.name
            );
        }
    }
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("8 monitors, all busy one at a time"), "{table}");
}

#[test]
fn servers_stand_beside_each_other_and_a_single_socket_has_gaps() {
    let (_dir, path) = json_file();
    let single = format!("single={} {{sock}}", env!("CARGO_BIN_EXE_qmp-floor"));
    let only = "one,all-busy,flood";
    let output = bench(&["--json", &path.display().to_string(), "--only", only, "--server", &single]);
    assert!(output.status.success(), "{output:?}");

    let figures = figures(&path);
    let of = |test: &str| {
        figures.iter().find(|figure| figure["test"] == test && figure["server"] == "single").cloned().unwrap()
    };
    assert!(of("one")["ratio-to-first"].as_f64().is_some_and(|ratio| ratio > 0.0));
    assert!(of("flood")["median"].is_number());
    assert_eq!(of("all-busy")["unavailable"], true);
    assert!(String::from_utf8(output.stdout).unwrap().contains("n/a"));
}

#[test]
fn a_server_that_is_none_fails_the_run() {
    let output = bench(&["--server", "broken=false {sock}"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("broken did not serve"), "{errors}");
}

#[test]
fn wrong_options_end_with_2_and_help_with_0() {
    assert_eq!(bench(&["--rounds", "none"]).status.code(), Some(2));
    let help = bench(&["--help"]);
    assert!(help.status.success());
    assert!(String::from_utf8(help.stdout).unwrap().contains("--server NAME=CMD"));
}
