//! A chardev's options, as `chardev-add` of QMP wants them.

use qmp_command::{CommandError, CommandResult};
use serde_json::{Map, Value, json};

use crate::commands::is_identifier;
use crate::keyval::{Options, number};

/// What an option's value is.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Size,
    Switch,
}

/// All options of all backends that QEMU knows: which one belongs to which is not checked.
const KNOWN: &[(&str, Kind)] = &[
    ("backend", Kind::Text),
    ("path", Kind::Text),
    ("host", Kind::Text),
    ("port", Kind::Text),
    ("fd", Kind::Text),
    ("localaddr", Kind::Text),
    ("localport", Kind::Text),
    ("to", Kind::Number),
    ("ipv4", Kind::Switch),
    ("ipv6", Kind::Switch),
    ("wait", Kind::Switch),
    ("server", Kind::Switch),
    ("delay", Kind::Switch),
    ("nodelay", Kind::Switch),
    ("reconnect", Kind::Number),
    ("telnet", Kind::Switch),
    ("tn3270", Kind::Switch),
    ("tls-creds", Kind::Text),
    ("tls-authz", Kind::Text),
    ("websocket", Kind::Switch),
    ("width", Kind::Number),
    ("height", Kind::Number),
    ("cols", Kind::Number),
    ("rows", Kind::Number),
    ("mux", Kind::Switch),
    ("signal", Kind::Switch),
    ("name", Kind::Text),
    ("debug", Kind::Number),
    ("size", Kind::Size),
    ("chardev", Kind::Text),
    ("append", Kind::Switch),
    ("logfile", Kind::Text),
    ("logappend", Kind::Switch),
    ("mouse", Kind::Switch),
    ("clipboard", Kind::Switch),
    ("tight", Kind::Switch),
    ("abstract", Kind::Switch),
    // Ours.
    ("allowed-uids", Kind::Number),
    ("allowed-gids", Kind::Number),
    ("insecure", Kind::Switch),
];

