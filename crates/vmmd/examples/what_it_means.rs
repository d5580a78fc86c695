//! Says what a command line would make `vmmd` be, and opens nothing:
//!
//! ```text
//! cargo run -p vmmd --example what_it_means -- -name alpha -S -qmp unix:/tmp/q.sock,server=on,wait=off
//! cargo run -p vmmd --example what_it_means -- --config config/demo.toml
//! ```

use std::process::ExitCode;

use vmmd::cli::{self, Outcome};
use vmmd::config::{ChardevBackend, Config, SocketAddress, SocketConfig};
use vmmd::serve::MAX_CLIENTS;

fn main() -> ExitCode {
    let read = |path: &std::path::Path| std::fs::read_to_string(path);
    match cli::parse(std::env::args_os().skip(1), &read) {
        Ok(Outcome::Print(text)) => print!("{text}"),
        Ok(Outcome::DumpSchema(form)) => println!("prints the interface in the form {form:?}"),
        Ok(Outcome::Run(run)) => {
            run.warnings.iter().for_each(|warning| println!("{warning}"));
            explain(&run.config);
        }
        Err(error) => {
            println!("vmmd would refuse it:\n  {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn explain(config: &Config) {
    let start = if config.start_paused { "waits for cont" } else { "runs at once" };
    println!("machine: {}, {start}", config.machine.kind.word());
    println!("guest:   {}", config.name.as_deref().unwrap_or("(no name)"));
    for monitor in &config.monitors {
        let form = if monitor.pretty { "indented" } else { "compact" };
        let clients = config.max_clients(monitor).unwrap_or(MAX_CLIENTS);
        println!("monitor: {}, {form}, up to {clients} clients, from {}", monitor.id, monitor.origin);
        if let Some(chardev) = config.chardev_of(monitor) {
            println!("  on {}: {}", chardev.id, place(&chardev.backend));
        }
    }
    for add in &config.add_fds {
        println!("fd {} goes into set {}", add.fd, add.set);
    }
    if let Some(path) = &config.pidfile {
        println!("pid file: {}", path.display());
    }
    for (set, what) in [
        (config.daemonize, "goes into the background"),
        (config.no_reboot, "ends instead of a reset"),
        (config.no_shutdown, "stays when the guest shuts down"),
    ] {
        if set {
            println!("it {what}");
        }
    }
}

fn place(backend: &ChardevBackend) -> String {
    match backend {
        ChardevBackend::Null => "nothing".to_owned(),
        ChardevBackend::Stdio => "stdin and stdout".to_owned(),
        ChardevBackend::File { path, .. } => format!("writes {}", path.display()),
        ChardevBackend::Pipe(path) => format!("the fifos {0}.in and {0}.out", path.display()),
        ChardevBackend::Socket(socket) => format!("{} {}", role(socket), address(&socket.address)),
    }
}

fn role(socket: &SocketConfig) -> String {
    match (socket.server, socket.wait, socket.reconnect) {
        (true, true, _) => "listens and waits for the first client at".to_owned(),
        (true, false, _) => "listens at".to_owned(),
        (false, _, None) => "connects once to".to_owned(),
        (false, _, Some(pause)) => format!("connects, again after {} s, to", pause.as_secs()),
    }
}

fn address(address: &SocketAddress) -> String {
    match address {
        SocketAddress::Unix { path, abstract_name: false, .. } => format!("unix:{}", path.display()),
        SocketAddress::Unix { path, abstract_name: true, .. } => {
            format!("unix, abstract: {}", path.display())
        }
        SocketAddress::Tcp { host, port, .. } => format!("tcp:{host}:{port}"),
        SocketAddress::Fd(fd) => format!("inherited fd {fd}"),
    }
}
