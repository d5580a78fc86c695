//! A machine whose state lives in one loop.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use futures_util::FutureExt as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vmm_control::hosting::{
    BlockingSession, Call, Completion, LoopHandle, MachineFacts, MachineQueue, MachineRequest,
};
use vmm_control::{
    Builder, Command, CommandError, CommandResult, Context, ControlPlane, Creation, Object, ObjectType,
    QapiType, RunState, ShutdownCause,
};

use crate::client::PATIENCE;

pub(crate) fn queue<S>() -> MachineQueue<S> {
    MachineQueue::new(MachineFacts::new(RunState::Running).name("looped")).unwrap()
}

/// Whether the descriptor is readable within this time.
pub(crate) fn is_readable(calls: &impl AsFd, limit: Timespec) -> bool {
    poll(&mut [PollFd::new(calls, PollFlags::IN)], Some(&limit)).unwrap() == 1
}

pub(crate) const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
pub(crate) const LATER: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

/// Waits for a call.
pub(crate) fn next<S>(calls: &mut MachineQueue<S>) -> Call<S> {
    assert!(is_readable(calls, LATER), "a call comes in time");
    calls.try_next().unwrap()
}

fn machine_call<S>(calls: &mut MachineQueue<S>) -> (MachineRequest, Completion<()>) {
    match next(calls) {
        Call::Machine(request, completion) => (request, completion),
        Call::Task(_) => panic!("the plane asks something"),
    }
}

#[test]
fn the_descriptor_is_readable_exactly_as_long_as_a_call_waits() {
    let mut calls = queue::<u32>();
    assert!(!is_readable(&calls, NOW));
    assert!(calls.try_next().is_none());
    let callers = [1, 2].map(|n| {
        let handle = calls.handle();
        let caller = thread::spawn(move || handle.blocking_run(move |sum| Ok(std::mem::replace(sum, n))));
        assert!(is_readable(&calls, LATER));
        caller
    });
    let first = next(&mut calls);
    // The second one comes when it likes.
    let second = next(&mut calls);
    assert!(!is_readable(&calls, NOW));
    let mut state = 0;
    for call in [first, second] {
        let Call::Task(task) = call else { panic!("a task") };
        task.run(&mut state);
    }
    let mut seen = callers.map(|caller| caller.join().unwrap().unwrap());
    seen.sort_unstable();
    assert_eq!(seen[0], 0);
    assert!(!is_readable(&calls, NOW));
}

