//! `human-monitor-command`, and human commands of an author's own.

use proptest::prelude::*;
use serde_json::{Value, json};
use vmm_control::hmp::{HumanArg, HumanCommand, HumanTableError};
use vmm_control::{BuildError, CommandError, ControlPlane, LocalSession, Policy, Rules, RunState};

use crate::support::{Toy, ask, ask_with, built, events, plain, watching};

/// What a line says.
async fn say(session: &LocalSession, line: &str) -> String {
    match ask(session, "human-monitor-command", json!({ "command-line": line })).await {
        Value::String(said) => said,
        other => panic!("{line:?} says {other}"),
    }
}

fn command(name: &'static str) -> HumanCommand {
    HumanCommand::new(name).immediate(|_, _| Ok(String::new()))
}

#[tokio::test]
async fn lines_do_what_qmp_commands_do_and_raise_their_events() {
    let machine = Toy::named("guest");
    let plane = plain(&machine);
    let mut session = watching(&plane);
    assert_eq!(say(&session, "stop").await, "");
    assert_eq!(say(&session, "info status").await, "VM status: paused\r\n");
    assert_eq!(say(&session, "c").await, "");
    assert_eq!(say(&session, "info status").await, "VM status: running\r\n");
    assert_eq!(say(&session, "info name").await, "guest\r\n");
    assert_eq!(say(&session, "system_reset").await, "");
    assert_eq!(machine.asked(), ["stop", "cont", "reset"]);
    assert_eq!(events(&mut session), ["STOP", "RESUME", "RESET"]);
    assert_eq!(
        say(&session, "system_wakeup").await,
        "Error: wake-up from suspend is not supported by this guest\r\n"
    );
    machine.state.set(RunState::Shutdown);
    assert_eq!(say(&session, "info status").await, "VM status: paused (shutdown)\r\n");
    assert_eq!(say(&session, "cont").await, "Error: Resetting the Virtual Machine is required\r\n");
    assert_eq!(say(&session, "quit").await, "");
    assert_eq!(events(&mut session), ["SHUTDOWN"]);
}

#[tokio::test]
async fn objects_are_made_listed_changed_and_destroyed() {
    let plane = plain(&Toy::new(RunState::Running));
    let session = plane.connect();
    for (line, said) in [
        ("object_add iothread,id=io,poll-max-ns=0x10", ""),
        ("object_add {'qom-type': 'iothread', 'id': 'json'}", ""),
        (
            "object_add iothread,id=io",
            "Error: attempt to add duplicate property 'io' to object (type 'container')\r\n",
        ),
        (
            "object_add iothread,id=1x",
            "Error: Parameter 'id' expects an identifier\r\n\
             Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.\r\n",
        ),
        ("object_add iothread,id=x,poll-max-ns=5k", "Error: Parameter 'poll-max-ns' expects integer\r\n"),
        ("object_add memory-backend-ram,id=m,size=1.5M,share=yes", ""),
        ("qom-get m size", "1572864\r\n"),
        ("qom-get m share", "true\r\n"),
        ("qom-get m host-nodes", "[\r\n]\r\n"),
        ("qom-set io poll-max-ns 010", ""),
        ("qom-get /objects/io poll-max-ns", "8\r\n"),
        ("qom-set -j io poll-max-ns 9", ""),
        ("qom-get io poll-max-ns", "9\r\n"),
        ("qom-set io poll-max-ns 5k", "Error: Parameter 'poll-max-ns' expects int64\r\n"),
        ("qom-set m prealloc-threads x", "Error: Parameter 'prealloc-threads' expects uint64\r\n"),
        ("qom-get io cpu-affinity", "[\r\n]\r\n"),
        (
            "object_add iothread,id=nowhere,cpu-affinity.0=1023",
            "Error: Setting CPU affinity failed: not possible on CPU 1023\r\n",
        ),
        ("qom-set io type x", "Error: Property 'iothread.type' is not writable\r\n"),
        ("qom-set io nope x", "Error: Property 'iothread.nope' not found\r\n"),
        ("qom-list", "/\r\n"),
        ("qom-list /nope", "Error: Device '/nope' not found\r\n"),
        ("info qom-tree nope", "Path 'nope' could not be resolved.\r\n"),
        (
            "info qom-tree /objects",
            "/objects (container)\r\n  /io (iothread)\r\n  /json (iothread)\r\n  /m (memory-backend-ram)\r\n",
        ),
        ("object_del io", ""),
        ("object_del io", "Error: object 'io' not found\r\n"),
    ] {
        assert_eq!(say(&session, line).await, said, "{line}");
    }
    let help = say(&session, "object_add iothread,help").await;
    assert!(help.starts_with("iothread options:\r\n  aio-max-batch=<int>\r\n"), "{help}");
    assert!(say(&session, "object_add ?").await.contains("\r\n  memory-backend-ram\r\n"));
    let threads = say(&session, "info iothreads").await;
    // QEMU's lines, then ours.
    let lines: Vec<_> = threads.lines().collect();
    assert!(threads.starts_with("json:\r\n  thread_id="), "{threads}");
    assert_eq!(lines[5..8], ["  aio-max-batch=0", "  handlers=0", "  polled-handlers=0"], "{threads}");
    assert!(lines.last().unwrap().starts_with("  blocked-ns="), "{threads}");
}

