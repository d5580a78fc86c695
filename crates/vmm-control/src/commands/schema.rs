//! `query-qmp-schema`: what this plane offers, for clients that choose by it.

use std::sync::Arc;

use qmp_command::{Command, CommandError, Context};

use crate::plane::Shared;

/// The schema is computed once, when the plane is built; a call costs a clone of a pointer.
pub(super) fn query_qmp_schema(plane: &Arc<Shared>) -> Command {
    let plane = plane.clone();
    Command::new("query-qmp-schema")
        .doc("Describes all commands, events and types. Types have numbers for names, which may change any time.")
        .allow_preconfig()
        .read_only()
        .handler(move |_: Context, (): ()| {
            // It exists once the plane does, and requests come only after that.
            let schema = plane.schema.get().cloned();
            std::future::ready(schema.ok_or_else(|| CommandError::generic("the plane is being built")))
        })
}
