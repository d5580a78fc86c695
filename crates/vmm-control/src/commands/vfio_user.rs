//! `x-query-vfio-user`: which devices are exported, to whom, and what these do with them. And the event of a client
//! that goes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use qmp_command::{Command, Context, Feature, QapiType};
use qmp_monitor::EventSpec;
use serde::Serialize;
use tokio::sync::oneshot;
use vfio_user_server::context::{Client, Report, State, Stats};
use vfio_user_server::dma::{DmaPath, MapInfo};
use vfio_user_server::irq::VectorInfo;
use vfio_user_server::protocol::IrqIndex;

use crate::objects::Node;
use crate::objects::builtin::{VfioUserDma, VfioUserServer};
use crate::plane::Shared;

/// How long an iothread may take to say what only it knows.
const REPORT: Duration = Duration::from_secs(1);

/// A client that has gone.
#[derive(Clone, Debug, Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
#[qapi(name = "q_obj_VFU_CLIENT_HANGUP-arg")]
pub(crate) struct ClientHangup {
    /// The id of the x-vfio-user-server object.
    pub(crate) vfu_id: String,
    /// Where that stands, or stood.
    pub(crate) vfu_qom_path: String,
    /// The id of its device.
    pub(crate) dev_id: String,
    /// Where that stands.
    pub(crate) dev_qom_path: String,
}

/// What an export is doing.
#[derive(Clone, Copy, Debug, Serialize, QapiType)]
#[serde(rename_all = "lowercase")]
#[qapi(name = "XVfioUserState")]
enum ExportState {
    /// It waits for a client.
    Listening,
    /// A client has connected but has not negotiated.
    Negotiating,
    /// It serves a client.
    Serving,
    /// Its client has gone and no other is taken.
    Ended,
}

/// An exported device.
#[derive(Debug, Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
#[qapi(name = "XVfioUserInfo")]
struct ExportInfo {
    /// The id of the x-vfio-user-server object.
    id: String,
    /// Where that stands.
    qom_path: String,
    /// The id of its device.
    device: String,
    /// The id of its iothread, unless that is its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    iothread: Option<String>,
    /// The iothread's number, as the host has it.
    thread_id: i64,
    /// Where clients connect to.
    socket: String,
    /// What it is doing.
    state: ExportState,
    /// Whether it waits for another client when one has gone.
    reconnect: bool,
    /// How the client's memory is reached.
    dma: VfioUserDma,
    /// Its iothread did not find the time to say more: client, maps and vectors are not shown.
    busy: bool,
    /// The client, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<ClientInfo>,
    /// The client's memory, as far as it was mapped: the first 1024 maps.
    maps: Vec<Map>,
    /// How many maps there are.
    map_count: u64,
    /// Bytes of all maps.
    mapped_bytes: u64,
    /// Interrupts that the client has set up, or holds back.
    vectors: Vec<Vector>,
    /// Counters, from the start of the object.
    stats: Counters,
}

/// A client of an exported device.
#[derive(Debug, Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
#[qapi(name = "XVfioUserClient")]
struct ClientInfo {
    /// Its process, where the kernel says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i64>,
    /// Its user, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    /// Its group, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    /// The version of the protocol that was agreed on, once it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// What the client can do, once it has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Capabilities>,
}

/// What a client can do.
#[derive(Debug, Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
#[qapi(name = "XVfioUserCapabilities")]
struct Capabilities {
    /// Descriptors that it takes in a message.
    max_msg_fds: u32,
    /// The most bytes that it takes in an access.
    max_data_xfer_size: u64,
    /// The most maps that it will make.
    max_dma_maps: u64,
    /// Page sizes of DMA, a bit mask.
    pgsizes: u64,
    /// It takes commands on a socket of their own.
    twin_socket: bool,
    /// It would send several writes in a message.
    write_multiple: bool,
}

