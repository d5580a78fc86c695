//! The interrupt pin: a level, as the kernel's VFIO has it.
//!
//! While the level is high and nothing holds it back the eventfd is signalled, once: firing masks the pin, until the client
//! lets go of it. If the level is still high then, it fires again. The client lets go with a command, or by signalling
//! an eventfd of its own, the resample eventfd (KVM does so when the guest ends the interrupt).
//!
//! While the command register switches the pin off it does not fire either. A guest's driver may serve an interrupt behind
//! that bit. QEMU lets go of the pin at the guest's first access to a BAR, which is before the guest has acknowledged
//! anything: fired again then, the interrupt would reach the guest when there is nothing left to serve, and stay.

use std::os::fd::AsFd;

use fd_closer::Received;

use super::signal::Signaller;

/// The pin.
#[derive(Debug, Default)]
pub(super) struct Intx {
    /// The device has one.
    present: bool,
    level: bool,
    eventfd: Option<Received>,
    masked: bool,
    /// The command register switches it off.
    disabled: bool,
    /// Has fired, and was not let go of since.
    fired: bool,
    resample: Option<Received>,
    /// Changes of `resample`.
    resample_changes: u64,
}

impl Intx {
    pub(super) fn new(present: bool) -> Self {
        Self { present, ..Self::default() }
    }

    pub(super) fn present(&self) -> bool {
        self.present
    }

    pub(super) fn resample_changes(&self) -> u64 {
        self.resample_changes
    }

    pub(super) fn assigned(&self) -> bool {
        self.eventfd.is_some()
    }

    pub(super) fn held(&self) -> bool {
        self.masked || self.fired || self.disabled
    }

    pub(super) fn pending(&self) -> bool {
        self.assigned() && self.held() && self.level
    }

    pub(super) fn resample(&self) -> Option<&Received> {
        self.resample.as_ref()
    }

    pub(super) fn set_level(&mut self, high: bool, signaller: &mut Signaller) {
        self.level = high;
        self.settle(signaller);
    }

    /// Sets or takes the eventfd. Without one nothing has fired; a level that is high fires with the next.
    pub(super) fn assign(&mut self, eventfd: Option<Received>, signaller: &mut Signaller) {
        self.fired &= eventfd.is_some();
        self.eventfd = eventfd;
        self.settle(signaller);
    }

    pub(super) fn mask(&mut self) {
        self.masked = true;
    }

    /// The command register switches it off, or on again: then a level that is high fires, unless something else holds it
    /// back.
    pub(super) fn set_disabled(&mut self, disabled: bool, signaller: &mut Signaller) {
        if self.disabled != disabled {
            self.disabled = disabled;
            self.settle(signaller);
        }
    }

    /// Lets go, whatever holds it back but for the command register.
    pub(super) fn unmask(&mut self, signaller: &mut Signaller) {
        self.masked = false;
        self.fired = false;
        self.settle(signaller);
    }

    /// Signals once, whatever the level: the client tries the eventfd out.
    pub(super) fn try_out(&mut self, signaller: &mut Signaller) {
        if let Some(eventfd) = self.eventfd.as_ref().filter(|_| !self.held()) {
            signaller.signal(eventfd.as_fd());
        }
    }

    pub(super) fn set_resample(&mut self, eventfd: Option<Received>) {
        if self.resample.is_some() || eventfd.is_some() {
            self.resample_changes += 1;
        }
        self.resample = eventfd;
    }

    /// Closes the eventfds and forgets the masks. The level is the device's.
    pub(super) fn clear(&mut self) {
        self.eventfd = None;
        self.masked = false;
        self.fired = false;
        self.set_resample(None);
    }

    /// The device was reset: its level is low, nothing has fired, and its command register does not switch it off.
    pub(super) fn reset(&mut self) {
        self.level = false;
        self.fired = false;
        self.disabled = false;
    }

    fn settle(&mut self, signaller: &mut Signaller) {
        if let Some(eventfd) = self.eventfd.as_ref().filter(|_| self.level && !self.held()) {
            signaller.signal(eventfd.as_fd());
            self.fired = true;
        }
    }
}
