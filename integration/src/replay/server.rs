//! A server started for a group of cases, in a directory of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, mkfifoat};
use tempfile::TempDir;

use super::startline::{add_monitor_options, words};
use crate::process::Process;
use crate::wire::is_listening;

/// The sockets a start line can name, and their files.
const SOCKETS: [(&str, &str); 6] = [
    ("sock", "q0.sock"),
    ("sock2", "q1.sock"),
    ("sock3", "q2.sock"),
    ("hmp", "hmp.sock"),
    ("aux", "aux.sock"),
    ("aux2", "aux2.sock"),
];

/// How to start servers: the same for all groups.
#[derive(Debug, Clone, Default)]
pub struct Command {
    /// The start command; `{args}` in it stands for the group's arguments.
    pub start: String,
    /// Appended to each monitor's socket options, when not empty.
    pub monitor_options: String,
    /// Further words at the end of the line.
    pub extra_args: Vec<String>,
}

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    /// The process.
    pub(super) process: Process,
    /// Where its sockets, its fifo and its file are; removed on drop.
    dir: TempDir,
    sockets: BTreeMap<&'static str, PathBuf>,
}

impl Server {
    /// Starts a server and waits, at most `limit`, for its first socket.
    ///
    /// # Errors
    /// A text for people: the command line, and what the server said last.
    pub(super) fn start(command: &Command, arguments: &str, limit: Duration) -> Result<Self, String> {
        let dir = prepare_dir().map_err(|e| format!("cannot make a directory: {e}"))?;
        let sockets = SOCKETS.map(|(name, file)| (name, dir.path().join(file)));
        let argv = argv(command, arguments, dir.path(), &sockets)?;
        let process = Process::spawn(&argv, dir.path()).map_err(|e| e.to_string())?;
        let mut server = Self { process, dir, sockets: sockets.into() };
        server
            .wait_ready(limit)
            .map_err(|why| format!("{why}: {} {}", argv.join(" "), last(&server.process.stderr())))?;
        Ok(server)
    }

    fn wait_ready(&mut self, limit: Duration) -> Result<(), &'static str> {
        // Not by connecting: on a monitor that serves one client at a time that would be the client.
        let start = Instant::now();
        while !is_listening(&self.sockets["sock"]) {
            if !self.process.is_running() {
                return Err("the server ended at its start");
            }
            if start.elapsed() > limit {
                return Err("nobody listens on the socket of");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// What `{dir}` stands for.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The socket of this name.
    pub(super) fn socket(&self, name: &str) -> Result<&Path, String> {
        self.sockets.get(name).map(PathBuf::as_path).ok_or_else(|| format!("no socket is called '{name}'"))
    }
}

fn prepare_dir() -> io::Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("qd").tempdir()?;
    mkfifoat(CWD, dir.path().join("fifo"), Mode::RUSR | Mode::WUSR)?;
    fs::write(dir.path().join("file"), vec![0; 65536])?;
    Ok(dir)
}

fn argv(
    command: &Command,
    arguments: &str,
    dir: &Path,
    sockets: &[(&'static str, PathBuf)],
) -> Result<Vec<String>, String> {
    let mut argv = words(&command.start.replace("{args}", arguments))?;
    if !command.monitor_options.is_empty() {
        add_monitor_options(&mut argv, &command.monitor_options);
    }
    argv.extend(command.extra_args.iter().cloned());
    for word in &mut argv {
        for (name, path) in sockets {
            *word = word.replace(&format!("{{{name}}}"), &path.to_string_lossy());
        }
        *word = word.replace("{dir}", &dir.to_string_lossy());
    }
    Ok(argv)
}

/// The last few hundred characters.
fn last(text: &str) -> &str {
    let start = text.char_indices().rev().nth(499).map_or(0, |(at, _)| at);
    text[start..].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line() {
        let command = Command {
            start: "run {args} -x".to_owned(),
            monitor_options: "max-clients=1".to_owned(),
            extra_args: vec!["{dir}/log".to_owned()],
        };
        let sockets = [("sock", PathBuf::from("/t/q0.sock"))];
        let argv =
            argv(&command, "-qmp unix:{sock},server=on -name 'a b'", Path::new("/t"), &sockets).unwrap();
        assert_eq!(
            argv,
            ["run", "-qmp", "unix:/t/q0.sock,server=on,max-clients=1", "-name", "a b", "-x", "/t/log"]
        );
    }

    #[test]
    fn a_server_that_ends_at_once_says_why() {
        let command = Command {
            start: "sh -c 'echo no such machine >&2; exit 1' {args}".to_owned(),
            ..Command::default()
        };
        let error = Server::start(&command, "", crate::LIMIT).unwrap_err();
        assert!(error.contains("ended at its start") && error.contains("no such machine"), "{error}");
    }
}
