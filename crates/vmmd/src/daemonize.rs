//! Going into the background, without `fork`.
//!
//! Forking a process needs unsafe code and must come before any thread. Instead the process starts itself anew:
//!
//! ```text
//! parent                                     child (the same program, the same arguments)
//!   launch(): starts /proc/self/exe  ------>   launch(): sees that it is the child, setsid()
//!   reads the pipe                             binds sockets, writes the pid file, ...
//!      |  <---- "+" on standard output ------  ready(): stdin, stdout, stderr become /dev/null
//!   exits 0                                    serves
//!      |  <---- "-" and a text --------------  failed(text): to be followed by exit
//!   prints the text, exits as the child does
//! ```
//!
//! The pipe is the child's standard output, which a daemon has no other use for (a chardev on stdio is refused
//! with `-daemonize`), so no descriptor number is taken: those named by `-add-fd` and `fd=` keep their meaning in
//! the child, as inherited descriptors do. The child's standard error is the parent's until it is ready.
//!
//! The child knows what it is by [`CHILD_VARIABLE`], which holds its parent's process id: a variable that was left
//! over from elsewhere names another process, and is ignored.
//!
//! `main` calls [`launch`] once, after the command line was understood and before it opens anything.

use std::env;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};

/// The environment variable that tells the child that it is one. Its value is the parent's process id.
pub const CHILD_VARIABLE: &str = "VMMD_DAEMON_PARENT";

/// The first byte of the child's word.
const READY: u8 = b'+';
const FAILED: u8 = b'-';

/// Which of the two processes this is.
#[derive(Debug)]
#[must_use]
pub enum Launch {
    /// The one that was started by hand. It has waited for the other and has only to exit, with this code; if the
    /// child gave an error text, it must print that first.
    Parent {
        /// The exit code: 0 when the child is ready, else the child's own (1 if it was killed).
        code: u8,
        /// What the child said is wrong.
        error: Option<String>,
    },
    /// The one that stays.
    Child(Readiness),
}

/// The child's way to tell its parent how it went. Dropped unused, the parent takes the child's exit for the answer.
#[derive(Debug)]
#[must_use]
pub struct Readiness {
    /// A duplicate of standard output.
    pipe: File,
}

/// Starts the background process, or finds that this is it.
///
/// In the parent this blocks until the child is ready or gone. In the child it makes a session of its own.
///
/// # Errors
/// The program cannot be started again, or the pipe cannot be read.
pub fn launch() -> io::Result<Launch> {
    if is_child() {
        // Fails only for the leader of a process group, which a freshly started child is not, unless whoever runs
        // it made it one: then it has what it needs.
        let _ = rustix::process::setsid();
        let pipe = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?);
        return Ok(Launch::Child(Readiness { pipe }));
    }
    let mut args = env::args_os();
    let mut command = Command::new("/proc/self/exe");
    command.arg0(args.next().unwrap_or_else(|| OsString::from("vmmd"))).args(args);
    start(command)
}

fn is_child() -> bool {
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    parent.is_some() && env::var(CHILD_VARIABLE).ok() == parent
}

/// Starts `command` as the child and waits for its word.
fn start(mut command: Command) -> io::Result<Launch> {
    command.env(CHILD_VARIABLE, std::process::id().to_string());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut word = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        let mut first = [0];
        // One byte decides. "Ready" is not followed by the end of the pipe, so nothing more may be waited for.
        while pipe.read(&mut first)? == 1 {
            match first[0] {
                READY => return Ok(Launch::Parent { code: 0, error: None }),
                FAILED => {
                    pipe.read_to_end(&mut word)?;
                    break;
                }
                // Not from us; a program that is no child of this protocol will end by itself.
                _ => {}
            }
        }
    }
    let error = (!word.is_empty()).then(|| String::from_utf8_lossy(&word).into_owned());
    Ok(Launch::Parent { code: exit_code(child.wait()?), error })
}

/// The code to exit with for a child that ended without having been ready: its own, and 1 if that is 0 or if it
/// was killed.
fn exit_code(status: ExitStatus) -> u8 {
    match status.code().map(u8::try_from) {
        Some(Ok(code)) if code != 0 => code,
        _ => 1,
    }
}

impl Readiness {
    /// Everything listens: lets the parent go, and lets go of the terminal.
    ///
    /// `leave_directory` changes to `/`, so that the directory the daemon was started in can be unmounted. Not to
    /// be done while relative paths are still needed, such as those of sockets that are removed at the end.
    ///
    /// # Errors
    /// `/dev/null` cannot be opened, or the parent is gone.
    pub fn ready(mut self, leave_directory: bool) -> io::Result<()> {
        if leave_directory {
            env::set_current_dir("/")?;
        }
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        // Last, and only then the word: until it is said, errors can still be seen.
        rustix::stdio::dup2_stderr(&null)?;
        self.pipe.write_all(&[READY])
    }

    /// It did not work: gives the parent `text` to print. The caller then exits, with the code that the parent
    /// is to exit with.
    pub fn failed(mut self, text: &str) {
        // If the parent is gone there is nobody to tell.
        let _ = self.pipe.write_all(&[FAILED]).and_then(|()| self.pipe.write_all(text.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(script: &str) -> (u8, Option<String>) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        match start(command).unwrap() {
            Launch::Parent { code, error } => (code, error),
            Launch::Child(_) => panic!("the child is elsewhere"),
        }
    }

    #[test]
    fn the_parent_leaves_at_the_word_and_not_at_the_end() {
        // The child waits for its standard output to be taken away, which it is not before the parent has answered.
        assert_eq!(outcome("printf +; exec cat /dev/null"), (0, None));
    }

    #[test]
    fn the_text_and_the_status_of_a_failure_come_through() {
        assert_eq!(outcome("printf -- '-no luck'; exit 3"), (3, Some("no luck".to_owned())));
        assert_eq!(outcome("exit 7"), (7, None));
        assert_eq!(outcome("printf noise; exit 0"), (1, None));
        assert_eq!(outcome("kill -9 $$"), (1, None));
    }

    #[test]
    fn the_child_is_told_its_parent() {
        let script = format!("test \"${CHILD_VARIABLE}\" = $PPID && printf +");
        assert_eq!(outcome(&script), (0, None));
    }
}
