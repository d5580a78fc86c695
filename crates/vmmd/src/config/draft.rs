//! A configuration in the making, and the rules that hold between its parts.

use std::collections::HashSet;

use super::{
    AddFdSpec, ChardevBackend, ChardevConfig, ChardevSpec, Config, MachineKind, MetricsSpec, MonitorConfig,
    MonitorMode, MonitorSpec, QtestConfig, QtestLog, SerialConfig, SmpSpec,
};
use crate::error::{ConfigError, ErrorKind};

/// A configuration in the making: first a file's, then the command line's on top of it.
///
/// Single values are set on [`Draft::config`]; chardevs, monitors and fds are added through the methods, which
/// check each alone. [`Draft::finish`] checks them together.
#[derive(Debug, Default)]
pub struct Draft {
    /// What is settled: everything but the monitors.
    pub config: Config,
    /// What is odd but no error, each with its place and `warning:` before it, to be printed behind
    /// the program's name.
    pub warnings: Vec<String>,
    /// Where a qtest server notes what is said, should there be one.
    pub qtest_log: QtestLog,
    monitors: Vec<(MonitorSpec, String)>,
    /// What was said of the virtual CPUs, and where last. It takes the machine's kind to judge it.
    smp: Option<(SmpSpec, String)>,
    /// The chardev of the qtest server, and where it was given.
    qtest: Option<(String, String)>,
}

/// How many serial ports a board can have.
const SERIAL_PORTS: usize = 4;

impl Draft {
    /// Adds a chardev that was given at `origin`.
    ///
    /// # Errors
    /// It contradicts itself, or its id is taken.
    pub fn chardev(&mut self, spec: ChardevSpec, origin: &str) -> Result<(), ConfigError> {
        let (chardev, warnings) = spec.build(origin).map_err(|error| error.at(origin))?;
        if self.config.chardevs.iter().any(|other| other.id == chardev.id) {
            let kind = ErrorKind::DuplicateId { id: chardev.id, kind: "chardev" };
            return Err(ConfigError::new(kind).at(origin));
        }
        self.warn(warnings, origin);
        self.config.chardevs.push(chardev);
        Ok(())
    }

    /// Serves metrics there, and nowhere else.
    ///
    /// # Errors
    /// The path cannot be.
    pub fn metrics(&mut self, spec: MetricsSpec, origin: &str) -> Result<(), ConfigError> {
        let (chardev, warnings) = spec.build(origin).map_err(|error| error.at(origin))?;
        self.warn(warnings, origin);
        self.config.metrics = Some(chardev);
        Ok(())
    }

    fn warn(&mut self, warnings: Vec<String>, origin: &str) {
        self.warnings.extend(warnings.into_iter().map(|text| format!("{origin}: warning: {text}")));
    }

    /// Adds a monitor that was given at `origin`. Its chardev may come later.
    ///
    /// # Errors
    /// It names no chardev, or its id is malformed or taken.
    pub fn monitor(&mut self, spec: MonitorSpec, origin: &str) -> Result<(), ConfigError> {
        spec.check().map_err(|error| error.at(origin))?;
        if let Some(id) = spec.id.as_ref().filter(|id| self.has_monitor(id)) {
            let kind = ErrorKind::DuplicateId { id: id.clone(), kind: "mon" };
            return Err(ConfigError::new(kind).at(origin));
        }
        self.monitors.push((spec, origin.to_owned()));
        Ok(())
    }

    /// Adds an inherited fd that was given at `origin`.
    ///
    /// # Errors
    /// The fd or the set is missing or impossible.
    pub fn add_fd(&mut self, spec: AddFdSpec, origin: &str) -> Result<(), ConfigError> {
        self.config.add_fds.push(spec.build(origin).map_err(|error| error.at(origin))?);
        Ok(())
    }

    /// Says something of the virtual CPUs, at `origin`. What is said later goes before, key by key.
    pub fn smp(&mut self, later: SmpSpec, origin: &str) {
        let before = self.smp.take().map_or_else(SmpSpec::default, |(spec, _)| spec);
        let spec = SmpSpec {
            cpus: later.cpus.or(before.cpus),
            maxcpus: later.maxcpus.or(before.maxcpus),
            sockets: later.sockets.or(before.sockets),
            dies: later.dies.or(before.dies),
            clusters: later.clusters.or(before.clusters),
            cores: later.cores.or(before.cores),
            threads: later.threads.or(before.threads),
        };
        self.smp = Some((spec, origin.to_owned()));
    }

