//! The measurements.
//!
//! Each is an entry of [`CASES`]: what it wants of a server, what it measures on one that was started for it, which
//! figures it gives, and what they should be. Times of many are per one of them.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use super::REGION_SIZE;
use super::aims::{Aim, Bound, Mode};
use super::client::{Batch, Client, Kind};
use super::flood::Flood;
use crate::harness::process::{Placement, Running};
pub use crate::harness::rounds::Figure;
use crate::harness::stats::Latencies;
use crate::harness::{Doing, Error, Result};

/// Reads in flight, and posted writes in one send.
const BURST: usize = 32;
/// Sends of posted writes before the read that awaits them.
const SENDS: usize = 32;
/// Bytes of one DMA read.
const DMA_LENGTH: usize = 4096;
/// DMA reads by message that one write starts.
const MESSAGES: u32 = 64;
/// DMA reads of memory with a file that one write starts.
const DIRECT: u32 = 256;
/// Where the client's memory is for the device, and how much of it there is.
const IOVA: u64 = 0x1_0000_0000;
const MEMORY: u64 = 1 << 20;
/// Contexts on one thread where there are many.
pub const CONTEXTS: usize = 64;

/// What a server is asked to be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Region accesses of one client.
    Accesses,
    /// DMA by messages.
    DmaMessages,
    /// DMA of memory whose file the client gives.
    DmaMemory,
    /// Many contexts on one thread.
    Contexts,
}

/// A measurement.
#[derive(Debug)]
pub struct Case {
    /// What `--only` calls it.
    pub name: &'static str,
    /// What the table calls it.
    pub title: &'static str,
    /// The clients that it is done with.
    pub clients: &'static [Kind],
    /// What it needs of a server; those that cannot do it have no figure.
    pub need: Need,
    /// Sockets of the server.
    pub contexts: usize,
    /// Where client and server run, if that is not for the command line to say.
    pub placement: Option<Placement>,
    /// The figures, in the order that `run` gives them.
    pub figures: &'static [Figure],
    /// What they should be.
    pub aims: &'static [Aim],
    /// Measures.
    pub run: fn(&Bed<'_>) -> Result<Vec<f64>>,
}

const P50: Figure = Figure { name: "p50", unit: "us", compared: true };
const P99: Figure = Figure { name: "p99", unit: "us", compared: true };
const EACH: Figure = Figure { name: "each", unit: "us", compared: true };
const ALONE_P50: Figure = Figure { name: "p50 alone", unit: "us", compared: false };
const TIMES_P50: Figure = Figure { name: "p50 / p50 alone", unit: "x", compared: false };
const ALONE_P99: Figure = Figure { name: "p99 alone", unit: "us", compared: false };
const TIMES_P99: Figure = Figure { name: "p99 / p99 alone", unit: "x", compared: false };
const FLOODED: Figure = Figure { name: "the other's answers", unit: "1/s", compared: false };

const BOTH: &[Kind] = &[Kind::Blocking, Kind::Busy];
const BLOCKING: &[Kind] = &[Kind::Blocking];

/// What measurements have in common.
const ACCESS: Case = Case {
    name: "",
    title: "",
    clients: BOTH,
    need: Need::Accesses,
    contexts: 1,
    placement: None,
    figures: &[P50],
    aims: &[],
    run: one_read,
};

/// All measurements, in the order of the table.
pub static CASES: &[Case] = &[
    Case {
        name: "read",
        title: "4-byte read, one at a time",
        figures: &[P50, P99],
        aims: &[
            Aim::in_mode(Mode::Polled, 0, Bound::TimesFloor(1.10)),
            Aim::in_mode(Mode::Epoll, 0, Bound::TimesFloor(1.05)),
        ],
        run: one_read,
        ..ACCESS
    },
    Case {
        name: "same-core",
        title: "the same, client and server on one core",
        clients: BLOCKING,
        placement: Some(Placement::Together),
        figures: &[P50, P99],
        run: one_read,
        ..ACCESS
    },
    Case {
        name: "in-flight",
        title: "32 reads in flight",
        figures: &[EACH],
        aims: &[Aim::of(0, Bound::TimesFloor(1.3))],
        run: in_flight,
        ..ACCESS
    },
    Case {
        name: "posted",
        title: "posted 4-byte writes, 32 per send",
        figures: &[EACH],
        aims: &[Aim::of(0, Bound::Value(0.3))],
        run: posted,
        ..ACCESS
    },
    Case { name: "read-64k", title: "64 KiB read", run: long_read, ..ACCESS },
    Case {
        name: "write-1m",
        title: "1 MiB write",
        aims: &[Aim::of(0, Bound::TimesFloor(1.2))],
        run: long_write,
        ..ACCESS
    },
    Case {
        name: "dma-message",
        title: "4 KiB DMA read by messages",
        need: Need::DmaMessages,
        figures: &[EACH],
        aims: &[Aim::of(0, Bound::TimesFloor(1.5))],
        run: dma_by_messages,
        ..ACCESS
    },
    Case {
        name: "dma-sealed",
        title: "4 KiB DMA read of a sealed memfd",
        clients: BLOCKING,
        need: Need::DmaMemory,
        figures: &[EACH],
        run: |bed| dma_of_memory(bed, true),
        ..ACCESS
    },
    Case {
        name: "dma-unsealed",
        title: "4 KiB DMA read of an unsealed memfd",
        clients: BLOCKING,
        need: Need::DmaMemory,
        figures: &[EACH],
        run: |bed| dma_of_memory(bed, false),
        ..ACCESS
    },
    Case {
        name: "idle",
        title: "4-byte read, 63 clients idle on the same thread",
        need: Need::Contexts,
        contexts: CONTEXTS,
        figures: &[P50, ALONE_P50, TIMES_P50],
        run: among_idle,
        ..ACCESS
    },
    Case {
        name: "flooded",
        title: "4-byte read, another client keeps 32 in flight",
        clients: BLOCKING,
        need: Need::Contexts,
        contexts: 2,
        figures: &[P99, ALONE_P99, TIMES_P99, FLOODED],
        aims: &[Aim::of(2, Bound::Value(2.0))],
        run: flooded,
        ..ACCESS
    },
];

/// What a measurement is done on.
#[derive(Debug)]
pub struct Bed<'a> {
    /// The server, started for this.
    pub server: &'a Running,
    /// How the client waits.
    pub kind: Kind,
    /// Time for it.
    pub budget: Duration,
}

