//! What a session's rights are for what it makes: whose that is, and which files it gets.

use std::path::Path;
use std::sync::Arc;

use chardev::{Badge, OpenedFile, Opener};
use fd_registry::FdSets;
use qmp_command::Context;
use rustix::io::Errno;

/// Marks what a session makes or hands in: its policy, which goes for whoever comes by that way. `None` when that
/// allows everything.
pub(crate) fn badge(context: &Context) -> Option<Badge> {
    let policy = context.policy();
    (!policy.is_unrestricted()).then(|| Arc::new(policy.clone()) as Badge)
}

/// Opens files for chardevs: `/dev/fdset/N` from these sets, everything else by its name. If the sets are limited, names
/// that lead to open descriptors (`/proc/self/fd/N`, `/dev/stdin`) are refused: they would be a way round.
pub(crate) fn opener(sets: &FdSets) -> Opener {
    let (sets, confined) = (sets.clone(), sets.is_limited());
    Opener::new(move |path: &Path, flags| match path.to_str() {
        Some(text) if FdSets::is_fdset_path(text) => {
            let dup = sets.open(text, flags).map_err(|error| match error {
                fd_registry::Error::Dup { source, .. } => source,
                // The path is no such path.
                _ => Errno::INVAL.into(),
            })?;
            Ok(OpenedFile::from(dup.try_clone()?).keeping(dup))
        }
        _ if confined => Opener::open_without_magic(path, flags),
        _ => Opener::open_path(path, flags),
    })
}
