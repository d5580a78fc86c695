//! What the kernel says of threads that were started here.

#![expect(clippy::unwrap_used, reason = "in helpers of tests, too, it is how a test fails")]

use std::sync::{Arc, Mutex};

use thread_start::{FAULTS, Starter, ThreadKind, without_signals};

/// The calling thread's blocked signals, one bit each: bit n - 1 is signal n.
fn blocked() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

/// What cannot be blocked, and 32 and 33, which are the C library's own.
fn never_blocked() -> u64 {
    let faults = FAULTS.into_iter();
    faults.chain([9, 19, 32, 33]).fold(0, |bits, signal| bits | 1 << (signal - 1))
}

#[test]
fn a_thread_blocks_every_signal_and_its_starter_none() {
    let before = blocked();
    let seen = Starter::default().start(ThreadKind::Helper, "looks", blocked).unwrap().join().unwrap();
    assert_eq!(seen | never_blocked(), u64::MAX, "{seen:x}");
    let faults = FAULTS.iter().fold(0, |bits, signal| bits | 1 << (signal - 1));
    assert_eq!(seen & faults, 0);
    assert_eq!(blocked(), before);
}

#[test]
fn a_scoped_thread_is_no_different() {
    let (starter, value) = (Starter::default(), 7);
    let seen = std::thread::scope(|scope| {
        let body = || (value, blocked());
        starter.start_scoped(scope, ThreadKind::Helper, "scoped", body).unwrap().join().unwrap()
    });
    assert_eq!((seen.0, seen.1 | never_blocked()), (7, u64::MAX));
}

#[test]
fn the_mask_is_restored_when_starting_panics() {
    let before = blocked();
    let panicked = std::panic::catch_unwind(|| without_signals(|| panic!("no thread")));
    assert!(panicked.is_err());
    assert_eq!(blocked(), before);
}

#[test]
fn the_hook_runs_first_on_the_thread_itself() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let starter = Starter::new(move |kind, name| {
        noted.lock().unwrap().push((kind, name.to_owned(), std::thread::current().id()));
    });
    let noted = seen.clone();
    let body = move || (std::thread::current().id(), noted.lock().unwrap().len());
    let (id, already) = starter.start(ThreadKind::IoThread, "IO a", body).unwrap().join().unwrap();
    assert_eq!(already, 1);
    assert_eq!(*seen.lock().unwrap(), [(ThreadKind::IoThread, "IO a".to_owned(), id)]);
}

#[test]
fn a_hook_that_panics_keeps_the_thread_from_beginning() {
    let starter = Starter::new(|_, _| panic!("not here"));
    let begun = Arc::new(Mutex::new(false));
    let noted = begun.clone();
    let thread = starter.start(ThreadKind::Helper, "never", move || *noted.lock().unwrap() = true).unwrap();
    assert!(thread.join().is_err());
    assert!(!*begun.lock().unwrap());
}

#[test]
fn a_name_that_the_system_cannot_take_is_an_error() {
    let error = Starter::default().start(ThreadKind::Helper, "a\0b", || ()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn a_thread_keeps_nothing_of_its_hook() {
    let (kept, (sender, receiver)) = (Arc::new(()), std::sync::mpsc::channel::<()>());
    let captured = kept.clone();
    let starter = Starter::new(move |_, _| _ = &captured);
    let (begun, begins) = std::sync::mpsc::channel();
    let body = move || {
        begun.send(()).unwrap();
        receiver.recv().unwrap_err()
    };
    let thread = starter.start(ThreadKind::Helper, "stays", body).unwrap();
    begins.recv().unwrap();
    drop(starter);
    assert_eq!(Arc::strong_count(&kept), 1, "the thread is there, and its hook is not");
    drop(sender);
    thread.join().unwrap();
}
