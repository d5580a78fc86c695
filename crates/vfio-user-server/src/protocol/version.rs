//! `VERSION`: what the client says of itself, and what it is told.
//!
//! The answer is 0.0 whatever minor version the client has: QEMU accepts no other. It has to fit QEMU's receive buffer,
//! which is its own request of 214 bytes. `write_multiple` and migration are never agreed to.

use serde_json::{Map, Value};

use super::header::u16_at;
use super::limits::{MAX_MESSAGE_FDS, MAX_VERSION_JSON, SessionLimits};
use super::{Peer, Violation};

/// What no client's `max_msg_fds` exceeds.
const MAX_CLIENT_FDS: u64 = 1024;

/// Reads the payload of `VERSION`. [`Peer::twin_socket`] says whether the client offers one and can be sent it.
pub(super) fn parse(payload: &[u8]) -> Result<Peer, Violation> {
    if payload.len() < 4 {
        return refuse("too short");
    }
    let (major, minor) = (u16_at(payload, 0), u16_at(payload, 2));
    if major != 0 {
        return refuse(format!("version {major}.{minor}"));
    }
    let capabilities = capabilities(&payload[4..])?;
    let max_msg_fds = integer(&capabilities, "max_msg_fds", 1, 0, MAX_CLIENT_FDS)?;
    Ok(Peer {
        version: (0, 0),
        // At most 1024.
        max_msg_fds: u32::try_from(max_msg_fds).unwrap_or(u32::MAX),
        max_data_xfer_size: integer(&capabilities, "max_data_xfer_size", 1 << 20, 1, u64::MAX)?,
        max_dma_maps: integer(&capabilities, "max_dma_maps", 65535, 0, u64::MAX)?,
        pgsizes: integer(&capabilities, "pgsizes", 4096, 1, u64::MAX)?,
        twin_socket: twin_socket(&capabilities)? && max_msg_fds > 0,
        write_multiple: boolean(&capabilities, "write_multiple")?,
    })
}

/// The capabilities in the data; none if there is no data, or no such member. Other members are ignored.
fn capabilities(data: &[u8]) -> Result<Map<String, Value>, Violation> {
    let text = match data {
        [] => return Ok(Map::new()),
        [text @ .., 0] => text,
        _ => return refuse("the data does not end with a zero"),
    };
    if text.len() > MAX_VERSION_JSON {
        return refuse("the data is too long");
    }
    // A zero within is no JSON; nesting is limited by the parser.
    match serde_json::from_slice(text) {
        Ok(Value::Object(mut data)) => object(&mut data, "capabilities"),
        Ok(_) => refuse("the data is no object"),
        Err(error) => refuse(error.to_string()),
    }
}

fn object(members: &mut Map<String, Value>, name: &str) -> Result<Map<String, Value>, Violation> {
    match members.remove(name) {
        None => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object),
        Some(_) => refuse(format!("{name} is no object")),
    }
}

fn integer(
    members: &Map<String, Value>,
    name: &str,
    default: u64,
    least: u64,
    most: u64,
) -> Result<u64, Violation> {
    let Some(value) = members.get(name) else { return Ok(default) };
    match value.as_u64() {
        Some(value) if (least..=most).contains(&value) => Ok(value),
        _ => refuse(format!("{name} is not an integer from {least} to {most}")),
    }
}

fn boolean(members: &Map<String, Value>, name: &str) -> Result<bool, Violation> {
    match members.get(name) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => refuse(format!("{name} is neither true nor false")),
    }
}

fn twin_socket(capabilities: &Map<String, Value>) -> Result<bool, Violation> {
    match capabilities.get("twin_socket") {
        None => Ok(false),
        Some(Value::Object(twin)) => boolean(twin, "supported"),
        Some(_) => refuse("twin_socket is no object"),
    }
}

fn refuse<T>(why: impl Into<String>) -> Result<T, Violation> {
    Err(Violation::Version(why.into()))
}

