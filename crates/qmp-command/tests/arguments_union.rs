//! Flat unions: every complaint here was made by QEMU 7.2 for the same arguments and the same declarations.

#![expect(clippy::unwrap_used, reason = "in helpers of tests, too, it is how a test fails")]

use qmp_command::QapiType;
use qmp_command::arguments::decode;
use qmp_protocol::Object;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

fn accepts<T: DeserializeOwned>(json: &str) -> T {
    let arguments: Object = serde_json::from_str(json).unwrap();
    decode(Some(arguments)).unwrap_or_else(|error| panic!("{json}: {error}"))
}

#[track_caller]
fn refuses<T: DeserializeOwned>(json: &str, desc: &str) {
    let arguments: Object = serde_json::from_str(json).unwrap();
    let error = decode::<T>(Some(arguments)).err().unwrap_or_else(|| panic!("{json} was accepted"));
    assert_eq!(error.desc, desc, "{json}");
}

#[derive(Debug, Deserialize, QapiType)]
struct ChardevAdd {
    id: String,
    backend: ChardevBackend,
}

/// QEMU's "simple" unions are flat ones, each branch a struct with the one member `data`.
#[derive(Debug, QapiType)]
#[serde(tag = "type", rename_all = "lowercase")]
enum ChardevBackend {
    Null(#[expect(dead_code, reason = "declared, not used")] CommonWrapper),
    Socket(SocketWrapper),
}

#[derive(Debug, Deserialize, QapiType)]
struct CommonWrapper {
    #[expect(dead_code, reason = "declared, not used")]
    data: Common,
}

#[derive(Debug, Deserialize, QapiType)]
struct Common {
    #[expect(dead_code, reason = "declared, not used")]
    logfile: Option<String>,
}

#[derive(Debug, Deserialize, QapiType)]
struct SocketWrapper {
    data: SocketOptions,
}

#[derive(Debug, Deserialize, QapiType)]
struct SocketOptions {
    addr: SocketAddressLegacy,
}

#[derive(Debug, QapiType)]
#[serde(tag = "type", rename_all = "lowercase")]
#[qapi(tag_type = "SocketAddressType")]
enum SocketAddressLegacy {
    Inet(InetWrapper),
}

#[derive(Debug, Deserialize, QapiType)]
struct InetWrapper {
    data: InetAddress,
}

#[derive(Debug, Deserialize, QapiType)]
struct InetAddress {
    host: String,
    port: String,
}

#[test]
fn a_union_adds_nothing_to_the_path() {
    let add: ChardevAdd = accepts(
        r#"{"id": "c", "backend": {"type": "socket", "data": {"addr": {"type": "inet", "data": {"host": "x", "port": "1"}}}}}"#,
    );
    let ChardevBackend::Socket(SocketWrapper {
        data: SocketOptions { addr: SocketAddressLegacy::Inet(inet) },
    }) = add.backend
    else {
        panic!("{:?}", add.backend)
    };
    assert_eq!((add.id.as_str(), inet.data.host.as_str(), inet.data.port.as_str()), ("c", "x", "1"));
    refuses::<ChardevAdd>(
        r#"{"id": "c", "backend": {"type": "socket", "data": {"addr": {"type": "inet", "data": {"host": "x"}}}}}"#,
        "Parameter 'backend.data.addr.data.port' is missing",
    );
    refuses::<ChardevAdd>(
        r#"{"id": "c", "backend": {"type": "socket", "data": {"addr": {"type": "inet", "data": {"host": "x", "port": 1}}}}}"#,
        "Invalid parameter type for 'backend.data.addr.data.port', expected: string",
    );
    refuses::<ChardevAdd>(
        r#"{"id": "c", "backend": {"type": "null", "data": {"q": {"r": 1}}}}"#,
        "Parameter 'backend.data.q' is unexpected",
    );
}

#[test]
fn the_tag_comes_before_the_branch() {
    let says =
        |backend: &str, desc| refuses::<ChardevAdd>(&format!(r#"{{"id": "c", "backend": {backend}}}"#), desc);
    says("{}", "Parameter 'backend.type' is missing");
    says(r#"{"data": 1}"#, "Parameter 'backend.type' is missing");
    says("[]", "Invalid parameter type for 'backend', expected: object");
    says(r#"{"type": 1}"#, "Invalid parameter type for 'backend.type', expected: string");
    says(r#"{"type": "nope"}"#, "Parameter 'type' does not accept value 'nope'");
    says(r#"{"type": "null"}"#, "Parameter 'backend.data' is missing");
    says(r#"{"type": "null", "data": {}, "x": 1}"#, "Parameter 'backend.x' is unexpected");
    refuses::<ChardevAdd>(
        r#"{"id": "c", "backend": {"type": "null", "data": {}, "x": 1}, "y": 1}"#,
        "Parameter 'backend.x' is unexpected",
    );
    refuses::<ChardevAdd>(
        r#"{"backend": {"type": "null", "data": {}, "x": 1}}"#,
        "Parameter 'id' is missing",
    );
    let _: ChardevAdd = accepts(r#"{"id": "c", "backend": {"type": "null", "data": {}}}"#);
}

#[derive(Debug, Deserialize, QapiType)]
struct Transaction {
    actions: Vec<TransactionAction>,
}

#[derive(Debug, QapiType)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum TransactionAction {
    Abort(AbortWrapper),
    BlockdevSnapshot(SnapshotWrapper),
}

#[derive(Debug, Deserialize, QapiType)]
struct AbortWrapper {
    data: Abort,
}

#[derive(Debug, Deserialize, QapiType)]
struct Abort {}

#[derive(Debug, Deserialize, QapiType)]
struct SnapshotWrapper {
    data: Snapshot,
}

#[derive(Debug, Deserialize, QapiType)]
struct Snapshot {
    node: String,
    overlay: String,
}

#[test]
fn unions_in_lists() {
    let says = |action: &str, desc| refuses::<Transaction>(&format!(r#"{{"actions": [{action}]}}"#), desc);
    says("1", "Invalid parameter type for 'actions[0]', expected: object");
    says("{}", "Parameter 'actions[0].type' is missing");
    says(r#"{"type": "nope"}"#, "Parameter 'type' does not accept value 'nope'");
    says(r#"{"type": "abort"}"#, "Parameter 'actions[0].data' is missing");
    says(r#"{"type": "abort", "data": {"x": 1}}"#, "Parameter 'actions[0].data.x' is unexpected");
    says(
        r#"{"type": "blockdev-snapshot", "data": {"node": 1}}"#,
        "Invalid parameter type for 'actions[0].data.node', expected: string",
    );
    let both: Transaction = accepts(
        r#"{"actions": [{"type": "abort", "data": {}}, {"type": "blockdev-snapshot", "data": {"node": "a", "overlay": "b"}}]}"#,
    );
    let [
        TransactionAction::Abort(AbortWrapper { data: Abort {} }),
        TransactionAction::BlockdevSnapshot(snapshot),
    ] = both.actions.as_slice()
    else {
        panic!("{both:?}")
    };
    assert_eq!((snapshot.data.node.as_str(), snapshot.data.overlay.as_str()), ("a", "b"));
}

/// A union with more in its base than the tag; the arguments themselves are the union.
#[derive(Debug, PartialEq, Serialize, QapiType)]
struct ObjectOptions {
    #[serde(flatten)]
    #[qapi(union = "qom-type")]
    kind: ObjectKind,
    id: String,
}

#[derive(Debug, PartialEq, Serialize, QapiType)]
#[serde(tag = "qom-type", rename_all = "kebab-case")]
#[qapi(tag_type = "ObjectType")]
enum ObjectKind {
    Iothread(Iothread),
    MemoryBackendRam(MemoryBackend),
    CanBus,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, QapiType)]
#[serde(rename_all = "kebab-case")]
struct Iothread {
    #[serde(skip_serializing_if = "Option::is_none")]
    poll_max_ns: Option<i64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, QapiType)]
#[serde(rename_all = "kebab-case")]
struct MemoryBackend {
    #[serde(skip_serializing_if = "Option::is_none")]
    host_nodes: Option<Vec<u16>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prealloc_threads: Option<u32>,
    #[qapi(size)]
    size: u64,
}

#[test]
fn a_base_is_read_in_declared_order_then_the_branch() {
    let says = refuses::<ObjectOptions>;
    says("{}", "Parameter 'qom-type' is missing");
    says(r#"{"id": "x"}"#, "Parameter 'qom-type' is missing");
    says(r#"{"qom-type": 1, "id": "a"}"#, "Invalid parameter type for 'qom-type', expected: string");
    says(r#"{"qom-type": "nope", "id": "a"}"#, "Parameter 'qom-type' does not accept value 'nope'");
    says(r#"{"qom-type": "iothread", "id": 1}"#, "Invalid parameter type for 'id', expected: string");
    says(r#"{"qom-type": "iothread", "poll-max-ns": "1"}"#, "Parameter 'id' is missing");
    says(r#"{"qom-type": "iothread", "id": "a", "props": {}}"#, "Parameter 'props' is unexpected");
    says(r#"{"qom-type": "can-bus", "id": "a", "size": 1}"#, "Parameter 'size' is unexpected");
    says(r#"{"qom-type": "memory-backend-ram", "id": "x"}"#, "Parameter 'size' is missing");
    let ram = |member: &str, desc| {
        says(&format!(r#"{{"qom-type": "memory-backend-ram", "id": "m", {member}}}"#), desc)
    };
    ram(r#""size": 1.0"#, "Parameter 'size' expects uint64");
    ram(r#""size": "1048576""#, "Parameter 'size' expects uint64");
    ram(r#""size": 4096, "prealloc-threads": 5000000000"#, "Parameter 'prealloc-threads' expects uint32_t");
    ram(r#""size": 4096, "host-nodes": [70000]"#, "Parameter 'null' expects uint16_t");
    ram(r#""size": 4096, "host-nodes": ["a"]"#, "Parameter 'host-nodes[0]' expects uint64");
}

#[test]
fn a_union_reads_what_serde_writes_from_any_format() {
    for (json, object) in [
        (
            r#"{"qom-type":"iothread","poll-max-ns":7,"id":"a"}"#,
            ObjectOptions { kind: ObjectKind::Iothread(Iothread { poll_max_ns: Some(7) }), id: "a".into() },
        ),
        (r#"{"qom-type":"can-bus","id":"b"}"#, ObjectOptions { kind: ObjectKind::CanBus, id: "b".into() }),
    ] {
        assert_eq!(serde_json::to_string(&object).unwrap(), json);
        assert_eq!(accepts::<ObjectOptions>(json), object);
        assert_eq!(serde_json::from_str::<ObjectOptions>(json).unwrap(), object);
    }
    let error = serde_json::from_str::<ObjectOptions>(r#"{"qom-type": "can-bus"}"#).unwrap_err();
    assert!(error.to_string().starts_with("Parameter 'id' is missing"), "{error}");
    assert!(serde_json::from_str::<ObjectOptions>("7").is_err());
}

/// A branch that is itself a union: still one object, one level.
#[derive(Debug, QapiType)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Outer {
    Nested(Inner),
}

#[derive(Debug, QapiType)]
#[serde(tag = "format", rename_all = "lowercase")]
enum Inner {
    Raw(Raw),
}

#[derive(Debug, Deserialize, QapiType)]
struct Raw {
    offset: i64,
}

#[test]
fn a_union_in_a_union_shares_its_object() {
    let Outer::Nested(Inner::Raw(raw)) = accepts(r#"{"kind": "nested", "format": "raw", "offset": 3}"#);
    assert_eq!(raw.offset, 3);
    refuses::<Outer>(r#"{"kind": "nested"}"#, "Parameter 'format' is missing");
    refuses::<Outer>(r#"{"kind": "nested", "format": "raw"}"#, "Parameter 'offset' is missing");
    refuses::<Outer>(
        r#"{"kind": "nested", "format": "raw", "offset": 3, "x": 1}"#,
        "Parameter 'x' is unexpected",
    );
}
