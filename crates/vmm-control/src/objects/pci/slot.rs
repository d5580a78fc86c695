//! Where an object keeps its device, and who has borrowed it.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vfio_user_server::PciDevice;

/// Keeps a device, lends it to one borrower at a time, and takes it back. All methods are short.
pub(crate) struct Slot {
    /// The device's id.
    id: String,
    state: Mutex<State>,
}

enum State {
    /// It is here.
    Home(Box<dyn PciDevice>),
    /// The object of this id has it.
    Lent(String),
    /// It has not come back: it has panicked.
    Lost,
    /// It has been unplugged.
    Gone,
}

/// Why a device is not lent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LendError {
    /// Somebody has it.
    #[error("vfu: Device {id} is exported by x-vfio-user-server '{by}' already")]
    Lent {
        /// The device.
        id: String,
        /// The object that has it.
        by: String,
    },
    /// It has panicked.
    #[error("vfu: Device {0} has failed and must be unplugged")]
    Lost(String),
    /// It is being unplugged.
    #[error("vfu: Device {0} not found")]
    Gone(String),
}

impl Slot {
    pub(super) fn new(id: &str, device: Box<dyn PciDevice>) -> Self {
        Self { id: id.to_owned(), state: Mutex::new(State::Home(device)) }
    }

    /// The device's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Gives the device to the object called `to`, which is to [give it back](Self::give_back).
    pub(crate) fn lend(&self, to: &str) -> Result<Box<dyn PciDevice>, LendError> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Lent(to.to_owned())) {
            State::Home(device) => Ok(device),
            other => {
                *state = other;
                Err(match &*state {
                    State::Lent(by) => LendError::Lent { id: self.id.clone(), by: by.clone() },
                    State::Lost => LendError::Lost(self.id.clone()),
                    State::Home(_) | State::Gone => LendError::Gone(self.id.clone()),
                })
            }
        }
    }

    /// Takes the device back; `None` if it has panicked.
    pub(crate) fn give_back(&self, device: Option<Box<dyn PciDevice>>) {
        let mut state = self.lock();
        if matches!(*state, State::Lent(_)) {
            *state = device.map_or(State::Lost, State::Home);
        }
    }

    /// Ends it: nobody can borrow it from now on. `None` if it is lent, and so stays.
    pub(super) fn retire(&self) -> Option<()> {
        let mut state = self.lock();
        if matches!(*state, State::Lent(_)) {
            return None;
        }
        let old = std::mem::replace(&mut *state, State::Gone);
        // A device's drop is its author's code, which no lock is held for.
        drop(state);
        drop(old);
        Some(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &*self.lock() {
            State::Home(_) => "home".to_owned(),
            State::Lent(by) => format!("lent to {by}"),
            State::Lost => "lost".to_owned(),
            State::Gone => "gone".to_owned(),
        };
        f.debug_struct("Slot").field("id", &self.id).field("state", &state).finish()
    }
}
