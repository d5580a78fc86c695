//! `info vfio-user`: exported devices and their clients.

use std::fmt::Write as _;

use qmp_command::CommandResult;
use serde::Deserialize;

use crate::hmp::{HumanCommand, HumanContext};

pub(super) fn commands() -> Vec<HumanCommand> {
    vec![
        HumanCommand::new("info vfio-user")
            .help("show the exported devices and their clients")
            .allow_preconfig()
            .handler(async |context, _| exports(&context).await),
    ]
}

/// An export, as `x-query-vfio-user` returns it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Export {
    id: String,
    device: String,
    iothread: Option<String>,
    thread_id: i64,
    socket: String,
    state: String,
    reconnect: bool,
    dma: String,
    busy: bool,
    client: Option<Client>,
    maps: Vec<Map>,
    map_count: u64,
    mapped_bytes: u64,
    vectors: Vec<Vector>,
    stats: Stats,
}

#[derive(Deserialize)]
struct Client {
    pid: Option<i64>,
    uid: Option<u32>,
    gid: Option<u32>,
    version: Option<String>,
}

#[derive(Deserialize)]
struct Map {
    iova: u64,
    size: u64,
    readable: bool,
    writable: bool,
    path: String,
}

#[derive(Deserialize)]
struct Vector {
    #[serde(rename = "type")]
    ty: String,
    vector: u32,
    assigned: bool,
    masked: bool,
    pending: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Stats {
    clients: u64,
    refused: u64,
    commands: u64,
    errors: u64,
    reads: u64,
    writes: u64,
    read_bytes: u64,
    written_bytes: u64,
    interrupts: u64,
    dma_messages: u64,
    latency: Vec<u64>,
}

/// Maps of a client that are shown; there may be thousands.
const MAPS: usize = 16;

async fn exports(context: &HumanContext) -> CommandResult<String> {
    let list: Vec<Export> = context.query("x-query-vfio-user", &()).await?;
    Ok(list.iter().map(export).collect())
}

// Writing to a string cannot fail.
fn export(export: &Export) -> String {
    let Export { id, device, socket, state, dma, .. } = export;
    let mut text = format!("{id}: {device} on {socket}\n  state={state}");
    let _ = write!(text, " reconnect={} dma={dma}", if export.reconnect { "on" } else { "off" });
    let _ = match &export.iothread {
        Some(iothread) => write!(text, " iothread={iothread}"),
        None => Ok(()),
    };
    let _ = writeln!(text, " thread_id={}", export.thread_id);
    if export.busy {
        text.push_str("  its iothread is busy\n");
    }
    if let Some(client) = &export.client {
        self::client(&mut text, client);
    }
    if export.map_count > 0 {
        let _ = writeln!(text, "  maps: {}, {} bytes", export.map_count, export.mapped_bytes);
        for Map { iova, size, readable, writable, path } in export.maps.iter().take(MAPS) {
            let (r, w) = (if *readable { 'r' } else { '-' }, if *writable { 'w' } else { '-' });
            // No map wraps.
            let last = iova.wrapping_add(*size).wrapping_sub(1);
            let _ = writeln!(text, "    {iova:#018x}-{last:#018x} {r}{w} {path}");
        }
        if export.map_count > MAPS as u64 {
            let _ = writeln!(text, "    ... x-query-vfio-user shows more");
        }
    }
    for Vector { ty, vector, assigned, masked, pending } in &export.vectors {
        let _ = write!(text, "  {ty} {vector}:");
        for (is, word) in [(assigned, " assigned"), (masked, " masked"), (pending, " pending")] {
            text.push_str(if *is { word } else { "" });
        }
        text.push('\n');
    }
    stats(&mut text, &export.stats);
    text
}

fn client(text: &mut String, client: &Client) {
    let shown = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
    let _ = writeln!(
        text,
        "  client: pid={} uid={} gid={} version={}",
        shown(client.pid.map(|pid| pid.to_string())),
        shown(client.uid.map(|uid| uid.to_string())),
        shown(client.gid.map(|gid| gid.to_string())),
        shown(client.version.clone())
    );
}

fn stats(text: &mut String, stats: &Stats) {
    let Stats { clients, refused, commands, errors, reads, writes, .. } = stats;
    let _ = writeln!(text, "  clients={clients} refused={refused} commands={commands} errors={errors}");
    let _ = writeln!(
        text,
        "  reads={reads} ({} bytes) writes={writes} ({} bytes) interrupts={} dma_messages={}",
        stats.read_bytes, stats.written_bytes, stats.interrupts, stats.dma_messages
    );
    if stats.latency.iter().all(|count| *count == 0) {
        return;
    }
    text.push_str("  latency:");
    let last = stats.latency.len().saturating_sub(1);
    for (place, count) in stats.latency.iter().enumerate().filter(|(_, count)| **count > 0) {
        let _ = match place {
            place if place == last => write!(text, " more={count}"),
            place => write!(text, " <{}us={count}", 1_u64 << place),
        };
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn everything_there_is_to_say() {
        let mut latency = vec![0; 17];
        (latency[0], latency[3], latency[16]) = (7, 2, 1);
        let all = json!({
            "id": "v", "device": "edu0", "iothread": "io0", "thread-id": 12, "socket": "unix:p", "state": "serving",
            "reconnect": true, "dma": "auto", "busy": false, "client": {"pid": 9, "uid": 0, "gid": 0, "version": "0.0"},
            "maps": [{"iova": 4096, "size": 4096, "readable": true, "writable": false, "path": "direct"}],
            "map-count": 1, "mapped-bytes": 4096,
            "vectors": [{"type": "msi", "vector": 0, "assigned": true, "masked": false, "pending": false}],
            "stats": {"clients": 1, "refused": 0, "commands": 30, "errors": 0, "reads": 8, "writes": 2, "read-bytes": 32,
                "written-bytes": 8, "interrupts": 1, "dma-messages": 0, "latency": latency},
        });
        let text = export(&serde_json::from_value(all).unwrap());
        assert_eq!(
            text,
            "v: edu0 on unix:p\n\
            \x20 state=serving reconnect=on dma=auto iothread=io0 thread_id=12\n\
            \x20 client: pid=9 uid=0 gid=0 version=0.0\n\
            \x20 maps: 1, 4096 bytes\n\
            \x20   0x0000000000001000-0x0000000000001fff r- direct\n\
            \x20 msi 0: assigned\n\
            \x20 clients=1 refused=0 commands=30 errors=0\n\
            \x20 reads=8 (32 bytes) writes=2 (8 bytes) interrupts=1 dma_messages=0\n\
            \x20 latency: <1us=7 <8us=2 more=1\n"
        );
    }
}