    /// Serves QEMU's test programs on the chardev of this id. It may come later.
    ///
    /// # Errors
    /// There is such a server already.
    pub fn qtest(&mut self, chardev: &str, origin: &str) -> Result<(), ConfigError> {
        match self.qtest.replace((chardev.to_owned(), origin.to_owned())) {
            Some(_) => Err(ConfigError::new(ErrorKind::GivenTwice).at(origin)),
            None => Ok(()),
        }
    }

    /// Puts a serial port on the chardev of this id. It may come later.
    ///
    /// # Errors
    /// There are as many as the board has ports.
    pub fn serial(&mut self, chardev: &str, origin: &str) -> Result<(), ConfigError> {
        if self.config.serials.len() >= SERIAL_PORTS {
            return Err(ConfigError::new(ErrorKind::TooManySerialPorts).at(origin));
        }
        self.config.serials.push(SerialConfig { chardev: chardev.to_owned(), origin: origin.to_owned() });
        Ok(())
    }

    /// Checks all parts together.
    ///
    /// # Errors
    /// In this order: the virtual CPUs are impossible; stdio taken twice or by a daemon; per monitor, its chardev does not exist, it is a human
    /// monitor, its chardev is in use, or the two contradict each other; per serial port, its chardev does not exist,
    /// is in use, or is to take several clients.
    pub fn finish(mut self) -> Result<(Config, Vec<String>), ConfigError> {
        if let Some((spec, origin)) = self.smp.take() {
            let machine = &mut self.config.machine;
            machine.smp = spec.build(machine.kind).map_err(|error| error.at(origin))?;
        }
        self.check_stdio()?;
        if let (Some(device), true) = (self.config.devices.first(), self.config.preconfig) {
            return Err(ConfigError::new(ErrorKind::DevicePreconfig).at(&device.origin));
        }
        let mut used = HashSet::new();
        if let Some((chardev, origin)) = self.qtest.take() {
            self.find_chardev(&chardev).map_err(|error| error.at(&origin))?;
            used.insert(chardev.clone());
            let log = std::mem::take(&mut self.qtest_log);
            self.config.qtest = Some(QtestConfig { chardev, origin, log });
        }
        let mut ids: HashSet<String> = self.monitors.iter().filter_map(|(spec, _)| spec.id.clone()).collect();
        for (spec, origin) in std::mem::take(&mut self.monitors) {
            let monitor =
                self.settle(spec, &origin, &mut used, &mut ids).map_err(|error| error.at(origin))?;
            self.config.monitors.push(monitor);
        }
        for serial in &self.config.serials {
            self.check_serial(serial, &mut used).map_err(|error| error.at(&serial.origin))?;
            if self.config.machine.kind == MachineKind::None {
                let warning = "warning: this machine has no serial port, only the chardev is made";
                self.warnings.push(format!("{}: {warning}", serial.origin));
            }
        }
        Ok((self.config, self.warnings))
    }

    fn has_monitor(&self, id: &str) -> bool {
        self.monitors.iter().any(|(other, _)| other.id.as_deref() == Some(id))
    }

    fn find_chardev(&self, id: &str) -> Result<&ChardevConfig, ConfigError> {
        let chardevs = &self.config.chardevs;
        chardevs.iter().find(|chardev| chardev.id == id).ok_or_else(|| {
            let known = chardevs.iter().map(|chardev| chardev.id.as_str());
            ConfigError::new(ErrorKind::ChardevNotFound(id.to_owned())).near(id, "", known)
        })
    }

    fn check_serial(&self, serial: &SerialConfig, used: &mut HashSet<String>) -> Result<(), ConfigError> {
        let SerialConfig { chardev: id, .. } = serial;
        let clients = self.find_chardev(id)?.max_clients;
        if clients.is_some_and(|count| count > 1) {
            return Err(ErrorKind::SerialClients.into());
        }
        if !used.insert(id.clone()) {
            return Err(ErrorKind::InUse(id.clone()).into());
        }
        Ok(())
    }

