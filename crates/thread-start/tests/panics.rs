//! A panic that is caught, with a backtrace, on threads that may make the calls of their list only.

#![expect(clippy::unwrap_used, reason = "in helpers of tests, too, it is how a test fails")]

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::process::Command;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};
use syscalls::Sysno;
use thread_start::{Starter, SystemCall, ThreadKind};

/// Says which kind of thread is to panic, in a process of its own.
const KIND: &str = "THREAD_START_TEST_PANICS";

/// The thread may make these calls; those that are optional are answered with an error, all others end the process.
fn confine(calls: &[&SystemCall]) {
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let rules = |optional_only: bool| -> BTreeMap<i64, Vec<_>> {
        let calls = calls.iter().filter(|call| call.optional || !optional_only);
        let numbers = calls.filter_map(|call| call.name.parse::<Sysno>().ok());
        numbers.map(|number| (i64::from(number.id()), Vec::new())).collect()
    };
    let mut allowed = rules(false);
    // The second filter is put on under the first.
    let _ = [Sysno::seccomp, Sysno::prctl].map(|call| allowed.insert(i64::from(call.id()), Vec::new()));
    let refused = SeccompAction::KillProcess;
    let filter = SeccompFilter::new(allowed, refused, SeccompAction::Allow, arch).unwrap();
    let eacces = SeccompAction::Errno(13);
    let answers = SeccompFilter::new(rules(true), SeccompAction::Allow, eacces, arch).unwrap();
    for filter in [filter, answers] {
        apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
    }
}

#[test]
fn a_panic_that_is_caught_ends_no_process_whatever_thread_it_is_on() {
    if let Some(name) = std::env::var_os(KIND) {
        let kind = ThreadKind::ALL.into_iter().find(|kind| *kind.to_string() == *name).unwrap();
        let starter = Starter::new(|kind, _| confine(&kind.filter()));
        let panics = || catch_unwind(|| panic!("as it should")).is_err();
        assert!(starter.start(kind, "panics", panics).unwrap().join().unwrap());
        return;
    }
    for kind in ThreadKind::ALL {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let child =
            child.arg("--exact").arg("a_panic_that_is_caught_ends_no_process_whatever_thread_it_is_on");
        let output = child.arg("--nocapture").env(KIND, kind.to_string()).env("RUST_BACKTRACE", "1").output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{kind}: {}: {said}", output.status);
        assert!(said.contains("as it should") && said.contains("stack backtrace"), "{kind}: {said}");
    }
}
