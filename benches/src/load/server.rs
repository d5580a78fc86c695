//! What a QMP server is: whether it speaks QMP at all, what it calls itself, how many clients it takes.

use std::time::Duration;

use super::session::Session;
use super::{Error, Result};
use crate::harness::process::{Placement, Spec};

/// How long a second client waits for a greeting before the server counts as one that serves one at a time.
const SECOND_CLIENT: Duration = Duration::from_millis(300);

/// What a server was found to do.
#[derive(Debug, Clone)]
pub struct Traits {
    /// A monitor greets a second client while it has one.
    pub many_clients: bool,
    /// The command line can be given any number of monitors.
    pub many_monitors: bool,
    /// Version and package, from the greeting.
    pub version: String,
}

impl Spec {
    /// Starts the server once and looks: whether it speaks QMP, what it calls itself, how many clients it takes.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and when it does not greet and negotiate.
    pub fn probe(&self) -> Result<Traits> {
        let running = self.start(1, Placement::Free)?;
        let _first = running.explain(Session::open_when_ready(&running.sockets()[0]))?;
        let mut second = running.explain(Session::connect(&running.sockets()[0]))?;
        second.set_patience(SECOND_CLIENT)?;
        let many_clients = match second.greeting() {
            Ok(_) => true,
            Err(Error::Silent | Error::Closed) => false,
            Err(error) => return Err(error),
        };
        drop((_first, second));
        let mut third = running.explain(Session::connect(&running.sockets()[0]))?;
        let version = version(&running.explain(third.greeting())?);
        Ok(Traits { many_clients, many_monitors: self.takes_many_monitors(), version })
    }
}

/// "QEMU 7.2.22 (package)" of a greeting.
fn version(greeting: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(greeting).unwrap_or_default();
    let version = &value["QMP"]["version"];
    let number = |part: &str| version["qemu"][part].as_u64().unwrap_or_default();
    let package = version["package"].as_str().unwrap_or_default();
    format!("{}.{}.{} ({package})", number("major"), number("minor"), number("micro"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ends_says_why() {
        let spec = Spec::parse("broken", "ls --no-such-option {sock}").unwrap();
        let error = spec.probe().unwrap_err().to_string();
        assert!(error.starts_with("broken did not serve: "), "{error}");
        assert!(error.contains("no-such-option"), "{error}");
    }
}