    fn check_stdio(&self) -> Result<(), ConfigError> {
        let mut on_stdio = self.config.chardevs.iter().filter(|c| c.backend == ChardevBackend::Stdio);
        let first = on_stdio.next();
        if let (Some(first), true) = (first, self.config.daemonize) {
            return Err(ConfigError::new(ErrorKind::StdioDaemon).at(&first.origin));
        }
        match on_stdio.next() {
            Some(second) => Err(ConfigError::new(ErrorKind::StdioTwice).at(&second.origin)),
            None => Ok(()),
        }
    }

    /// Makes `spec` a monitor, given the chardevs and the ids that are `used` so far.
    fn settle(
        &self,
        spec: MonitorSpec,
        origin: &str,
        used: &mut HashSet<String>,
        ids: &mut HashSet<String>,
    ) -> Result<MonitorConfig, ConfigError> {
        let limits = spec.limits();
        let name = spec.chardev.ok_or(ErrorKind::Missing("chardev"))?;
        let chardev = self.find_chardev(&name)?;
        let pretty = spec.pretty.unwrap_or(false);
        let mode = spec.mode.unwrap_or(MonitorMode::Readline);
        if pretty && mode == MonitorMode::Readline {
            return Err(ErrorKind::PrettyHuman.into());
        }
        if !used.insert(name.clone()) {
            return Err(ErrorKind::InUse(name).into());
        }
        if let ChardevBackend::Socket(socket) = &chardev.backend
            && !socket.server
            && spec.max_clients.is_some_and(|count| count > 1)
        {
            return Err(ErrorKind::NotForClients("max-clients").into());
        }
        agree("max-clients", spec.max_clients, chardev.max_clients, &name, |count| count.to_string())?;
        agree("named-fds", spec.named_fds, chardev.named_fds, &name, |scope| scope.word().to_owned())?;
        Ok(MonitorConfig {
            id: spec.id.unwrap_or_else(|| free_id(&name, ids)),
            origin: origin.to_owned(),
            chardev: name,
            mode,
            pretty,
            max_clients: spec.max_clients,
            named_fds: spec.named_fds,
            limits,
        })
    }
}

/// The chardev's id for a monitor that was given none, or one like it if a monitor is called that already.
fn free_id(chardev: &str, ids: &mut HashSet<String>) -> String {
    let mut id = chardev.to_owned();
    let mut number = 0_u32;
    while !ids.insert(id.clone()) {
        id = format!("{chardev}-monitor{number}");
        number += 1;
    }
    id
}

