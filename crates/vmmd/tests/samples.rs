//! Every file in `config/` is one that `vmmd` takes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use vmmd::cli::{Outcome, Run, parse};
use vmmd::config::{
    ChardevBackend, Config, FdSetsScope, MachineKind, MonitorLimits, MonitorMode, NamedFdsScope, RtcBase,
    RtcClock, RtcConfig, Smp, SocketAddress, toml,
};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

fn files(extension: &str) -> BTreeSet<PathBuf> {
    std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        .collect()
}

fn load(path: &Path) -> Config {
    let text = std::fs::read_to_string(path).unwrap();
    let (config, warnings) =
        toml::load(&path.display().to_string(), &text).and_then(|draft| draft.finish()).unwrap();
    assert!(warnings.is_empty(), "{}: {warnings:?}", path.display());
    config
}

fn sample(name: &str) -> Config {
    load(&directory().join(name))
}

fn unix_path(config: &Config, index: usize) -> &Path {
    match &config.chardevs[index].backend {
        ChardevBackend::Socket(socket) => match &socket.address {
            SocketAddress::Unix { path, .. } => path,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_sample_loads_and_has_a_monitor() {
    let files = files("toml");
    assert!(files.len() >= 5, "{files:?}");
    for path in files {
        let config = load(&path);
        assert!(!config.monitors.is_empty(), "{}", path.display());
        for monitor in &config.monitors {
            assert!(config.chardev_of(monitor).is_some());
        }
    }
}

#[test]
fn every_sample_is_commented() {
    for path in files("toml") {
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("# "), "{}", path.display());
    }
}

#[test]
fn the_demo_is_what_make_run_promises() {
    let config = sample("demo.toml");
    assert_eq!(config.name.as_deref(), Some("demo"));
    assert_eq!(config.machine.kind, MachineKind::Board);
    assert!(!config.start_paused && config.has_relative_paths());
    assert_eq!(unix_path(&config, 0), Path::new("run/qmp-a.sock"));
    assert_eq!(unix_path(&config, 1), Path::new("run/qmp-b.sock"));
    assert_eq!(
        config.monitors.iter().map(|monitor| monitor.pretty).collect::<Vec<_>>(),
        [false, true, false]
    );
    assert_eq!(unix_path(&config, 2), Path::new("run/monitor.sock"));
    assert_eq!(config.monitors[2].mode, MonitorMode::Readline);
    let Some(ChardevBackend::Socket(metrics)) = config.metrics.map(|it| it.backend) else { panic!() };
    let path = "run/metrics.sock".into();
    assert_eq!(metrics.address, SocketAddress::Unix { path, abstract_name: false, tight: true });
}

#[test]
fn the_exporting_ones_export_what_they_say() {
    let demo = sample("demo.toml");
    assert_eq!((demo.devices.len(), demo.objects.len()), (1, 2));
    assert!(demo.objects[1].text.contains("path=run/edu.sock"));
    let exports = sample("vfio-user.toml");
    assert_eq!((exports.devices.len(), exports.objects.len()), (2, 3));
    assert!(!exports.machine.auto_shutdown && exports.has_relative_paths());
}

#[test]
fn the_limited_one_limits_what_it_says() {
    let config = sample("limited.toml");
    let [all, watch, agent] = &config.monitors[..] else { panic!("{:?}", config.monitors) };
    assert_eq!(all.limits, MonitorLimits::default());
    assert!(watch.limits.read_only && watch.limits.allow.is_none());
    assert_eq!(agent.limits.fdsets, FdSetsScope::Own);
    assert_eq!(agent.limits.allowed_uids.as_deref(), Some(&[0][..]));
    assert!(agent.limits.allow.as_ref().unwrap().contains(&"object-add:iothread".to_owned()));
    assert_eq!(config.objects.len(), 1);
}

#[test]
fn the_qemu_like_one_is_like_qemu() {
    let config = sample("qemu-like.toml");
    assert_eq!(config.max_clients(&config.monitors[0]), Some(1));
    assert_eq!(config.named_fds(&config.monitors[0]), Some(NamedFdsScope::Monitor));
    assert_eq!(config.machine.kind, MachineKind::None);
}

#[test]
fn the_board_is_the_one_that_is_described() {
    let machine = sample("board.toml").machine;
    assert_eq!(machine.kind, MachineKind::Board);
    assert_eq!(machine.smp, Smp { cpus: 4, sockets: 2, cores: 2, threads: 1 });
    assert_eq!(machine.memory.bytes(), 1 << 30);
    assert_eq!(machine.uuid[0], 0x6b);
    assert_eq!(machine.rtc, RtcConfig { base: RtcBase::Localtime, clock: RtcClock::Host });
}

#[test]
fn the_service_starts_vmmd_with_a_sample_and_the_socket_it_gets() {
    for path in files("service") {
        let unit = std::fs::read_to_string(&path).unwrap();
        let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let mut words = line.split(' ');
        assert!(words.next().unwrap().ends_with("/vmmd"));
        // The installed file is the sample of the same name.
        let read = |path: &Path| std::fs::read_to_string(directory().join(path.file_name().unwrap()));
        let Outcome::Run(run) = parse(words.map(Into::into), &read).unwrap() else { panic!("{line}") };
        let Run { config, .. } = *run;
        let sockets: Vec<_> = config
            .chardevs
            .iter()
            .filter_map(|chardev| match &chardev.backend {
                ChardevBackend::Socket(socket) => Some((&socket.address, socket.server)),
                _ => None,
            })
            .collect();
        assert_eq!(sockets, [(&SocketAddress::Fd(3), true)]);
    }
    for path in files("socket") {
        let unit = std::fs::read_to_string(&path).unwrap();
        assert!(unit.contains("\nSocketMode=0600\n") && unit.contains("\nListenStream=/"));
        assert!(path.with_extension("service").exists());
    }
}
