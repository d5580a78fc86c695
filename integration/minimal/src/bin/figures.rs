//! Holds the README to what it says of a minimal plane, and tries the program: `figures README.md`, beside `minimal`.
//!
//! Crates are counted in `cargo tree` of this package's normal dependencies, ours left out: all of them, and those that
//! are no macros nor parts of macros and so end up in the program. The size is that of the stripped program beside this
//! one. Crates must be exactly as many as the README says; the program may be up to 5 % larger, or smaller by any amount.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let readme = std::fs::read_to_string(std::env::args_os().nth(1).ok_or("where is the README?")?)?;
    let program = std::env::current_exe()?.with_file_name("minimal");
    talk(&program)?;

    let (all, linked) = (crates("normal")?, crates("normal,no-proc-macro")?);
    let kib = std::fs::metadata(&program)?.len().div_ceil(1024);
    println!("a minimal plane: {linked} crates in the program, {all} with those of macros, {kib} KiB");
    let said = Said::read(&readme)?;
    if (said.linked, said.all) != (linked, all) {
        return Err(format!("the README says {} crates, and {} with macros", said.linked, said.all).into());
    }
    if kib * 100 > said.kib * 105 {
        return Err(format!("the README says {} KiB: find out what has grown, or say so there", said.kib).into());
    }
    Ok(())
}

/// What the README says.
struct Said {
    linked: u64,
    all: u64,
    kib: u64,
}

impl Said {
    /// The three numbers in the line that begins with `A minimal plane`.
    fn read(readme: &str) -> Result<Self> {
        let line = readme.lines().find(|line| line.starts_with("A minimal plane"));
        let line = line.ok_or("the README says nothing of a minimal plane")?.replace(',', "");
        let mut numbers = line.split(' ').filter_map(|word| word.parse().ok());
        let mut next = || numbers.next().ok_or("a number is missing in the README");
        Ok(Self { linked: next()?, all: next()?, kib: next()? })
    }
}

/// How many crates of others this package depends on by edges of these kinds.
fn crates(edges: &str) -> Result<u64> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let output = Command::new(cargo)
        .args(["tree", "--locked", "--prefix", "none", "--format", "{p}", "--no-dedupe", "--edges", edges])
        .arg("--manifest-path")
        .arg(manifest)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let tree = String::from_utf8(output.stdout)?;
    // Ours are followed by the folder they are in.
    let others: BTreeSet<&str> = tree.lines().filter(|line| !line.contains("(/")).map(strip_kind).collect();
    Ok(others.len().try_into()?)
}

/// `name version`, without ` (proc-macro)`.
fn strip_kind(line: &str) -> &str {
    line.split(" (").next().unwrap_or(line)
}

/// Has the program answer on its socket, and end.
fn talk(program: &Path) -> Result<()> {
    let path: PathBuf = std::env::temp_dir().join(format!("minimal-{}.sock", std::process::id()));
    let mut child = Running(Command::new(program).arg(&path).spawn()?);
    let mut client = BufReader::new(connect(&path)?);
    let mut line = String::new();
    client.read_line(&mut line)?;
    if !line.starts_with("{\"QMP\"") {
        return Err(format!("no greeting: {line}").into());
    }
    for (request, reply) in [
        ("{\"execute\": \"qmp_capabilities\"}", "{\"return\": {}}"),
        ("{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"help\"}}", "CommandNotFound"),
        ("{\"execute\": \"quit\"}", "SHUTDOWN"),
    ] {
        client.get_mut().write_all(request.as_bytes())?;
        line.clear();
        client.read_line(&mut line)?;
        if !line.contains(reply) {
            return Err(format!("{request} is answered with {line}").into());
        }
    }
    let status = child.0.wait()?;
    if !status.success() || path.exists() {
        return Err(format!("it did not end as it should: {status}").into());
    }
    Ok(())
}

/// Connects once somebody listens.
fn connect(path: &Path) -> Result<UnixStream> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => {
                stream.set_read_timeout(Some(Duration::from_secs(20)))?;
                return Ok(stream);
            }
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            // Nothing tells when another process listens.
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Gone when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
