//! The frame around every case: a `vmmd` of its own, what it has before, a witness all along, and what it has after.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use vmm_integration::client::Client;
use vmm_integration::vmm::{Setup, Vmm};
use vmm_integration::wire::dev_null;
use vmm_integration::{LIMIT, poll_until};

use crate::footprint::Footprint;
use crate::witness::Witness;

/// Rounds before the attack, for what is usual.
const USUAL: usize = 60;

/// Rounds that there are during every attack, at the least.
const ATTACKED: usize = 20;

/// One worker: whatever blocks it stops every session at once, which two would hide.
const ONE_WORKER: &[&str] = &["env", "TOKIO_WORKER_THREADS=1"];

/// How a case's `vmmd` is started.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    /// Further arguments; `{}` in them is the directory.
    pub(crate) extra: &'static [&'static str],
    /// For the attacked monitor and the other.
    pub(crate) options: &'static str,
    /// In front of the program, and of what is put there anyway.
    pub(crate) under: Vec<String>,
    /// Whose the directory is, if not this process's user's.
    pub(crate) uid: Option<u32>,
    /// Memory that may stay beyond what may anyway, in KiB. To be explained.
    pub(crate) slack: u64,
}

/// What an attack can reach.
#[derive(Debug)]
pub(crate) struct Scene {
    vmm: Vmm,
    witness: Witness,
    before: Footprint,
}

/// Runs an attack on a `vmmd` with two monitors, of which the first is to be attacked.
#[track_caller]
pub(crate) fn attack(attack: impl FnOnce(&mut Scene)) {
    Stage::default().attack(attack);
}

impl Stage {
    /// Runs an attack. When it returns, all that it has taken up must be given back.
    #[track_caller]
    pub(crate) fn attack(self, attack: impl FnOnce(&mut Scene)) {
        let dir = tempfile::tempdir().unwrap();
        if self.uid.is_some() {
            std::os::unix::fs::chown(dir.path(), self.uid, None).unwrap();
        }
        let path = dir.path().display().to_string();
        let extra: Vec<String> = self.extra.iter().map(|word| word.replace("{}", &path)).collect();
        let extra: Vec<&str> = extra.iter().map(String::as_str).collect();
        let under = self.under.iter().map(String::as_str).chain(ONE_WORKER.iter().copied());
        let under: Vec<&str> = under.collect();
        let setup = Setup { monitors: 2, options: self.options, extra: &extra, under: &under };
        let vmm = Vmm::with_dir(setup, dir);
        warm_up(&vmm);
        let witness = Witness::start(vmm.client(0), vmm.client(1));
        witness.rounds(USUAL);
        let before = Footprint::of(vmm.pid());
        let mut scene = Scene { vmm, witness, before };

        let from = scene.witness.count();
        attack(&mut scene);
        scene.witness.rounds((from + ATTACKED).saturating_sub(scene.witness.count()).max(1));
        let (mut beside, apart) = scene.witness.end();
        scene.witness.judge(from, scene.is_optimised());
        scene.before.comes_back(self.slack);
        only_these_are_there(&mut beside);
        scene.comes_to_rest();
        assert!(scene.vmm.client(0).run("query-status").is_object(), "it takes new clients");
        drop(apart);
        let said = scene.vmm.observe().stderr();
        assert!(!said.contains("panicked"), "{said}");
        // What is stuck somewhere would keep the process from its end.
        beside.send(r#"{"execute": "quit"}"#);
        let status = scene.vmm.process().wait_exit(LIMIT);
        assert!(status.is_some_and(|status| status.success()), "it ends when it is told to: {status:?}");
    }
}

/// No session is left but the witnesses' two: one that cannot end would hold a place for good.
#[track_caller]
fn only_these_are_there(beside: &mut Client) {
    let mut monitors = Value::Null;
    let alone = poll_until(LIMIT, || {
        monitors = beside.run("x-query-monitors");
        let sessions = |monitor: &Value| monitor["sessions"].as_array().map_or(0, Vec::len);
        monitors.as_array().into_iter().flatten().map(sessions).sum::<usize>() == 2
    });
    assert!(alone, "somebody is still there: {monitors:#}");
}

/// What the process gets once, on the first occasion, is there before anything is counted.
fn warm_up(vmm: &Vmm) {
    let mut client = vmm.client(0);
    client.getfd("a", &dev_null().unwrap()).unwrap();
    let backend = json!({"type": "file", "data": {"out": "/dev/null"}});
    client.call("chardev-add", json!({"id": "warm", "backend": backend})).unwrap();
    client.call("chardev-remove", json!({"id": "warm"})).unwrap();
    client.run("query-qmp-schema");
    let alone = vmm.fd_count() - 1;
    drop(client);
    // The file, the named descriptor and the connection are gone.
    vmm.await_fd_count(alone - 1);
}

impl Scene {
    /// A client of the attacked monitor that has negotiated.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        self.vmm.client(0)
    }