/// How memory is reached.
#[derive(Clone, Copy, Debug, Serialize, QapiType)]
#[serde(rename_all = "lowercase")]
#[qapi(name = "XVfioUserPath")]
enum Path {
    /// It is mapped, and touched directly.
    Direct,
    /// By reading and writing the client's file.
    File,
    /// It is mapped, and touched by system calls that cannot fault.
    Copy,
    /// By messages to the client.
    Message,
}

/// Memory of a client.
#[derive(Debug, Serialize, QapiType)]
#[qapi(name = "XVfioUserMap")]
struct Map {
    /// Where the device sees it.
    iova: u64,
    /// Bytes.
    size: u64,
    /// Whether the device may read it.
    readable: bool,
    /// Whether the device may write it.
    writable: bool,
    /// How it is reached.
    path: Path,
}

/// A type of interrupt.
#[derive(Clone, Copy, Debug, Serialize, QapiType)]
#[serde(rename_all = "lowercase")]
#[qapi(name = "XVfioUserIrq")]
enum Irq {
    /// The pin.
    Intx,
    /// Messages.
    Msi,
    /// Messages, by a table.
    Msix,
    /// The device has met an error.
    Err,
    /// The device would like to be released.
    Req,
}

/// An interrupt.
#[derive(Debug, Serialize, QapiType)]
#[qapi(name = "XVfioUserVector")]
struct Vector {
    /// Its type.
    r#type: Irq,
    /// Its number.
    vector: u32,
    /// Whether it reaches the client.
    assigned: bool,
    /// Whether the client holds it back.
    masked: bool,
    /// Whether it has fired while it was held back.
    pending: bool,
}

/// Counters of an export.
#[derive(Debug, Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
#[qapi(name = "XVfioUserStats")]
struct Counters {
    /// Clients that have negotiated.
    clients: u64,
    /// Connections that were refused, or ended before they had negotiated.
    refused: u64,
    /// Commands received.
    commands: u64,
    /// Of them, answered with an error.
    errors: u64,
    /// Reads of regions.
    reads: u64,
    /// Writes of regions.
    writes: u64,
    /// Bytes of such reads.
    read_bytes: u64,
    /// Bytes of such writes.
    written_bytes: u64,
    /// Interrupts signalled.
    interrupts: u64,
    /// Commands sent to the client to reach its memory.
    dma_messages: u64,
    /// Accesses by the time that they took: the first counts those under 1 us, the second those under 2 us, and so on
    /// to 32768 us, the last all others.
    latency: Vec<u64>,
}

impl From<State> for ExportState {
    fn from(state: State) -> Self {
        match state {
            State::Listening => Self::Listening,
            State::Negotiating => Self::Negotiating,
            State::Serving => Self::Serving,
            // There is no other.
            _ => Self::Ended,
        }
    }
}

impl From<Client> for ClientInfo {
    fn from(client: Client) -> Self {
        let Client { credentials, peer, .. } = client;
        Self {
            pid: credentials.map(|credentials| credentials.pid.into()),
            uid: credentials.map(|credentials| credentials.uid),
            gid: credentials.map(|credentials| credentials.gid),
            version: peer.map(|peer| format!("{}.{}", peer.version.0, peer.version.1)),
            capabilities: peer.map(|peer| Capabilities {
                max_msg_fds: peer.max_msg_fds,
                max_data_xfer_size: peer.max_data_xfer_size,
                max_dma_maps: peer.max_dma_maps,
                pgsizes: peer.pgsizes,
                twin_socket: peer.twin_socket,
                write_multiple: peer.write_multiple,
            }),
        }
    }
}

impl From<&MapInfo> for Map {
    fn from(map: &MapInfo) -> Self {
        let path = match map.path {
            DmaPath::Direct => Path::Direct,
            DmaPath::File => Path::File,
            DmaPath::Copy => Path::Copy,
            // There is no other.
            _ => Path::Message,
        };
        let MapInfo { iova, size, readable, writable, .. } = *map;
        Self { iova, size, readable, writable, path }
    }
}

