//! Whole command lines: those that start QEMU start `vmmd`, those that do not are refused in QEMU's words.
//!
//! Lines and texts were tried on QEMU 7.2.22.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use vmmd::cli::{Outcome, Run, parse};
use vmmd::config::{
    BudgetConfig, ChardevBackend, Config, LogFormat, MachineKind, NamedFdsScope, QtestLog, RtcBase, RtcClock,
    RtcConfig, SandboxConfig, Smp, SocketAddress, SocketConfig,
};
use vmmd::reference::Form;

fn no_file(_: &Path) -> io::Result<String> {
    Err(io::Error::from_raw_os_error(2))
}

fn outcome(args: &[&str]) -> Result<Outcome, String> {
    parse(args.iter().map(OsString::from), &no_file).map_err(|error| error.to_string())
}

fn run(args: &[&str]) -> Run {
    match outcome(args).unwrap_or_else(|error| panic!("{args:?}: {error}")) {
        Outcome::Run(run) => *run,
        other => panic!("{args:?} prints: {other:?}"),
    }
}

fn config(args: &[&str]) -> Config {
    run(args).config
}

fn refusal(args: &[&str]) -> String {
    outcome(args).err().unwrap_or_else(|| panic!("{args:?} is accepted"))
}

fn socket(args: &[&str]) -> SocketConfig {
    match config(args).chardevs.remove(0).backend {
        ChardevBackend::Socket(socket) => socket,
        other => panic!("{other:?}"),
    }
}

/// Each line is given a word per blank, so that it can be read as it would be typed.
fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

#[test]
fn nothing_at_all_is_the_board() {
    assert_eq!(config(&[]), Config::default());
    assert_eq!(config(&[]).machine.kind, MachineKind::Board);
}

#[test]
fn libvirts_way_of_probing_starts() {
    let config = config(&words(
        "-S -no-user-config -nodefaults -nographic -machine none,accel=kvm:tcg \
         -qmp unix:/var/lib/libvirt/qemu/qmp-1/qmp.monitor,server=on,wait=off \
         -pidfile /var/lib/libvirt/qemu/qmp-1/qmp.pid -daemonize",
    ));
    assert!(config.start_paused && config.daemonize && !config.has_relative_paths());
    assert_eq!(config.machine.kind, MachineKind::None);
    assert_eq!(config.machine.accel, ["kvm", "tcg"]);
    assert_eq!(config.pidfile.as_deref(), Some(Path::new("/var/lib/libvirt/qemu/qmp-1/qmp.pid")));
    assert_eq!(config.monitors.len(), 1);
}

#[test]
fn lines_that_start_qemu_start_here() {
    for line in [
        "-S -nodefaults -display none -machine none -qmp unix:q,server=on,wait=off",
        "-nodefaults -display none -machine none -qmp unix:a,server=on,wait=off -qmp unix:b,server,nowait",
        "--nodefaults --display none --M none --qmp-pretty unix:q,server=on,wait=off",
        "-machine none -name guest=alpha,process=p,debug-threads=on -no-shutdown -no-reboot",
        "-machine none -chardev null,id=n -mon n,mode=control",
        "-machine none -mon chardev=n,mode=control,pretty=on -chardev null,id=n",
        "-machine none -chardev null,id=n -qmp chardev:n",
        "-machine none -monitor none -serial none -parallel none -vga none -net none -sandbox off",
        "-machine none -accel kvm -accel tcg,thread=multi",
        "-machine none,usb=off,dump-guest-core=off,mem-merge=on -enable-kvm",
        "-machine type=none,accel=tcg -msg timestamp=on -action reboot=shutdown,shutdown=pause",
        "-machine none -only-migratable -overcommit mem-lock=off,cpu-pm=off -k de -L /usr/share",
        "-machine none -display {\"type\":\"none\"}",
        "-machine none -chardev socket,id=a,fd=3,server=on,wait=off -mon a,mode=control",
        "-machine none -chardev stdio,id=a,signal=on,mux=off -mon a,mode=control",
        "-machine none -add-fd fd=9,set=1,opaque=a,,b -add-fd fd=0x9,set=010",
    ] {
        run(&words(line));
    }
}

#[test]
fn a_sandbox_takes_what_libvirt_says() {
    let sandbox = |line: &str| config(&words(line)).sandbox;
    assert_eq!(sandbox("-machine none"), SandboxConfig::default());
    assert_eq!(sandbox("-sandbox off"), SandboxConfig { enable: false, log: false });
    let on = SandboxConfig { enable: true, log: false };
    assert_eq!(sandbox("-sandbox on"), on);
    let libvirt = "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
    assert_eq!(sandbox(libvirt), on);
    assert_eq!(sandbox("-sandbox enable=on,elevateprivileges=children"), on);
    assert_eq!(sandbox("-sandbox on,log=on"), SandboxConfig { enable: true, log: true });
    // The later one counts, whole.
    assert_eq!(sandbox("-sandbox on,log=on -sandbox on"), on);
}

