//! A session of the process's own: commands and events without a socket, through the same stacks as any client's.
//!
//! `cargo run -p qmp-monitor --example local`

use std::sync::Arc;
use std::thread;

use qmp_command::{Command, CommandError, Context, QapiType, Router};
use qmp_monitor::{Core, EventHub, EventSpec, LocalError, LocalSession, SessionLimits};
use qmp_protocol::Version;
use serde::{Deserialize, Serialize};

/// A number, as argument and as data of an event.
#[derive(Deserialize, Serialize, QapiType)]
struct Number {
    n: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let hub = EventHub::new([EventSpec::standard::<Number>("X_COUNTED")])?;
    let half = Command::new("x-half").read_only().handler(async |context: Context, Number { n }: Number| {
        println!("session {} on {:?} asks for half of {n}", context.session_id(), context.monitor());
        if n % 2 == 0 { Ok(n / 2) } else { Err(CommandError::generic(format!("{n} is odd"))) }
    });
    let router = Router::builder().command(half).build()?;
    let version = Version { major: 7, minor: 2, micro: 0, package: "local".into() };
    let core = Core::new(Arc::new(router), hub.clone(), &version, SessionLimits::default());
    let mut session = LocalSession::new(core.clone(), "local");

    let half: u32 = session.execute("x-half", &Number { n: 84 }).await?;
    println!("{half}");
    match session.execute::<_, u32>("x-half", &Number { n: 7 }).await {
        Err(LocalError::Command(error)) => println!("{:?}: {}", error.class, error.desc),
        other => return Err(format!("{other:?} is not what a client would see").into()),
    }

    // Events can come from any thread. The hub's task wakes those who wait for one.
    session.watch();
    let fan_out = tokio::spawn(async move { hub.run().await });
    let events = core.events().sender();
    let device = thread::spawn(move || (1..=3).try_for_each(|n| events.emit("X_COUNTED", &Number { n })));
    for _ in 1..=3 {
        let event = session.next_event().await.ok_or("the plane has closed")?;
        println!("{} {:?}", event.name, event.data);
    }
    device.join().map_err(|_| "the device panicked")??;

    core.close();
    assert!(session.next_event().await.is_none(), "that was the last one");
    fan_out.abort();
    Ok(())
}
