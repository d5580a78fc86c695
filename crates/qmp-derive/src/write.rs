//! What the implementations have in common.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::{DeriveInput, Error, Ident, LitStr, Path, Result};

use crate::attributes::ContainerAttributes;

/// The type that is derived for.
pub(crate) struct Target<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) attributes: ContainerAttributes,
    /// Its QAPI name.
    pub(crate) name: String,
    /// `::qmp_command::schema`, or where else that is.
    pub(crate) schema: TokenStream,
}

impl<'a> Target<'a> {
    /// `qmp_command`: where that crate is, unless the attributes say it.
    pub(crate) fn new(
        input: &'a DeriveInput,
        attributes: ContainerAttributes,
        qmp_command: Path,
    ) -> Result<Self> {
        let name = match &attributes.name {
            Some(name) => checked(name)?,
            None => input.ident.unraw().to_string(),
        };
        let krate = attributes.krate.clone().unwrap_or(qmp_command);
        Ok(Self { ident: &input.ident, attributes, name, schema: quote!(#krate::schema) })
    }

    /// `impl QapiType`, with `definition` as what is registered; it can use `types`.
    pub(crate) fn describe(&self, definition: &TokenStream) -> TokenStream {
        let (ident, schema, name) = (self.ident, &self.schema, &self.name);
        quote! {
            #[automatically_derived]
            impl #schema::QapiType for #ident {
                fn describe(types: &mut #schema::Types) -> #schema::TypeRef {
                    types.define::<Self>(#name, |types| { let _ = &types; #definition })
                }
            }
        }
    }

    /// `name`, `doc` and `features` of a definition.
    pub(crate) fn head(&self) -> TokenStream {
        let (name, doc, features) = (&self.name, &self.attributes.doc, strings(&self.attributes.features));
        quote!(name: #name, doc: #doc, features: #features.to_vec())
    }

    /// The `serde(crate = "..")` of helper types, whose author may not depend on serde.
    pub(crate) fn serde_crate(&self) -> LitStr {
        let schema = &self.schema;
        let path = quote!(#schema::private::serde).to_string().replace(' ', "");
        LitStr::new(&path, self.ident.span())
    }
}

/// A name given in `#[qapi(..)]`. The rest of QAPI's rules are checked when the type is registered.
pub(crate) fn checked(name: &LitStr) -> Result<String> {
    let value = name.value();
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if value.is_empty() || !value.bytes().all(legal) {
        return Err(Error::new(name.span(), "no QAPI name: letters, digits, '-' and '_'"));
    }
    Ok(value)
}

/// A slice of string literals, typed even if it is empty.
pub(crate) fn strings(values: &[String]) -> TokenStream {
    quote!((&[#(#values),*] as &[&'static str]))
}

/// A `Vec` of what the items evaluate to.
pub(crate) fn list(item_type: &TokenStream, items: &[impl ToTokens]) -> TokenStream {
    quote!(::std::vec::Vec::<#item_type>::from([#(#items),*]))
}