#[test]
fn the_machine_can_end_with_its_last_export() {
    assert!(!config(&words("-machine none")).machine.auto_shutdown);
    assert!(config(&words("-machine board,auto-shutdown=on")).machine.auto_shutdown);
    assert!(
        !config(&words("-machine board,auto-shutdown=on -machine none,auto-shutdown=off"))
            .machine
            .auto_shutdown
    );
    assert_eq!(
        refusal(&words("-machine none,auto-shutdown=maybe")),
        "-machine none,auto-shutdown=maybe: Parameter 'auto-shutdown' expects 'on' or 'off'"
    );
}

#[test]
fn a_daemon_finds_the_sockets_of_its_exports_again() {
    let relative = |object: &str| config(&["-object", object]).has_relative_paths();
    for object in [
        "x-vfio-user-server,id=v,type=unix,path=run/v,device=d",
        "x-vfio-user-server,id=v,socket.type=unix,socket.path=run/v,device=d",
        r#"{"qom-type": "x-vfio-user-server", "id": "v", "socket": {"type": "unix", "path": "v"}, "device": "d"}"#,
    ] {
        assert!(relative(object), "{object}");
    }
    for object in [
        "x-vfio-user-server,id=v,type=unix,path=/run/v,device=d",
        "x-vfio-user-server,id=v,type=unix,path=v,abstract=on,device=d",
        "x-vfio-user-server,id=v,type=fd,str=7,device=d",
        "iothread,id=io,path=x",
    ] {
        assert!(!relative(object), "{object}");
    }
}

#[test]
fn serial_ports_have_qemus_names() {
    let all =
        config(&words("-chardev null,id=c -serial none -serial null -serial chardev:c -serial file:out"));
    let ids: Vec<_> = all.serials.iter().map(|serial| serial.chardev.as_str()).collect();
    assert_eq!(ids, ["serial0", "c", "serial2"]);
    let five = refusal(&["-serial", "null"].repeat(5));
    assert_eq!(five, "-serial null: there are four serial ports at most");
    let without = run(&words("-machine none -serial null"));
    assert_eq!(without.config.serials.len(), 1);
    assert_eq!(
        without.warnings,
        ["-serial null: warning: this machine has no serial port, only the chardev is made"]
    );
}

#[test]
fn the_boards_hardware() {
    let machine = |line: &str| config(&words(line)).machine;
    let smp = |line: &str| {
        let Smp { cpus, sockets, cores, threads } = machine(line).smp;
        [cpus, sockets, cores, threads]
    };
    assert_eq!(smp("-S"), [1, 1, 1, 1]);
    assert_eq!(smp("-smp 4"), [4, 1, 4, 1]);
    assert_eq!(smp("-smp 255"), [255, 1, 255, 1]);
    assert_eq!(smp("-smp cpus=2,maxcpus=8,threads=2"), [2, 1, 4, 2]);
    assert_eq!(smp("-smp sockets=2,cores=2"), [4, 2, 2, 1]);
    assert_eq!(smp("-smp 12,sockets=2,cores=3"), [12, 2, 3, 2]);
    assert_eq!(smp("-smp 12,cores=3"), [12, 4, 3, 1]);
    assert_eq!(smp("-smp 4,dies=1,clusters=1"), [4, 1, 4, 1]);
    assert_eq!(smp("-smp 8,sockets=2 -smp 4"), [4, 2, 2, 1]);
    assert_eq!(machine("-machine none -smp 1").smp.cpus, 1);

    let memory = |line: &str| machine(line).memory.bytes();
    assert_eq!(memory("-S"), 128 << 20);
    assert_eq!(memory("-m 0"), 128 << 20);
    assert_eq!(memory("-m 32"), 32 << 20);
    assert_eq!(memory("-m size=1.5G"), 1536 << 20);
    assert_eq!(memory("-m 32K"), 32 << 10);
    assert_eq!(memory("-m 1023b"), 8 << 10);
    assert_eq!(memory("-m 32,maxmem=32M"), 32 << 20);
    assert_eq!(memory("-m 15E"), 15 << 60);

    let uuid = machine("-uuid 12345678-9ABC-def0-0123-456789abcdef").uuid;
    assert_eq!(u128::from_be_bytes(uuid), 0x1234_5678_9abc_def0_0123_4567_89ab_cdef);

    let rtc = |line: &str| machine(line).rtc;
    assert_eq!(rtc("-rtc base=utc,clock=host,driftfix=slew"), RtcConfig::default());
    assert_eq!(
        rtc("-rtc base=localtime -rtc clock=vm"),
        RtcConfig { base: RtcBase::Localtime, clock: RtcClock::Vm }
    );
    assert_eq!(rtc("-rtc base=1970-1-2").base, RtcBase::At(86_400));
    assert_eq!(rtc("-rtc base=2006-06-17T16:01:21").base, RtcBase::At(1_150_560_081));
}