#[tokio::test]
async fn nothing_stays_of_a_line_but_what_it_did() {
    let plane = plain(&Toy::new(RunState::Running));
    let session = plane.connect();
    let null = || std::fs::File::open("/dev/null").unwrap().into();
    let line = json!({"command-line": "getfd a"});
    let said = ask_with(&session, "human-monitor-command", line, vec![null()]).await;
    assert_eq!(said, "Error: No file descriptor supplied via SCM_RIGHTS\r\n");
    assert_eq!(ask_with(&session, "getfd", json!({"fdname": "a"}), vec![null()]).await, json!({}));
    assert_eq!(say(&session, "closefd a").await, "Error: File descriptor named 'a' not found\r\n");
    assert_eq!(ask(&session, "closefd", json!({"fdname": "a"})).await, json!({}));
}

#[tokio::test]
async fn refused_before_the_machine_is_initialised() {
    let plane = built(ControlPlane::builder(Toy::new(RunState::Prelaunch)).preconfig(true));
    let refused = "GenericError: The command 'human-monitor-command' is permitted only after machine \
                   initialization has completed";
    let line = json!({"command-line": "info name"});
    assert_eq!(ask(&plane.connect(), "human-monitor-command", line).await, refused);
}

#[tokio::test]
async fn own_commands_stand_beside_the_built_in_ones() {
    let ring = HumanCommand::new("ring|r")
        .arg(HumanArg::flag('l', "loud"))
        .arg(HumanArg::integer("times"))
        .params("[-l] times")
        .help("ring the bell")
        .handler(async |context, args| {
            if args.is_on("loud") {
                context.print("DING\n");
            }
            match args.number("times") {
                Some(0) => Err(CommandError::generic("never is no number of times")),
                times => Ok(format!("rung {} times\n", times.unwrap_or_default())),
            }
        });
    let builder = ControlPlane::builder(Toy::new(RunState::Running))
        .human_command(ring)
        .human_command(
            HumanCommand::new("info bell").help("show the bell").immediate(|_, _| Ok("here\n".into())),
        )
        .human_command(HumanCommand::new("panic").immediate(|_, _| panic!("on purpose")))
        .human_command_with(|plane| {
            let events = plane.events();
            HumanCommand::new("announce").immediate(move |_, _| {
                events.emit_plain("STOP")?;
                Ok(String::new())
            })
        });
    let plane = built(builder);
    let mut session = watching(&plane);
    for (line, said) in [
        ("ring 3", "rung 3 times\r\n"),
        ("r -l 1+1", "DING\r\nrung 2 times\r\n"),
        ("ring -l 0", "DING\r\nError: never is no number of times\r\n"),
        ("ring", "unexpected end of expression\r\nTry \"help ring\" for more information\r\n"),
        (
            "ring 1 x",
            "ring|r: extraneous characters at the end of line\r\nTry \"help ring\" for more information\r\n",
        ),
        ("help r", "ring|r [-l] times -- ring the bell\r\n"),
        ("info bell", "here\r\n"),
        ("help info bell", "info bell  -- show the bell\r\n"),
        ("panic", "Error: The command panic failed unexpectedly\r\n"),
        ("announce", ""),
    ] {
        assert_eq!(say(&session, line).await, said, "{line}");
    }
    assert!(say(&session, "info").await.contains("info bell  -- show the bell\r\n"));
    assert_eq!(events(&mut session), ["STOP"]);
}

#[tokio::test]
async fn an_exclusive_command_holds_the_permit_and_cannot_wait_for_itself() {
    let (entered, mut enter) = tokio::sync::mpsc::unbounded_channel();
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let waits = {
        let gate = gate.clone();
        HumanCommand::new("wait").exclusive().handler(move |context, _| {
            let (gate, entered) = (gate.clone(), entered.clone());
            async move {
                entered.send(()).ok();
                gate.acquire().await?.forget();
                // It would wait for the permit that this command holds.
                context.call("stop", &()).await?;
                Ok(String::new())
            }
        })
    };
    let machine = Toy::new(RunState::Running);
    let plane = built(ControlPlane::builder(machine.clone()).human_command(waits));
    let session = plane.connect();
    let waiting = tokio::spawn({
        let session = plane.connect();
        async move { say(&session, "wait").await }
    });
    enter.recv().await.unwrap();
    assert_eq!(
        say(&session, "info status").await,
        "VM status: running\r\n",
        "what only looks runs beside it"
    );
    let mut stop = tokio_test::task::spawn(say(&session, "stop"));
    tokio_test::assert_pending!(stop.poll());
    gate.add_permits(1);
    assert_eq!(waiting.await.unwrap(), "Error: The command stop cannot be used by an exclusive one\r\n");
    assert_eq!(stop.await, "");
    assert_eq!(machine.asked(), ["stop"]);
}

