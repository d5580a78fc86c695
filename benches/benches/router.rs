//! How long a command takes from the router to its outcome, without a session or a socket.
//!
//! The commands' handlers do nothing, so what is measured is the lookup, the stack's clone, its layers and the
//! arguments' decoding. Each call is one poll: nothing here ever waits. The floor is the handler called directly.

#![expect(missing_docs, reason = "criterion_group! makes a public function without any")]

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use qmp_command::{Command, CommandResult, Context, Outcome, QapiType, Router, detached_session};
use qmp_protocol::{Format, Object, Payload, Value};
use serde::{Deserialize, Serialize};

/// The arguments of `getfd`, and one that may be absent.
#[derive(Deserialize, QapiType)]
struct Arguments {
    fdname: String,
    count: Option<i64>,
}

/// No arguments.
#[derive(Deserialize, QapiType)]
struct Nothing {}

/// What `query-name` returns.
#[derive(Serialize, QapiType)]
struct NameInfo {
    name: Option<String>,
}

async fn query_name(_: Context, _: Nothing) -> CommandResult<NameInfo> {
    Ok(NameInfo { name: None })
}

async fn with_arguments(_: Context, arguments: Arguments) -> CommandResult<NameInfo> {
    black_box(arguments.count);
    Ok(NameInfo { name: Some(arguments.fdname) })
}

/// As many commands as a monitor has, the measured ones among them.
fn router() -> Router {
    const OTHERS: [&str; 12] = [
        "cont",
        "stop",
        "getfd",
        "closefd",
        "add-fd",
        "remove-fd",
        "query-fdsets",
        "query-status",
        "query-version",
        "query-commands",
        "quit",
        "system_reset",
    ];
    let command = |name| Command::new(name);
    Router::builder()
        .command(command("read-only").read_only().handler(query_name))
        .command(command("exclusive").handler(query_name))
        .command(command("cancel-safe").read_only().cancel_safe().handler(query_name))
        .command(command("arguments").read_only().handler(with_arguments))
        .commands(OTHERS.map(|name| command(name).handler(query_name)))
        .timeout(Duration::from_secs(30))
        .build()
        .expect("the names and types are legal")
}

/// The output of a future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing here waits"),
    }
}

fn arguments() -> Object {
    [("fdname", Value::from("net0"))].into_iter().collect()
}

fn calls(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime for the timeout's timer");
    let _entered = runtime.enter();
    let router = router();
    let context = Context::new(detached_session());
    let call = |name, arguments: Option<Object>| -> Outcome {
        now(router.call(black_box(name), arguments, context.clone()))
    };

    let mut group = c.benchmark_group("router");
    for name in ["read-only", "exclusive", "cancel-safe"] {
        group.bench_function(name, |b| {
            b.iter(|| assert!(call(name, None).is_ok()));
        });
    }
    group.bench_function("arguments", |b| {
        b.iter_batched(
            arguments,
            |arguments| assert!(call("arguments", Some(arguments)).is_ok()),
            criterion::BatchSize::SmallInput,
        );
    });
    group.bench_function("wrong arguments", |b| b.iter(|| assert!(call("arguments", None).is_err())));
    group.bench_function("unknown command", |b| b.iter(|| assert!(call("no-such-command", None).is_err())));
    group.bench_function("floor: handler and reply", |b| {
        b.iter(|| {
            let info = now(query_name(context.clone(), Nothing {}));
            assert!(info.is_ok_and(|info| black_box(Payload::encode(&info, Format::Compact)).is_ok()));
        });
    });
    group.finish();
}

criterion_group!(benches, calls);
criterion_main!(benches);