#[test]
fn the_way_of_qemus_test_harness_starts() {
    let config = config(&words(
        "-qtest unix:/tmp/t.sock -qtest-log /dev/null -chardev socket,path=/tmp/t.qmp,id=char0 \
         -mon chardev=char0,mode=control -display none -nodefaults -machine none -accel qtest",
    ));
    let qtest = config.qtest.as_ref().unwrap();
    assert_eq!((qtest.chardev.as_str(), &qtest.log), ("qtest", &QtestLog::File("/dev/null".into())));
    assert!(config.machine.is_test_driven());
    assert_eq!(config.chardevs.len(), 2);
    let none = self::config(&words("-qtest-log none -chardev null,id=n -qtest chardev:n"));
    assert_eq!(none.qtest.unwrap().log, QtestLog::None);
    assert_eq!(self::config(&["-qtest", "null"]).qtest.unwrap().log, QtestLog::Stderr);
    assert_eq!(self::config(&["-qtest-log", "f"]).qtest, None);
}

#[test]
fn addresses() {
    let unix =
        |path: &str, abstract_name, tight| SocketAddress::Unix { path: path.into(), abstract_name, tight };
    let tcp = |host: &str, port| SocketAddress::Tcp { host: host.into(), port, ipv4: None, ipv6: None };
    for (device, address) in [
        ("unix:q,server", unix("q", false, true)),
        ("unix:a,,b,server=on", unix("a,b", false, true)),
        ("unix:q,abstract=on,tight=off", unix("q", true, false)),
        ("tcp::4444", tcp("", 4444)),
        ("tcp:localhost:0,server=on", tcp("localhost", 0)),
        ("tcp:[::1]:4444", tcp("::1", 4444)),
    ] {
        assert_eq!(socket(&["-qmp", device]).address, address, "{device}");
    }
    let both = SocketAddress::Tcp { host: "h".into(), port: 1, ipv4: Some(true), ipv6: Some(false) };
    assert_eq!(socket(&["-qmp", "tcp:h:1,ipv4,noipv6"]).address, both);
    assert_eq!(socket(&["-chardev", "socket,id=a,fd=7,server=on"]).address, SocketAddress::Fd(7));
    assert_eq!(socket(&["-chardev", "socket,id=a,host=h,port=5"]).address, tcp("h", 5));
}

#[test]
fn who_may_connect() {
    let quiet = socket(&["-qmp", "unix:q,server=on"]);
    assert_eq!((quiet.allowed_uids, quiet.allowed_gids, quiet.insecure), (None, None, false));
    let options = "allowed-uids=1,allowed-gids=0,allowed-uids=2";
    for argument in [
        ["-qmp", &format!("unix:q,server=on,{options}")],
        ["-chardev", &format!("socket,id=a,path=q,server=on,{options}")],
    ] {
        let socket = socket(&argument);
        assert_eq!(socket.allowed_uids, Some(vec![1, 2]), "{argument:?}");
        assert_eq!(socket.allowed_gids, Some(vec![0]), "{argument:?}");
    }
    assert!(socket(&["-qmp", "tcp::1,server=on,insecure=on"]).insecure);
    let config = config(&words("-chardev null,id=n -mon n,allowed-gids=5,allowed-gids=6,strict=off"));
    let limits = &config.monitors[0].limits;
    assert_eq!((limits.allowed_gids.as_deref(), limits.lax), (Some(&[5, 6][..]), true));
}

#[test]
fn listening_waiting_and_connecting_again() {
    let modes = |device| {
        let socket = socket(&["-qmp", device]);
        (socket.server, socket.wait, socket.reconnect)
    };
    assert_eq!(modes("unix:q,server=on,wait=off"), (true, false, None));
    assert_eq!(modes("unix:q,server,nowait"), (true, false, None));
    assert_eq!(modes("unix:q,server"), (true, true, None));
    assert_eq!(modes("unix:q,noserver"), (false, false, None));
    assert_eq!(modes("unix:q,reconnect=2"), (false, false, Some(Duration::from_secs(2))));
    assert_eq!(modes("unix:q,reconnect-ms=700"), (false, false, Some(Duration::from_millis(700))));
    assert!(socket(&["-qmp", "tcp::1,nodelay"]).nodelay);
    assert!(!socket(&["-qmp", "tcp::1,delay"]).nodelay);
}

#[test]
fn monitors_are_numbered_as_in_qemu() {
    let config = config(&words(
        "-monitor none -qmp null -chardev null,id=n -qmp chardev:n -qmp-pretty null -mon m,mode=control -chardev null,id=m",
    ));
    let monitors: Vec<_> =
        config.monitors.iter().map(|it| (it.id.as_str(), it.chardev.as_str(), it.pretty)).collect();
    assert_eq!(
        monitors,
        [
            ("compat_monitor0", "compat_monitor0", false),
            ("n", "n", false),
            ("compat_monitor1", "compat_monitor1", true),
            ("m", "m", false),
        ]
    );
    assert_eq!(config.monitors[0].origin, "-qmp null");
}