/// Holds the options against what each one takes, in their order. Warnings go out as they come.
///
/// # Errors
/// The first complaint, a line or more.
pub(super) fn check(options: &Options, warn: impl Fn(&str)) -> Result<(), String> {
    if options.id().is_some_and(|id| !is_identifier(id)) {
        return Err("Parameter 'id' expects an identifier\n\
                    Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.\n"
            .to_owned());
    }
    for item in options {
        if item.asks_for_help() {
            // QEMU lists the options on its own output.
            return Err(String::new());
        }
        if let Some(warning) = item.warning() {
            warn(&warning);
        }
        let (key, value) = (&item.key, &item.value);
        let kind = match KNOWN.iter().find(|(name, _)| name == key) {
            _ if key == "id" => Kind::Text,
            Some((_, kind)) => *kind,
            None => return Err(format!("Invalid parameter '{key}'\n")),
        };
        match kind {
            Kind::Switch if number::switch(value).is_none() => {
                return Err(format!("Parameter '{key}' expects 'on' or 'off'\n"));
            }
            Kind::Number if number::unsigned(value).is_none() => {
                return Err(format!("Parameter '{key}' expects a number\n"));
            }
            Kind::Size if number::size(value).is_none() => {
                return Err(format!("Parameter '{key}' expects a non-negative number below 2^64\n{UNITS}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// QEMU's hint about sizes.
const UNITS: &str = "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n\
                     and exabytes, respectively.\n";

/// The arguments of `chardev-add`. The options were checked.
///
/// # Errors
/// What the backend needs and does not get.
pub(super) fn arguments(id: &str, backend: &str, options: &Options) -> CommandResult<Value> {
    if on(options, "mux").unwrap_or(false) {
        return Err(CommandError::generic(
            "'mux' is not supported: a monitor here takes several clients itself",
        ));
    }
    let mut data = match backend {
        "socket" => socket(options)?,
        "file" => file(options)?,
        "pipe" => pipe(options)?,
        "stdio" => Map::from_iter(on(options, "signal").map(|signal| ("signal".to_owned(), signal.into()))),
        "ringbuf" | "memory" => Map::from_iter(
            options.get("size").and_then(number::size).map(|size| ("size".to_owned(), size.into())),
        ),
        _ => Map::new(),
    };
    set(&mut data, "logfile", options.get("logfile"));
    set(&mut data, "logappend", on(options, "logappend"));
    Ok(json!({"id": id, "backend": {"type": backend, "data": data}}))
}

fn on(options: &Options, key: &str) -> Option<bool> {
    options.get(key).and_then(number::switch)
}

fn count(options: &Options, key: &str) -> Option<u64> {
    options.get(key).and_then(number::unsigned)
}

fn set(data: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        data.insert(key.to_owned(), value.into());
    }
}

/// A socket. On a command line it is a client until told otherwise, where in QMP it is a server.
fn socket(options: &Options) -> CommandResult<Map<String, Value>> {
    let (path, host, fd) = (options.get("path"), options.get("host"), options.get("fd"));
    if [path, host, fd].iter().flatten().count() > 1 {
        return Err(CommandError::generic("None or one of 'path', 'fd' or 'host' option required."));
    }
    let port = options.get("port");
    if host.is_some() && port.is_none() {
        return Err(CommandError::generic("chardev: socket: no port given"));
    }
    if options.get("delay").is_some() && options.get("nodelay").is_some() {
        return Err(CommandError::generic("'delay' and 'nodelay' are mutually exclusive"));
    }
    let mut address = Map::new();
    let kind = if let Some(path) = path {
        set(&mut address, "path", Some(path));
        set(&mut address, "tight", on(options, "tight"));
        set(&mut address, "abstract", on(options, "abstract"));
        "unix"
    } else if let Some(host) = host {
        set(&mut address, "host", Some(host));
        set(&mut address, "port", port);
        set(&mut address, "to", count(options, "to"));
        set(&mut address, "ipv4", on(options, "ipv4"));
        set(&mut address, "ipv6", on(options, "ipv6"));
        "inet"
    } else {
        set(&mut address, "str", Some(fd.unwrap_or_default()));
        "fd"
    };
    let server = on(options, "server").unwrap_or(false);
    let wait = on(options, "wait");
    let mut data = Map::new();
    data.insert("addr".to_owned(), json!({"type": kind, "data": address}));
    set(&mut data, "server", Some(server));
    set(&mut data, "wait", wait.or(server.then_some(true)));
    set(&mut data, "nodelay", on(options, "nodelay").or(on(options, "delay").map(|delay| !delay)));
    set(&mut data, "reconnect", count(options, "reconnect"));
    // These may be repeated.
    for key in ["allowed-uids", "allowed-gids"] {
        let ids: Vec<_> = options.iter().filter(|item| item.key == key).collect();
        let numbers = ids.iter().filter_map(|item| number::unsigned(&item.value)).collect::<Vec<_>>();
        set(&mut data, key, (!ids.is_empty()).then_some(numbers));
    }
    for key in ["telnet", "tn3270", "websocket", "insecure"] {
        set(&mut data, key, on(options, key));
    }
    for key in ["tls-creds", "tls-authz"] {
        set(&mut data, key, options.get(key));
    }
    Ok(data)
}

fn file(options: &Options) -> CommandResult<Map<String, Value>> {
    let path =
        options.get("path").ok_or_else(|| CommandError::generic("chardev: file: no filename given"))?;
    let mut data = Map::new();
    set(&mut data, "out", Some(path));
    set(&mut data, "append", on(options, "append"));
    Ok(data)
}

fn pipe(options: &Options) -> CommandResult<Map<String, Value>> {
    let path =
        options.get("path").ok_or_else(|| CommandError::generic("chardev: pipe: no device path given"))?;
    Ok(Map::from_iter([("device".to_owned(), path.into())]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> (String, Result<(), String>) {
        let warnings = std::cell::RefCell::new(String::new());
        let result = check(&Options::parse(text, Some("backend")), |warning| {
            warnings.borrow_mut().push_str(warning);
        });
        (warnings.into_inner(), result)
    }

    fn backend(text: &str) -> Result<Value, String> {
        let options = Options::parse(text, Some("backend"));
        let (id, backend) = (options.id().unwrap(), options.get("backend").unwrap());
        arguments(id, backend, &options).map(|mut a| a["backend"].take()).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_checked_in_their_order() {
        assert_eq!(checked("null,id=c,path=x"), (String::new(), Ok(())));
        for (text, complaint) in [
            ("null,id=c,nope=5", "Invalid parameter 'nope'\n"),
            ("null,id=c,=x", "Invalid parameter ''\n"),
            ("null,id=c,server=maybe,nope=1", "Parameter 'server' expects 'on' or 'off'\n"),
            ("null,id=c,reconnect=x", "Parameter 'reconnect' expects a number\n"),
        ] {
            assert_eq!(checked(text).1, Err(complaint.to_owned()), "{text}");
        }
        assert_eq!(checked("null,wait=on,help,nope=1"), (String::new(), Err(String::new())));
        assert!(checked("null,nope=1,help").1.unwrap_err().starts_with("Invalid parameter 'nope'"));
        assert!(
            checked("null,nope=1,id=1c").1.unwrap_err().starts_with("Parameter 'id' expects an identifier\n")
        );
        assert!(checked("null,size=x").1.unwrap_err().starts_with("Parameter 'size' expects a non-negative"));
        let (warnings, result) = checked("socket,id=s,server,nope");
        assert_eq!(
            warnings,
            "warning: short-form boolean option 'server' deprecated\nPlease use server=on instead\n\
             warning: short-form boolean option 'nope' deprecated\nPlease use pe=off instead\n"
        );
        assert_eq!(result, Err("Invalid parameter 'pe'\n".to_owned()));
    }

    #[test]
    fn backends_become_qmps() {
        assert_eq!(backend("null,id=c"), Ok(json!({"type": "null", "data": {}})));
        assert_eq!(
            backend("socket,id=s,path=/p,server=on"),
            Ok(json!({"type": "socket", "data": {
                "addr": {"type": "unix", "data": {"path": "/p"}}, "server": true, "wait": true,
            }}))
        );
        assert_eq!(
            backend("socket,id=s,host=h,port=p,to=5,ipv4=on,delay=off,reconnect=1,telnet=on"),
            Ok(json!({"type": "socket", "data": {
                "addr": {"type": "inet", "data": {"host": "h", "port": "p", "to": 5, "ipv4": true}},
                "server": false, "nodelay": true, "reconnect": 1, "telnet": true,
            }}))
        );
        assert_eq!(
            backend("socket,id=s,path=/p,allowed-uids=1,allowed-gids=0,allowed-uids=2"),
            Ok(json!({"type": "socket", "data": {
                "addr": {"type": "unix", "data": {"path": "/p"}}, "server": false,
                "allowed-uids": [1, 2], "allowed-gids": [0],
            }}))
        );
        assert_eq!(
            backend("socket,id=s,host=,port=1,insecure=on"),
            Ok(json!({"type": "socket", "data": {
                "addr": {"type": "inet", "data": {"host": "", "port": "1"}}, "server": false, "insecure": true,
            }}))
        );
        assert_eq!(
            backend("socket,id=s,fd=x,wait=off"),
            Ok(json!({"type": "socket", "data": {
                "addr": {"type": "fd", "data": {"str": "x"}}, "server": false, "wait": false,
            }}))
        );
        assert_eq!(
            backend("file,id=f,path=/p,append=on,logfile=/l"),
            Ok(json!({"type": "file", "data": {"out": "/p", "append": true, "logfile": "/l"}}))
        );
        assert_eq!(backend("pipe,id=p,path=/p"), Ok(json!({"type": "pipe", "data": {"device": "/p"}})));
        assert_eq!(backend("stdio,id=s,signal=off"), Ok(json!({"type": "stdio", "data": {"signal": false}})));
    }

    #[test]
    fn what_a_backend_needs() {
        for (text, error) in [
            ("socket,id=s,host=h", "chardev: socket: no port given"),
            ("socket,id=s,host=h,port=p,path=/p", "None or one of 'path', 'fd' or 'host' option required."),
            ("socket,id=s,path=/p,delay=on,nodelay=on", "'delay' and 'nodelay' are mutually exclusive"),
            ("file,id=f", "chardev: file: no filename given"),
            ("pipe,id=p", "chardev: pipe: no device path given"),
        ] {
            assert_eq!(backend(text), Err(error.to_owned()), "{text}");
        }
    }
}