#[test]
fn each_command_asks_for_what_it_means() {
    use MachineRequest::{Cont, Initialize, Powerdown, Reset, ShutDown, Stop, Wakeup};
    let mut calls = queue::<()>();
    let machine = calls.handle();
    let plane = ControlPlane::builder(calls.handle()).preconfig(true).no_shutdown(true).start().unwrap();
    let session = plane.connect();
    let (handle, (commands, next_command)) = (plane.handle(), mpsc::channel::<&'static str>());
    let client = thread::spawn(move || {
        for command in next_command {
            session.call(command, &()).unwrap();
        }
    });
    let mut does = |command, request, state| {
        commands.send(command).unwrap();
        let (asked, completion) = machine_call(&mut calls);
        assert_eq!(asked, request, "{command}");
        machine.publish(|facts| facts.run_state = state);
        completion.complete(Ok(()));
    };
    does("x-exit-preconfig", Initialize, RunState::Running);
    does("stop", Stop, RunState::Paused);
    does("cont", Cont, RunState::Running);
    does("system_reset", Reset, RunState::Running);
    does("system_powerdown", Powerdown, RunState::Suspended);
    does("system_wakeup", Wakeup, RunState::Running);
    drop(commands);
    client.join().unwrap();
    plane.spawn(async move |_| handle.guest_shut_down(ShutdownCause::GuestShutdown).await);
    let (asked, completion) = machine_call(&mut calls);
    assert_eq!(asked, ShutDown);
    completion.complete(Ok(()));
    drop(calls);
    plane.close();
}

/// A guest's end waits for its turn, as a command would; whoever reports it need not.
#[test]
fn of_calls_that_change_the_machine_one_is_open_at_a_time() {
    let mut calls = queue::<()>();
    let (machine, plane) = (calls.handle(), ControlPlane::builder(calls.handle()).no_shutdown(true));
    let plane = plane.start().unwrap();
    let (session, mut watches, handle) = (plane.connect(), plane.connect(), plane.handle());
    watches.watch();
    let stops = thread::spawn(move || session.call("stop", &()));
    let (asked, stop) = machine_call(&mut calls);
    assert_eq!(asked, MachineRequest::Stop);
    // It begins, and is then left to the plane.
    let report = async move |_: &ControlPlane| {
        handle.guest_shut_down(ShutdownCause::GuestShutdown).now_or_never();
    };
    thread::scope(|scope| scope.spawn(|| plane.run(report).unwrap()).join().unwrap());
    assert!(!is_readable(&calls, NOW), "one is open");
    machine.publish(|facts| facts.run_state = RunState::Paused);
    stop.complete(Ok(()));
    let (asked, shut_down) = machine_call(&mut calls);
    assert_eq!(asked, MachineRequest::ShutDown);
    machine.publish(|facts| facts.run_state = RunState::Shutdown);
    shut_down.complete(Ok(()));
    stops.join().unwrap().unwrap();
    let events = thread::spawn(move || {
        let event = |session: &mut BlockingSession| session.next_event().unwrap().name.into_owned();
        let seen = [event(&mut watches), event(&mut watches)];
        // All commands before it are through when this one is, and what they raised.
        watches.call("stop", &()).unwrap_err();
        (seen, watches.try_next_event().map(|event| event.name))
    });
    drop(machine_call(&mut calls));
    assert_eq!(events.join().unwrap(), (["STOP".to_owned(), "SHUTDOWN".to_owned()], None));
    drop(calls);
    plane.close();
}

#[test]
fn what_the_loop_publishes_is_what_clients_see() {
    let mut calls = queue::<()>();
    let machine = calls.handle();
    let plane = ControlPlane::builder(calls.handle()).start().unwrap();
    let mut session = plane.connect();
    session.watch();
    let name: Value = session.execute("query-name", &()).unwrap();
    assert_eq!(name["name"], "looped");
    machine.publish(|facts| {
        facts.name = Some("renamed".to_owned());
        facts.uuid = [0x11; 16];
    });
    let name: Value = session.execute("query-name", &()).unwrap();
    assert_eq!(name["name"], "renamed");
    let uuid: Value = session.execute("query-uuid", &()).unwrap();
    assert_eq!(uuid["UUID"], "11111111-1111-1111-1111-111111111111");
    let client = thread::spawn(move || {
        session.call("stop", &()).unwrap();
        session.try_next_event().unwrap().name
    });
    let (_, completion) = machine_call(&mut calls);
    machine.publish(|facts| facts.run_state = RunState::Paused);
    assert_eq!(machine.facts().run_state, RunState::Paused);
    completion.complete(Ok(()));
    assert_eq!(client.join().unwrap(), "STOP");
    drop(calls);
    plane.close();
}

/// State that could not leave its thread.
struct Vmm {
    counted: Rc<Cell<u64>>,
    open: Vec<(u64, Completion<u64>)>,
}

#[derive(Deserialize, Serialize, QapiType)]
struct Number {
    n: u64,
}

/// A property that lives in the loop.
struct InLoop {
    vmm: LoopHandle<Vmm>,
    shown: Mutex<u64>,
}

#[derive(Deserialize, Serialize, QapiType)]
struct InLoopProperties {
    level: Option<u64>,
}

impl Object for InLoop {
    type Properties = InLoopProperties;
    const SETTABLE: &'static [&'static str] = &["level"];

    fn properties(&self) -> InLoopProperties {
        InLoopProperties { level: Some(*self.shown.lock().unwrap()) }
    }

    fn set(&self, _: &'static str, new: InLoopProperties) -> CommandResult<()> {
        let level = new.level.unwrap_or(0);
        self.vmm.blocking_run(move |vmm| {
            if level > 100 {
                return Err(CommandError::generic("too much"));
            }
            vmm.counted.set(level);
            Ok(())
        })?;
        *self.shown.lock().unwrap() = level;
        Ok(())
    }
}

