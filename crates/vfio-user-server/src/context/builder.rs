//! Setting a context up.

use std::fmt;
use std::io;
use std::sync::Arc;

use peer_admission::{Allowed, Refusals};
use thread_start::Starter;

use super::handle::Shared;
use super::listener::Listener;
use super::poller::{Poller, Token};
use super::{Context, Event, Handle, Limits, Listen, Settings};
use crate::PciDevice;
use crate::device::PciEndpoint;
use crate::dma::DmaPolicy;

use super::endpoint::Endpoint;

/// Sets a context up.
pub struct Builder {
    device: Box<dyn PciDevice>,
    options: Options,
}

/// What does not depend on the kind of device.
pub(crate) struct Options {
    pub(crate) dma: DmaPolicy,
    settings: Settings,
    starter: Starter,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dma: DmaPolicy::default(),
            settings: Settings {
                limits: Limits::default(),
                allowed_uids: None,
                allowed_gids: None,
                reconnect: false,
                on_event: Box::new(|_| {}),
            },
            starter: Starter::default(),
        }
    }
}

impl Options {
    pub(crate) fn set_allowed_uids(&mut self, uids: impl IntoIterator<Item = u32>) {
        self.settings.allowed_uids = Some(uids.into_iter().collect());
    }

    pub(crate) fn set_allowed_gids(&mut self, gids: impl IntoIterator<Item = u32>) {
        self.settings.allowed_gids = Some(gids.into_iter().collect());
    }

    pub(crate) fn set_starter(&mut self, starter: Starter) {
        self.starter = starter;
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.settings.limits = limits;
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    pub(crate) fn set_reconnect(&mut self, on: bool) {
        self.settings.reconnect = on;
    }

    pub(crate) fn set_on_event(&mut self, listener: impl FnMut(Event) + Send + 'static) {
        self.settings.on_event = Box::new(listener);
    }
}

/// Why a context cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen")]
pub struct ListenError(#[from] io::Error);

impl ListenError {
    /// The operating system's error.
    #[must_use]
    pub fn io_error(&self) -> &io::Error {
        &self.0
    }
}

impl Builder {
    pub(super) fn new(device: Box<dyn PciDevice>) -> Self {
        Self { device, options: Options::default() }
    }

    /// How the client's memory is reached; [`DmaPolicy::Auto`] if this is not called.
    #[must_use]
    pub fn dma(mut self, policy: DmaPolicy) -> Self {
        self.options.dma = policy;
        self
    }

    /// Users that may connect. If neither this nor [`allowed_gids`](Self::allowed_gids) is called, anybody may who can reach
    /// the socket: for a name in the abstract namespace that is root and this process's user. Others are closed without a
    /// word.
    #[must_use]
    pub fn allowed_uids(mut self, uids: impl IntoIterator<Item = u32>) -> Self {
        self.options.set_allowed_uids(uids);
        self
    }

    /// Groups whose members may connect, besides [`allowed_uids`](Self::allowed_uids): those whose own group it is, and those
    /// who have it as a supplementary one.
    #[must_use]
    pub fn allowed_gids(mut self, gids: impl IntoIterator<Item = u32>) -> Self {
        self.options.set_allowed_gids(gids);
        self
    }

    /// Limits and deadlines; the defaults if this is not called.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.set_limits(limits);
        self
    }

    /// Whether the context listens again after a hang-up, with the device's state kept. Off if this is not called: then it
    /// ends. A client that leaves before it has negotiated ends nothing.
    #[must_use]
    pub fn reconnect(mut self, on: bool) -> Self {
        self.options.set_reconnect(on);
        self
    }

    /// Whom to tell what happens.
    #[must_use]
    pub fn on_event(mut self, listener: impl FnMut(Event) + Send + 'static) -> Self {
        self.options.set_on_event(listener);
        self
    }

    /// Who starts the threads that accept the clients of a listener that is others' too, as
    /// [`ThreadKind::Acceptor`](thread_start::ThreadKind::Acceptor). By default one without a hook.
    #[must_use]
    pub fn starter(mut self, starter: Starter) -> Self {
        self.options.set_starter(starter);
        self
    }

    /// Starts to listen. When this fails nothing is left behind, and the device is given back.
    ///
    /// # Errors
    /// What the operating system says of the socket, of the context's descriptors or of the device's memory.
    pub fn listen(self, listen: Listen) -> Result<Context, (ListenError, Box<dyn PciDevice>)> {
        let (policy, limits) = (self.options.dma, self.options.limits().clone());
        let mut device = Some(self.device);
        // What fails gives the device back here.
        let mut back = None;
        let made = Context::listen(listen, self.options, |poller, handle| {
            let device = device.take().unwrap_or_else(|| unreachable!("called once"));
            match PciEndpoint::new(device, policy, &limits, poller, handle) {
                Ok(endpoint) => Ok(Box::new(endpoint)),
                Err((error, device)) => {
                    back = Some(device);
                    Err(error)
                }
            }
        });
        made.map_err(|error| match device.or(back) {
            Some(device) => (error, device),
            None => unreachable!("nothing fails once the endpoint is made"),
        })
    }
}

impl Context {
    /// Listens first, then makes what is exported: nothing fails after that.
    pub(crate) fn listen(
        listen: Listen,
        options: Options,
        make: impl FnOnce(&Arc<Poller>, Handle) -> io::Result<Box<dyn Endpoint>>,
    ) -> Result<Self, ListenError> {
        crate::dma::ask_host();
        let poller = Arc::new(Poller::new().map_err(io::Error::from)?);
        let mut allowed =
            Allowed::new(options.settings.allowed_uids.clone(), options.settings.allowed_gids.clone());
        if allowed.is_anybody() && matches!(listen, Listen::Abstract(_)) {
            // No file's mode protects it.
            allowed = Allowed::owner();
        }
        let listener = Listener::new(listen, &allowed, options.starter)?;
        match listener.fd() {
            Some(socket) => poller.add(socket, Token::Listener, true, false).map_err(io::Error::from)?,
            // A client that is there already is taken in the first turn.
            None => poller.wake(),
        }
        let shared = Arc::new(Shared::new(Arc::clone(&poller)));
        let endpoint = make(&poller, Handle(Arc::clone(&shared)))?;
        Ok(Self {
            poller,
            shared,
            settings: options.settings,
            listener: Some(listener),
            allowed,
            refusals: Refusals::default(),
            accept_failed: false,
            accept_failures: Refusals::default(),
            accepting: false,
            connection: None,
            direct: false,
            hung_up: false,
            endpoint: Some(endpoint),
            next_token: 0,
            resample: (None, 0),
            armed: None,
            accept_after: None,
            again: false,
            turns: 0,
            ready: Vec::new(),
        })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("dma", &self.options.dma).finish_non_exhaustive()
    }
}