#[test]
fn our_own_keys_go_on_the_device_or_on_the_monitor() {
    for line in [
        "-qmp unix:q,server=on,max-clients=1,named-fds=monitor",
        "-chardev socket,id=a,path=q,server=on,max-clients=1,named-fds=monitor -mon a,mode=control",
        "-chardev socket,id=a,path=q,server=on -mon a,mode=control,max-clients=1,named-fds=monitor",
        "-chardev socket,id=a,path=q,server=on,max-clients=1 -mon a,mode=control,max-clients=1,named-fds=monitor",
    ] {
        let config = config(&words(line));
        assert_eq!(config.max_clients(&config.monitors[0]), Some(1), "{line}");
        assert_eq!(config.named_fds(&config.monitors[0]), Some(NamedFdsScope::Monitor), "{line}");
    }
    assert_eq!(config(&["-qmp", "null"]).max_clients(&config(&["-qmp", "null"]).monitors[0]), None);
    assert_eq!(
        refusal(&words(
            "-chardev socket,id=a,path=q,server=on,max-clients=1 -mon a,mode=control,max-clients=2"
        )),
        "-mon a,mode=control,max-clients=2: 'max-clients' is 2 here but 1 on chardev 'a'"
    );
    assert_eq!(
        refusal(&["-qmp", "unix:q,server=on,named-fds=sesion"]),
        "-qmp unix:q,server=on,named-fds=sesion: Parameter 'named-fds' does not accept value 'sesion'; \
         did you mean 'session'?"
    );
    assert!(refusal(&["-qmp", "unix:q,server=on,max-clients=0"]).contains("expects a number from 1"));
    assert!(
        refusal(&["-qmp", "unix:q,max-clients=2"])
            .contains("incompatible with socket in client connect mode")
    );
}

