//! What a context exports, as the context sees it: a [`Target`] of the protocol with a life of its own.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use crate::PciDevice;
use crate::device::{Completions, DeviceContext, Messenger};
use crate::dma::MapInfo;
use crate::irq::VectorInfo;
use crate::protocol::Target;

/// A closure that is run with the device.
pub(crate) type DeviceCall = Box<dyn FnOnce(&mut dyn PciDevice, &mut DeviceContext<'_>) + Send>;

/// An exported device. All calls come from the context's thread.
pub(crate) trait Endpoint: Target + Send {
    /// A turn begins.
    fn begin_turn(&mut self, now: Instant);

    /// A client has negotiated.
    fn attached(&mut self);

    /// The client has gone: nothing of it may stay but what the device knows.
    fn hangup(&mut self);

    /// What the device has completed of the accesses that it deferred.
    fn completions(&mut self) -> &mut Completions;

    /// Sends what is to be sent to the client, and tells the device of what has ended. `deadline` is that of the commands
    /// that are sent. Quick if there is nothing.
    fn pump(&mut self, messenger: &mut dyn Messenger, deadline: Instant);

    /// Ends what has waited for too long, calls timers that are due, and does work that was put off.
    fn serve_time(&mut self);

    /// When [`serve_time`](Self::serve_time) has something to do. Work that waits makes it now.
    fn next_due(&self) -> Option<Instant>;

    /// A descriptor that the device watches is ready.
    fn watch_ready(&mut self, number: u32);

    /// The eventfd of a doorbell is ready.
    fn doorbell_ready(&mut self, number: u32);

    /// The eventfd with which the client lets go of INTx, if it has given one, and how often that has changed.
    fn resample_fd(&self) -> (Option<BorrowedFd<'_>>, u64);

    /// It is ready.
    fn resampled(&mut self);

    /// Takes the socket that [`Target::twin_socket`] has made.
    fn take_twin(&mut self) -> Option<OwnedFd>;

    /// Runs a closure with the device, unless it is none that closures can be run with.
    fn run(&mut self, call: DeviceCall);

    /// The client's maps.
    fn maps(&self) -> Vec<MapInfo>;

    /// How many maps there are, and of how many bytes.
    fn mapped(&self) -> (usize, u64);

    /// Interrupts that are set up.
    fn vectors(&self) -> Vec<VectorInfo>;

    /// Accesses that were answered since the last call; deferred ones count when they are completed.
    fn take_answered(&mut self) -> u64;

    /// Interrupts signalled so far.
    fn interrupts(&self) -> u64;

    /// Whether a call of the device has panicked.
    fn has_panicked(&self) -> bool;

    /// The device, when all is over. `None` if it cannot be trusted any more, because it has panicked.
    fn into_device(self: Box<Self>) -> Option<Box<dyn PciDevice>>;
}
