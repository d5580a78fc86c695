//! The vfio-user load client against all its servers: that every measurement still works, not what it measures.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::process::{Command, Output};

use serde_json::Value;
use vmm_benches::vfio::cases::{CASES, Need};
use vmm_benches::vfio::servers;

/// Runs `bench-vfio-user` at a scale of milliseconds.
fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-vfio-user"));
    command.args(["--target", env!("CARGO_BIN_EXE_vfio-user-target")]);
    command.args(["--rounds", "1", "--seconds", "0.005"]);
    command.args(args).output().unwrap()
}

#[test]
fn every_measurement_gives_its_figures_on_every_server_that_can() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("figures.json");
    // Where both share a core each exchange with a server that polls takes a turn of the scheduler.
    let without = CASES.iter().map(|case| case.name).filter(|name| *name != "same-core");
    let only = without.collect::<Vec<_>>().join(",");
    let output = bench(&["--json", &path.display().to_string(), "--only", &only]);
    assert!(output.status.success(), "{output:?}");

    let json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let figures = json["figures"].as_array().unwrap();
    for case in CASES.iter().filter(|case| case.name != "same-core") {
        for kind in case.clients {
            for server in servers::names() {
                let of = |figure: &&Value| {
                    let names = ["test", "client", "server"].map(|name| figure[name].as_str());
                    names == [Some(case.name), Some(kind.name()), Some(server)]
                };
                let found: Vec<&Value> = figures.iter().filter(of).collect();
                if found.iter().any(|figure| figure["unavailable"] == true) {
                    assert!(case.need != Need::Accesses, "{found:?}");
                    assert!(!server.starts_with("ours"), "{found:?}");
                    continue;
                }
                assert_eq!(found.len(), case.figures.len(), "{} {server}", case.name);
                let sensible = |figure: &&Value| {
                    figure["median"].as_f64().is_some_and(|median| median.is_finite() && median >= 0.0)
                };
                assert!(found.iter().all(sensible), "{found:?}");
            }
        }
    }
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("4-byte read, one at a time, busy client"), "{table}");
    assert!(table.contains("0 not measured"), "{table}");
}

#[test]
fn a_figure_that_misses_its_aim_is_called_out() {
    // Without its floor a ratio cannot be told, which is no less loud.
    let output = bench(&["--only", "posted,read", "--skip", "epoll floor,busy floor,vfio_user"]);
    assert!(output.status.success(), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("*** NOT MEASURED *** ours, epoll, 4-byte read"), "{table}");
}

#[test]
fn a_server_that_is_none_fails_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("broken");
    std::fs::copy("/bin/false", &program).unwrap();
    let output = bench(&["--target", &program.display().to_string(), "--only", "read"]);
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("FAILED ours, 4-byte read"), "{table}");
}

#[test]
fn wrong_options_end_with_2_and_help_with_0() {
    assert_eq!(bench(&["--rounds", "none"]).status.code(), Some(2));
    let help = bench(&["--help"]);
    assert!(help.status.success());
    assert!(String::from_utf8(help.stdout).unwrap().contains("--pin"));
    let target = Command::new(env!("CARGO_BIN_EXE_vfio-user-target")).arg("ours").output().unwrap();
    assert_eq!(target.status.code(), Some(2));
}
