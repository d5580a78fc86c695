//! Enums of unit variants.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{DataEnum, Error, Fields, Result, Variant};

use crate::attributes::VariantAttributes;
use crate::write::{Target, list, strings};

pub(crate) fn expand(target: &Target<'_>, data: &DataEnum) -> Result<TokenStream> {
    if let Some(span) = target.attributes.transparent {
        return Err(Error::new(span, "an enum cannot be transparent"));
    }
    let schema = &target.schema;
    let mut values = Vec::new();
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new_spanned(
                variant,
                "a variant with data makes this a union, which needs a tag: `#[serde(tag = \"..\")]` on the enum",
            ));
        }
        let Some((attributes, name)) = read(target, variant)? else { continue };
        values.push(value(schema, &attributes, &name));
    }
    let (head, values) = (target.head(), list(&quote!(#schema::EnumValue), &values));
    Ok(target.describe(&quote!(#schema::TypeDef::Enum { #head, values: #values })))
}

/// A variant's attributes and its name on the wire; `None` if it is skipped.
pub(crate) fn read(target: &Target<'_>, variant: &Variant) -> Result<Option<(VariantAttributes, String)>> {
    let attributes = VariantAttributes::parse(&variant.attrs)?;
    if attributes.skip {
        return Ok(None);
    }
    let rust_name = variant.ident.unraw().to_string();
    let name = match (&attributes.rename, target.attributes.rename_all) {
        (Some(name), _) => name.clone(),
        (None, Some(case)) => case.variant(&rust_name),
        (None, None) => rust_name,
    };
    Ok(Some((attributes, name)))
}

/// The expression that describes an enum's value.
pub(crate) fn value(schema: &TokenStream, attributes: &VariantAttributes, name: &str) -> TokenStream {
    let (doc, features) = (&attributes.doc, strings(&attributes.features));
    quote!(#schema::EnumValue { name: #name, doc: #doc, features: #features.to_vec() })
}