impl Bed<'_> {
    fn client(&self, context: usize) -> Result<Client> {
        Client::open(&self.server.sockets()[context], self.kind)
    }

    /// Calls again and again; the latencies.
    fn calls(&self, client: &mut Client, batch: &Batch) -> Result<Latencies> {
        Latencies::measure(self.budget, || client.call(batch))
    }
}

fn read() -> Batch {
    Batch::default().read(0, 64, 4)
}

fn reads() -> Batch {
    (0..BURST as u64).fold(Batch::default(), |batch, index| batch.read(0, 4 * index, 4))
}

fn one_read(bed: &Bed<'_>) -> Result<Vec<f64>> {
    let latencies = bed.calls(&mut bed.client(0)?, &read())?;
    Ok(vec![latencies.percentile(50), latencies.percentile(99)])
}

fn in_flight(bed: &Bed<'_>) -> Result<Vec<f64>> {
    let latencies = bed.calls(&mut bed.client(0)?, &reads())?;
    Ok(vec![latencies.percentile(50) / BURST as f64])
}

fn posted(bed: &Bed<'_>) -> Result<Vec<f64>> {
    let mut client = bed.client(0)?;
    let writes = (0..BURST as u64)
        .fold(Batch::default(), |batch, index| batch.posted_write(0, 4 * index, &[1, 2, 3, 4]));
    let fence = read();
    let latencies = Latencies::measure(bed.budget, || {
        for _ in 0..SENDS {
            client.post(&writes)?;
        }
        client.call(&fence)
    })?;
    Ok(vec![latencies.percentile(50) / (BURST * SENDS) as f64])
}

