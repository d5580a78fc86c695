//! `#[derive(QapiType)]`: describes a Rust type to qmp-command as a QAPI type.
//!
//! It stands beside serde's derives and reads serde's attributes, so that what is described is what is on the wire.
//! It is used through its re-export, `qmp_command::QapiType`; the whole manual stands at [`macro@QapiType`].
//!
//! The rooms inside: `attributes` reads what stands on a type, `case` is `rename_all`, `structs`, `enums` and `unions`
//! write the implementations.

mod attributes;
mod case;
mod enums;
mod structs;
mod unions;
mod write;

use proc_macro::TokenStream;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Path, parse_quote};

/// Describes a struct or an enum as a QAPI type.
///
/// | Rust | QAPI |
/// |---|---|
/// | struct with named fields | struct |
/// | struct with one unnamed field | what that field is |
/// | enum of unit variants | enum |
/// | enum with `#[serde(tag = "..")]` whose variants hold one struct each, or nothing | flat union |
/// | struct with a field `#[qapi(union = "..")]` of such an enum | flat union with more members in its base |
///
/// `Option` makes a member optional. Put `#[serde(skip_serializing_if = "Option::is_none")]` on it if the type is also
/// written: QAPI leaves out what is absent.
///
/// # Attributes
///
/// Understood: serde's `rename`, `rename_all`, `tag`, `transparent`, `skip`; doc comments; and
///
/// | attribute | on | meaning |
/// |---|---|---|
/// | `#[qapi(name = "..")]` | type | the QAPI name, if it is not the Rust name |
/// | `#[qapi(features(..))]` | type, field, variant | `deprecated`, `unstable` or any other feature, in quotes if it has a `-` |
/// | `#[qapi(size)]` | field | a `u64` that counts bytes: QAPI's `size` |
/// | `#[qapi(union = "TAG")]` | field | the field is the part of a flat union that the member `TAG` decides |
/// | `#[qapi(tag_type = "..")]` | enum with a tag | the name of the tag's type; without it the enum's name and `Kind` |
/// | `#[qapi(tag_enum = "..")]` | enum with a tag | the tag's type, where there is one already: an enum that has variants of the same names, and is read with `Deserialize` |
/// | `#[qapi(crate = "..")]` | type | where the module `schema` of `qmp_command` is found when `vmm_control` has another name: `other_name::qmp_command` |
///
/// What QAPI cannot say is refused where it stands: `flatten`, `alias`, `default`, `untagged`, `other`, generics,
/// tuples. Types that have no description (maps, `usize`) are refused where they are used.
///
/// # Unions
///
/// Serde reads a tagged enum by buffering it, which loses QAPI's paths and the order of its complaints. So for enums
/// with a tag, and for structs with a union in them, this derive writes `Deserialize` too: **do not derive it
/// as well**. `Serialize` is serde's own, with `#[serde(tag = "..")]` on the enum and `#[serde(flatten)]` on the field.
///
/// ```
/// use qmp_command::QapiType;
/// use serde::{Deserialize, Serialize};
///
/// /// An object to be made.
/// #[derive(Serialize, QapiType)]
/// struct ObjectOptions {
///     /// Where QEMU expects the tag, there stands the union.
///     #[serde(flatten)]
///     #[qapi(union = "qom-type")]
///     kind: ObjectKind,
///     /// Its name under `/objects`.
///     id: String,
/// }
///
/// #[derive(Serialize, QapiType)]
/// #[serde(tag = "qom-type", rename_all = "kebab-case")]
/// #[qapi(tag_type = "ObjectType")]
/// enum ObjectKind {
///     /// A thread that polls.
///     Iothread(IothreadProperties),
///     /// Nothing to be said about it.
///     CanBus,
/// }
///
/// #[derive(Serialize, Deserialize, QapiType)]
/// #[serde(rename_all = "kebab-case")]
/// struct IothreadProperties {
///     #[serde(skip_serializing_if = "Option::is_none")]
///     poll_max_ns: Option<i64>,
/// }
///
/// let arguments = serde_json::from_str(r#"{"qom-type": "iothread", "id": "a", "poll-max-ns": "1"}"#)?;
/// let error = qmp_command::arguments::decode::<ObjectOptions>(Some(arguments)).err().unwrap();
/// assert_eq!(error.desc, "Invalid parameter type for 'poll-max-ns', expected: integer");
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// # What does not compile
///
/// `alias`, `default` and `flatten` on a member:
///
/// ```compile_fail
/// # use qmp_command::QapiType; use serde::Deserialize;
/// #[derive(Deserialize, QapiType)]
/// struct A { #[serde(alias = "b")] a: u8 }
/// ```
/// ```compile_fail
/// # use qmp_command::QapiType; use serde::Deserialize;
/// #[derive(Deserialize, QapiType)]
/// struct A { #[serde(default)] a: u8 }
/// ```
/// ```compile_fail
/// # use qmp_command::QapiType; use serde::Deserialize;
/// #[derive(Default, Deserialize, QapiType)]
/// #[serde(default)]
/// struct A { a: Option<u8> }
/// ```
/// ```compile_fail
/// # use qmp_command::QapiType; use serde::Deserialize;
/// #[derive(Deserialize, QapiType)] struct B { b: u8 }
/// #[derive(Deserialize, QapiType)]
/// struct A { #[serde(flatten)] b: B }
/// ```
///
/// Enums that hold data without a tag, or with an adjacent one, and open enums:
///
/// ```compile_fail
/// # use qmp_command::QapiType; use serde::Deserialize;
/// #[derive(Deserialize, QapiType)]
/// #[serde(untagged)]
/// enum A { B(u8), C(String) }
/// ```
/// ```compile_fail
/// # use qmp_command::QapiType; use serde::Deserialize;
/// #[derive(Deserialize, QapiType)]
/// enum A { B(u8), C }
/// ```
/// ```compile_fail
/// # use qmp_command::QapiType; use serde::Deserialize;
/// #[derive(Deserialize, QapiType)]
/// #[serde(tag = "type", content = "data")]
/// enum A { B(u8), C }
/// ```
/// ```compile_fail
/// # use qmp_command::QapiType; use serde::Deserialize;
/// #[derive(Deserialize, QapiType)]
/// enum A { B, #[serde(other)] C }
/// ```
///
/// Tuples, unit structs, wrappers with a name of their own, generics, and types that QAPI does not have:
///
/// ```compile_fail
/// # use qmp_command::QapiType; use serde::Deserialize;
/// #[derive(Deserialize, QapiType)]
/// struct A(u8, u8);
/// ```
/// ```compile_fail
/// # use qmp_command::QapiType; use serde::Deserialize;
/// #[derive(Deserialize, QapiType)]
/// struct A;
/// ```
/// ```compile_fail
/// # use qmp_command::QapiType; use serde::Deserialize;
/// #[derive(Deserialize, QapiType)]
/// #[qapi(name = "B")]
/// struct A(u8);
/// ```
/// ```compile_fail
/// # use qmp_command::QapiType; use serde::Serialize;
/// #[derive(Serialize, QapiType)]
/// struct A<T> { a: T }
/// ```
/// ```compile_fail
/// # use qmp_command::QapiType; use serde::Deserialize;
/// #[derive(Deserialize, QapiType)]
/// struct A { a: std::collections::HashMap<String, u8> }
/// ```
///
/// A tagged enum that derives `Deserialize` too, and a union whose tag has another name than the field says:
///
/// ```compile_fail
/// # use qmp_command::QapiType; use serde::Deserialize;
/// #[derive(Deserialize, QapiType)]
/// #[serde(tag = "type")]
/// enum A { B, C }
/// ```
/// ```compile_fail
/// # use qmp_command::QapiType;
/// #[derive(QapiType)]
/// #[serde(tag = "type")]
/// enum A { B, C }
/// #[derive(QapiType)]
/// struct D { #[qapi(union = "kind")] a: A }
/// ```
#[proc_macro_derive(QapiType, attributes(qapi, serde))]
pub fn derive_qapi_type(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    expand(&input, parse_quote!(::qmp_command)).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// [`macro@QapiType`] as `vmm-control` has it, whose users need not depend on `qmp-command` themselves: what is written here
/// finds it through `vmm_control`.
#[proc_macro_derive(QapiTypeThroughVmmControl, attributes(qapi, serde))]
pub fn derive_qapi_type_through_vmm_control(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    let found = parse_quote!(::vmm_control::qmp_command);
    expand(&input, found).unwrap_or_else(|error| error.to_compile_error()).into()
}

fn expand(input: &DeriveInput, qmp_command: Path) -> syn::Result<proc_macro2::TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "QAPI has no generic types; describe a concrete one",
        ));
    }
    let container = attributes::ContainerAttributes::parse(&input.attrs)?;
    let of_tag = container.tag_type.as_ref().map(Spanned::span);
    let of_tag = of_tag.or(container.tag_enum.as_ref().map(Spanned::span));
    if let (Some(span), None) = (of_tag, &container.tag) {
        return Err(Error::new(span, "only an enum with `#[serde(tag = \"..\")]` has a tag"));
    }
    let target = write::Target::new(input, container, qmp_command)?;
    match &input.data {
        Data::Struct(data) => structs::expand(&target, data),
        Data::Enum(data) if target.attributes.tag.is_some() => unions::expand(&target, data),
        Data::Enum(data) => enums::expand(&target, data),
        Data::Union(data) => Err(Error::new(data.union_token.span, "a Rust union is no QAPI type")),
    }
}
