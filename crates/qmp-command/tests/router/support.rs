//! Calls without a monitor: several sessions, and handlers that wait for a word from the test.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use qmp_command::{Command, Context, Outcome, RouteFuture, Router, Session, detached_session};
use qmp_protocol::{Object, Value};
use tokio::sync::Semaphore;
use tokio_test::task::{self, Spawn};

/// One of several clients.
#[derive(Debug)]
struct Client(u64);

impl Session for Client {
    fn id(&self) -> u64 {
        self.0
    }

    fn monitor(&self) -> &str {
        "m"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A request of the client with this number.
pub(crate) fn client(number: u64) -> Context {
    Context::new(Arc::new(Client(number)))
}

pub(crate) fn router(commands: impl IntoIterator<Item = Command>) -> Router {
    Router::builder().commands(commands).build().unwrap()
}

/// The object that this JSON is.
pub(crate) fn arguments(json: &str) -> Object {
    match Value::from_json(json.as_bytes()).unwrap() {
        Value::Object(members) => members,
        other => panic!("{other:?} are no arguments"),
    }
}

/// The reply to a call without arguments: the value, or the class and the description.
pub(crate) async fn ask(router: &Router, name: &str) -> String {
    shown(router.call(name, None, Context::new(detached_session())).await)
}

pub(crate) fn shown(outcome: Outcome) -> String {
    match outcome {
        Ok(payload) => String::from_utf8(payload.as_bytes().to_vec()).unwrap(),
        Err(error) => format!("{:?}: {}", error.class, error.desc),
    }
}

/// A call that the test polls by hand, without a runtime.
pub(crate) fn by_hand(router: &Router, name: &str, context: Context) -> Spawn<RouteFuture> {
    task::spawn(router.call(name, None, context))
}

/// Lets handlers begin and end when the test says so.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    open: Arc<Semaphore>,
    started: Arc<AtomicUsize>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { open: Arc::new(Semaphore::new(0)), started: Arc::default() }
    }

    /// Lets one handler end.
    pub(crate) fn open(&self) {
        self.open.add_permits(1);
    }

    /// How many handlers have begun.
    pub(crate) fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    /// What a handler does: says that it has begun, and waits for [`Gate::open`].
    pub(crate) async fn pass(self) {
        self.started.fetch_add(1, Ordering::SeqCst);
        self.open.acquire().await.unwrap().forget();
    }

    /// An exclusive command whose handler passes the gate.
    pub(crate) fn exclusive(&self, name: &'static str) -> Command {
        self.behind(Command::new(name))
    }

    /// A command whose handler passes the gate.
    pub(crate) fn behind(&self, command: qmp_command::CommandBuilder) -> Command {
        let gate = self.clone();
        command.handler(move |_: Context, (): ()| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Ok(())
            }
        })
    }
}
