//! How long the decoder takes for what clients send.
//!
//! The floor is `serde_json::from_slice` into a borrowed struct: it checks the same grammar, allocates nothing for a
//! plain command, and knows none of QEMU's rules. What it does not accept (`dialect`, `byte by byte`) has no floor.

#![expect(missing_docs, reason = "criterion_group! makes a public function without any")]

use std::borrow::Cow;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use qmp_protocol::{Decoder, Limits, Message};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A command, as little of it as a server can do with.
#[derive(Deserialize)]
struct Borrowed<'a> {
    #[serde(borrow)]
    execute: Cow<'a, str>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

/// What clients send: name, bytes, the number of commands in them.
fn inputs() -> Vec<(&'static str, Vec<u8>, usize)> {
    let short = "{\"execute\": \"query-name\"}\n";
    let getfd =
        "{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"fd-net0\"}, \"id\": \"libvirt-42\"}\r\n";
    let device = "{\"execute\": \"device_add\", \"arguments\": {\"driver\": \"virtio-net-pci\", \"netdev\": \"n0\", \
        \"id\": \"net0\", \"mac\": \"52:54:00:12:34:56\", \"bus\": \"pci.0\", \"addr\": \"0x3\", \"mq\": true, \
        \"vectors\": 10}, \"id\": 123456}\n";
    let long = format!("{{\"execute\": \"query-name\", \"id\": \"{}\"}}\n", "x".repeat(64 * 1024));
    vec![
        ("query-name", short.into(), 1),
        ("getfd with id", getfd.into(), 1),
        ("device_add", device.into(), 1),
        ("64 in one chunk", short.repeat(64).into(), 64),
        ("64 KiB id", long.into(), 1),
    ]
}

/// Feeds one slice and takes every message out of it.
fn decode(decoder: &mut Decoder, mut input: &[u8]) -> usize {
    let mut count = 0;
    while let Some(message) = decoder.next(&mut input) {
        assert!(matches!(black_box(message), Message::Request(_)));
        count += 1;
    }
    count
}

fn whole_commands(c: &mut Criterion) {
    let mut group = c.benchmark_group("decoder");
    for (name, bytes, commands) in inputs() {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_with_input(BenchmarkId::new("decode", name), &bytes, |b, bytes| {
            let mut decoder = Decoder::new(Limits::default());
            b.iter(|| assert_eq!(decode(&mut decoder, black_box(bytes)), commands));
        });
        group.bench_with_input(BenchmarkId::new("floor", name), &bytes, |b, bytes| {
            b.iter(|| assert_eq!(floor(black_box(bytes)), commands));
        });
    }
    group.finish();
}

/// The same number of commands by serde_json, a line at a time.
fn floor(bytes: &[u8]) -> usize {
    let mut count = 0;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let request = serde_json::from_slice::<Borrowed<'_>>(line);
        assert!(request.is_ok());
        if let Ok(Borrowed { execute, arguments, id }) = black_box(request) {
            black_box((execute, arguments, id));
        }
        count += 1;
    }
    count
}

/// What only the exact path can take.
fn exact_path(c: &mut Criterion) {
    let mut group = c.benchmark_group("decoder, exact path");
    let short = "{\"execute\": \"query-name\"}\n";
    let dialect = "{'execute': 'query-name', 'id': {'a': [1, 2.5, null]}}\n";
    group.throughput(Throughput::Bytes(short.len() as u64));
    group.bench_function("byte by byte", |b| {
        let mut decoder = Decoder::new(Limits::default());
        b.iter(|| {
            let pieces = black_box(short.as_bytes()).chunks(1);
            assert_eq!(pieces.map(|piece| decode(&mut decoder, piece)).sum::<usize>(), 1);
        });
    });
    group.bench_function("in two halves", |b| {
        let mut decoder = Decoder::new(Limits::default());
        let (first, second) = short.as_bytes().split_at(short.len() / 2);
        b.iter(|| {
            let count = decode(&mut decoder, black_box(first)) + decode(&mut decoder, black_box(second));
            assert_eq!(count, 1);
        });
    });
    group.throughput(Throughput::Bytes(dialect.len() as u64));
    group.bench_function("dialect", |b| {
        let mut decoder = Decoder::new(Limits::default());
        b.iter(|| assert_eq!(decode(&mut decoder, black_box(dialect.as_bytes())), 1));
    });
    group.finish();
}

criterion_group!(benches, whole_commands, exact_path);
criterion_main!(benches);