#[tokio::test]
async fn policies_know_what_a_line_does() {
    let plane = built(
        ControlPlane::builder(Toy::new(RunState::Running))
            .human_command(command("act|a"))
            .human_command(HumanCommand::new("look").read_only().immediate(|_, _| Ok(String::new())))
            .human_command(HumanCommand::new("relay").calls_only().handler(async |context, _| {
                context.call("stop", &()).await?;
                Ok(String::new())
            })),
    );
    let refused = |name: &str| format!("Error: The command '{name}' is not allowed on this monitor\r\n");
    let looks = plane.connect_with(Policy::from(Rules::new().read_only(true)));
    for line in ["info status", "help stop", "look", "p 1", "cpu 0", "qom-list /", "info qom-tree /objects"] {
        assert!(!say(&looks, line).await.contains("not allowed"), "{line}");
    }
    for (line, name) in [
        ("stop", "stop"),
        ("relay", "stop"),
        ("act", "act"),
        ("a", "act"),
        ("o/b 0x70 1", "o"),
        ("object_add iothread,id=x", "object-add"),
        ("quit", "quit"),
    ] {
        assert_eq!(say(&looks, line).await, refused(name), "{line}");
    }
    let some =
        plane.connect_with(Policy::from(Rules::new().allow(["stop", "human-monitor-command:act"]).unwrap()));
    for line in ["stop", "relay", "act", "help stop"] {
        assert!(!say(&some, line).await.contains("not allowed"), "{line}");
    }
    assert_eq!(say(&some, "look").await, refused("look"));
    assert_eq!(say(&some, "cont").await, refused("cont"));
}

#[tokio::test]
async fn names_are_checked_when_the_plane_is_built() {
    let build =
        |name| ControlPlane::builder(Toy::new(RunState::Running)).human_command(command(name)).build();
    for (name, expected) in [
        ("stop", HumanTableError::Duplicate("stop".into())),
        ("x|s", HumanTableError::Duplicate("s".into())),
        ("info name", HumanTableError::Duplicate("name".into())),
        ("a b", HumanTableError::IllegalName("a b".into())),
    ] {
        let Err(BuildError::Human(error)) = build(name) else { panic!("{name:?} is no error") };
        assert_eq!(error, expected);
    }
    assert!(build("info stop").is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is typed is answered with text, and no handler panics.
    #[test]
    fn every_line_is_answered(lines in prop::collection::vec(line(), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let plane = plain(&Toy::new(RunState::Running));
            let session = plane.connect();
            for line in &lines {
                let said = say(&session, line).await;
                assert!(!said.contains("unexpectedly"), "{line:?} says {said}");
                assert!(said.is_empty() || said.ends_with("\r\n") || said.contains("Try \"help"), "{line:?} says {said}");
            }
        });
    }
}

/// A line of words that mean something, mostly.
fn line() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "help",
        "info",
        "stop",
        "c",
        "p",
        "i",
        "o",
        "cpu",
        "closefd",
        "getfd",
        "object_add",
        "object_del",
        "device_add",
        "device_del",
        "chardev-add",
        "chardev-remove",
        "qom-list",
        "qom-get",
        "qom-set",
        "status",
        "qom-tree",
        "qtree",
        "chardev",
        "iothreads",
        "monitors",
        "cpus",
        "/x",
        "/cb",
        "-j",
        "iothread,id=a",
        "a",
        "/objects",
        "null,id=c",
        "x",
        "poll-max-ns",
        "1",
        "(1+2)*3",
        "'a'",
        "\"a b\"",
        "{\"a\":1}",
        "type",
        "=",
        ",",
        ".",
        "help",
        "?",
        "\"",
        "\\",
    ]);
    let piece = prop_oneof![4 => word.prop_map(str::to_owned), 1 => "\\PC{0,6}"];
    let gap = prop::sample::select(vec![" ", " ", " ", "", "\t", "  "]);
    prop::collection::vec((piece, gap), 0..6)
        .prop_map(|words| words.into_iter().map(|(word, gap)| word + gap).collect())
}