fn long_read(bed: &Bed<'_>) -> Result<Vec<f64>> {
    let batch = Batch::default().read(0, 0, 64 * 1024);
    Ok(vec![bed.calls(&mut bed.client(0)?, &batch)?.percentile(50)])
}

fn long_write(bed: &Bed<'_>) -> Result<Vec<f64>> {
    const LENGTH: usize = REGION_SIZE / 2;
    let mut client = bed.client(0)?;
    let head = Batch::default().write_head(0, 4096, LENGTH);
    let body = vec![0x5a; LENGTH];
    let latencies = Latencies::measure(bed.budget, || client.call_with_body(&head, &body))?;
    Ok(vec![latencies.percentile(50)])
}

/// The write to the `scratch` device that makes it read the client's memory.
fn start_dma(times: u32) -> Batch {
    let mut data = [0; 16];
    data[..8].copy_from_slice(&IOVA.to_ne_bytes());
    data[8..12].copy_from_slice(&times.to_ne_bytes());
    let length = u32::try_from(DMA_LENGTH).unwrap_or_else(|_| unreachable!("it is 4096"));
    data[12..].copy_from_slice(&length.to_ne_bytes());
    Batch::default().write(2, 0, &data)
}

fn dma_by_messages(bed: &Bed<'_>) -> Result<Vec<f64>> {
    let mut client = bed.client(0)?;
    client.map(IOVA, MEMORY, None)?;
    let batch = start_dma(MESSAGES);
    let mut answer = vec![0x5a; super::wire::ACCESS + DMA_LENGTH];
    let latencies =
        Latencies::measure(bed.budget, || match client.call_serving_dma(&batch, &mut answer)? {
            served if served == MESSAGES as usize => Ok(()),
            served => Err(Error::Answer(format!("{served} DMA reads in place of {MESSAGES}"))),
        })?;
    Ok(vec![latencies.percentile(50) / f64::from(MESSAGES)])
}

fn dma_of_memory(bed: &Bed<'_>, sealed: bool) -> Result<Vec<f64>> {
    let memory = memory(sealed).doing("making memory")?;
    let mut client = bed.client(0)?;
    client.map(IOVA, MEMORY, Some(memory.as_fd()))?;
    let latencies = bed.calls(&mut client, &start_dma(DIRECT))?;
    Ok(vec![latencies.percentile(50) / f64::from(DIRECT)])
}

fn memory(sealed: bool) -> rustix::io::Result<OwnedFd> {
    let memory = memfd_create("bench", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&memory, MEMORY)?;
    // What a guest has written: no holes, which would be read without touching memory.
    for offset in (0..MEMORY).step_by(DMA_LENGTH) {
        rustix::io::pwrite(&memory, &[0x5a; DMA_LENGTH], offset)?;
    }
    if sealed {
        fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW)?;
    }
    Ok(memory)
}

fn among_idle(bed: &Bed<'_>) -> Result<Vec<f64>> {
    let mut client = bed.client(0)?;
    let alone = bed.calls(&mut client, &read())?.percentile(50);
    let idle = (1..CONTEXTS).map(|context| bed.client(context)).collect::<Result<Vec<_>>>()?;
    let p50 = bed.calls(&mut client, &read())?.percentile(50);
    drop(idle);
    Ok(vec![p50, alone, p50 / alone])
}

fn flooded(bed: &Bed<'_>) -> Result<Vec<f64>> {
    let mut client = bed.client(0)?;
    let alone = bed.calls(&mut client, &read())?.percentile(99);
    let flood = Flood::start(bed.client(1)?, reads())?;
    let started = std::time::Instant::now();
    let p99 = bed.calls(&mut client, &read())?.percentile(99);
    let answers = flood.stop()? as f64 * BURST as f64 / started.elapsed().as_secs_f64();
    Ok(vec![p99, alone, p99 / alone, answers])
}
