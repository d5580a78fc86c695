//! `query-iothreads`, and what iothreads have been doing: `x-query-iothread-stats`.

use std::sync::Arc;

use iothread::Info;
use qmp_command::{Command, Context, Feature, QapiType};
use serde::Serialize;

use crate::objects::Node;
use crate::objects::builtin::IoThreadObject;
use crate::plane::Shared;

/// An iothread.
#[derive(Debug, Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
#[qapi(name = "IOThreadInfo")]
struct IoThreadInfo {
    /// Its name under `/objects`.
    id: String,
    /// The thread's number, as the host has it.
    thread_id: i64,
    /// Longest busy polling before a wait, in nanoseconds; 0 for none.
    poll_max_ns: i64,
    /// Factor by which polling grows; 0 if nobody said.
    poll_grow: i64,
    /// Divisor by which it shrinks; 0 if nobody said.
    poll_shrink: i64,
    /// Requests submitted at once; 0 for the engine's default.
    aio_max_batch: i64,
}

/// What an iothread has been doing. Counters begin with the thread.
#[derive(Debug, Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
#[qapi(name = "XIoThreadStats")]
struct IoThreadStats {
    /// Its id.
    id: String,
    /// The thread's number, as the host has it.
    thread_id: i64,
    /// What it serves now: descriptors with their handlers.
    handlers: u64,
    /// Those of them that it polls busily now, where that pays. The others have no hook for it, do not want to read, or
    /// have had nothing to do for 7 seconds.
    polled_handlers: u64,
    /// For how long it polls now before it blocks, in nanoseconds; 0 for not at all. `poll-max-ns` is the bound.
    poll_ns: u64,
    /// Waits that polling ended, because it found work.
    poll_hits: u64,
    /// Waits ahead of which it polled in vain.
    poll_misses: u64,
    /// Times that it blocked and woke up.
    wakeups: u64,
    /// Calls of handlers because their descriptor was ready, those not included that polling made.
    handler_calls: u64,
    /// Calls of timers.
    timer_calls: u64,
    /// Closures that other threads had it run.
    closures: u64,
    /// Handlers, timers and closures that panicked, and are gone.
    panics: u64,
    /// Time spent polling, in nanoseconds; of polling that found work, as far as the clock was read.
    polling_ns: u64,
    /// Time spent blocked, in nanoseconds, without a wait that is going on.
    blocked_ns: u64,
}

impl From<Info> for IoThreadStats {
    fn from(Info { id, thread_id, stats, .. }: Info) -> Self {
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            id,
            thread_id: thread_id.into(),
            handlers: stats.handlers,
            polled_handlers: stats.polled_handlers,
            poll_ns: nanos(stats.poll_time),
            poll_hits: stats.poll_hits,
            poll_misses: stats.poll_misses,
            wakeups: stats.wakeups,
            handler_calls: stats.handler_calls,
            timer_calls: stats.timer_calls,
            closures: stats.closures,
            panics: stats.panics,
            polling_ns: nanos(stats.polling),
            blocked_ns: nanos(stats.blocked),
        }
    }
}

pub(super) fn query_iothreads(plane: &Arc<Shared>) -> Command {
    let (objects, threads) = (plane.objects.clone(), plane.iothreads.clone());
    Command::new("query-iothreads").doc("Lists the iothreads.").allow_preconfig().read_only().handler(
        move |_: Context, (): ()| {
            let is_one = |node: &Arc<Node>| node.object.clone().into_any().is::<IoThreadObject>();
            let info = |node: Arc<Node>| {
                // One that is being made has no thread yet.
                let (thread_id, values) =
                    threads.with(node.name(), |thread| (thread.thread_id(), thread.properties()))?;
                let get = |name| values.get(name).unwrap_or_default();
                Some(IoThreadInfo {
                    id: node.name().to_owned(),
                    thread_id: thread_id.into(),
                    poll_max_ns: get("poll-max-ns"),
                    poll_grow: get("poll-grow"),
                    poll_shrink: get("poll-shrink"),
                    aio_max_batch: get("aio-max-batch"),
                })
            };
            let list: Vec<_> = objects.user_created().into_iter().filter(is_one).filter_map(info).collect();
            std::future::ready(Ok(list))
        },
    )
}

pub(super) fn x_query_iothread_stats(plane: &Arc<Shared>) -> Command {
    let threads = plane.iothreads.clone();
    Command::new("x-query-iothread-stats")
        .doc("Says what each iothread has been doing, in the order of their ids.")
        .feature(Feature::Unstable)
        .allow_preconfig()
        .read_only()
        .handler(move |_: Context, (): ()| {
            let list = threads.list();
            #[cfg(feature = "metrics")]
            crate::metrics::update(&list);
            std::future::ready(Ok(list.into_iter().map(IoThreadStats::from).collect::<Vec<_>>()))
        })
}
