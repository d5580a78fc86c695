//! How long replies and events take to encode.
//!
//! Two parts of a reply are separate: a command's return value becomes a payload where it is handled (`payload`), and
//! the payload becomes a line where it is sent (`line`). The floors are serde_json for the first, which escapes less
//! and writes no spaces, and a copy of the finished bytes for the second.

#![expect(missing_docs, reason = "criterion_group! makes a public function without any")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use qmp_protocol::{Error, Event, Format, Object, Payload, Value, encode_error, encode_event, encode_return};
use serde::Serialize;

/// What `query-fdsets` returns.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct FdsetInfo {
    fds: Vec<FdsetFdInfo>,
    fdset_id: i64,
}

#[derive(Serialize)]
struct FdsetFdInfo {
    fd: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    opaque: Option<String>,
}

fn fdsets(sets: i64) -> Vec<FdsetInfo> {
    let fds = |set| vec![FdsetFdInfo { fd: set + 10, opaque: Some("/var/lib/disk \"\u{e9}\"".into()) }];
    (0..sets).map(|set| FdsetInfo { fds: fds(set), fdset_id: set }).collect()
}

fn payloads(c: &mut Criterion) {
    let mut group = c.benchmark_group("encoder, payload");
    for sets in [0, 1, 100] {
        let value = fdsets(sets);
        let encoded = Payload::encode(&value, Format::Compact).expect("plain data encodes");
        group.throughput(Throughput::Bytes(encoded.as_bytes().len() as u64));
        group.bench_with_input(BenchmarkId::new("fd sets", sets), &value, |b, value| {
            b.iter(|| Payload::encode(black_box(value), Format::Compact));
        });
        group.bench_with_input(BenchmarkId::new("floor", sets), &value, |b, value| {
            b.iter(|| serde_json::to_vec(black_box(value)));
        });
    }
    group.finish();
}

fn lines(c: &mut Criterion) {
    let id = Value::from("libvirt-42");
    let info = Payload::encode(&fdsets(1), Format::Compact).expect("plain data encodes");
    let error = Error::generic("No file descriptor supplied via SCM_RIGHTS");
    let stop =
        Event { name: "STOP".into(), data: None, timestamp: Duration::from_micros(1_700_000_000_123_456) };
    let data: Object =
        [("offset", Value::from(-3600_i64)), ("qom-path", "/machine/unattached/device[10]".into())]
            .into_iter()
            .collect();
    let change = Event { name: "RTC_CHANGE".into(), data: Some(Value::Object(data)), ..stop.clone() };

    let mut group = c.benchmark_group("encoder, line");
    let mut measure = |name: &str, encode: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::with_capacity(4096);
        encode(&mut out);
        let line = out.clone();
        group.throughput(Throughput::Bytes(line.len() as u64));
        group.bench_function(BenchmarkId::new("encode", name), |b| {
            b.iter(|| {
                out.clear();
                encode(&mut out);
                black_box(&out);
            });
        });
        group.bench_function(BenchmarkId::new("floor", name), |b| {
            b.iter(|| {
                out.clear();
                out.extend_from_slice(black_box(&line));
                black_box(&out);
            });
        });
    };
    measure("empty return", &|out| encode_return(out, black_box(&Payload::empty()), None, Format::Compact));
    measure("return with id", &|out| encode_return(out, black_box(&info), Some(&id), Format::Compact));
    measure("error with id", &|out| encode_error(out, black_box(&error), Some(&id), Format::Compact));
    measure("STOP", &|out| encode_event(out, black_box(&stop), Format::Compact));
    measure("RTC_CHANGE", &|out| encode_event(out, black_box(&change), Format::Compact));
    group.finish();
}

criterion_group!(benches, payloads, lines);
criterion_main!(benches);
