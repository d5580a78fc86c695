//! What the decoder yields, and the checks that make a command of a JSON value.

use crate::error::Error;
use crate::value::{Object, Value};

/// One thing that a client said and that gets one reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A well-formed command. Whether it exists is the router's business.
    Request(Request),
    /// Anything else: text that is no JSON, or JSON that is no command.
    Malformed(Malformed),
}

/// A command as the client sent it.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The command's name.
    pub execute: String,
    /// True if it was sent as `exec-oob`: it is to overtake the commands that wait.
    pub oob: bool,
    /// The arguments, if the member was there.
    pub arguments: Option<Object>,
    /// To be echoed in the reply; any value, `null` included.
    pub id: Option<Value>,
}

/// A message that gets an error reply without having been a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Malformed {
    /// What to answer.
    pub error: Error,
    /// To be echoed in the reply: there if the message was an object with an `id`.
    pub id: Option<Value>,
    /// True if it was meant to be out-of-band, and the session has that enabled: its reply overtakes as well.
    pub oob: bool,
}

impl From<Error> for Malformed {
    fn from(error: Error) -> Self {
        Self { error, id: None, oob: false }
    }
}

impl Message {
    /// What a parsed value, or the reason why there is none, means to a session; `oob` says whether it has
    /// out-of-band commands enabled.
    pub(crate) fn from_parsed(parsed: Result<Value, Error>, oob: bool) -> Self {
        match parsed {
            Ok(Value::Object(members)) => Self::from_object(members, oob),
            Ok(_) => Self::Malformed(Error::generic("QMP input must be a JSON object").into()),
            Err(error) => Self::Malformed(error.into()),
        }
    }

    fn from_object(mut members: Object, oob: bool) -> Self {
        match command_key(&members, oob) {
            Ok(key) => {
                let Some(Value::String(execute)) = members.remove(key) else {
                    return Self::Malformed(Error::generic(not_a_string(key)).into());
                };
                let arguments = match members.remove("arguments") {
                    Some(Value::Object(arguments)) => Some(arguments),
                    _ => None,
                };
                Self::Request(Request {
                    execute,
                    oob: key == "exec-oob",
                    arguments,
                    id: members.remove("id"),
                })
            }
            Err(error) => {
                let oob = oob && members.contains_key("exec-oob") && !members.contains_key("execute");
                Self::Malformed(Malformed { error, id: members.remove("id"), oob })
            }
        }
    }
}

/// The member that names the command: `execute` or `exec-oob`. The members are checked in the order in which QEMU
/// visits them, and the first that is wrong decides the error.
fn command_key(members: &Object, oob: bool) -> Result<&'static str, Error> {
    let mut found: Option<&'static str> = None;
    for (key, value) in members.iter_qdict() {
        let command = match key {
            "execute" => "execute",
            "exec-oob" if oob => "exec-oob",
            "arguments" if value.as_object().is_none() => {
                return Err(Error::generic("QMP input member 'arguments' must be an object"));
            }
            "arguments" | "id" => continue,
            _ => return Err(Error::generic(format!("QMP input member '{key}' is unexpected"))),
        };
        if value.as_str().is_none() {
            return Err(Error::generic(not_a_string(command)));
        }
        if let Some(other) = found.replace(command) {
            return Err(Error::generic(format!("QMP input member '{command}' clashes with '{other}'")));
        }
    }
    found.ok_or_else(|| Error::generic("QMP input lacks member 'execute'"))
}

fn not_a_string(key: &str) -> String {
    format!("QMP input member '{key}' must be a string")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The description of the error that the object `text` gets.
    fn complaint(text: &str, oob: bool) -> String {
        match Message::from_parsed(Value::from_json(text.as_bytes()), oob) {
            Message::Malformed(bad) => bad.error.desc.into_owned(),
            Message::Request(request) => panic!("{request:?}"),
        }
    }

    #[test]
    fn complaints_follow_the_bucket_order() {
        let text = r#"{"execute":"query-name","m1":1,"m2":2,"m3":3,"m4":4}"#;
        assert_eq!(complaint(text, false), "QMP input member 'm3' is unexpected");
        let text = r#"{"execute":1,"zz":2}"#;
        assert_eq!(complaint(text, false), "QMP input member 'execute' must be a string");
    }

    #[test]
    fn both_command_members_clash_whatever_their_order() {
        for text in [r#"{"execute":"a","exec-oob":"b"}"#, r#"{"exec-oob":"b","execute":"a"}"#] {
            assert_eq!(complaint(text, true), "QMP input member 'execute' clashes with 'exec-oob'");
            assert_eq!(complaint(text, false), "QMP input member 'exec-oob' is unexpected");
        }
    }

    #[test]
    fn a_malformed_out_of_band_request_stays_out_of_band() {
        let parse = |text: &str, oob| match Message::from_parsed(Value::from_json(text.as_bytes()), oob) {
            Message::Malformed(bad) => bad,
            Message::Request(request) => panic!("{request:?}"),
        };
        let bad = parse(r#"{"exec-oob":1,"id":2}"#, true);
        assert!(bad.oob);
        assert_eq!(bad.id, Some(2_i64.into()));
        assert!(!parse(r#"{"exec-oob":1,"id":2}"#, false).oob);
        assert!(!parse(r#"{"exec-oob":1,"execute":2}"#, true).oob);
    }
}