/// What the monitor says and what its chardev says must be the same if both say something.
fn agree<T: Copy + PartialEq>(
    name: &'static str,
    here: Option<T>,
    there: Option<T>,
    chardev: &str,
    word: impl Fn(T) -> String,
) -> Result<(), ConfigError> {
    match (here, there) {
        (Some(here), Some(there)) if here != there => Err(ErrorKind::Contradiction {
            name,
            here: word(here),
            there: word(there),
            chardev: chardev.to_owned(),
        }
        .into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::NamedFdsScope;
    use super::*;

    fn null(id: &str) -> ChardevSpec {
        ChardevSpec { id: Some(id.into()), backend: Some("null".into()), ..ChardevSpec::default() }
    }

    fn on(chardev: &str) -> MonitorSpec {
        MonitorSpec {
            chardev: Some(chardev.into()),
            mode: Some(MonitorMode::Control),
            ..MonitorSpec::default()
        }
    }

    fn finish(chardevs: Vec<ChardevSpec>, monitors: Vec<MonitorSpec>) -> Result<Config, String> {
        let mut draft = Draft::default();
        for spec in chardevs {
            draft.chardev(spec, "chardev").map_err(|error| error.to_string())?;
        }
        for spec in monitors {
            draft.monitor(spec, "mon").map_err(|error| error.to_string())?;
        }
        Ok(draft.finish().map_err(|error| error.to_string())?.0)
    }

    #[test]
    fn one_monitor_per_chardev() {
        assert_eq!(finish(vec![null("n")], vec![on("n"), on("n")]), Err("mon: Device 'n' is in use".into()));
        assert_eq!(
            finish(vec![null("note")], vec![on("nope")]),
            Err("mon: chardev \"nope\" not found; did you mean 'note'?".into())
        );
        assert_eq!(finish(vec![], vec![on("nope")]), Err("mon: chardev \"nope\" not found".into()));
        assert_eq!(
            finish(vec![null("n"), null("n")], vec![]),
            Err("chardev: Duplicate ID 'n' for chardev".into())
        );
    }

    #[test]
    fn the_chardev_is_looked_up_before_the_mode_is_judged() {
        let human = |pretty, name: &str| MonitorSpec { pretty, mode: None, ..on(name) };
        assert!(finish(vec![], vec![human(None, "n")]).unwrap_err().contains("not found"));
        assert_eq!(
            finish(vec![null("n")], vec![human(None, "n")]).unwrap().monitors[0].mode,
            MonitorMode::Readline
        );
        assert!(finish(vec![null("n")], vec![human(Some(true), "n")]).unwrap_err().contains("HMP monitors"));
    }

    #[test]
    fn ids_are_unique_also_those_made_up() {
        let named = MonitorSpec { id: Some("b".into()), ..on("a") };
        let config = finish(vec![null("a"), null("b")], vec![named.clone(), on("b")]).unwrap();
        assert_eq!(config.monitors[0].id, "b");
        assert_eq!(config.monitors[1].id, "b-monitor0");
        assert_eq!(
            finish(vec![null("a")], vec![named.clone(), named]),
            Err("mon: Duplicate ID 'b' for mon".into())
        );
    }

    #[test]
    fn monitor_and_chardev_say_the_same_or_one_is_silent() {
        let chardev = || ChardevSpec { named_fds: Some(NamedFdsScope::Monitor), ..null("n") };
        let config = finish(vec![chardev()], vec![MonitorSpec { max_clients: Some(3), ..on("n") }]).unwrap();
        assert_eq!(config.max_clients(&config.monitors[0]), Some(3));
        assert_eq!(config.named_fds(&config.monitors[0]), Some(NamedFdsScope::Monitor));
        let other = MonitorSpec { named_fds: Some(NamedFdsScope::Session), ..on("n") };
        assert_eq!(
            finish(vec![chardev()], vec![other]),
            Err("mon: 'named-fds' is session here but monitor on chardev 'n'".into())
        );
    }

    #[test]
    fn a_serial_port_has_its_chardev_for_itself() {
        let serials = |ids: &[&str], chardev: ChardevSpec| {
            let mut draft = Draft::default();
            draft.chardev(chardev, "chardev").map_err(|error| error.to_string())?;
            draft.monitor(on("m"), "mon").map_err(|error| error.to_string())?;
            draft.chardev(null("m"), "chardev").map_err(|error| error.to_string())?;
            ids.iter().try_for_each(|id| draft.serial(id, "serial")).map_err(|error| error.to_string())?;
            draft.finish().map_err(|error| error.to_string())
        };
        assert_eq!(serials(&["n"], null("n")).unwrap().0.serials.len(), 1);
        assert_eq!(serials(&["n", "n"], null("n")).unwrap_err(), "serial: Device 'n' is in use");
        assert_eq!(serials(&["m"], null("n")).unwrap_err(), "serial: Device 'm' is in use");
        assert_eq!(
            serials(&["x"], null("n")).unwrap_err(),
            "serial: chardev \"x\" not found; did you mean 'n'?"
        );
        let several = ChardevSpec { max_clients: Some(2), ..null("n") };
        assert!(serials(&["n"], several).unwrap_err().starts_with("serial: a serial port has one client"));
        let five = serials(&["n"; 5], null("n")).unwrap_err();
        assert_eq!(five, "serial: there are four serial ports at most");
    }

    #[test]
    fn stdio_is_for_one_and_not_for_daemons() {
        let stdio = |id: &str| ChardevSpec { backend: Some("stdio".into()), ..null(id) };
        assert!(
            finish(vec![stdio("a"), stdio("b")], vec![]).unwrap_err().contains("multiple character devices")
        );
        let mut draft = Draft::default();
        draft.chardev(stdio("a"), "-qmp stdio").unwrap();
        draft.config.daemonize = true;
        assert_eq!(draft.finish().unwrap_err().to_string(), "-qmp stdio: cannot use stdio with -daemonize");
    }
}