/// The line without its last words is fine; with them it is refused with the text, which stands behind them.
#[test]
fn refusals_in_the_words_of_qemu() {
    for (line, text) in [
        ("-nope", "invalid option; did you mean '-name'?"),
        ("--nmae", "invalid option; did you mean '-name'?"),
        ("---name", "invalid option; did you mean '-name'?"),
        ("-qmp=null", "invalid option; did you mean '-qmp'?"),
        ("-qmp", "requires an argument"),
        ("-qmp bogus", "'bogus' is not a valid char driver"),
        ("-qmp nul", "'nul' is not a valid char driver; did you mean 'null'?"),
        ("-qmp none", "'none' is not a valid char driver"),
        ("-qmp uni:q", "'uni:q' is not a valid char driver; did you mean 'unix:PATH'?"),
        ("-qmp unix", "'unix' is not a valid char driver; did you mean 'unix:PATH'?"),
        ("-qmp fd=3", "'fd=3' is not a valid char driver; give -chardev socket,id=ID,fd=FD"),
        ("-qmp tcp:4444", "parse error: tcp:4444; give tcp:HOST:PORT"),
        ("-qmp unix:q,allowed-uids=x", "Parameter 'allowed-uids' expects a number"),
        ("-qmp unix:q,allowed-gids=4294967296", "Parameter 'allowed-gids' expects a number"),
        ("-qmp tcp::1,insecure=1", "Parameter 'insecure' expects 'on' or 'off'"),
        ("-qmp tcp::x", "Parameter 'port' expects a number from 0 to 65535"),
        ("-qmp telnet:h:1,server=on", "known to QEMU but not offered by vmmd"),
        ("-qmp mon:stdio", "known to QEMU but not offered by vmmd"),
        ("-qmp pty:x", "known to QEMU but not offered by vmmd"),
        ("-qmp unix:q,wiat=off", "Invalid parameter 'wiat'; did you mean 'wait'?"),
        ("-qmp unix:q,server=maybe", "Parameter 'server' expects 'on' or 'off'"),
        ("-qmp unix:q,server=ON", "Parameter 'server' expects 'on' or 'off'"),
        ("-qmp unix:q,reconnect=x", "Parameter 'reconnect' expects a number"),
        ("-qmp unix:q,wait=off", "'wait' option is incompatible with socket in client connect mode"),
        (
            "-qmp unix:q,server=on,reconnect=1",
            "'reconnect' option is incompatible with socket in server listen mode",
        ),
        ("-qmp tcp::1,ipv4=off,ipv6=off", "Cannot disable IPv4 and IPv6 at same time"),
        ("-qmp chardev:x", "chardev \"x\" not found"),
        ("-chardev null", "chardev: no id specified"),
        ("-chardev id=a", "chardev: \"a\" missing backend"),
        ("-chardev soket,id=a", "'soket' is not a valid char driver name; did you mean 'socket'?"),
        ("-chardev pty,id=a", "known to QEMU but not offered by vmmd"),
        ("-chardev null,id=1a", "Parameter 'id' expects an identifier\nIdentifiers consist of"),
        ("-chardev socket,id=a,host=h", "chardev: socket: no port given"),
        ("-chardev socket,id=a,fd=x", "Unable to parse FD number x"),
        ("-chardev socket,id=a,fd=3,path=q", "None or one of 'path', 'fd' or 'host' option required."),
        ("-chardev null,id=a,pth=q", "Invalid parameter 'pth'; did you mean 'path'?"),
        ("-chardev {\"id\":\"a\"}", "takes key=value,... and no JSON, as in QEMU 7.2"),
        ("-mon nope", "chardev \"nope\" not found"),
        ("-mon mode=control", "Parameter 'chardev' is missing"),
        ("-mon x,mode=bogus", "Parameter 'mode' does not accept value 'bogus'"),
        ("-mon x,pretty=maybe", "Parameter 'pretty' expects 'on' or 'off'"),
        ("-mon x,prety=on", "Invalid parameter 'prety'; did you mean 'pretty'?"),
        ("-add-fd set=3", "fd option is required and must be non-negative"),
        ("-add-fd fd=7", "set option is required and must be non-negative"),
        ("-add-fd fd=1,set=3", "fd cannot be a standard I/O stream"),
        ("-add-fd fd=x,set=3", "Parameter 'fd' expects a number"),
        ("-add-fd fd=7,set=3,opaq=x", "Invalid parameter 'opaq'; did you mean 'opaque'?"),
        ("-name a,b=c", "Invalid parameter 'b'"),
        ("-msg timestamp=maybe", "Parameter 'timestamp' expects 'on' or 'off'"),
        ("-machine bord", "unsupported machine type; did you mean 'board'?\nUse -machine help"),
        ("-machine none,bogus=on", "Property 'none-machine.bogus' not found"),
        ("-machine none,usb", "Expected '=' after parameter 'usb'"),
        ("-machine none,accel=tgc", "invalid accelerator tgc; did you mean 'tcg'?"),
        ("-machine none,accel=", "no accelerator found"),
        ("-accel foo", "invalid accelerator foo"),
        ("-accel tcg,thraed=multi", "Property 'tcg-accel.thraed' not found; did you mean 'thread'?"),
        ("-display gtk", "known to QEMU but not offered by vmmd: it has no display; give -display none"),
        ("-display bogus", "Parameter 'type' does not accept value 'bogus'; did you mean 'none'?"),
        ("-display none,x=y", "Parameter 'x' is unexpected"),
        ("-display vnc=:1", "known to QEMU but not offered by vmmd"),
        ("-monitor bogus", "'bogus' is not a valid char driver; did you mean 'unix:PATH'?"),
        ("-serial bogus", "'bogus' is not a valid char driver; did you mean 'unix:PATH'?"),
        ("-serial chardev:x", "chardev \"x\" not found"),
        ("-parallel stdio", "known to QEMU but not offered by vmmd: its machines have no such port"),
        ("-sandbox maybe", "Parameter 'enable' expects 'on' or 'off'"),
        ("-sandbox log=on", "Parameter 'enable' is missing"),
        ("-sandbox on,spawn=allow", "Parameter 'spawn' does not accept value 'allow'"),
        ("-sandbox on,obsolete=children", "Parameter 'obsolete' does not accept value 'children'"),
        ("-sandbox on,spwan=deny", "Invalid parameter 'spwan'; did you mean 'spawn'?"),
        ("-action reboot=pause", "Parameter 'reboot' does not accept value 'pause'"),
        ("-log-format jsn", "Parameter 'log-format' does not accept value 'jsn'; did you mean 'json'?"),
        ("-smp 0", "Invalid CPU topology: CPU topology parameters must be greater than zero"),
        ("-smp -1", "Invalid SMP CPUs -1. The max CPUs supported by machine 'board' is 255"),
        ("-smp 256", "Invalid SMP CPUs 256. The max CPUs supported by machine 'board' is 255"),
        (
            "-smp 2,sockets=3",
            "Invalid CPU topology: product of the hierarchy must match maxcpus: sockets (3) * cores (0) * threads (1) \
             != maxcpus (2)",
        ),
        (
            "-smp cpus=4,maxcpus=2",
            "Invalid CPU topology: maxcpus must be equal to or greater than smp: sockets (1) * cores (2) * threads (1) \
             == maxcpus (2) < smp_cpus (4)",
        ),
        ("-smp 2,foo=1", "Parameter 'smp.foo' is unexpected"),
        ("-smp x", "Parameter 'smp.cpus' expects integer"),
        ("-smp 2,clusters=2", "clusters not supported by this machine's CPU topology"),
        (
            "-m x",
            "Parameter 'size' expects a non-negative number below 2^64\nOptional suffix k, M, G, T, P or E",
        ),
        ("-m -1", "Parameter 'size' expects a non-negative number below 2^64"),
        ("-m size=", "Parameter 'size' expects a non-negative number below 2^64"),
        ("-m 99999999T", "Value '99999999T' is out of range for parameter 'size'"),
        ("-m 32,slots=2", "slots specified but no max-size"),
        (
            "-m 32,maxmem=64",
            "invalid value of maxmem: maximum memory size (0x40) must be at least the initial memory size (0x2000000)",
        ),
        ("-m 32,maxmem=1G,slots=2", "known to QEMU but not offered by vmmd: memory cannot be plugged"),
        ("-m 32,foo=1", "Invalid parameter 'foo'"),
        ("-uuid x", "failed to parse UUID string: wrong format"),
        ("-uuid 12345678-1234-1234-1234-12345678901", "failed to parse UUID string: wrong format"),
        ("-rtc base=foo", "invalid datetime format\nvalid formats: '2006-06-17T16:01:21' or '2006-06-17'"),
        ("-rtc base=2006-13-40", "invalid datetime format"),
        ("-rtc foo=1", "Invalid parameter 'foo'"),
        ("-rtc clock=x", "invalid option value 'x'"),
        ("-rtc driftfix=x", "invalid option value 'x'"),
        ("-qtest bogus", "'bogus' is not a valid char driver"),
        ("-qtest chardev:c", "chardev \"c\" not found"),
        ("disk.img", "not an option, and there are no disks"),
        ("qmp", "not an option, and there are no disks that it could be an image for; did you mean '-qmp'?"),
    ] {
        let refusal = refusal(&words(line));
        assert!(refusal.starts_with(&format!("{line}: {text}")), "{line} is refused with {refusal}");
    }
    for option in ["-drive", "-cpu", "-numa", "-netdev", "-incoming", "-vnc"] {
        let refusal = refusal(&[option, "x"]);
        assert!(
            refusal.starts_with(&format!("{option}: known to QEMU but not offered by vmmd: ")),
            "{refusal}"
        );
        assert_eq!(refusal.lines().count(), 1);
    }
}