fn with_commands(calls: &MachineQueue<Vmm>) -> Builder {
    let (adds, opens, object) = (calls.handle(), calls.handle(), calls.handle());
    let adds = Command::new("x-add").handler(move |_: Context, number: Number| {
        adds.run(move |vmm| {
            vmm.counted.set(vmm.counted.get() + number.n);
            Ok(vmm.counted.get())
        })
    });
    let opens = Command::new("x-open").concurrent().handler(move |_: Context, number: Number| {
        opens.call(move |vmm, completion| vmm.open.push((number.n, completion)))
    });
    let object = ObjectType::new("x-in-loop", move |_: &Creation, properties: InLoopProperties| {
        Ok(InLoop { vmm: object.clone(), shown: Mutex::new(properties.level.unwrap_or(0)) })
    });
    ControlPlane::builder(calls.handle()).command(adds).command(opens).object_type(object)
}

#[test]
fn own_commands_and_properties_use_the_state_without_a_lock() {
    let mut calls = queue::<Vmm>();
    let plane = with_commands(&calls).start().unwrap();
    let session = plane.connect();
    let client = thread::spawn(move || {
        assert_eq!(session.execute::<_, u64>("x-add", &Number { n: 3 }).unwrap(), 3);
        assert_eq!(session.execute::<_, u64>("x-add", &Number { n: 4 }).unwrap(), 7);
        session.call("object-add", &json!({"qom-type": "x-in-loop", "id": "o", "level": 1})).unwrap();
        let set =
            |level: u64| session.call("qom-set", &json!({"path": "o", "property": "level", "value": level}));
        set(50).unwrap();
        assert_eq!(set(101).unwrap_err().to_string(), "too much");
        let level: u64 = session.execute("qom-get", &json!({"path": "o", "property": "level"})).unwrap();
        assert_eq!(level, 50);
    });
    let mut vmm = Vmm { counted: Rc::default(), open: Vec::new() };
    for _ in 0..4 {
        let Call::Task(task) = next(&mut calls) else { panic!("a task") };
        task.run(&mut vmm);
    }
    client.join().unwrap();
    assert_eq!(vmm.counted.get(), 50);
    drop(calls);
    plane.close();
}

#[test]
fn calls_are_completed_in_any_order_from_any_thread() {
    let mut calls = queue::<Vmm>();
    let plane = with_commands(&calls).start().unwrap();
    let (replied, replies) = mpsc::channel();
    let clients: Vec<_> = (0..3)
        .map(|n| {
            let (session, replied) = (plane.connect(), replied.clone());
            thread::spawn(move || {
                replied.send(session.execute::<_, u64>("x-open", &Number { n }).unwrap()).unwrap();
            })
        })
        .collect();
    let mut vmm = Vmm { counted: Rc::default(), open: Vec::new() };
    while vmm.open.len() < 3 {
        let Call::Task(task) = next(&mut calls) else { panic!("a task") };
        task.run(&mut vmm);
    }
    vmm.open.sort_unstable_by_key(|(n, _)| *n);
    // The last one first, each from a thread of its own, and the next one once that has its reply.
    while let Some((n, completion)) = vmm.open.pop() {
        thread::spawn(move || completion.complete(Ok(n * 10)));
        assert_eq!(replies.recv_timeout(PATIENCE).unwrap(), n * 10);
    }
    clients.into_iter().for_each(|client| client.join().unwrap());
    drop(calls);
    plane.close();
}

#[expect(clippy::unnecessary_wraps, reason = "tasks may fail")]
pub(crate) fn add(sum: &mut u64, n: u64) -> CommandResult<()> {
    *sum += n;
    Ok(())
}

