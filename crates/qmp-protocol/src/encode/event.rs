//! Events: what a monitor says unasked.

use std::borrow::Cow;
use std::time::Duration;

use super::layout::{Format, Layout};
use super::{Line, Payload, text, value};
use crate::value::Value;

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name, upper case by convention.
    pub name: Cow<'static, str>,
    /// Its details; the member is absent for an event that has none.
    pub data: Option<Value>,
    /// When it happened, since the epoch; printed to the microsecond.
    pub timestamp: Duration,
}

/// Appends `{"timestamp": {"seconds": .., "microseconds": ..}, "event": .., "data": ..}`.
///
/// ```
/// # use std::time::Duration;
/// # use qmp_protocol::{Event, Format, encode_event};
/// let mut out = Vec::new();
/// let stop = Event { name: "STOP".into(), data: None, timestamp: Duration::from_micros(5_000_007) };
/// encode_event(&mut out, &stop, Format::Compact);
/// assert_eq!(out, b"{\"timestamp\": {\"seconds\": 5, \"microseconds\": 7}, \"event\": \"STOP\"}\r\n");
/// ```
pub fn encode_event(out: &mut Vec<u8>, event: &Event, format: Format) {
    let mut line = begin(out, &event.name, event.timestamp, format);
    if let Some(data) = &event.data {
        line.member("data", |out, layout| value::write(out, layout, data));
    }
    line.end();
}

/// [`encode_event`] with details that are encoded already, in the same `format`.
pub fn encode_event_with(
    out: &mut Vec<u8>,
    name: &str,
    data: Option<&Payload>,
    timestamp: Duration,
    format: Format,
) {
    let mut line = begin(out, name, timestamp, format);
    if let Some(data) = data {
        line.member("data", |out, layout| {
            data.append(out, layout);
            Ok(())
        });
    }
    line.end();
}

fn begin<'a>(out: &'a mut Vec<u8>, name: &str, timestamp: Duration, format: Format) -> Line<'a> {
    let mut line = Line::begin(out, format);
    line.member("timestamp", |out, layout| write_timestamp(out, layout, timestamp));
    line.member("event", |out, _| text::write_string(out, name));
    line
}

fn write_timestamp(out: &mut Vec<u8>, layout: &mut Layout, timestamp: Duration) -> std::io::Result<()> {
    layout.object(out, |out, layout| {
        layout.name(out, "seconds", true)?;
        layout.number(out, timestamp.as_secs())?;
        layout.name(out, "microseconds", false)?;
        layout.number(out, timestamp.subsec_micros().into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Object;

    #[test]
    fn an_event_has_its_members_in_the_recorded_order() {
        let data: Object =
            [("guest", Value::Bool(false)), ("reason", "host-qmp-quit".into())].into_iter().collect();
        let timestamp = Duration::new(1, 2_999);
        let event = Event { name: "SHUTDOWN".into(), data: Some(data.into()), timestamp };
        let expected = "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"SHUTDOWN\", \
                        \"data\": {\"guest\": false, \"reason\": \"host-qmp-quit\"}}\r\n";
        let mut out = Vec::new();
        encode_event(&mut out, &event, Format::Compact);
        assert_eq!(String::from_utf8(out).unwrap(), expected);

        let mut out = Vec::new();
        let payload = Payload::encode(&event.data, Format::Compact).unwrap();
        encode_event_with(&mut out, "SHUTDOWN", Some(&payload), timestamp, Format::Compact);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn the_pretty_form_is_the_recorded_one() {
        let event = Event { name: "RESUME".into(), data: None, timestamp: Duration::new(1, 0) };
        let mut out = Vec::new();
        encode_event(&mut out, &event, Format::Pretty);
        let expected = "{
    \"timestamp\": {
        \"seconds\": 1,
        \"microseconds\": 0
    },
    \"event\": \"RESUME\"
}
";
        assert_eq!(String::from_utf8(out).unwrap(), expected.replace('\n', "\r\n"));
    }
}
