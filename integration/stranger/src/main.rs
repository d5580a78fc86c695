//! A VMM of somebody else's, with a command and an event of its own.

use serde::{Deserialize, Serialize};
use vmm_control::{
    Command, CommandResult, Context, ControlPlane, EventSpec, Machine, QapiType, RunState, RunStateCell,
};

struct Vmm(RunStateCell);

impl Machine for Vmm {
    fn run_state(&self) -> RunState {
        self.0.get()
    }

    async fn stop(&self) -> CommandResult<()> {
        self.0.stop();
        Ok(())
    }

    async fn cont(&self) -> CommandResult<()> {
        self.0.cont();
        Ok(())
    }
}

/// How large the balloon is to be.
#[derive(Debug, Deserialize, Serialize, PartialEq, QapiType)]
struct Balloon {
    /// Bytes.
    target: u64,
    /// How fast.
    pace: Option<Pace>,
}

/// How fast something is done.
#[derive(Debug, Deserialize, Serialize, PartialEq, QapiType)]
#[serde(rename_all = "kebab-case")]
enum Pace {
    /// As fast as it goes.
    Quick,
    /// Without disturbing the guest.
    Slow,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plane = ControlPlane::builder(Vmm(RunStateCell::new(RunState::Running)))
        .event(EventSpec::extension::<Balloon>("X_BALLOON"))
        .command_with(|plane| {
            let events = plane.events();
            Command::new("x-balloon").handler(move |_: Context, balloon: Balloon| {
                let raised = events.emit("X_BALLOON", &balloon);
                async move { raised.map(|()| balloon).map_err(Into::into) }
            })
        })
        .build()?;
    let mut session = plane.connect();
    session.watch();
    session.state().enable_event("X_BALLOON", true);
    let asked = Balloon { target: 1 << 30, pace: Some(Pace::Slow) };
    let answer: Balloon = session.execute("x-balloon", &asked).await?;
    assert_eq!(answer, asked);
    assert_eq!(session.try_next_event().map(|event| event.name.into_owned()).as_deref(), Some("X_BALLOON"));
    plane.close().await;
    println!("a stranger's command and event work");
    Ok(())
}