#[test]
fn refusals_that_take_two() {
    for (line, text) in [
        ("-chardev null,id=a -chardev null,id=a", "-chardev null,id=a: Duplicate ID 'a' for chardev"),
        (
            "-chardev null,id=compat_monitor0 -qmp null",
            "-qmp null: Duplicate ID 'compat_monitor0' for chardev",
        ),
        (
            "-chardev null,id=n -mon n,mode=control -mon n,mode=control",
            "-mon n,mode=control: Device 'n' is in use",
        ),
        ("-chardev null,id=n -qmp chardev:n -qmp chardev:n", "-qmp chardev:n: Duplicate ID 'n' for mon"),
        (
            "-chardev null,id=a -chardev null,id=b -mon a,id=x,mode=control -mon b,id=x,mode=control",
            "-mon b,id=x,mode=control: Duplicate ID 'x' for mon",
        ),
        (
            "-chardev null,id=n -mon n,pretty=on",
            "-mon n,pretty=on: 'pretty' is not compatible with HMP monitors",
        ),
        ("-monitor stdio -qmp stdio", "-qmp stdio: cannot use stdio by multiple character devices"),
        ("-qtest null -qtest null", "-qtest null: may be given only once"),
        ("-qtest null -qmp chardev:qtest", "-qmp chardev:qtest: Device 'qtest' is in use"),
        ("-smp 2 -machine none", "-smp 2: Invalid SMP CPUs 2. The max CPUs supported by machine 'none' is 1"),
        ("-qmp stdio -qmp stdio", "-qmp stdio: cannot use stdio by multiple character devices"),
        ("-qmp stdio -daemonize", "-qmp stdio: cannot use stdio with -daemonize"),
        ("-machine none,accel=tcg -accel tcg", "The -accel and \"-machine accel=\" options are incompatible"),
        ("-enable-kvm -accel tcg", "The -accel and \"-machine accel=\" options are incompatible"),
        // Names are looked at before values, as in QEMU.
        ("-qmp bogus -nope", "-nope: invalid option; did you mean '-name'?"),
        ("-version -qmp", "-qmp: requires an argument"),
    ] {
        assert_eq!(refusal(&words(line)), text, "{line}");
    }
}

#[test]
fn oddities_are_warned_of_and_taken() {
    let run = run(&words("-chardev socket,id=a,path=q,server,nowait,ipv4=on -machine none,accel=foo:tcg"));
    assert_eq!(
        run.warnings,
        [
            "-chardev socket,id=a,path=q,server,nowait,ipv4=on: warning: short-form boolean option 'server' \
             deprecated\nPlease use server=on instead",
            "-chardev socket,id=a,path=q,server,nowait,ipv4=on: warning: short-form boolean option 'nowait' \
             deprecated\nPlease use wait=off instead",
            "-chardev socket,id=a,path=q,server,nowait,ipv4=on: warning: 'ipv4' means nothing here, it is ignored",
            "-machine none,accel=foo:tcg: warning: invalid accelerator foo",
        ]
    );
    assert_eq!(run.config.machine.accel, ["tcg"]);
    // The short notation has always been written without `=on`; QEMU says nothing there.
    assert!(self::run(&["-qmp", "unix:q,server,nowait"]).warnings.is_empty());
}

