//! `VERSION`: what the client says of itself, and what it is told.
//!
//! The answer is 0.0 whatever minor version the client has: QEMU accepts no other. It has to fit QEMU's receive buffer,
//! which is its own request of 214 bytes. `write_multiple` and migration are never agreed to.

use serde::Deserialize;

use super::header::u16_at;
use super::limits::{MAX_MESSAGE_FDS, MAX_VERSION_JSON, SessionLimits};
use super::{Peer, Violation};

/// What a client may say, with the defaults of the specification for what it does not. Unknown members are ignored.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Capabilities {
    max_msg_fds: u32,
    max_data_xfer_size: u64,
    max_dma_maps: u64,
    pgsizes: u64,
    twin_socket: TwinSocket,
    write_multiple: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            max_msg_fds: 1,
            max_data_xfer_size: 1 << 20,
            max_dma_maps: 65535,
            pgsizes: 4096,
            twin_socket: TwinSocket::default(),
            write_multiple: false,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TwinSocket {
    supported: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct VersionData {
    capabilities: Capabilities,
}

/// Reads the payload of `VERSION`. `twin_socket` says whether the client offers one and can be sent it.
pub(super) fn parse(payload: &[u8]) -> Result<Peer, Violation> {
    let refuse = |why: &str| Violation::Version(why.to_owned());
    if payload.len() < 4 {
        return Err(refuse("too short"));
    }
    let (major, minor) = (u16_at(payload, 0), u16_at(payload, 2));
    if major != 0 {
        return Err(Violation::Version(format!("major version {major}.{minor}")));
    }
    let capabilities = capabilities(&payload[4..])?;
    if capabilities.max_msg_fds > 1024 {
        return Err(refuse("max_msg_fds is over 1024"));
    }
    if capabilities.max_data_xfer_size == 0 {
        return Err(refuse("max_data_xfer_size is 0"));
    }
    if capabilities.pgsizes == 0 {
        return Err(refuse("pgsizes is 0"));
    }
    Ok(Peer {
        version: (0, 0),
        max_msg_fds: capabilities.max_msg_fds,
        max_data_xfer_size: capabilities.max_data_xfer_size,
        max_dma_maps: capabilities.max_dma_maps,
        pgsizes: capabilities.pgsizes,
        twin_socket: capabilities.twin_socket.supported && capabilities.max_msg_fds >= 1,
        write_multiple: capabilities.write_multiple,
    })
}

fn capabilities(data: &[u8]) -> Result<Capabilities, Violation> {
    let refuse = |why: &str| Violation::Version(why.to_owned());
    let text = match data {
        [] => return Ok(Capabilities::default()),
        [text @ .., 0] => text,
        _ => return Err(refuse("the data does not end with a zero")),
    };
    if text.len() > MAX_VERSION_JSON || text.contains(&0) {
        return Err(refuse("the data is too long, or has a zero within"));
    }
    // Members that are not looked at must be text all the same.
    let text = std::str::from_utf8(text).map_err(|_| refuse("the data is not UTF-8"))?;
    // A sequence would do for a struct, as far as serde is concerned.
    if !text.trim_start().starts_with('{') {
        return Err(refuse("the data is no object"));
    }
    let data: VersionData =
        serde_json::from_str(text).map_err(|error| Violation::Version(error.to_string()))?;
    Ok(data.capabilities)
}

/// The payload of the reply.
pub(super) fn reply(limits: &SessionLimits, twin_socket: bool) -> Vec<u8> {
    let twin = if twin_socket { r#","twin_socket":{"supported":true,"fd_index":0}"# } else { "" };
    let json = format!(
        concat!(
            r#"{{"capabilities":{{"max_msg_fds":{},"max_data_xfer_size":{},"max_dma_maps":{},"pgsizes":4096{}}}}}"#,
            "\0"
        ),
        MAX_MESSAGE_FDS, limits.max_data_xfer_size, limits.max_dma_maps, twin
    );
    let mut payload = vec![0; 4];
    payload.extend_from_slice(json.as_bytes());
    payload
}