impl From<&VectorInfo> for Vector {
    fn from(info: &VectorInfo) -> Self {
        let VectorInfo { index, vector, assigned, masked, pending, .. } = *info;
        let r#type = match index {
            IrqIndex::Intx => Irq::Intx,
            IrqIndex::Msi => Irq::Msi,
            IrqIndex::Msix => Irq::Msix,
            IrqIndex::Err => Irq::Err,
            IrqIndex::Req => Irq::Req,
        };
        Self { r#type, vector, assigned, masked, pending }
    }
}

impl From<Stats> for Counters {
    fn from(stats: Stats) -> Self {
        Self {
            clients: stats.clients,
            refused: stats.refused,
            commands: stats.commands,
            errors: stats.errors,
            reads: stats.reads,
            writes: stats.writes,
            read_bytes: stats.read_bytes,
            written_bytes: stats.written_bytes,
            interrupts: stats.interrupts,
            dma_messages: stats.dma_messages,
            latency: stats.latency.to_vec(),
        }
    }
}

pub(super) fn events() -> Vec<EventSpec> {
    let hangup = EventSpec::standard::<ClientHangup>("VFU_CLIENT_HANGUP");
    vec![hangup.doc("The client of an exported device has closed its connection.")]
}

pub(super) fn commands(plane: &Arc<Shared>) -> Vec<Command> {
    vec![x_query_vfio_user(plane)]
}

fn x_query_vfio_user(plane: &Arc<Shared>) -> Command {
    let objects = plane.objects.clone();
    Command::new("x-query-vfio-user")
        .doc("Lists the exported devices, their clients, and what these do with them.")
        .feature(Feature::Unstable)
        .allow_preconfig()
        .read_only()
        .handler(move |_: Context, (): ()| {
            let infos = objects.user_created().into_iter().filter_map(|node| {
                let server = node.object.clone().into_any().downcast::<VfioUserServer>().ok()?;
                Some(async move { info(&node, &server).await })
            });
            let all = join_all(infos.collect::<Vec<_>>());
            async move { Ok(all.await.into_iter().flatten().collect::<Vec<_>>()) }
        })
}

/// What there is to say of an export; `None` while it is being made, or is going.
async fn info(node: &Node, server: &VfioUserServer) -> Option<ExportInfo> {
    let (handle, thread_id) =
        server.with_export(|handle, thread| (handle.clone(), i64::from(thread.thread_id())))?;
    let (tell, told) = oneshot::channel();
    handle.report(move |report| {
        // Nobody waits any more.
        let _ = tell.send(report);
    });
    let told = tokio::time::timeout(REPORT, told).await;
    // An export that has ended tells nothing, but nobody is busy.
    let busy = told.is_err();
    let report = told.ok().and_then(Result::ok);
    let settings = server.settings();
    let (state, stats, seen) = match report {
        Some(Report { state, stats, client, maps, map_count, mapped_bytes, vectors, .. }) => {
            (state, stats, Some((client, maps, (map_count, mapped_bytes), vectors)))
        }
        None => (handle.state(), handle.stats(), None),
    };
    let (client, maps, (map_count, mapped_bytes), vectors) = seen.unwrap_or_default();
    Some(ExportInfo {
        id: node.name().to_owned(),
        qom_path: node.path.clone(),
        device: settings.device.clone(),
        iothread: settings.iothread.clone(),
        thread_id,
        socket: settings.socket.to_string(),
        state: state.into(),
        reconnect: settings.reconnect.unwrap_or(false),
        dma: settings.dma.unwrap_or_default(),
        busy,
        client: client.map(Into::into),
        mapped_bytes,
        maps: maps.iter().map(Into::into).collect(),
        map_count: u64::try_from(map_count).unwrap_or(u64::MAX),
        vectors: vectors.iter().map(Into::into).collect(),
        stats: stats.into(),
    })
}
