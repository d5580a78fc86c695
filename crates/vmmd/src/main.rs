//! The reference VMM.

use std::io::{self, Write};
use std::process::ExitCode;

use vmm_control::chardev::restore_stdio;
use vmmd::cli::{self, Outcome, Run};
use vmmd::config::Config;
use vmmd::daemonize::{self, Launch, Readiness};
use vmmd::pidfile::PidFile;
use vmmd::reference::{self, Form};
use vmmd::{allocator, logging, runtime, sandbox, serve};

fn main() -> ExitCode {
    #[cfg(panic = "abort")]
    restore_before_abort();
    allocator::set_up();
    let read = |path: &std::path::Path| std::fs::read_to_string(path);
    match cli::parse(std::env::args_os().skip(1), &read) {
        Ok(Outcome::Print(text)) => {
            // Nobody may be reading.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Outcome::DumpSchema(form)) => dump(form),
        Ok(Outcome::Run(run)) => launch(&run),
        Err(error) => fail(None, &error.to_string()),
    }
}

/// A panic ends this process at once, and nothing is dropped: what stdio was is put back first.
#[cfg(panic = "abort")]
fn restore_before_abort() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore_stdio();
        report(panic);
    }));
}

fn dump(form: Form) -> ExitCode {
    match reference::describe(form) {
        Ok(text) => {
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => fail(None, &error.to_string()),
    }
}

/// Goes into the background first, if that is asked for.
fn launch(run: &Run) -> ExitCode {
    if !run.config.daemonize {
        return start(run, None);
    }
    match daemonize::launch() {
        Ok(Launch::Child(readiness)) => start(run, Some(readiness)),
        Ok(Launch::Parent { code, error }) => {
            if let Some(error) = error {
                complain(&error);
            }
            ExitCode::from(code)
        }
        Err(error) => fail(None, &format!("cannot go into the background: {error}")),
    }
}

fn start(run: &Run, readiness: Option<Readiness>) -> ExitCode {
    let config = &run.config;
    for warning in &run.warnings {
        complain(warning);
    }
    // Before there is any other thread: what starts from here on inherits the filter.
    if let Err(error) = sandbox::turn_on(&config.sandbox) {
        return fail(readiness, &error.to_string());
    }
    let _log = match logging::init(&config.log, config.msg_timestamp) {
        Ok(log) => log,
        Err(error) => return fail(readiness, &error.to_string()),
    };
    if let Some(name) = &config.process_name
        && let Err(error) = rustix::thread::set_name(&c_string(name))
    {
        tracing::warn!(%error, "the process keeps its name");
    }
    let runtime = match runtime::build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(readiness, &format!("cannot start threads: {error}")),
    };
    let code = runtime.block_on(run_until_the_end(config, readiness));
    // A task that still runs is not waited for.
    runtime.shutdown_background();
    // A task that was not waited for may still have had the terminal, or what it shares with a shell.
    restore_stdio();
    code
}

async fn run_until_the_end(config: &Config, readiness: Option<Readiness>) -> ExitCode {
    match serve::help(config).await {
        Ok(None) => {}
        Ok(Some(text)) => {
            let _ = io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(readiness, &error.to_string()),
    }
    let pidfile = match config.pidfile.as_deref().map(PidFile::create).transpose() {
        Ok(pidfile) => pidfile,
        Err(error) => return fail(readiness, &error.to_string()),
    };
    let running = match serve::start(config).await {
        Ok(running) => running,
        Err(serve::StartError::Interrupted) => return ExitCode::SUCCESS,
        Err(error) => return fail(readiness, &error.to_string()),
    };
    if let Some(readiness) = readiness
        && let Err(error) = readiness.ready(!config.has_relative_paths())
    {
        tracing::error!(%error, "the parent cannot be told that all is ready");
    }
    running.serve().await;
    drop(pidfile);
    ExitCode::SUCCESS
}

/// Says what is wrong, to the terminal or to the parent that waits for word, and gives the exit code.
fn fail(readiness: Option<Readiness>, text: &str) -> ExitCode {
    match readiness {
        Some(readiness) => readiness.failed(text),
        None => complain(text),
    }
    ExitCode::FAILURE
}

/// Tells the terminal, if there is one.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "vmmd: {text}");
}

/// The name up to its first NUL, if it has one.
fn c_string(name: &str) -> std::ffi::CString {
    let bytes: Vec<u8> = name.bytes().take_while(|b| *b != 0).collect();
    std::ffi::CString::new(bytes).unwrap_or_default()
}
