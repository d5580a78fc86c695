//! The recorded cases: what one line of `corpus.jsonl` says, as types.
//!
//! `conformance/FORMAT.md` describes the format. Whatever a step says that is not known here is an error, so that a
//! case never passes because part of it was ignored.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::base64;

/// What arrived after one step: lines by the name of the connection, the peer or `proc`.
pub type Arrivals = BTreeMap<String, Vec<String>>;

/// One recorded exchange.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// `area/what`, unique in the corpus.
    pub name: String,
    /// The subject, which decides whose answers count (see [`Case::recordings`]).
    pub area: String,
    /// What to do, one step after the other.
    pub send: Vec<Step>,
    /// What happens before the first step.
    #[serde(default)]
    pub neg: Negotiation,
    /// Which start line the server needs.
    #[serde(default = "default_group")]
    pub group: String,
    /// Needs a server process of its own.
    #[serde(default)]
    pub fresh: bool,
    /// The order of lines does not count, nor after which step they came.
    #[serde(default)]
    pub unordered: bool,
    /// Takes many seconds.
    #[serde(default)]
    pub heavy: bool,
    #[serde(default)]
    expect_72: Option<Vec<Arrivals>>,
    #[serde(default)]
    expect_111: Option<Vec<Arrivals>>,
}

fn default_group() -> String {
    "none".to_owned()
}

/// Which QEMU's answers are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// QEMU 7.2.
    V72,
    /// QEMU 11.1.
    V111,
}

impl Release {
    /// The name used in the corpus and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::V72 => "72",
            Self::V111 => "111",
        }
    }
}

/// Areas where 11.1's answer is as good as 7.2's.
const EITHER: [&str; 6] = ["fdset", "control", "runstate", "iothread", "add_client", "frontend"];
/// Areas that 7.2 does not have.
const NEWER: [&str; 1] = ["monobj"];

impl Case {
    /// The recordings that this case may match, in the order to try them; only `forced`'s when that is given.
    pub fn recordings(&self, forced: Option<Release>) -> Vec<(Release, &[Arrivals])> {
        let wanted: &[Release] = match forced {
            Some(Release::V72) => &[Release::V72],
            Some(Release::V111) => &[Release::V111],
            None if NEWER.contains(&self.area.as_str()) => &[Release::V111],
            None if EITHER.contains(&self.area.as_str()) => &[Release::V72, Release::V111],
            None => &[Release::V72],
        };
        wanted.iter().filter_map(|&release| Some((release, self.recorded(release)?))).collect()
    }

    fn recorded(&self, release: Release) -> Option<&[Arrivals]> {
        match release {
            Release::V72 => self.expect_72.as_deref(),
            Release::V111 => self.expect_111.as_deref(),
        }
    }
}

/// What the replayer says before the first step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "RawNegotiation")]
pub enum Negotiation {
    /// `qmp_capabilities` without capabilities.
    #[default]
    Plain,
    /// `qmp_capabilities` that enables `oob`.
    OutOfBand,
    /// Nothing: the greeting is the first thing compared.
    None,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawNegotiation {
    Flag(bool),
    Word(String),
}

impl TryFrom<RawNegotiation> for Negotiation {
    type Error = String;

