//! How it ends, by command and by signal, and how it goes into the background.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};
use vmm_integration::LIMIT;
use vmm_integration::client::Client;
use vmm_integration::process::Stranger;
use vmm_integration::vmm::{Setup, Vmm, is_qemu, program};

#[track_caller]
fn assert_shutdown(event: &Value, reason: &str) {
    assert_eq!(event["event"], "SHUTDOWN");
    assert_eq!(event["data"], json!({"guest": false, "reason": reason}));
}

#[test]
fn a_signal_shuts_down_in_order() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut vmm = Vmm::with_monitors(2);
        let mut clients = [vmm.client(0), vmm.client(1)];
        vmm.process().signal(signal).unwrap();
        for client in &mut clients {
            assert_shutdown(&client.event("SHUTDOWN"), "host-signal");
            assert_eq!(client.rest(), Vec::<String>::new(), "nothing comes after it");
        }
        assert_eq!(vmm.exit_code(), 0, "{signal:?}");
        assert!(!vmm.socket(0).exists() && !vmm.socket(1).exists(), "the sockets are gone");
    }
}

#[test]
fn a_signal_ends_it_with_nobody_connected() {
    let mut vmm = Vmm::start();
    vmm.client(0).run("query-name");
    vmm.process().signal(Signal::TERM).unwrap();
    assert_eq!(vmm.exit_code(), 0);
    assert!(!vmm.socket(0).exists());
}

#[test]
fn a_client_that_reads_nothing_does_not_hold_up_the_end() {
    if is_qemu() {
        return eprintln!("skipped: QEMU 7.2 now and then hangs here");
    }
    let mut vmm = Vmm::with_monitors(2);
    let mut stuck = vmm.client(0);
    let requests = "{\"execute\": \"query-commands\"}".repeat(3000);
    stuck.socket().set_nonblocking(true).unwrap();
    // As much as goes in at once; the rest does not matter.
    let _ = stuck.try_send(requests.as_bytes(), &[]);
    vmm.client(1).run("query-name");
    vmm.process().signal(Signal::TERM).unwrap();
    assert_eq!(vmm.exit_code(), 0);
}

#[test]
fn quit_sends_its_event_first_then_its_reply_then_the_end() {
    for extra in [&[][..], &["-S"], &["-no-shutdown"]] {
        let mut vmm = Vmm::with(Setup { extra, ..Setup::default() });
        let mut client = vmm.client(0);
        client.send(r#"{"execute": "quit", "id": "q"}{"execute": "query-name", "id": "never"}"#);
        assert_shutdown(&client.value(), "host-qmp-quit");
        assert_eq!(client.value(), json!({"return": {}, "id": "q"}));
        assert_eq!(client.rest(), Vec::<String>::new());
        assert_eq!(vmm.exit_code(), 0);
        assert!(!vmm.socket(0).exists());
    }
}

#[test]
fn everyone_hears_of_a_quit_and_nobody_else_of_its_reply() {
    let mut vmm = Vmm::with_monitors(3);
    let mut others = [vmm.client(1), vmm.client(2)];
    let mut client = vmm.client(0);
    client.run("quit");
    for other in &mut others {
        assert_shutdown(&other.event("SHUTDOWN"), "host-qmp-quit");
        assert_eq!(other.rest(), Vec::<String>::new());
    }
    assert_eq!(vmm.exit_code(), 0);
}

/// A session that has nothing to do must not be ended before it has the event, however the threads happen to run.
#[test]
fn no_quit_of_many_is_missed_by_an_idle_session() {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..if is_qemu() { 3 } else { 40 } {
                    let mut vmm = Vmm::with_monitors(3);
                    let mut idle = [vmm.client(1), vmm.client(2)];
                    vmm.client(0).run("quit");
                    for client in &mut idle {
                        assert_shutdown(&client.event("SHUTDOWN"), "host-qmp-quit");
                        assert_eq!(client.rest(), Vec::<String>::new());
                    }
                    assert_eq!(vmm.exit_code(), 0);
                }
            });
        }
    });
}

#[test]
fn only_the_socket_that_it_made_is_removed() {
    let mut vmm = Vmm::start();
    vmm.client(0).run("query-name");
    let path = vmm.socket(0);
    fs::remove_file(&path).unwrap();
    let another = UnixListener::bind(&path).unwrap();
    vmm.process().signal(Signal::TERM).unwrap();
    assert_eq!(vmm.exit_code(), 0);
    if !is_qemu() {
        assert!(path.exists(), "the socket of somebody else stays");
    }
    drop(another);
}

#[test]
fn a_socket_left_behind_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("left.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "closing a listener leaves its file");
    let monitor = format!("unix:{},server=on,wait=off", path.display());
    let vmm = Vmm::with(Setup { extra: &["-qmp", &monitor], ..Setup::default() });
    let mut client = Client::connect(&path).unwrap();
    client.negotiate();
    client.run("query-status");
    drop(vmm);
}