/// Producers on threads of their own against a loop that sleeps whenever there is nothing: a wake-up that is lost would leave it
/// asleep with calls waiting.
#[test]
fn no_wake_up_is_lost() {
    const PRODUCERS: u64 = 4;
    const EACH: u64 = 3000;
    let mut calls = queue::<u64>();
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let handle = calls.handle();
            thread::spawn(move || {
                for n in 0..EACH {
                    if (n + producer).is_multiple_of(7) {
                        thread::yield_now();
                    }
                    handle.blocking_run(|sum| add(sum, 1)).unwrap();
                }
            })
        })
        .collect();
    let (mut sum, mut woken_for_nothing) = (0, 0);
    while sum < PRODUCERS * EACH {
        assert!(is_readable(&calls, LATER), "asleep after {sum} with {calls:?}");
        let before = sum;
        // Now and then not all of them: it must stay readable.
        let most = if sum.is_multiple_of(3) { 1 } else { u64::MAX };
        for _ in 0..most {
            match calls.try_next() {
                Some(Call::Task(task)) => task.run(&mut sum),
                _ => break,
            }
        }
        woken_for_nothing += u64::from(sum == before);
    }
    assert_eq!(woken_for_nothing, 0, "readable means that a call waits");
    producers.into_iter().for_each(|producer| producer.join().unwrap());
}

#[tokio::test]
async fn only_so_many_tasks_wait_in_the_queue() {
    let mut calls = queue::<u64>();
    let asked: Vec<_> =
        (0..1500_u64).map(|n| tokio::spawn(calls.handle().run(move |sum| add(sum, n)))).collect();
    let mut held = Vec::new();
    while held.len() < 1024 {
        tokio::task::yield_now().await;
        held.extend(std::iter::from_fn(|| calls.try_next()));
    }
    // Each of the others has had a turn by then.
    for _ in 0..1500 {
        tokio::task::yield_now().await;
    }
    assert!(calls.try_next().is_none());
    assert_eq!(held.len(), 1024, "the others wait where they come from");
    let mut sum = 0;
    while sum < (0..1500).sum() {
        for call in held.drain(..) {
            let Call::Task(task) = call else { panic!("a task") };
            task.run(&mut sum);
        }
        tokio::task::yield_now().await;
        held.extend(std::iter::from_fn(|| calls.try_next()));
    }
    for task in asked {
        task.await.unwrap().unwrap();
    }
}

#[test]
fn a_future_that_is_dropped_does_not_take_its_task_along() {
    let mut calls = queue::<Arc<str>>();
    let mut asks = Box::pin(calls.handle().run(|state| {
        *state = "ran".into();
        Ok(())
    }));
    assert!(calls.try_next().is_none(), "nothing is asked before it is polled");
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(asks.as_mut().poll(&mut context).is_pending());
    drop(asks);
    let mut state = "".into();
    let Call::Task(task) = next(&mut calls) else { panic!("a task") };
    task.run(&mut state);
    assert_eq!(&*state, "ran");
}

/// As a handler that panics: who asked gets an error, and the loop goes on.
#[test]
fn a_task_that_panics_costs_its_caller_an_error() {
    let mut calls = queue::<u64>();
    let asks = [1, 2].map(|n| {
        let handle = calls.handle();
        let caller = thread::spawn(move || {
            handle.blocking_run(move |sum| {
                *sum += n;
                assert_eq!(n, 2, "this is meant to panic");
                Ok(*sum)
            })
        });
        // In this order.
        (next(&mut calls), caller)
    });
    let mut sum = 0;
    for (n, (call, caller)) in (1..).zip(asks) {
        let Call::Task(task) = call else { panic!("a task") };
        task.run(&mut sum);
        let said = caller.join().unwrap().map_err(|error| error.to_string());
        let expected = if n == 1 { Err("The machine gave no answer".to_owned()) } else { Ok(3) };
        assert_eq!(said, expected);
    }
}