    fn try_from(raw: RawNegotiation) -> Result<Self, String> {
        match raw {
            RawNegotiation::Flag(true) => Ok(Self::Plain),
            RawNegotiation::Flag(false) => Ok(Self::None),
            RawNegotiation::Word(word) if word == "oob" => Ok(Self::OutOfBand),
            RawNegotiation::Word(word) => Err(format!("negotiation '{word}' is not known")),
        }
    }
}

/// One step of a case: send something, do something, or both, then read.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "RawStep")]
pub struct Step {
    /// The connection that it is about.
    pub connection: u32,
    /// What to send.
    pub payload: Option<Payload>,
    /// One byte per write.
    pub bytewise: bool,
    /// Sent after the payload, a moment apart.
    pub chunks: Vec<String>,
    /// Descriptors that go with the payload's first byte, by kind.
    pub fds: Vec<String>,
    /// Go on without reading.
    pub nocollect: bool,
    /// Seconds to wait for the recorded lines, when the usual ones are too few.
    pub timeout: Option<f64>,
    /// What to do beside sending.
    pub op: Option<Op>,
}

/// What a step sends.
#[derive(Debug)]
pub enum Payload {
    /// Text in which `{dir}` and `$fdN` stand for what they are now.
    Text(String),
    /// These very bytes.
    Bytes(Vec<u8>),
}

/// What a step does.
#[derive(Debug)]
pub enum Op {
    /// Opens the connection, to the socket of this name.
    Connect {
        /// A name from the start line: `sock`, `sock2`, `hmp`...
        socket: String,
        /// Negotiate, without comparing what comes.
        negotiate: bool,
    },
    /// Closes the connection.
    Close,
    /// Ends the sending direction of the connection.
    ShutdownWrite,
    /// Lets this many milliseconds pass.
    Sleep(u64),
    /// Reads what comes.
    Wait,
    /// Opens the fifo for writing, for a server that waits in its open.
    FifoOpenWrite,
    /// Sends text on the kept end of a passed socket.
    PeerSend {
        /// The name that it was passed under.
        peer: String,
        /// The text.
        data: String,
    },
    /// Closes the kept end of a passed socket.
    PeerClose {
        /// The name that it was passed under.
        peer: String,
    },
    /// Waits for the server to end; its exit code is compared.
    Exit,
    /// Counts the server's open descriptors; the difference to the start of the case is compared.
    FdCount,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawStep {
    Text(String),
    Full(Box<RawFullStep>),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawFullStep {
    c: u32,
    text: Option<String>,
    raw_b64: Option<String>,
    pre: String,
    repeat: Option<String>,
    n: usize,
    post: String,
    chunks: Vec<String>,
    bytewise: bool,
    fds: RawFds,
    nocollect: bool,
    timeout: Option<f64>,
    /// Only of use while recording.
    #[serde(rename = "quiet")]
    _quiet: Option<f64>,
    op: Option<String>,
    sock: Option<String>,
    neg: bool,
    ms: u64,
    peer: String,
    data: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawFds {
    Count(usize),
    Kinds(Vec<String>),
}

impl Default for RawFds {
    fn default() -> Self {
        Self::Count(0)
    }
}

impl TryFrom<RawStep> for Step {
    type Error = String;

    fn try_from(raw: RawStep) -> Result<Self, String> {
        let full = match raw {
            RawStep::Text(text) => return Ok(Self { payload: Some(Payload::Text(text)), ..Self::default() }),
            RawStep::Full(full) => *full,
        };
        let payload = match (full.text, full.raw_b64, full.repeat) {
            (Some(text), _, _) => Some(Payload::Text(text)),
            (None, Some(encoded), _) => Some(Payload::Bytes(base64::decode(&encoded)?)),
            (None, None, Some(part)) => {
                Some(Payload::Bytes(format!("{}{}{}", full.pre, part.repeat(full.n), full.post).into_bytes()))
            }
            (None, None, None) => None,
        };
        let op = match full.op.as_deref() {
            None => None,
            Some("connect") => Some(Op::Connect {
                socket: full.sock.unwrap_or_else(|| "sock".to_owned()),
                negotiate: full.neg,
            }),
            Some("close") => Some(Op::Close),
            Some("shutdown_wr") => Some(Op::ShutdownWrite),
            Some("sleep") => Some(Op::Sleep(full.ms)),
            Some("wait") => Some(Op::Wait),
            Some("fifo_open_w") => Some(Op::FifoOpenWrite),
            Some("peer_send") => Some(Op::PeerSend { peer: full.peer, data: full.data }),
            Some("peer_close") => Some(Op::PeerClose { peer: full.peer }),
            Some("exit") => Some(Op::Exit),
            Some("fdcount") => Some(Op::FdCount),
            Some(other) => return Err(format!("op '{other}' is not known")),
        };
        Ok(Self {
            connection: full.c,
            payload,
            bytewise: full.bytewise,
            chunks: full.chunks,
            fds: match full.fds {
                RawFds::Count(n) => vec!["null_r".to_owned(); n],
                RawFds::Kinds(kinds) => kinds,
            },
            nocollect: full.nocollect,
            timeout: full.timeout,
            op,
        })
    }
}

/// Reads a corpus: one case per line, empty lines ignored.
///
/// # Errors
/// Names the line that is not a case, and says why.
pub fn parse(text: &str) -> Result<Vec<Case>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(n, line)| serde_json::from_str(line).map_err(|e| format!("line {}: {e}", n + 1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(json: &str) -> Result<Step, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn steps_in_every_form() {
        assert!(matches!(step(r#""{}""#).unwrap().payload, Some(Payload::Text(t)) if t == "{}"));
        let raw = step(r#"{"c": 2, "raw_b64": "/wA=", "fds": 3}"#).unwrap();
        assert!(matches!(raw.payload, Some(Payload::Bytes(b)) if b == [0xff, 0]));
        assert_eq!((raw.connection, raw.fds.len()), (2, 3));
        let long = step(r#"{"pre": "[0", "repeat": ",1", "n": 2, "post": "]"}"#).unwrap();
        assert!(matches!(long.payload, Some(Payload::Bytes(b)) if b == b"[0,1,1]"));
        let op = step(r#"{"op": "connect", "c": 1, "neg": true}"#).unwrap().op;
        assert!(matches!(op, Some(Op::Connect { socket, negotiate: true }) if socket == "sock"));
    }

    #[test]
    fn nothing_is_ignored() {
        assert!(step(r#"{"op": "dance"}"#).is_err());
        assert!(step(r#"{"txt": "x"}"#).is_err());
        assert!(serde_json::from_str::<Negotiation>(r#""pretty""#).is_err());
        assert!(parse("\n{}").unwrap_err().starts_with("line 2: "));
    }

    #[test]
    fn areas_decide_whose_answers_count() {
        let case = |area: &str| -> Case {
            let line =
                format!(r#"{{"name":"a/b","area":"{area}","send":[],"expect_72":[],"expect_111":[]}}"#);
            serde_json::from_str(&line).unwrap()
        };
        let releases = |area: &str, forced| -> Vec<Release> {
            case(area).recordings(forced).iter().map(|&(release, _)| release).collect()
        };
        assert_eq!(releases("json", None), [Release::V72]);
        assert_eq!(releases("fdset", None), [Release::V72, Release::V111]);
        assert_eq!(releases("monobj", None), [Release::V111]);
        assert_eq!(releases("json", Some(Release::V111)), [Release::V111]);
    }
}
