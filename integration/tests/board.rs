//! vmmd's board from outside: its virtual CPUs are threads, its memory has a limit, its UUID is told.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};
use vmm_integration::LIMIT;
use vmm_integration::client::Client;
use vmm_integration::process::Process;
use vmm_integration::vmm::{Setup, Vmm, program};

fn board(extra: &[&str]) -> Vmm {
    let extra = [&["-machine", "board"], extra].concat();
    Vmm::with(Setup { extra: &extra, ..Setup::default() })
}

fn cpus(client: &mut Client) -> Vec<Value> {
    client.run("query-cpus-fast").as_array().unwrap().clone()
}

#[test]
fn virtual_cpus_are_threads_of_their_names() {
    let vmm = board(&["-smp", "4,sockets=2"]);
    let mut client = vmm.client(0);
    let cpus = cpus(&mut client);
    let names: Vec<_> = cpus
        .iter()
        .map(|cpu| {
            let comm = format!("/proc/{}/task/{}/comm", vmm.pid(), cpu["thread-id"]);
            fs::read_to_string(comm).unwrap().trim_end().to_owned()
        })
        .collect();
    assert_eq!(names, ["CPU 0/vmmd", "CPU 1/vmmd", "CPU 2/vmmd", "CPU 3/vmmd"]);
    let paths: Vec<_> = cpus.iter().map(|cpu| cpu["qom-path"].as_str().unwrap()).collect();
    assert_eq!(paths, [0, 2, 3, 4].map(|n| format!("/machine/unattached/device[{n}]")));
    assert_eq!(cpus[3]["props"], json!({"socket-id": 1, "core-id": 1, "thread-id": 0}));
    assert_eq!((&cpus[3]["cpu-index"], &cpus[3]["target"]), (&json!(3), &json!("x86_64")));
}

#[test]
fn its_parts_stand_in_the_object_tree() {
    let vmm = board(&["-smp", "2", "-rtc", "base=2006-06-17T16:01:21,clock=vm", "-S"]);
    let mut client = vmm.client(0);
    let parts = client.call("qom-list", json!({"path": "/machine/unattached"})).unwrap();
    let kinds: BTreeMap<_, _> = parts
        .as_array()
        .unwrap()
        .iter()
        .map(|part| (part["name"].as_str().unwrap(), part["type"].as_str().unwrap()))
        .collect();
    let cpu = "child<board-x86_64-cpu>";
    let wanted =
        [("device[0]", cpu), ("device[10]", "child<mc146818rtc>"), ("device[2]", cpu), ("type", "string")];
    assert_eq!(kinds, BTreeMap::from(wanted));
    let mut get = |number, name| {
        let path = format!("/machine/unattached/device[{number}]");
        client.call("qom-get", json!({"path": path, "property": name})).unwrap()
    };
    assert_eq!(get(2, "core-id"), 1);
    let date = json!({"tm_year": 106, "tm_mon": 5, "tm_mday": 17, "tm_hour": 16, "tm_min": 1, "tm_sec": 21});
    assert_eq!(get(10, "date"), date);
    assert_eq!(get(10, "iobase"), 0x70);
}

#[test]
fn no_machine_has_no_virtual_cpus() {
    let vmm = Vmm::start();
    assert!(cpus(&mut vmm.client(0)).is_empty());
}

#[test]
fn the_log_says_once_that_no_guest_code_runs() {
    let mut vmm = board(&["-smp", "3"]);
    let mut client = vmm.client(0);
    for _ in 0..50 {
        client.run("stop");
        client.run("cont");
    }
    client.run("quit");
    assert_eq!(vmm.exit_code(), 0);
    let said = vmm.process().stderr();
    assert_eq!(said.matches("no guest code").count(), 1, "{said}");
}

#[test]
fn info_status_says_that_no_guest_code_runs() {
    let status = |vmm: &Vmm| {
        let mut client = vmm.client(0);
        client.call("human-monitor-command", json!({"command-line": "info status"})).unwrap()
    };
    let note = "no accelerator: the virtual CPUs run no guest code\r\n";
    assert_eq!(status(&board(&[])), format!("VM status: running\r\n{note}"));
    assert_eq!(status(&board(&["-S"])), format!("VM status: paused (prelaunch)\r\n{note}"));
    assert_eq!(status(&Vmm::start()), "VM status: running\r\n");
}

#[test]
fn the_uuid_is_told() {
    let vmm = board(&["-uuid", "12345678-9ABC-def0-0123-456789abcdef"]);
    assert_eq!(vmm.client(0).run("query-uuid"), json!({"UUID": "12345678-9abc-def0-0123-456789abcdef"}));
}

#[test]
fn with_preconfig_the_board_is_made_by_a_command() {
    let vmm = board(&["--preconfig", "-smp", "2"]);
    let mut client = vmm.client(0);
    let refusal = client.call("query-cpus-fast", json!({})).unwrap_err();
    assert!(refusal.desc.contains("only after machine initialization"), "{refusal}");
    client.run("x-exit-preconfig");
    client.event("RESUME");
    assert_eq!(cpus(&mut client).len(), 2);
}

/// QEMU's words, for more memory than there are addresses.
const NO_ROOM: &str = "cannot set up guest memory 'ram': Cannot allocate memory";

#[test]
fn too_much_memory_is_an_error_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let program = program();
    let argv = [program.as_os_str(), "-machine".as_ref(), "board".as_ref(), "-m".as_ref(), "7E".as_ref()];
    let mut process = Process::spawn(&argv, dir.path()).unwrap();
    assert_eq!(process.wait_exit(LIMIT).unwrap().code(), Some(1));
    assert_eq!(process.stderr(), format!("vmmd: {NO_ROOM}\n"));
}

#[test]
fn too_much_memory_is_an_error_of_the_command_that_makes_the_board() {
    let vmm = board(&["--preconfig", "-m", "7E"]);
    let mut client = vmm.client(0);
    for _ in 0..2 {
        assert_eq!(client.call("x-exit-preconfig", json!({})).unwrap_err().desc, NO_ROOM);
    }
    assert_eq!(client.run("query-status")["status"], "prelaunch");
}

#[test]
fn memory_costs_nothing_until_it_is_used() {
    let mut vmm = board(&["-m", "1T"]);
    vmm.client(0).run("query-name");
    assert!(vmm.process().rss_kib() < 64 << 10);
}
