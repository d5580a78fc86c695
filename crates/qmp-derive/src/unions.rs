//! Flat unions: enums with a tag, and structs that hold one.
//!
//! Both get a `Deserialize` that asks for groups of members of one object, one after the other: first the base, the
//! tag among it, then the branch that the tag chose. `qmp_command::arguments::flat` has the other half.
//!
//! Names that start with `__` are ours: an author's type may be called anything else, `A` for instance.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{DataEnum, Error, Fields, Ident, LitStr, Result, Type};

use crate::attributes::VariantAttributes;
use crate::enums;
use crate::structs::{self, MemberField};
use crate::write::{Target, checked, list, strings};

/// One variant.
struct Choice<'a> {
    ident: &'a Ident,
    /// What it holds, if anything.
    ty: Option<&'a Type>,
    attributes: VariantAttributes,
    name: String,
}

/// An enum with a tag.
pub(crate) fn expand(target: &Target<'_>, data: &DataEnum) -> Result<TokenStream> {
    let Some(tag) = &target.attributes.tag else { return enums::expand(target, data) };
    let choices = choices(target, data)?;
    let (ident, schema) = (target.ident, &target.schema);
    let tag_type = tag_type(target, &choices)?;
    let branches = branches(schema, &choices);
    let decode = choices.iter().map(|Choice { ident, ty, .. }| match ty {
        Some(ty) => quote_spanned!(ty.span()=> __Tag::#ident =>
            #schema::private::next_group::<#ty, __A>(rest).map(Self::#ident)),
        None => quote!(__Tag::#ident => ::std::result::Result::Ok(Self::#ident)),
    });
    let head = target.head();
    let describe = target.describe(&quote!(#schema::TypeDef::Union {
        #head,
        base: ::std::vec::Vec::from([#schema::Types::member::<__Tag>(types, #tag, "", &[])]),
        tag: #tag,
        branches: <Self as #schema::private::FlatUnion>::branches(types),
    }));
    let base = base(target, &[quote!(#[serde(rename = #tag)] __tag: __Tag)]);
    let flat = flat(target, &quote!(<Self as #schema::private::FlatUnion>::choose(base.__tag, rest)));
    Ok(in_const(&quote! {
        #tag_type
        #base
        #flat
        #describe

        impl #schema::private::FlatUnion for #ident {
            type Tag = __Tag;
            const TAG: &'static str = #tag;

            fn branches(types: &mut #schema::Types) -> ::std::vec::Vec<#schema::Branch> {
                let _ = &types;
                #branches
            }

            fn choose<'de, __A>(tag: __Tag, rest: &mut __A) -> ::std::result::Result<Self, __A::Error>
            where
                __A: #schema::private::serde::de::SeqAccess<'de>,
            {
                let _ = &rest;
                match tag { #(#decode,)* }
            }
        }
    }))
}

/// A struct with a field that is a union: the other fields, and the tag, are the base.
pub(crate) fn expand_struct(target: &Target<'_>, fields: &[MemberField<'_>]) -> Result<TokenStream> {
    let schema = &target.schema;
    let (mut base_fields, mut members, mut moves) = (Vec::new(), Vec::new(), Vec::new());
    let mut found: Option<(&MemberField<'_>, &LitStr)> = None;
    for field in fields {
        let MemberField { ident, ty, name, attributes } = field;
        if let Some(tag) = &attributes.union {
            if found.replace((field, tag)).is_some() {
                return Err(Error::new(tag.span(), "a struct can hold one union"));
            }
            let (doc, features) = (&attributes.doc, strings(&attributes.features));
            let union = quote_spanned!(ty.span()=> <#ty as #schema::private::FlatUnion>);
            base_fields.push(quote!(#[serde(rename = #tag)] __tag: #union::Tag));
            members.push(quote!(#schema::Types::member::<#union::Tag>(types, #tag, #doc, #features)));
            moves.push(quote!(#ident: #union::choose(base.__tag, rest)?));
        } else {
            let with = attributes.with.as_ref().map(|(key, path)| quote!(, #key = #path));
            base_fields.push(quote!(#[serde(rename = #name #with)] #ident: #ty));
            members.push(structs::member(schema, field));
            moves.push(quote!(#ident: base.#ident));
        }
    }
    let Some((MemberField { ty, .. }, tag)) = found else {
        return Err(Error::new(target.ident.span(), "no field is a union"));
    };
    let (head, members) = (target.head(), list(&quote!(#schema::Member), &members));
    let describe = target.describe(&quote!(#schema::TypeDef::Union {
        #head,
        base: #members,
        tag: #tag,
        branches: <#ty as #schema::private::FlatUnion>::branches(types),
    }));
    let base = base(target, &base_fields);
    let flat = flat(target, &quote!(::std::result::Result::Ok(Self { #(#moves),* })));
    let same = quote_spanned!(tag.span()=> ::std::assert!(
        #schema::private::same(<#ty as #schema::private::FlatUnion>::TAG, #tag),
        "the union has another tag than this field says"
    ));
    Ok(in_const(&quote! {
        const _: () = #same;
        #base
        #flat
        #describe
    }))
}

fn choices<'a>(target: &Target<'_>, data: &'a DataEnum) -> Result<Vec<Choice<'a>>> {
    let mut choices = Vec::new();
    for variant in &data.variants {
        let Some((attributes, name)) = enums::read(target, variant)? else { continue };
        let ty = match &variant.fields {
            Fields::Unit => None,
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                fields.unnamed.first().map(|field| &field.ty)
            }
            fields => {
                return Err(Error::new(
                    fields.span(),
                    "a branch of a union holds one struct: give its members a type",
                ));
            }
        };
        choices.push(Choice { ident: &variant.ident, ty, attributes, name });
    }
    Ok(choices)
}

/// The enum of the tag's values, read and described.
fn tag_type(target: &Target<'_>, choices: &[Choice<'_>]) -> Result<TokenStream> {
    let (schema, serde) = (&target.schema, target.serde_crate());
    if let Some(path) = &target.attributes.tag_enum {
        return Ok(quote!(pub type __Tag = #path;));
    }
    let name = match &target.attributes.tag_type {
        Some(name) => checked(name)?,
        None => format!("{}Kind", target.name),
    };
    let doc = format!("The kinds of {}.", target.name);
    let variants = choices.iter().map(|Choice { ident, name, .. }| quote!(#[serde(rename = #name)] #ident));
    let values: Vec<_> = choices
        .iter()
        .map(|Choice { attributes, name, .. }| enums::value(schema, attributes, name))
        .collect();
    let values = list(&quote!(#schema::EnumValue), &values);
    Ok(quote! {
        #[derive(#schema::private::serde::Deserialize)]
        #[serde(crate = #serde)]
        pub enum __Tag { #(#variants),* }

        impl #schema::QapiType for __Tag {
            fn describe(types: &mut #schema::Types) -> #schema::TypeRef {
                types.define::<Self>(#name, |_| #schema::TypeDef::Enum {
                    name: #name,
                    doc: #doc,
                    features: ::std::vec::Vec::new(),
                    values: #values,
                })
            }
        }
    })
}

fn branches(schema: &TokenStream, choices: &[Choice<'_>]) -> TokenStream {
    let branches: Vec<_> = choices
        .iter()
        .map(|Choice { ty, attributes, name, .. }| {
            let ty = match ty {
                Some(ty) => quote_spanned!(ty.span()=> <#ty as #schema::QapiType>::describe(types)),
                None => quote!(#schema::TypeRef::Empty),
            };
            let (doc, features) = (&attributes.doc, strings(&attributes.features));
            quote!(#schema::Branch { name: #name, doc: #doc, ty: #ty, features: #features.to_vec() })
        })
        .collect();
    list(&quote!(#schema::Branch), &branches)
}

fn base(target: &Target<'_>, fields: &[TokenStream]) -> TokenStream {
    let (schema, serde) = (&target.schema, target.serde_crate());
    quote! {
        #[derive(#schema::private::serde::Deserialize)]
        #[serde(crate = #serde)]
        pub struct __Base { #(#fields),* }
    }
}

/// `Deserialize`, by way of the base; `complete` makes the type of `base` and `rest`.
fn flat(target: &Target<'_>, complete: &TokenStream) -> TokenStream {
    let (ident, schema) = (target.ident, &target.schema);
    quote! {
        impl #schema::private::Flat for #ident {
            type Base = __Base;

            fn complete<'de, __A>(base: __Base, rest: &mut __A) -> ::std::result::Result<Self, __A::Error>
            where
                __A: #schema::private::serde::de::SeqAccess<'de>,
            {
                #complete
            }
        }

        #[automatically_derived]
        impl<'de> #schema::private::serde::Deserialize<'de> for #ident {
            fn deserialize<__D>(deserializer: __D) -> ::std::result::Result<Self, __D::Error>
            where
                __D: #schema::private::serde::Deserializer<'de>,
            {
                #schema::private::deserialize(deserializer)
            }
        }
    }
}

/// Hides the helper types, and keeps the lints of the author's crate away from them.
fn in_const(items: &TokenStream) -> TokenStream {
    quote! {
        #[allow(missing_docs, missing_debug_implementations, unreachable_pub, unnameable_types, clippy::all)]
        const _: () = {
            #items
        };
    }
}
