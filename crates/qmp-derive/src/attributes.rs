//! Reading `#[serde(..)]`, `#[qapi(..)]` and doc comments.
//!
//! What serde does with an attribute decides what is on the wire, so each one is either understood here, known to
//! change nothing that is described, or refused where it stands.

use proc_macro2::Span;
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Ident, LitStr, Path, Result, Token, parenthesized};

use crate::case::Case;

/// What stands on a struct or an enum.
#[derive(Default)]
pub(crate) struct ContainerAttributes {
    pub(crate) doc: String,
    pub(crate) features: Vec<String>,
    pub(crate) name: Option<LitStr>,
    pub(crate) krate: Option<Path>,
    pub(crate) tag_type: Option<LitStr>,
    pub(crate) tag_enum: Option<Path>,
    pub(crate) rename_all: Option<Case>,
    pub(crate) tag: Option<LitStr>,
    pub(crate) transparent: Option<Span>,
}

impl ContainerAttributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut found = Self { doc: doc(attributes), ..Self::default() };
        each_meta(attributes, "qapi", |meta| {
            match name_of(&meta).as_str() {
                "name" => found.name = Some(meta.value()?.parse()?),
                "crate" => found.krate = Some(meta.value()?.parse::<LitStr>()?.parse()?),
                "tag_type" => found.tag_type = Some(meta.value()?.parse()?),
                "tag_enum" => found.tag_enum = Some(meta.value()?.parse::<LitStr>()?.parse()?),
                "features" => found.features = features(&meta)?,
                _ => {
                    return Err(
                        meta.error("expected `name`, `crate`, `tag_type`, `tag_enum` or `features(..)`")
                    );
                }
            }
            Ok(())
        })?;
        each_meta(attributes, "serde", |meta| {
            match name_of(&meta).as_str() {
                "rename_all" => found.rename_all = Some(rename_all(&meta)?),
                "tag" => found.tag = Some(meta.value()?.parse()?),
                "transparent" => found.transparent = Some(meta.path.span()),
                "untagged" => {
                    return Err(
                        meta.error("QAPI has no untagged unions; give the enum a `#[serde(tag = \"..\")]`")
                    );
                }
                "content" => {
                    return Err(meta.error(
                        "an adjacent tag cannot be described; let each variant hold a struct with that one member",
                    ));
                }
                "default" => return Err(meta.error(DEFAULT)),
                "from" | "try_from" | "into" | "remote" => {
                    return Err(meta.error(
                        "what another type reads or writes cannot be described; implement QapiType by hand",
                    ));
                }
                _ => skip_value(&meta)?,
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// What stands on a field.
#[derive(Default)]
pub(crate) struct FieldAttributes {
    pub(crate) doc: String,
    pub(crate) features: Vec<String>,
    pub(crate) rename: Option<String>,
    pub(crate) skip: bool,
    pub(crate) size: bool,
    /// The name of the tag, if the field is the part of a union that the tag decides.
    pub(crate) union: Option<LitStr>,
    /// `with` or `deserialize_with`, to be handed on.
    pub(crate) with: Option<(Ident, LitStr)>,
}

impl FieldAttributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut found = Self { doc: doc(attributes), ..Self::default() };
        each_meta(attributes, "qapi", |meta| {
            match name_of(&meta).as_str() {
                "size" => found.size = true,
                "union" => found.union = Some(meta.value()?.parse()?),
                "features" => found.features = features(&meta)?,
                _ => return Err(meta.error("expected `size`, `union = \"TAG\"` or `features(..)`")),
            }
            Ok(())
        })?;
        let is_union = found.union.is_some();
        each_meta(attributes, "serde", |meta| {
            match name_of(&meta).as_str() {
                "rename" => found.rename = Some(rename(&meta)?),
                "skip" => found.skip = true,
                "flatten" if is_union => {}
                "flatten" => {
                    return Err(meta.error(
                        "QAPI has no flattened members; write the members out, or mark a union with `#[qapi(union = \"TAG\")]`",
                    ));
                }
                "alias" => return Err(meta.error(ALIAS)),
                "default" => return Err(meta.error(DEFAULT)),
                "skip_serializing" | "skip_deserializing" => {
                    return Err(
                        meta.error("a member is both read and written in QAPI; use two types, or `skip`")
                    );
                }
                "with" | "deserialize_with" => {
                    let key = meta.path.require_ident()?.clone();
                    found.with = Some((key, meta.value()?.parse()?));
                }
                _ => skip_value(&meta)?,
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// What stands on an enum's variant.
#[derive(Default)]
pub(crate) struct VariantAttributes {
    pub(crate) doc: String,
    pub(crate) features: Vec<String>,
    pub(crate) rename: Option<String>,
    pub(crate) skip: bool,
}

impl VariantAttributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut found = Self { doc: doc(attributes), ..Self::default() };
        each_meta(attributes, "qapi", |meta| {
            match name_of(&meta).as_str() {
                "features" => found.features = features(&meta)?,
                _ => return Err(meta.error("expected `features(..)`")),
            }
            Ok(())
        })?;
        each_meta(attributes, "serde", |meta| {
            match name_of(&meta).as_str() {
                "rename" => found.rename = Some(rename(&meta)?),
                "skip" => found.skip = true,
                "alias" => return Err(meta.error(ALIAS)),
                "other" => {
                    return Err(meta.error("QAPI enums are closed: a value that is not declared is an error"));
                }
                "untagged" | "with" | "serialize_with" | "deserialize_with" | "skip_serializing"
                | "skip_deserializing" => return Err(meta.error("this cannot be described in QAPI")),
                _ => skip_value(&meta)?,
            }
            Ok(())
        })?;
        Ok(found)
    }
}

const ALIAS: &str = "QAPI has no second names; clients would see the alias in no schema";
const DEFAULT: &str =
    "in QAPI a member is optional only by being an `Option`; apply the default in the handler";

/// Calls `read` for each item of each `#[name(..)]`.
fn each_meta(
    attributes: &[Attribute],
    name: &str,
    mut read: impl FnMut(ParseNestedMeta<'_>) -> Result<()>,
) -> Result<()> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident(name))
        .try_for_each(|attribute| attribute.parse_nested_meta(&mut read))
}

fn name_of(meta: &ParseNestedMeta<'_>) -> String {
    meta.path.get_ident().map(Ident::to_string).unwrap_or_default()
}

/// An attribute that changes nothing here: whatever follows its name is passed over.
fn skip_value(meta: &ParseNestedMeta<'_>) -> Result<()> {
    if meta.input.peek(Token![=]) {
        meta.value()?.parse::<syn::Expr>()?;
    } else if meta.input.peek(syn::token::Paren) {
        let content;
        parenthesized!(content in meta.input);
        content.parse::<proc_macro2::TokenStream>()?;
    }
    Ok(())
}

fn rename_all(meta: &ParseNestedMeta<'_>) -> Result<Case> {
    let name = one_name(meta)?;
    Case::from_serde(&name.value()).ok_or_else(|| Error::new(name.span(), "no such rule"))
}

fn rename(meta: &ParseNestedMeta<'_>) -> Result<String> {
    one_name(meta).map(|name| name.value())
}

/// `= ".."`, or serde's longer form with equal names for both directions.
fn one_name(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    if !meta.input.peek(syn::token::Paren) {
        return meta.value()?.parse();
    }
    let (mut names, span) = (Vec::<LitStr>::new(), meta.path.span());
    meta.parse_nested_meta(|direction| {
        names.push(direction.value()?.parse()?);
        Ok(())
    })?;
    match names.as_slice() {
        [one, other] if one.value() == other.value() => Ok(one.clone()),
        _ => Err(Error::new(span, "QAPI has one name for reading and writing")),
    }
}

/// `features(deprecated, "savevm-monitor-nodes")`.
fn features(meta: &ParseNestedMeta<'_>) -> Result<Vec<String>> {
    let content;
    parenthesized!(content in meta.input);
    let names = content.parse_terminated(
        |input| {
            if input.peek(LitStr) {
                input.parse::<LitStr>().map(|name| name.value())
            } else {
                input.parse::<Ident>().map(|name| name.to_string())
            }
        },
        Token![,],
    )?;
    Ok(names.into_iter().collect())
}

/// The doc comment: its lines, without the space that follows the slashes, and without empty lines at either end.
fn doc(attributes: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        let syn::Meta::NameValue(pair) = &attribute.meta else { continue };
        // `#[doc = include_str!(..)]` has no text yet when a derive runs.
        let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &pair.value else { continue };
        let text = text.value();
        lines.extend(
            text.split('\n').map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned()),
        );
    }
    let first = lines.iter().position(|line| !line.is_empty()).unwrap_or(lines.len());
    let last = lines.iter().rposition(|line| !line.is_empty()).map_or(first, |last| last + 1);
    lines[first..last].join("\n")
}
