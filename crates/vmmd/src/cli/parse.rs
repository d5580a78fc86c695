//! The walk over the arguments.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::options::{self, OptionSpec};
use super::{Opt, Outcome, Run, device, hardware, help, machine, simple};
use crate::config::{Draft, LogFormat, TextConfig, toml};
use crate::errno;
use crate::error::{ConfigError, ErrorKind};
use crate::reference::Form;

/// One option as it was given.
#[derive(Debug)]
pub(super) struct Given {
    /// Which one.
    pub(super) opt: Opt,
    /// Its value; empty if it takes none.
    pub(super) value: String,
    /// Name, dashes and value as given, to be put before complaints.
    pub(super) origin: String,
}

/// Splits the arguments into options. Names are checked here, values are not.
pub(super) fn given(args: impl IntoIterator<Item = OsString>) -> Result<Vec<Given>, ConfigError> {
    let mut args = args.into_iter().map(|arg| {
        arg.into_string().map_err(|arg| ConfigError::new(ErrorKind::NotUtf8).at(arg.to_string_lossy()))
    });
    let mut all = Vec::new();
    while let Some(arg) = args.next() {
        let arg = arg?;
        let OptionSpec { opt, value, .. } = lookup(&arg)?;
        if let Opt::NotOffered(reason) = opt {
            return Err(ConfigError::new(ErrorKind::NotOffered(reason)).at(arg));
        }
        let given = if value.is_some() {
            let Some(value) = args.next() else {
                return Err(ConfigError::new(ErrorKind::RequiresArgument).at(arg));
            };
            let value = value?;
            Given { opt: *opt, origin: format!("{arg} {value}"), value }
        } else {
            Given { opt: *opt, origin: arg, value: String::new() }
        };
        all.push(given);
    }
    Ok(all)
}

fn lookup(arg: &str) -> Result<&'static OptionSpec, ConfigError> {
    let Some(name) = arg.strip_prefix('-') else {
        let error = ConfigError::new(ErrorKind::NotAnOption).at(arg);
        return Err(if options::find(arg).is_some() { error.near(arg, "-", [arg]) } else { error });
    };
    let name = name.strip_prefix('-').unwrap_or(name);
    options::find(name).ok_or_else(|| {
        // Whoever writes -qmp=DEV means -qmp.
        let word = name.split('=').next().unwrap_or_default();
        ConfigError::new(ErrorKind::InvalidOption).near(word, "-", options::offered()).at(arg)
    })
}

/// Makes of the options what they ask for.
pub(super) fn build(
    given: &[Given],
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Outcome, ConfigError> {
    let mut walk =
        Walk { draft: Draft::default(), monitors: 0, metrics: false, machine: machine::Machine::default() };
    let mut files = given.iter().filter(|item| item.opt == Opt::ConfigFile);
    if let Some(item) = files.next() {
        walk.draft = read_file(item, read)?;
    }
    if let Some(second) = files.next() {
        return Err(ConfigError::new(ErrorKind::GivenTwice).at(&second.origin));
    }
    for item in given {
        if item.opt == Opt::DumpSchema {
            let word = item.value.as_str();
            let form =
                Form::from_word(word).ok_or_else(|| ErrorKind::choice("dump-schema", word, Form::WORDS));
            return form.map(Outcome::DumpSchema).map_err(|error| error.at(&item.origin));
        }
        if let Some(text) = walk.step(item).map_err(|error| error.at(&item.origin))? {
            return Ok(Outcome::Print(text));
        }
    }
    walk.machine.finish(&mut walk.draft)?;
    let (config, warnings) = walk.draft.finish()?;
    Ok(Outcome::Run(Box::new(Run { config, warnings })))
}

fn read_file(item: &Given, read: &dyn Fn(&Path) -> io::Result<String>) -> Result<Draft, ConfigError> {
    let text = read(Path::new(&item.value)).map_err(|error| {
        let kind = ErrorKind::Unreadable { path: item.value.clone(), reason: errno::text(&error) };
        ConfigError::new(kind).at(&item.origin)
    })?;
    toml::load(&item.value, &text)
}

/// What is known after some of the options.
struct Walk {
    draft: Draft,
    /// How many `compat_monitorN` there are.
    monitors: usize,
    /// Whether there was a `-metrics`.
    metrics: bool,
    machine: machine::Machine,
}

impl Walk {
    /// Takes in one option. `Some` is a text to print instead of running.
    fn step(&mut self, item: &Given) -> Result<Option<String>, ConfigError> {
        let (draft, value) = (&mut self.draft, item.value.as_str());
        let config = &mut draft.config;
        match item.opt {
            Opt::Help => return Ok(Some(help::help())),
            Opt::Version => return Ok(Some(help::version())),
            Opt::Machine => return self.machine.machine(item, draft),
            Opt::Accel => return self.machine.accel(item),
            Opt::Chardev => return device::chardev(item, draft),
            Opt::Display => return simple::display(value),
            Opt::EnableKvm => self.machine.enable_kvm(item),
            Opt::Smp => hardware::smp(item, draft)?,
            Opt::Memory => hardware::memory(item, draft)?,
            Opt::Uuid => hardware::uuid(item, draft)?,
            Opt::Rtc => hardware::rtc(item, draft)?,
            Opt::Qtest => device::qtest(item, draft)?,
            Opt::QtestLog => draft.qtest_log = simple::qtest_log(value),
            Opt::Qmp { pretty } => device::qmp(item, pretty, &mut self.monitors, draft)?,
            Opt::Mon => device::mon(item, draft)?,
            Opt::Monitor => device::monitor(item, &mut self.monitors, draft)?,
            Opt::Serial => device::serial(item, draft)?,
            Opt::Object => {
                config.objects.push(TextConfig { origin: item.origin.clone(), text: item.value.clone() })
            }
            Opt::Device => {
                config.devices.push(TextConfig { origin: item.origin.clone(), text: item.value.clone() })
            }
            Opt::AddFd => simple::add_fd(item, draft)?,
            Opt::Name => simple::name(item, draft)?,
            Opt::Action => simple::action(item, draft)?,
            Opt::Budget => simple::budget(item, draft)?,
            Opt::Metrics => device::metrics(item, &mut self.metrics, draft)?,
            Opt::Msg => simple::msg(item, draft)?,
            Opt::Overcommit => simple::overcommit(item)?,
            Opt::Sandbox => simple::sandbox(item, draft)?,
            Opt::Paused => config.start_paused = true,
            Opt::NoShutdown => config.no_shutdown = true,
            Opt::Preconfig => config.preconfig = true,
            Opt::NoReboot => config.no_reboot = true,
            Opt::Daemonize => config.daemonize = true,
            Opt::TestCommands => config.test_commands = true,
            Opt::Pidfile => config.pidfile = Some(PathBuf::from(value)),
            Opt::LogFormat => {
                config.log.format = LogFormat::from_word(value)
                    .ok_or_else(|| ErrorKind::choice("log-format", value, LogFormat::WORDS))?;
            }
            Opt::Idle { values, reason } => simple::idle(item, values, reason)?,
            // Handled by the caller; read before everything else; refused before that.
            Opt::DumpSchema | Opt::ConfigFile | Opt::NotOffered(_) => {}
        }
        Ok(None)
    }
}
