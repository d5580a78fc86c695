//! What a context counts. Its thread alone writes, with relaxed atomics; anyone reads at any time.

use std::time::Duration;

use iothread::Counter;

use crate::protocol;

/// Counters, from the start of the context. They are read one after another, so they may be some accesses apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Clients that have negotiated.
    pub clients: u64,
    /// Connections that were refused, or ended before they had negotiated.
    pub refused: u64,
    /// Commands received.
    pub commands: u64,
    /// Of them, answered with an error.
    pub errors: u64,
    /// Region reads.
    pub reads: u64,
    /// Region writes.
    pub writes: u64,
    /// Bytes of region reads.
    pub read_bytes: u64,
    /// Bytes of region writes.
    pub written_bytes: u64,
    /// Interrupts signalled.
    pub interrupts: u64,
    /// DMA commands sent to clients.
    pub dma_messages: u64,
    /// Accesses by the time from the beginning of the turn that found them to their answer: under 1, 2, 4, ... 32768
    /// microseconds, and the rest.
    pub latency: [u64; LATENCIES],
}

/// Classes of [`Stats::latency`].
pub const LATENCIES: usize = 17;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) clients: Counter,
    pub(crate) refused: Counter,
    pub(crate) commands: Counter,
    pub(crate) errors: Counter,
    pub(crate) reads: Counter,
    pub(crate) writes: Counter,
    pub(crate) read_bytes: Counter,
    pub(crate) written_bytes: Counter,
    pub(crate) interrupts: Counter,
    pub(crate) dma_messages: Counter,
    latency: [Counter; LATENCIES],
}

impl Counters {
    /// Counts accesses that took this long.
    pub(crate) fn answered(&self, accesses: u64, took: Duration) {
        let micros = took.as_micros();
        // 0 is class 0, 1 is class 1, 2 and 3 are class 2, and so on.
        let class = (u128::BITS - micros.leading_zeros()) as usize;
        self.latency[class.min(LATENCIES - 1)].add(accesses);
    }

    /// Adds what a session has counted since `before`.
    pub(crate) fn take(&self, now: protocol::Counters, before: &mut protocol::Counters) {
        let pairs = [
            (&self.commands, now.commands, before.commands),
            (&self.errors, now.errors, before.errors),
            (&self.reads, now.reads, before.reads),
            (&self.writes, now.writes, before.writes),
            (&self.read_bytes, now.read_bytes, before.read_bytes),
            (&self.written_bytes, now.written_bytes, before.written_bytes),
            (&self.dma_messages, now.dma_messages, before.dma_messages),
        ];
        for (counter, now, before) in pairs {
            counter.add(now - before);
        }
        *before = now;
    }

    pub(crate) fn read(&self) -> Stats {
        let mut latency = [0; LATENCIES];
        for (value, counter) in latency.iter_mut().zip(&self.latency) {
            *value = counter.get();
        }
        Stats {
            clients: self.clients.get(),
            refused: self.refused.get(),
            commands: self.commands.get(),
            errors: self.errors.get(),
            reads: self.reads.get(),
            writes: self.writes.get(),
            read_bytes: self.read_bytes.get(),
            written_bytes: self.written_bytes.get(),
            interrupts: self.interrupts.get(),
            dma_messages: self.dma_messages.get(),
            latency,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_classes_of_powers_of_two() {
        let counters = Counters::default();
        for nanos in [0, 999, 1_000, 1_999, 2_000, 3_999, 32_767_999, 32_768_000, u64::MAX] {
            counters.answered(1, Duration::from_nanos(nanos));
        }
        let latency = counters.read().latency;
        assert_eq!(latency[..3], [2, 2, 2]);
        assert_eq!(latency[15..], [1, 2]);
    }
}
