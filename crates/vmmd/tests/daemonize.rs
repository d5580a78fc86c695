//! A daemon in small: this program starts itself anew, by `vmmd::daemonize`, and is looked at from outside.
//!
//! It has its own `main`, because what goes into the background is the whole process with its arguments: called
//! with `daemon HOW DIRECTORY` it is the daemon (and the process that starts it), else the test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};

use vmmd::daemonize::{Launch, launch};
use vmmd::pidfile::PidFile;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, word, how, directory] = args.as_slice()
        && word == "daemon"
    {
        return daemon(how, Path::new(directory));
    }
    // `cargo test -- --list` and the like: one test, no filter.
    if args.iter().any(|arg| arg == "--list") {
        println!("daemonize: test");
        return ExitCode::SUCCESS;
    }
    it_is_ready_when_its_starter_returns();
    a_failure_is_told_by_its_starter();
    an_unexplained_end_is_a_failure();
    a_variable_left_over_is_no_parent();
    println!("test daemonize ... ok");
    ExitCode::SUCCESS
}

/// What `main` of a daemon does.
fn daemon(how: &str, directory: &Path) -> ExitCode {
    let readiness = match launch() {
        Ok(Launch::Parent { code, error }) => {
            if let Some(error) = error {
                eprintln!("daemon: {error}");
            }
            return ExitCode::from(code);
        }
        Ok(Launch::Child(readiness)) => readiness,
        Err(error) => panic!("{error}"),
    };
    match how {
        "fail" => {
            readiness.failed("it did not work");
            ExitCode::from(3)
        }
        "vanish" => ExitCode::SUCCESS,
        _ => {
            let pid = PidFile::create(&directory.join("pid")).unwrap();
            readiness.ready(true).unwrap();
            // Serves, that is: waits to be let go, and tells what it sees.
            let _ = fs::read(directory.join("go"));
            let cwd = std::env::current_dir().unwrap();
            let session = rustix::process::getsid(None).unwrap() == rustix::process::getpid();
            let null = ["0", "1", "2"].map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).unwrap());
            let report = format!("{} {session} {null:?}", cwd.display());
            fs::write(directory.join("report"), report).unwrap();
            drop(pid);
            let _ = fs::read(directory.join("end"));
            ExitCode::SUCCESS
        }
    }
}

fn start(how: &str, directory: &Path) -> Output {
    Command::new("/proc/self/exe").args(["daemon", how]).arg(directory).output().unwrap()
}

fn it_is_ready_when_its_starter_returns() {
    let dir = tempfile::tempdir().unwrap();
    let fifos = ["go", "end"].map(|name| dir.path().join(name));
    for fifo in &fifos {
        rustix::fs::mkfifoat(rustix::fs::CWD, fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    }
    // An inherited descriptor, by a number of its own.
    let file = fs::File::create(dir.path().join("inherited")).unwrap();
    let status = Command::new("/bin/sh")
        .args(["-c", "exec 9>&0; exec \"$0\" daemon serve \"$1\""])
        .arg(fs::read_link("/proc/self/exe").unwrap())
        .arg(dir.path())
        .stdin(Stdio::from(file.as_fd().try_clone_to_owned().unwrap()))
        .status()
        .unwrap();
    assert!(status.success());
    let pid: u32 = fs::read_to_string(dir.path().join("pid")).unwrap().trim_end().parse().unwrap();
    let inherited = fs::read_link(format!("/proc/{pid}/fd/9")).unwrap();
    assert_eq!(inherited, dir.path().join("inherited").canonicalize().unwrap());
    // Opening a fifo waits for its reader, closing it lets the reader go on.
    for fifo in &fifos {
        drop(fs::OpenOptions::new().write(true).open(fifo).unwrap());
    }
    let report = fs::read_to_string(dir.path().join("report")).unwrap();
    assert!(report.starts_with("/ true [\"/dev/null\", \"/dev/null\", \"/dev/null\"]"), "{report}");
    assert!(!dir.path().join("pid").exists());
}

fn a_failure_is_told_by_its_starter() {
    let output = start("fail", Path::new("/"));
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "daemon: it did not work\n");
    assert!(output.stdout.is_empty());
}

fn an_unexplained_end_is_a_failure() {
    let output = start("vanish", Path::new("/"));
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.is_empty());
}

fn a_variable_left_over_is_no_parent() {
    let output = Command::new("/proc/self/exe")
        .args(["daemon", "fail", "/"])
        .env(vmmd::daemonize::CHILD_VARIABLE, "1")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "daemon: it did not work\n");
}