/// The payload of the reply.
pub(super) fn reply(limits: &SessionLimits, twin_socket: bool) -> Vec<u8> {
    let twin = if twin_socket { r#","twin_socket":{"supported":true,"fd_index":0}"# } else { "" };
    let (fds, xfer, maps) = (MAX_MESSAGE_FDS, limits.max_data_xfer_size, limits.max_dma_maps);
    let mut payload = vec![0; 4];
    payload.extend_from_slice(
        format!(
            r#"{{"capabilities":{{"max_msg_fds":{fds},"max_data_xfer_size":{xfer},"max_dma_maps":{maps},"pgsizes":4096{twin}}}}}"#
        )
        .as_bytes(),
    );
    payload.push(0);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(json: &str) -> Result<Peer, Violation> {
        parse(&[&[0, 0, 0, 0], json.as_bytes(), &[0]].concat())
    }

    fn capability(json: &str) -> Result<Peer, Violation> {
        with(&format!("{{\"capabilities\":{{{json}}}}}"))
    }

    #[test]
    fn everything_is_optional() {
        let default = parse(&[0, 0, 0, 0]).unwrap();
        assert_eq!(
            default,
            Peer {
                version: (0, 0),
                max_msg_fds: 1,
                max_data_xfer_size: 1 << 20,
                max_dma_maps: 65535,
                pgsizes: 4096,
                twin_socket: false,
                write_multiple: false,
            }
        );
        for json in ["{}", r#"{"capabilities":{}}"#, r#" {"other":[{}],"capabilities":{"x":{"y":null}}} "#] {
            assert_eq!(with(json).unwrap(), default, "{json}");
        }
    }

    #[test]
    fn what_qemu_and_cloud_hypervisor_send_is_understood() {
        let qemu = capability(
            r#""max_msg_fds":16,"max_data_xfer_size":1048576,"pgsizes":4096,"max_dma_maps":65535,"write_multiple":true,
               "migration":{"pgsize":4096,"max_bitmap_size":268435456}"#,
        )
        .unwrap();
        assert_eq!((qemu.max_msg_fds, qemu.write_multiple, qemu.twin_socket), (16, true, false));
        let hypervisor =
            capability(r#""max_msg_fds":1,"max_data_xfer_size":65536,"migration":{"pgsize":4096}"#).unwrap();
        assert_eq!((hypervisor.max_msg_fds, hypervisor.max_data_xfer_size), (1, 65536));
    }

    #[test]
    fn a_twin_socket_needs_room_for_its_descriptor() {
        let twin = |json| capability(json).unwrap().twin_socket;
        assert!(twin(r#""twin_socket":{"supported":true}"#));
        assert!(twin(r#""twin_socket":{"supported":true,"more":1},"max_msg_fds":8"#));
        assert!(!twin(r#""twin_socket":{"supported":true},"max_msg_fds":0"#));
        assert!(!twin(r#""twin_socket":{"supported":false}"#));
        assert!(!twin(r#""twin_socket":{}"#));
    }

    #[test]
    fn wrong_data_is_refused() {
        for json in [
            "",
            " ",
            "[]",
            "1",
            "null",
            "\"capabilities\"",
            "{",
            "{}{}",
            "{\"capabilities\":null}",
            "{'capabilities':{}}",
            r#"{"capabilities":[]}"#,
            r#"{"capabilities":1}"#,
            "{}\0",
            "{\0}",
            "{\"a\":\"\u{0}\"}",
        ] {
            assert!(matches!(with(json), Err(Violation::Version(_))), "{json:?}");
        }
        for json in [
            r#""max_msg_fds":-1"#,
            r#""max_msg_fds":1025"#,
            r#""max_msg_fds":1.0"#,
            r#""max_msg_fds":"1""#,
            r#""max_msg_fds":null"#,
            r#""max_data_xfer_size":0"#,
            r#""max_data_xfer_size":1e6"#,
            r#""max_data_xfer_size":18446744073709551616"#,
            r#""max_dma_maps":true"#,
            r#""max_dma_maps":-5"#,
            r#""pgsizes":0"#,
            r#""pgsizes":[4096]"#,
            r#""write_multiple":1"#,
            r#""twin_socket":true"#,
            r#""twin_socket":[true]"#,
            r#""twin_socket":{"supported":1}"#,
        ] {
            assert!(matches!(capability(json), Err(Violation::Version(_))), "{json}");
        }
        assert_eq!(capability(r#""max_msg_fds":1024"#).unwrap().max_msg_fds, 1024);
    }

    #[test]
    fn framing_is_checked() {
        for payload in
            [&b""[..], b"\0", b"\0\0\0", b"\0\0\0\0{}", b"\0\0\0\0\xff\0", b"\0\0\0\0{\"a\":\"\xff\"}\0"]
        {
            assert!(matches!(parse(payload), Err(Violation::Version(_))), "{payload:?}");
        }
        assert_eq!(parse(&[1, 0, 0, 0]).unwrap_err(), Violation::Version("version 1.0".to_owned()));
        assert!(parse(&[0, 0, 0xff, 0xff]).is_ok(), "any minor version will do");
    }

    #[test]
    fn depth_and_size_are_limited() {
        let nested = |depth: usize| format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(with(&nested(20)).is_ok());
        assert!(with(&nested(8000)).is_err());
        assert!(with(&format!("{{\"x\":\"{}\"}}", "y".repeat(MAX_VERSION_JSON))).is_err());
        assert!(with(&format!("{{\"x\":\"{}\"}}", "y".repeat(MAX_VERSION_JSON - 8))).is_ok());
    }

    #[test]
    fn the_reply_fits_the_smallest_buffer() {
        let limits = SessionLimits { max_data_xfer_size: 64 << 20, ..SessionLimits::default() };
        for twin in [false, true] {
            let reply = reply(&limits, twin);
            assert!(16 + reply.len() <= 200, "{} bytes", 16 + reply.len());
            assert_eq!(reply[..4], [0; 4]);
            assert_eq!(reply.iter().rposition(|byte| *byte == 0), Some(reply.len() - 1));
            let json: Value = serde_json::from_slice(&reply[4..reply.len() - 1]).unwrap();
            let capabilities = json["capabilities"].as_object().unwrap();
            assert_eq!(capabilities["max_msg_fds"], 16);
            assert_eq!(capabilities["max_data_xfer_size"], 64 << 20);
            assert_eq!(capabilities["max_dma_maps"], 65535);
            assert_eq!(capabilities["pgsizes"], 4096);
            assert_eq!(capabilities.len(), if twin { 5 } else { 4 });
            if twin {
                assert_eq!(
                    capabilities["twin_socket"],
                    serde_json::json!({"supported": true, "fd_index": 0})
                );
            }
        }
    }
}