    /// A client of the attacked monitor that has said nothing.
    #[track_caller]
    pub(crate) fn stranger(&self) -> Client {
        self.vmm.stranger(0)
    }

    /// The attacked monitor's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.vmm.socket(0)
    }

    /// Whether the `vmmd` was built with optimisation: it lies where only cargo's plain profile does not put it.
    fn is_optimised(&self) -> bool {
        let program = std::fs::read_link(format!("/proc/{}/exe", self.vmm.pid())).unwrap();
        !program.parent().is_some_and(|folder| folder.ends_with("debug"))
    }

    /// The `vmmd`.
    pub(crate) fn vmm(&mut self) -> &mut Vmm {
        &mut self.vmm
    }

    /// The directory of the case.
    pub(crate) fn dir(&self) -> &Path {
        self.vmm.dir()
    }

    /// A path in it, as a text.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir().join(name).display().to_string()
    }

    /// Stays as it is until the witness has been answered a good number of times.
    #[track_caller]
    pub(crate) fn hold(&self) {
        self.witness.rounds(ATTACKED);
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.vmm.pid()
    }

    /// The numbers of the descriptors that it has open now.
    pub(crate) fn fd_numbers(&self) -> Vec<u64> {
        let dir = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        dir.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Waits until the process has nothing to do: what nobody asks for any more must not go on. A tenth of a second is looked at, of
    /// which a thread that spins would take all, and still most with others beside it that want the processor; three times, as it may
    /// not get any for once.
    #[track_caller]
    fn comes_to_rest(&self) {
        let idle = || {
            let before = self.cpu_ticks();
            std::thread::sleep(Duration::from_millis(100));
            self.cpu_ticks() - before <= 2
        };
        let rests = poll_until(LIMIT, || (0..3).all(|_| idle()));
        assert!(rests, "it goes on working");
    }

    /// How many threads of this name there are.
    pub(crate) fn threads(&self, name: &str) -> usize {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        // One may end meanwhile.
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|comm| comm.trim_end() == name).count()
    }

    /// The processor time it has used, in hundredths of a second.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let after_name = stat.rsplit(')').next().unwrap();
        after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// Descriptors beyond those that were there before.
    pub(crate) fn more_fds(&self) -> usize {
        self.vmm.fd_count().saturating_sub(self.before.fds())
    }

    /// Waits until there are so many descriptors more.
    #[track_caller]
    pub(crate) fn await_more_fds(&self, more: usize) {
        self.vmm.await_fd_count(self.before.fds() + more);
    }

    /// What there was before.
    pub(crate) fn before(&self) -> &Footprint {
        &self.before
    }

    /// Memory of the process now, in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        self.vmm.observe().rss_kib()
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.vmm.observe().signal(signal).unwrap();
    }
}

/// A command that must succeed.
#[track_caller]
pub(crate) fn done(client: &mut Client, command: &str, arguments: Value) -> Value {
    client.call(command, arguments).unwrap_or_else(|e| panic!("{command}: {e}"))
}
