//! `object-add` and `object-del`.

use std::sync::Arc;

use qmp_command::arguments::Parts;
use qmp_command::schema::{Branch, EnumValue, Member, TypeDef, TypeRef, Types};
use qmp_command::{Command, CommandError, CommandResult, Context, QapiType};
use qmp_protocol::Object;
use serde::Deserialize;

use super::qom::permit_type;
use crate::bounds;
use crate::objects::{AttachError, Creation, Node, ObjectType, Objects};
use crate::plane::{PlaneHandle, Shared};
use crate::reserve;

/// What every object is made with: its type decides the rest.
struct ObjectOptions;
/// The types that there are.
struct ObjectTypes;

/// The first part of `object-add`'s arguments.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "qom-type")]
    qom_type: String,
}

/// The second.
#[derive(Deserialize)]
struct Id {
    id: String,
}

/// The id of an object.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "q_obj_object-del-arg")]
struct ObjectDel {
    /// Its name under `/objects`.
    id: String,
}

pub(super) fn commands(plane: &Arc<Shared>) -> Vec<Command> {
    vec![object_add(plane), object_del(plane)]
}

fn object_add(plane: &Arc<Shared>) -> Command {
    let (plane, described) = (plane.clone(), plane.objects.clone());
    Command::new("object-add").asks_type().doc("Makes an object.").allow_preconfig().raw_handler(
        move |types| describe(&described, types),
        move |context: Context, arguments: Object| {
            let plane = plane.clone();
            async move { add(&plane, context, arguments).await }
        },
    )
}

/// A flat union of the types that are registered.
fn describe(objects: &Objects, types: &mut Types) -> TypeRef {
    let branch =
        |ty: &ObjectType, described| Branch { doc: ty.documentation(), ..Branch::new(ty.name(), described) };
    let value = |ty: &ObjectType| {
        let features = if ty.is_unstable() { vec!["unstable"] } else { Vec::new() };
        EnumValue { doc: ty.documentation(), features, ..EnumValue::new(ty.name()) }
    };
    let branches: Vec<_> = objects.types.objects.iter().map(|ty| branch(ty, ty.describe(types))).collect();
    let tag = types.define::<ObjectTypes>("ObjectType", |_| TypeDef::Enum {
        name: "ObjectType",
        doc: "The types of which objects can be made.",
        features: Vec::new(),
        values: objects.types.objects.iter().map(value).collect(),
    });
    types.define::<ObjectOptions>("ObjectOptions", |_| TypeDef::Union {
        name: "ObjectOptions",
        doc: "An object to be made: what there is to say depends on its type.",
        features: Vec::new(),
        base: vec![
            Member { doc: "The type.", ..Member::new("qom-type", tag) },
            Member { doc: "The name that it gets under `/objects`.", ..Member::new("id", TypeRef::Str) },
        ],
        tag: "qom-type",
        branches,
    })
}

impl QapiType for ObjectOptions {
    fn describe(_: &mut Types) -> TypeRef {
        TypeRef::Named("ObjectOptions")
    }
}

impl QapiType for ObjectTypes {
    fn describe(_: &mut Types) -> TypeRef {
        TypeRef::Named("ObjectType")
    }
}

/// Everything is checked before the object is seen by anybody; a failure leaves nothing behind.
async fn add(plane: &Arc<Shared>, context: Context, arguments: Object) -> CommandResult<()> {
    let objects = &plane.objects;
    let mut parts = Parts::new(arguments);
    let Kind { qom_type } = parts.take()?;
    let ty = objects.types.object_type(&qom_type).ok_or_else(|| {
        CommandError::generic(format!("Parameter 'qom-type' does not accept value '{qom_type}'"))
    })?;
    let Id { id } = parts.take()?;
    let make = ty.decode(&mut parts)?;
    parts.finish()?;
    permit_type(&context, "object-add", ty.name())?;
    reserve::check(plane)?;
    if !is_identifier(&id) {
        return Err(CommandError::generic("Parameter 'id' expects an identifier"));
    }
    bounds::name("id", &id)?;
    bounds::number("objects", objects.user_created_count())?;
    let creation = Creation::new(&id, format!("/objects/{id}"), context, PlaneHandle::of(plane));
    let object = make(&creation)?;
    let parent = objects.objects()?;
    let node = objects.attach_node(&parent, &id, ty.name(), object)?;
    complete(&parent, &node, &creation).await
}

/// Completes an object that stands in the tree. Unless that succeeds it is taken out again; if it panics, too. Should the tree be
/// cleared meanwhile, it has failed: the object goes with its node.
pub(crate) async fn complete(parent: &Arc<Node>, node: &Arc<Node>, creation: &Creation) -> CommandResult<()> {
    let undo = Undo::new(|| {
        parent.detach(node);
    });
    node.object.complete(creation).await?;
    if !parent.holds(node) {
        return Err(AttachError::Closed.into());
    }
    undo.forget();
    Ok(())
}

/// Does something when it is dropped, unless it is told to forget it.
struct Undo<F: FnMut()>(Option<F>);

impl<F: FnMut()> Undo<F> {
    fn new(undo: F) -> Self {
        Self(Some(undo))
    }

    fn forget(mut self) {
        self.0 = None;
    }
}

impl<F: FnMut()> Drop for Undo<F> {
    fn drop(&mut self) {
        if let Some(undo) = &mut self.0 {
            undo();
        }
    }
}

/// QEMU's rule for ids.
pub(crate) fn is_identifier(id: &str) -> bool {
    id.starts_with(|c: char| c.is_ascii_alphabetic())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

fn object_del(plane: &Arc<Shared>) -> Command {
    let objects = plane.objects.clone();
    Command::new("object-del")
        .asks_type()
        .doc("Removes an object that nobody uses.")
        .allow_preconfig()
        .handler(move |context: Context, ObjectDel { id }: ObjectDel| {
            let objects = objects.clone();
            async move { delete(&objects, &context, &id).await }
        })
}

async fn delete(objects: &Objects, context: &Context, id: &str) -> CommandResult<()> {
    let not_found = || CommandError::generic(format!("object '{id}' not found"));
    let node = objects.user_created_one(id).ok_or_else(not_found)?;
    permit_type(context, "object-del", &node.type_name)?;
    remove(&objects.objects()?, &node, context)
        .await
        .unwrap_or_else(|| Err(CommandError::generic(format!("object '{id}' is in use, can not be deleted"))))
}

/// Removes an object from its parent. `None`: somebody uses it.
pub(crate) async fn remove(
    parent: &Arc<Node>,
    node: &Arc<Node>,
    context: &Context,
) -> Option<CommandResult<()>> {
    if !node.begin_removal() {
        return None;
    }
    let stay = Undo::new(|| node.cancel_removal());
    if node.object.in_use() {
        return None;
    }
    if let Err(error) = node.object.delete(context).await {
        return Some(Err(error));
    }
    stay.forget();
    parent.detach(node);
    Some(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers() {
        for good in ["a", "A1", "a-b.c_d", &"a".repeat(300)] {
            assert!(is_identifier(good), "{good}");
        }
        for bad in ["", "1a", "-a", "a b", "ä", "a\0"] {
            assert!(!is_identifier(bad), "{bad:?}");
        }
    }
}
