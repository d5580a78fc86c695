//! Structs: with named members, and those that only wrap another type.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{DataStruct, Error, Field, Fields, FieldsNamed, Ident, Result, Type};

use crate::attributes::FieldAttributes;
use crate::unions;
use crate::write::{Target, list, strings};

/// A field that is on the wire.
pub(crate) struct MemberField<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) ty: &'a Type,
    pub(crate) attributes: FieldAttributes,
    /// The name on the wire.
    pub(crate) name: String,
}

pub(crate) fn expand(target: &Target<'_>, data: &DataStruct) -> Result<TokenStream> {
    if let Some(tag) = &target.attributes.tag {
        return Err(Error::new(tag.span(), "a tag on a struct adds a member that is not described"));
    }
    match &data.fields {
        Fields::Named(fields) if target.attributes.transparent.is_some() => {
            let mut fields = fields.named.iter();
            match (fields.next(), fields.next()) {
                (Some(field), None) => wrapper(target, field),
                _ => Err(Error::new(target.ident.span(), "a transparent struct has one field")),
            }
        }
        Fields::Named(fields) => named(target, fields),
        Fields::Unnamed(fields) => match fields.unnamed.first() {
            Some(field) if fields.unnamed.len() == 1 => wrapper(target, field),
            _ => Err(Error::new(fields.span(), "QAPI has no tuples; give the fields names")),
        },
        Fields::Unit => Err(Error::new(
            target.ident.span(),
            "serde writes a unit struct as null; write `{}` for a struct without members",
        )),
    }
}

fn named(target: &Target<'_>, fields: &FieldsNamed) -> Result<TokenStream> {
    let fields = member_fields(target, fields)?;
    if fields.iter().any(|field| field.attributes.union.is_some()) {
        return unions::expand_struct(target, &fields);
    }
    let schema = &target.schema;
    let members: Vec<_> = fields.iter().map(|field| member(schema, field)).collect();
    let (head, members) = (target.head(), list(&quote!(#schema::Member), &members));
    Ok(target.describe(&quote!(#schema::TypeDef::Struct { #head, members: #members })))
}

const NO_OWN_DESCRIPTION: &str =
    "a struct that wraps one value is described as that value, and has no name or features";

/// Another type under the same description: it has no name of its own.
fn wrapper(target: &Target<'_>, field: &Field) -> Result<TokenStream> {
    let container = &target.attributes;
    if let Some(name) = &container.name {
        return Err(Error::new(name.span(), NO_OWN_DESCRIPTION));
    }
    let attributes = FieldAttributes::parse(&field.attrs)?;
    if !container.features.is_empty()
        || !attributes.features.is_empty()
        || attributes.size
        || attributes.union.is_some()
    {
        return Err(Error::new(target.ident.span(), NO_OWN_DESCRIPTION));
    }
    let (ident, schema, ty) = (target.ident, &target.schema, &field.ty);
    let inner = quote_spanned!(ty.span()=> <#ty as #schema::QapiType>);
    Ok(quote! {
        #[automatically_derived]
        impl #schema::QapiType for #ident {
            const OPTIONAL: bool = #inner::OPTIONAL;

            fn describe(types: &mut #schema::Types) -> #schema::TypeRef {
                #inner::describe(types)
            }

            fn describe_member(types: &mut #schema::Types) -> #schema::TypeRef {
                #inner::describe_member(types)
            }
        }
    })
}

fn member_fields<'a>(target: &Target<'_>, fields: &'a FieldsNamed) -> Result<Vec<MemberField<'a>>> {
    let mut members = Vec::new();
    let mut errors = Vec::new();
    for field in &fields.named {
        let Some(ident) = &field.ident else { continue };
        match FieldAttributes::parse(&field.attrs) {
            Ok(attributes) if attributes.skip => {}
            Ok(attributes) => {
                let rust_name = ident.unraw().to_string();
                let name = match (&attributes.rename, target.attributes.rename_all) {
                    (Some(name), _) => name.clone(),
                    (None, Some(case)) => case.field(&rust_name),
                    (None, None) => rust_name,
                };
                members.push(MemberField { ident, ty: &field.ty, attributes, name });
            }
            Err(error) => errors.push(error),
        }
    }
    match errors.into_iter().reduce(|mut all, error| {
        all.combine(error);
        all
    }) {
        Some(errors) => Err(errors),
        None => Ok(members),
    }
}

/// The expression that describes a member; it uses `types`.
pub(crate) fn member(schema: &TokenStream, field: &MemberField<'_>) -> TokenStream {
    let MemberField { ty, attributes, name, .. } = field;
    let (doc, features) = (&attributes.doc, strings(&attributes.features));
    let method = if attributes.size { quote!(size_member) } else { quote!(member) };
    // Spanned, so that a type without a description is pointed at.
    quote_spanned!(ty.span()=> #schema::Types::#method::<#ty>(types, #name, #doc, #features))
}