#[test]
fn sockets_are_for_their_owner_alone() {
    if is_qemu() {
        return eprintln!("skipped: QEMU leaves it to the umask");
    }
    use std::os::unix::fs::PermissionsExt;
    let vmm = Vmm::start();
    let mode = fs::metadata(vmm.socket(0)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
}

/// Starts it in the background with these arguments beside the pid file.
fn daemonize(dir: &Path, args: &[&str]) -> Stranger {
    let program = program().to_string_lossy().into_owned();
    let argv = [&[program.as_str()], args].concat();
    Stranger::daemonize(&argv, dir).unwrap()
}

#[test]
fn daemonize_returns_once_every_socket_listens() {
    let dir = tempfile::tempdir().unwrap();
    let sockets: Vec<_> = (0..8).map(|n| dir.path().join(format!("{n}.sock"))).collect();
    let monitors: Vec<String> =
        sockets.iter().map(|path| format!("unix:{},server=on,wait=off", path.display())).collect();
    let mut args = vec!["-nodefaults", "-display", "none", "-machine", "none"];
    for monitor in &monitors {
        args.extend(["-qmp", monitor.as_str()]);
    }
    let daemon = daemonize(dir.path(), &args);
    let mut clients: Vec<Client> = sockets
        .iter()
        .map(|path| Client::over(std::os::unix::net::UnixStream::connect(path).unwrap()).unwrap())
        .collect();
    for client in &mut clients {
        client.negotiate();
    }
    clients[3].run("quit");
    assert!(daemon.wait_exit(LIMIT));
    assert!(sockets.iter().all(|path| !path.exists()));
    assert!(!dir.path().join("pid").exists(), "the pid file is gone");
}

/// How libvirt asks an emulator what it can do.
#[test]
fn libvirts_way_of_probing() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("monitor.sock");
    let monitor = format!("unix:{},server=on,wait=off", socket.display());
    let args = [
        "-S",
        "-no-user-config",
        "-nodefaults",
        "-nographic",
        "-machine",
        "none,accel=kvm:tcg",
        "-qmp",
        &monitor,
    ];
    let daemon = daemonize(dir.path(), &args);
    let mut client = Client::over(std::os::unix::net::UnixStream::connect(&socket).unwrap()).unwrap();
    client.negotiate();
    assert_eq!(client.run("query-version")["qemu"]["major"], 7);
    assert!(client.run("query-commands").as_array().unwrap().len() > 10);
    assert_eq!(client.run("query-status")["status"], "prelaunch");
    client.run("quit");
    assert!(daemon.wait_exit(LIMIT));
}

/// A background start that fails says so in the foreground.
#[test]
fn daemonize_fails_aloud() {
    let dir = tempfile::tempdir().unwrap();
    let monitor = format!("unix:{}/no/such/dir/q.sock,server=on,wait=off", dir.path().display());
    let output = Command::new(program())
        .args(["-nodefaults", "-display", "none", "-machine", "none", "-daemonize", "-qmp", &monitor])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("No such file or directory"), "{said}");
}

#[test]
fn a_slip_in_an_option_is_answered_with_the_nearest_one() {
    if is_qemu() {
        return eprintln!("skipped: QEMU does not guess");
    }
    for (args, wanted) in [
        (&["-nodefautls"][..], "-nodefaults"),
        (&["--dispaly", "none"], "-display"),
        (&["-machine", "nnoe"], "none"),
        (&["-qmp", "unix:/nowhere,sever=on"], "server"),
    ] {
        let output = Command::new(program()).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(wanted), "{args:?}: {said}");
    }
}

/// With `-no-reboot` a reset ends the machine, and with `-no-shutdown` the process stays for all that: as in QEMU.
#[test]
fn no_shutdown_keeps_the_process_when_the_machine_ends() {
    for paused in [false, true] {
        let mut extra = vec!["-no-reboot", "-no-shutdown"];
        extra.extend(paused.then_some("-S"));
        let mut vmm = Vmm::with(Setup { extra: &extra, ..Setup::default() });
        let mut client = vmm.client(0);
        client.run("system_reset");
        let events: Vec<_> = client.kept_events().iter().map(|event| event["event"].clone()).collect();
        let status = client.run("query-status")["status"].clone();
        if paused {
            assert_eq!((events, status), (vec![json!("SHUTDOWN")], json!("prelaunch")));
            client.run("cont");
        } else {
            assert_eq!((events, status), (vec![json!("SHUTDOWN"), json!("STOP")], json!("shutdown")));
            let error = client.call("cont", json!({})).unwrap_err();
            assert_eq!(error.desc, "Resetting the Virtual Machine is required");
        }
        client.send(r#"{"execute": "quit"}"#);
        assert_eq!(vmm.exit_code(), 0);
    }
}

/// Whoever reads the log may go away; that ends nothing.
#[test]
fn a_log_that_nobody_reads_any_more_ends_nothing() {
    use std::process::Stdio;
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("q.sock");
    let mut server = Command::new(program())
        .args(["-nodefaults", "-display", "none", "-machine", "none", "-qmp"])
        .arg(format!("unix:{},server=on,wait=off", socket.display()))
        .env("RUST_LOG", "debug")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(server.stderr.take());
    for _ in 0..3 {
        let mut client = Client::connect(&socket).unwrap();
        client.negotiate();
        client.run("query-name");
    }
    let mut client = Client::connect(&socket).unwrap();
    client.negotiate();
    client.send(r#"{"execute": "quit"}"#);
    assert_eq!(server.wait().unwrap().code(), Some(0));
}
