//! Two processes and one pid file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use vmmd::pidfile::PidFile;

const PATH: &str = "VMMD_TEST_PIDFILE";

/// Not a test of its own: what the other process does. It holds the file until its standard input ends.
#[test]
#[ignore = "run by the other test"]
fn holder() {
    let path = std::env::var(PATH).unwrap();
    let _pid = PidFile::create(Path::new(&path)).unwrap();
    println!("\nheld");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn the_second_process_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pid");
    let mut holder = Command::new("/proc/self/exe")
        .args(["--exact", "holder", "--ignored", "--nocapture"])
        .env(PATH, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "held"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", holder.id()));

    assert_eq!(
        PidFile::create(&path).unwrap_err().to_string(),
        "cannot create PID file: Cannot lock pid file: Resource temporarily unavailable"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", holder.id()), "left as it was");

    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    assert!(!path.exists());
    PidFile::create(&path).unwrap();
}