#[test]
fn the_last_of_single_values_counts() {
    let config =
        config(&words("-name a -name guest=b,process=p -M none -machine board -pidfile x -pidfile y"));
    assert_eq!((config.name.as_deref(), config.process_name.as_deref()), (Some("b"), Some("p")));
    assert_eq!(config.machine.kind, MachineKind::Board);
    assert_eq!(config.pidfile.as_deref(), Some(Path::new("y")));
    assert_eq!(self::config(&["-name", "a,,b"]).name.as_deref(), Some("a,b"));
}

#[test]
fn texts_instead_of_a_run() {
    for (line, beginning) in [
        ("-version", "vmmd version "),
        ("--help", "vmmd version "),
        ("-h", "vmmd version "),
        ("-qmp null -help -qmp bogus", "vmmd version "),
        ("-machine help", "Supported machines are:\n"),
        ("-M ?", "Supported machines are:\n"),
        ("-accel help", "Accelerators "),
        ("-chardev help", "Available chardev backend types:\n"),
        ("-display help", "Available display backend types:\n"),
    ] {
        match outcome(&words(line)).unwrap() {
            Outcome::Print(text) => {
                assert!(text.starts_with(beginning) && text.ends_with('\n'), "{line}: {text}")
            }
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn the_interface_instead_of_a_run() {
    for (word, form) in [("qapi", Form::Qapi), ("markdown", Form::Markdown), ("json", Form::Json)] {
        let outcome = outcome(&["-qmp", "null", "--dump-schema", word, "-S"]).unwrap();
        assert!(matches!(outcome, Outcome::DumpSchema(found) if found == form), "{outcome:?}");
    }
    assert_eq!(
        refusal(&["--dump-schema", "markdwon"]),
        "--dump-schema markdwon: Parameter 'dump-schema' does not accept value 'markdwon'; did you mean 'markdown'?"
    );
}

#[test]
fn a_file_comes_first_and_options_go_on_top() {
    let file = "name = 'file'\nno-reboot = true\n[machine]\ntype = 'none'\naccel = ['kvm']\n[log]\nformat = 'json'\n\
                [[chardev]]\nid = 'a'\nbackend = 'null'\n[[monitor]]\nchardev = 'a'\n[[fd]]\nfd = 7\nset = 1\n";
    let read = |path: &Path| match path.to_str() {
        Some("x.toml") => Ok(file.to_owned()),
        _ => no_file(path),
    };
    let with_file = |line: &str| -> Result<Config, String> {
        match parse(words(line).into_iter().map(OsString::from), &read).map_err(|error| error.to_string())? {
            Outcome::Run(run) => Ok(run.config),
            other => panic!("{other:?}"),
        }
    };
    // Before or after makes no difference.
    let config =
        with_file("-name line -qmp null -mon a2,mode=control --config x.toml -chardev null,id=a2 -accel tcg")
            .unwrap();
    assert_eq!(config.name.as_deref(), Some("line"));
    assert!(config.no_reboot);
    assert_eq!((config.machine.kind, config.machine.accel), (MachineKind::None, vec!["tcg".to_owned()]));
    assert_eq!(config.log.format, LogFormat::Json);
    let ids: Vec<_> = config.monitors.iter().map(|monitor| monitor.id.as_str()).collect();
    assert_eq!(ids, ["a", "compat_monitor0", "a2"]);
    assert_eq!(config.add_fds.len(), 1);

    let error = |line| with_file(line).unwrap_err();
    assert_eq!(error("--config x.toml -mon a,mode=control"), "-mon a,mode=control: Device 'a' is in use");
    assert_eq!(
        error("--config x.toml -chardev null,id=a"),
        "-chardev null,id=a: Duplicate ID 'a' for chardev"
    );
    assert_eq!(error("-config nope"), "-config nope: Could not open 'nope': No such file or directory");
    assert_eq!(error("-config x.toml -config x.toml"), "-config x.toml: may be given only once");
}

#[test]
fn budgets_are_sizes_and_numbers() {
    let budget = |line: &str| config(&words(line)).budget;
    assert_eq!(budget("-name x"), BudgetConfig::default());
    let both = BudgetConfig { memory: Some(64 << 20), fds: Some(100) };
    assert_eq!(budget("-budget memory=64 -budget fds=100"), both);
    let both = BudgetConfig { memory: Some(1 << 30), fds: Some(0) };
    assert_eq!(budget("-budget memory=1G,fds=0"), both);
    let refused = |line: &str| refusal(&words(line));
    assert_eq!(refused("-budget fds=-1"), "-budget fds=-1: Parameter 'fds' expects a non-negative number");
    assert!(refused("-budget memory=much").starts_with("-budget memory=much: "));
    assert!(refused("-budget fd=1").contains("'fds'"), "{}", refused("-budget fd=1"));
}

#[test]
fn metrics_are_served_on_a_unix_socket() {
    let listener = |line: &str| match config(&words(line)).metrics.unwrap().backend {
        ChardevBackend::Socket(socket) => socket,
        other => panic!("{other:?}"),
    };
    assert_eq!(config(&words("-name x")).metrics, None);
    let path = |path: &str| SocketAddress::Unix { path: path.into(), abstract_name: false, tight: true };
    let plain = listener("-metrics unix:run/m.sock");
    assert_eq!((plain.address, plain.server, plain.wait), (path("run/m.sock"), true, false));
    assert_eq!((plain.allowed_uids, plain.allowed_gids), (None, None));
    let line = "-metrics unix:a,,b,allowed-uids=0,allowed-gids=5,allowed-uids=0x10,server=on,wait=off";
    let listed = listener(line);
    assert_eq!(listed.address, path("a,b"));
    assert_eq!(listed.allowed_uids, Some(vec![0, 16]));
    assert_eq!(listed.allowed_gids, Some(vec![5]));
    let name = SocketAddress::Unix { path: "vm1".into(), abstract_name: true, tight: false };
    assert_eq!(listener("-metrics unix:vm1,abstract=on,tight=off").address, name);
    assert!(config(&words("-metrics unix:m")).has_relative_paths());
    assert!(!config(&words("-metrics unix:/run/m")).has_relative_paths());
    assert!(!config(&words("-metrics unix:m,abstract=on")).has_relative_paths());
    // It is no chardev that a monitor could have.
    assert!(config(&words("-metrics unix:m -chardev null,id=metrics -mon metrics")).monitors.len() == 1);
}

#[test]
fn metrics_are_served_nowhere_else() {
    let refused = |line: &str| refusal(&words(line));
    for device in ["tcp::9090", "stdio", "chardev:c", "m.sock", ""] {
        let said = format!("-metrics {device}: Parameter 'metrics' expects unix:PATH");
        assert_eq!(refusal(&["-metrics", device]), said);
    }
    assert!(refused("-metrics unix:").ends_with("'path' is empty"));
    assert!(refusal(&["-metrics", &format!("unix:{}", "a".repeat(108))]).contains("too long"));
    assert_eq!(refused("-metrics unix:a -metrics unix:b"), "-metrics unix:b: may be given only once");
    let wrong = |keys: &str| refused(&format!("-metrics unix:m,{keys}"));
    assert!(
        wrong("server=off").ends_with("Parameter 'server' does not accept value 'off'; did you mean 'on'?")
    );
    assert!(wrong("wait=on").contains("Parameter 'wait' does not accept value 'on'"));
    assert!(wrong("max-clients=3").contains("Invalid parameter 'max-clients'"));
    assert!(wrong("allowed-uid=3").ends_with("did you mean 'allowed-uids'?"));
    assert!(wrong("allowed-uids=root").ends_with("Parameter 'allowed-uids' expects a number"));
    assert!(wrong("allowed-gids=-1").ends_with("Parameter 'allowed-gids' expects a number"));
    let warnings = run(&words("-metrics unix:m,tight=off")).warnings;
    assert_eq!(warnings, ["-metrics unix:m,tight=off: warning: 'tight' means nothing here, it is ignored"]);
}

#[test]
fn an_option_for_metrics_goes_before_a_files() {
    let file = |_: &Path| Ok("[metrics]\npath = 'from-file'\n".to_owned());
    let metrics = |line: &str| {
        let parsed = parse(words(line).iter().map(OsString::from), &file).unwrap();
        let Outcome::Run(run) = parsed else { panic!() };
        run.config.metrics.unwrap().origin
    };
    assert_eq!(metrics("--config x.toml"), "x.toml:1:1");
    assert_eq!(metrics("-metrics unix:m --config x.toml"), "-metrics unix:m");
}

#[test]
fn an_argument_that_is_no_text_is_named() {
    let args = [OsString::from("-name"), OsString::from_vec(vec![b'a', 0xff])];
    let error = parse(args, &no_file).unwrap_err().to_string();
    assert_eq!(error, "a\u{fffd}: not valid UTF-8");
}

proptest! {
    /// Whatever is typed, it is understood or refused with at least one word.
    #[test]
    fn any_command_line_has_an_answer(
        args in proptest::collection::vec(
            prop_oneof![
                "-{0,2}(qmp|mon|chardev|metrics|name|machine|add-fd|accel|msg|action|display|sandbox|overcommit|S|h)",
                "(unix:|tcp:|chardev:|socket,|null,|none,|\\{)?([a-z:=,]|id=|mode=control|server|fd=|\\PC){0,8}",
            ],
            0..6,
        ),
    ) {
        if let Err(error) = parse(args.iter().map(OsString::from), &no_file) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
