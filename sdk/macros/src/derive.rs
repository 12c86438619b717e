//! `Deserialize`, `Serialize` and `JsonSchema` for plugins whose only dependency is the SDK.
//!
//! The derives of serde and schemars name their own crates unless each type says `#[serde(crate = "…")]`, and a derive
//! cannot add an attribute to the type it stands on. So these emit a hidden copy of the type that carries the
//! attribute, let serde (by its `remote` derive) and schemars work on the copy, and forward the type's own
//! implementation to it. All of it sits in one `const _` block and no name leaks.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::{Attribute, Data, DeriveInput, Error, Fields, GenericParam, Result, parse_quote};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trait {
    Deserialize,
    Serialize,
    JsonSchema,
}

pub(crate) fn expand(wanted: Trait, item: TokenStream) -> Result<TokenStream> {
    let original: DeriveInput = syn::parse2(item)?;
    if let Some(lifetime) = original.generics.lifetimes().next() {
        let message = "this derive is for owned types (a task's input outlives no buffer): use `String` instead of `&str`, \
                       or depend on serde and derive its own";
        return Err(Error::new_spanned(lifetime, message));
    }
    let shadow = shadow_of(&original, wanted)?;
    let body = match wanted {
        Trait::Deserialize => deserialize(&original, shadow),
        Trait::Serialize => serialize(&original, shadow),
        Trait::JsonSchema => json_schema(&original, shadow),
    };
    Ok(quote! {
        #[doc(hidden)]
        const _: () = { #body };
    })
}

fn deserialize(original: &DeriveInput, mut shadow: DeriveInput) -> TokenStream {
    let name = &original.ident;
    let remote = name.to_string();
    shadow
        .attrs
        .push(parse_quote!(#[serde(crate = "::taskhost_sdk::__private::serde", remote = #remote)]));
    let shadow_name = &shadow.ident;
    let (_, arguments, where_clause) = original.generics.split_for_impl();
    let turbofish = arguments.as_turbofish();
    let mut generics = bounded(original, &quote!(::taskhost_sdk::__private::serde::Deserialize<'de>));
    generics.params.insert(0, parse_quote!('de));
    let (parameters, ..) = generics.split_for_impl();
    // For `#[serde(default)]` on the type serde demands `Default` of the copy, but calls that of the type.
    let default = has_container_default(&original.attrs).then(|| {
        let (parameters, ..) = original.generics.split_for_impl();
        quote! {
            impl #parameters ::core::default::Default for #shadow_name #arguments #where_clause {
                fn default() -> Self {
                    ::core::unreachable!("the copy of a type is never made")
                }
            }
        }
    });
    quote! {
        #[allow(dead_code)]
        #[derive(::taskhost_sdk::__private::serde::Deserialize)]
        #shadow
        #default
        #[automatically_derived]
        impl #parameters ::taskhost_sdk::__private::serde::Deserialize<'de> for #name #arguments #where_clause {
            fn deserialize<__D>(deserializer: __D) -> ::core::result::Result<Self, __D::Error>
            where
                __D: ::taskhost_sdk::__private::serde::Deserializer<'de>,
            {
                #shadow_name #turbofish::deserialize(deserializer)
            }
        }
    }
}

fn serialize(original: &DeriveInput, mut shadow: DeriveInput) -> TokenStream {
    let name = &original.ident;
    let remote = name.to_string();
    shadow
        .attrs
        .push(parse_quote!(#[serde(crate = "::taskhost_sdk::__private::serde", remote = #remote)]));
    let shadow_name = &shadow.ident;
    let (_, arguments, where_clause) = original.generics.split_for_impl();
    let turbofish = arguments.as_turbofish();
    let generics = bounded(original, &quote!(::taskhost_sdk::__private::serde::Serialize));
    let (parameters, ..) = generics.split_for_impl();
    quote! {
        #[allow(dead_code)]
        #[derive(::taskhost_sdk::__private::serde::Serialize)]
        #shadow
        #[automatically_derived]
        impl #parameters ::taskhost_sdk::__private::serde::Serialize for #name #arguments #where_clause {
            fn serialize<__S>(&self, serializer: __S) -> ::core::result::Result<__S::Ok, __S::Error>
            where
                __S: ::taskhost_sdk::__private::serde::Serializer,
            {
                #shadow_name #turbofish::serialize(self, serializer)
            }
        }
    }
}

fn json_schema(original: &DeriveInput, mut shadow: DeriveInput) -> TokenStream {
    let name = &original.ident;
    shadow
        .attrs
        .push(parse_quote!(#[schemars(crate = "::taskhost_sdk::__private::schemars")]));
    if !is_renamed(&original.attrs) {
        // Generic types would otherwise share one name: schemars fills the braces in.
        let parameters: Vec<_> = original
            .generics
            .type_params()
            .map(|parameter| format!("{{{}}}", parameter.ident))
            .collect();
        let title = match parameters.as_slice() {
            [] => name.to_string(),
            some => format!("{name}_for_{}", some.join("_and_")),
        };
        shadow.attrs.push(parse_quote!(#[schemars(rename = #title)]));
    }
    let shadow_name = &shadow.ident;
    let generics = bounded(original, &quote!(::taskhost_sdk::__private::schemars::JsonSchema));
    let (parameters, arguments, where_clause) = generics.split_for_impl();
    let text = quote!(::std::borrow::Cow<'static, str>);
    let id = if original.generics.type_params().next().is_none() {
        let own = name.to_string();
        quote!(::std::borrow::Cow::Borrowed(::core::concat!(::core::module_path!(), "::", #own)))
    } else {
        quote!(<#shadow_name #arguments as ::taskhost_sdk::__private::schemars::JsonSchema>::schema_id())
    };
    let copy = quote!(<#shadow_name #arguments as ::taskhost_sdk::__private::schemars::JsonSchema>);
    // For `#[serde(default)]` on the type schemars asks `Self::default()` of the copy, and an inherent function comes first.
    let default = has_container_default(&original.attrs).then(|| {
        quote! {
            #[allow(dead_code)]
            impl #parameters #shadow_name #arguments #where_clause {
                fn default() -> #name #arguments {
                    ::core::default::Default::default()
                }
            }
        }
    });
    quote! {
        #[allow(dead_code)]
        #[derive(::taskhost_sdk::__private::schemars::JsonSchema)]
        #shadow
        #default
        #[automatically_derived]
        impl #parameters ::taskhost_sdk::__private::schemars::JsonSchema for #name #arguments #where_clause {
            fn inline_schema() -> bool {
                #copy::inline_schema()
            }
            fn schema_name() -> #text {
                #copy::schema_name()
            }
            fn schema_id() -> #text {
                #id
            }
            fn json_schema(
                generator: &mut ::taskhost_sdk::__private::schemars::SchemaGenerator,
            ) -> ::taskhost_sdk::__private::schemars::Schema {
                #copy::json_schema(generator)
            }
        }
    }
}

/// The type's generics with one more bound on each of its type parameters.
fn bounded(original: &DeriveInput, bound: &TokenStream) -> syn::Generics {
    let mut generics = original.generics.clone();
    for parameter in &mut generics.params {
        if let GenericParam::Type(parameter) = parameter {
            parameter.default = None;
            parameter.bounds.push(parse_quote!(#bound));
        }
    }
    generics
}

/// The copy: another name, only the attributes that the derives read, and `Self` spelled out, since it would mean the copy.
fn shadow_of(original: &DeriveInput, wanted: Trait) -> Result<DeriveInput> {
    let known: &[&str] = match wanted {
        Trait::Deserialize | Trait::Serialize => &["serde"],
        Trait::JsonSchema => &["serde", "schemars", "validate", "garde", "doc", "deprecated"],
    };
    let (_, arguments, _) = original.generics.split_for_impl();
    let name = &original.ident;
    let itself = quote!(#name #arguments);
    let mut shadow: DeriveInput = syn::parse2(replace_self(original.to_token_stream(), &itself))?;
    shadow.ident = format_ident!("__{}", original.ident);
    shadow.vis = syn::Visibility::Inherited;
    keep(known, &mut shadow.attrs);
    match &mut shadow.data {
        Data::Struct(data) => keep_of_fields(known, &mut data.fields),
        Data::Enum(data) => {
            for variant in &mut data.variants {
                keep(known, &mut variant.attrs);
                keep_of_fields(known, &mut variant.fields);
            }
        }
        Data::Union(data) => return Err(Error::new_spanned(data.union_token, "a union has no JSON form")),
    }
    Ok(shadow)
}

fn keep_of_fields(known: &[&str], fields: &mut Fields) {
    for field in fields {
        keep(known, &mut field.attrs);
    }
}

fn keep(known: &[&str], attributes: &mut Vec<Attribute>) {
    attributes.retain(|attribute| known.iter().any(|known| attribute.path().is_ident(known)));
}

fn replace_self(tokens: TokenStream, itself: &TokenStream) -> TokenStream {
    let is_self = |ident: &Ident| ident == "Self";
    tokens
        .into_iter()
        .flat_map(|token| match token {
            TokenTree::Ident(ident) if is_self(&ident) => itself.clone(),
            TokenTree::Group(group) => {
                let mut replaced = proc_macro2::Group::new(group.delimiter(), replace_self(group.stream(), itself));
                replaced.set_span(group.span());
                TokenTree::Group(replaced).into()
            }
            other => other.into(),
        })
        .collect()
}

/// Whether `#[serde(rename = …)]` or `#[schemars(rename = …)]` names the type.
fn is_renamed(attributes: &[Attribute]) -> bool {
    mentions(attributes, "rename")
}

fn has_container_default(attributes: &[Attribute]) -> bool {
    mentions(attributes, "default")
}

/// Whether a serde or schemars attribute has a key of this name, with or without a value.
fn mentions(attributes: &[Attribute], key: &str) -> bool {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("serde") || attribute.path().is_ident("schemars"))
        .filter_map(|attribute| attribute.meta.require_list().ok())
        .any(|list| {
            list.tokens
                .clone()
                .into_iter()
                .any(|token| matches!(token, TokenTree::Ident(ident) if ident == key))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(wanted: Trait, item: TokenStream) -> String {
        expand(wanted, item).unwrap().to_string()
    }

    #[test]
    fn the_copy_keeps_what_serde_reads_and_nothing_else() {
        let text = expanded(
            Trait::Deserialize,
            quote! {
                #[derive(Clone)] #[serde(deny_unknown_fields)] #[must_use]
                struct Input { #[serde(default)] #[other] upto: u64 }
            },
        );
        assert!(text.contains("deny_unknown_fields") && text.contains("serde (default)"), "{text}");
        assert!(
            !text.contains("Clone") && !text.contains("must_use") && !text.contains("other"),
            "{text}"
        );
        assert!(text.contains("remote = \"Input\""), "{text}");
    }

    #[test]
    fn self_in_a_field_means_the_type_and_not_its_copy() {
        let text = expanded(Trait::Serialize, quote! { struct Node { children: Vec<Self> } });
        assert!(text.contains("children : Vec < Node >"), "{text}");
    }

    #[test]
    fn a_schema_has_the_name_of_the_type_unless_it_is_renamed() {
        let text = expanded(Trait::JsonSchema, quote! { struct Input { upto: u64 } });
        assert!(text.contains("rename = \"Input\""), "{text}");
        let text = expanded(Trait::JsonSchema, quote! { #[serde(rename = "Other")] struct Input { upto: u64 } });
        assert!(!text.contains("rename = \"Input\""), "{text}");
        let text = expanded(Trait::JsonSchema, quote! { struct Page<T> { items: Vec<T> } });
        assert!(text.contains("rename = \"Page_for_{T}\""), "{text}");
    }

    #[test]
    fn borrowed_types_and_unions_are_refused_with_a_reason() {
        let error = expand(Trait::Deserialize, quote! { struct Input<'a> { name: &'a str } }).unwrap_err();
        assert!(error.to_string().contains("owned"), "{error}");
        let error = expand(Trait::Serialize, quote! { union Both { a: u8, b: i8 } }).unwrap_err();
        assert!(error.to_string().contains("union"), "{error}");
    }
}
