//! What may block runs on a thread of its own, which ends with it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use thread_start::{Starter, ThreadKind};

const PATIENCE: Duration = Duration::from_secs(20);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

#[test]
fn it_returns_what_the_closure_returns_from_a_thread_that_was_announced() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let starter = Starter::new(move |kind, name| noted.lock().unwrap().push((kind, name.to_owned())));
    let starter = starter.apart_name("apart");
    for number in 0..20 {
        assert_eq!(wait(starter.apart(move || number)).unwrap(), number);
    }
    assert!(starter.join_apart(PATIENCE));
    assert_eq!(*seen.lock().unwrap(), vec![(ThreadKind::Blocking, "apart".to_owned()); 20]);
}

#[test]
fn a_panic_is_the_askers() {
    let starter = Starter::default();
    let panic = catch_unwind(AssertUnwindSafe(|| wait(starter.apart(|| panic!("a test"))))).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"a test"));
    assert!(starter.join_apart(PATIENCE));
}

#[test]
fn without_a_thread_it_is_an_error_and_nothing_stays() {
    // No system starts a thread of this name.
    let none = Starter::default().apart_name("\0");
    let held = Arc::new(());
    let kept = held.clone();
    wait(none.apart(move || drop(kept))).unwrap_err();
    assert_eq!(Arc::strong_count(&held), 1);
    assert!(none.join_apart(Duration::ZERO));

    let hook = Starter::new(|_, _| panic!("a hook of a test"));
    let error = wait(hook.apart(|| ())).unwrap_err();
    assert_eq!(error.to_string(), "the thread ended before it had begun");
    assert!(hook.join_apart(PATIENCE));
}

#[test]
fn it_runs_on_without_its_asker_and_is_waited_for_as_long_as_one_likes() {
    let starter = Starter::default();
    let ((begun, begins), (release, released)) = (mpsc::channel(), mpsc::channel::<()>());
    let run = move || {
        begun.send(()).unwrap();
        let _ = released.recv();
    };
    drop(starter.apart(run));
    begins.recv_timeout(PATIENCE).unwrap();
    assert!(!starter.clone().join_apart(Duration::from_millis(1)));
    drop(release);
    assert!(starter.join_apart(PATIENCE));
}
