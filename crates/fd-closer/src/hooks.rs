//! Who wants to know of the threads as they start.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use thread_start::Starter;

/// The hooks of all who are still there.
static HOOKS: Mutex<Vec<Weak<Starter>>> = Mutex::new(Vec::new());

/// Its owner's hook runs on the threads that start while this is there. See [`announce_to`].
#[derive(Debug)]
#[must_use = "the hook runs only while this is there"]
pub struct Announced {
    _starter: Arc<Starter>,
}

/// Runs the hook of `starter` on each thread that is started here from now on, for as long as the returned value lives.
///
/// The threads serve the whole process, so every hook that there is runs on each.
pub fn announce_to(starter: Starter) -> Announced {
    let starter = Arc::new(starter);
    let mut hooks = lock();
    hooks.retain(|hook| hook.strong_count() > 0);
    hooks.push(Arc::downgrade(&starter));
    Announced { _starter: starter }
}

/// What a new thread runs. The list is not locked meanwhile: a hook may take its time.
pub(crate) fn all() -> Starter {
    let hooks: Vec<_> = lock().iter().filter_map(Weak::upgrade).collect();
    if hooks.is_empty() {
        return Starter::default();
    }
    Starter::new(move |kind, name| hooks.iter().for_each(|hook| hook.announce(kind, name)))
}

fn lock() -> MutexGuard<'static, Vec<Weak<Starter>>> {
    HOOKS.lock().unwrap_or_else(PoisonError::into_inner)
}
