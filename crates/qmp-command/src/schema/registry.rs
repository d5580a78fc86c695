//! The registry of types that have a name.

use std::any::{TypeId, type_name};
use std::collections::HashMap;

use super::QapiType;
use super::definition::{IntKind, Member, TypeDef, TypeRef};
use super::error::{Place, SchemaError};

/// The named types that a set of commands and events uses, in the order in which they were met.
///
/// Filled by [`QapiType::describe`], one root after the other. Mistakes do not stop that; they are kept as
/// [`errors`](Self::errors) and reported by [`validate`](super::validate()).
#[derive(Clone, Debug, Default)]
pub struct Types {
    slots: Vec<Slot>,
    by_name: HashMap<&'static str, usize>,
    errors: Vec<SchemaError>,
    /// The types being described just now, outermost first.
    open: Vec<Place>,
}

#[derive(Clone, Debug)]
struct Slot {
    id: TypeId,
    rust_name: &'static str,
    /// `None` while the type is being described: it may refer to itself.
    def: Option<TypeDef>,
}

impl Types {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers the Rust type `T` under `name`, unless it is there already, and returns a reference to it.
    ///
    /// `def` is called at most once for a type; it may describe types that refer back to this one. If `name` belongs to
    /// another Rust type, that is recorded as an error and the first one stays.
    pub fn define<T: QapiType + ?Sized>(
        &mut self,
        name: &'static str,
        def: impl FnOnce(&mut Self) -> TypeDef,
    ) -> TypeRef {
        self.define_as(name, TypeId::of::<T>(), type_name::<T>(), def)
    }

    pub(super) fn define_as(
        &mut self,
        name: &'static str,
        id: TypeId,
        rust_name: &'static str,
        def: impl FnOnce(&mut Self) -> TypeDef,
    ) -> TypeRef {
        if let Some(&index) = self.by_name.get(name) {
            let slot = &self.slots[index];
            if slot.id != id {
                let first = slot.rust_name;
                self.errors.push(SchemaError::DuplicateType { name, first, second: rust_name });
            }
            return TypeRef::Named(name);
        }
        let index = self.slots.len();
        self.by_name.insert(name, index);
        self.slots.push(Slot { id, rust_name, def: None });
        self.open.push(Place::of_type(name));
        let def = def(self);
        self.open.pop();
        self.slots[index].def = Some(def);
        TypeRef::Named(name)
    }

    /// Describes a struct member of type `T`: optional if `T` is an `Option`.
    pub fn member<T: QapiType>(
        &mut self,
        name: &'static str,
        doc: &'static str,
        features: &[&'static str],
    ) -> Member {
        self.enter(name);
        let ty = T::describe_member(self);
        self.leave();
        Member { name, doc, ty, optional: T::OPTIONAL, features: features.to_vec() }
    }

    /// The same for a member that is a number of bytes, or a list of them: its `u64` becomes QAPI's `size`.
    pub fn size_member<T: QapiType>(
        &mut self,
        name: &'static str,
        doc: &'static str,
        features: &[&'static str],
    ) -> Member {
        let mut member = self.member::<T>(name, doc, features);
        if let Err(found) = make_size(&mut member.ty) {
            self.enter(name);
            self.refuse(format!("only a u64 can be a size, and this is {found}"));
            self.leave();
        }
        member
    }

    /// Records that what is being described right now cannot be said in QAPI.
    pub fn refuse(&mut self, reason: impl Into<String>) {
        let place = self.open.last().cloned().unwrap_or_default();
        self.errors.push(SchemaError::inexpressible(place, reason));
    }

    /// A type's definition.
    pub fn get(&self, name: &str) -> Option<&TypeDef> {
        self.by_name.get(name).and_then(|&index| self.slots[index].def.as_ref())
    }

    /// All definitions, in the order in which the types were met.
    pub fn iter(&self) -> impl Iterator<Item = &TypeDef> {
        self.slots.iter().filter_map(|slot| slot.def.as_ref())
    }

    /// How many types there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no type.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What went wrong while types were described.
    pub fn errors(&self) -> &[SchemaError] {
        &self.errors
    }

    pub(super) fn enter(&mut self, member: &str) {
        let owner = self.open.last().map(|place| place.owner.clone()).unwrap_or_default();
        self.open.push(Place::of_member(&owner, member));
    }

    pub(super) fn leave(&mut self) {
        self.open.pop();
    }
}

fn make_size(ty: &mut TypeRef) -> Result<(), String> {
    match ty {
        TypeRef::Int(kind @ IntKind::Uint64) => {
            *kind = IntKind::Size;
            Ok(())
        }
        TypeRef::Array(element) => make_size(element),
        other => Err(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Node;

    impl QapiType for Node {
        fn describe(types: &mut Types) -> TypeRef {
            types.define::<Self>("Node", |types| TypeDef::Struct {
                name: "Node",
                doc: "",
                features: vec![],
                members: vec![
                    types.member::<Option<Box<Self>>>("next", "", &[]),
                    types.size_member::<u64>("bytes", "", &[]),
                ],
            })
        }
    }

    struct OtherNode;

    impl QapiType for OtherNode {
        fn describe(types: &mut Types) -> TypeRef {
            types.define::<Self>("Node", |_| unreachable!("the name is taken"))
        }
    }

    #[test]
    fn a_type_may_refer_to_itself() {
        let mut types = Types::new();
        assert_eq!(Node::describe(&mut types), TypeRef::Named("Node"));
        assert_eq!(Node::describe(&mut types), TypeRef::Named("Node"));
        assert_eq!((types.len(), types.is_empty(), types.errors()), (1, false, &[][..]));
        let Some(TypeDef::Struct { members, .. }) = types.get("Node") else { panic!("no struct") };
        assert_eq!(members[0], Member::new("next", TypeRef::Named("Node")).optional());
        assert_eq!(members[1], Member::new("bytes", TypeRef::Int(IntKind::Size)));
        assert_eq!(types.iter().map(TypeDef::name).collect::<Vec<_>>(), ["Node"]);
    }

    #[test]
    fn one_name_for_two_types_is_an_error() {
        let mut types = Types::new();
        Node::describe(&mut types);
        OtherNode::describe(&mut types);
        let [error] = types.errors() else { panic!("{:?}", types.errors()) };
        let text = error.to_string();
        assert!(text.starts_with("two types are named \"Node\": ") && text.ends_with("OtherNode"), "{text}");
    }

    #[test]
    fn an_option_outside_a_struct_names_where_it_stands() {
        struct Bad;
        impl QapiType for Bad {
            fn describe(types: &mut Types) -> TypeRef {
                types.define::<Self>("Bad", |types| TypeDef::Struct {
                    name: "Bad",
                    doc: "",
                    features: vec![],
                    members: vec![
                        types.member::<Vec<Option<u8>>>("list", "", &[]),
                        types.size_member::<u32>("small", "", &[]),
                    ],
                })
            }
        }
        let mut types = Types::new();
        Bad::describe(&mut types);
        let texts: Vec<_> = types.errors().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "member \"list\" of \"Bad\": an Option can only be a struct's member: QAPI has no optional list elements, \
                 return values or branches",
                "member \"small\" of \"Bad\": only a u64 can be a size, and this is uint32",
            ]
        );
    }
}
