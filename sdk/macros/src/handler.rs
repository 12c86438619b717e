//! `#[task]`: the function stays as it is; beside it stands a type of the same name (types and functions have separate
//! namespaces) that implements `taskhost_sdk::Task`, so that `plugin!(name)` and `use module::name` find both.

use crate::attribute::{Attribute, description, task_name};
use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, Expr, FnArg, ItemFn, Lit, Meta, Result, ReturnType, Type, ext::IdentExt, spanned::Spanned};

const FORM: &str = "a task is a function `fn name(ctx: &Context, input: Input) -> TaskResult<Output>`";

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let attribute: Attribute = syn::parse2(arguments)?;
    let function: ItemFn = syn::parse2(item).map_err(|error| Error::new(error.span(), FORM))?;
    let (input, output) = signature(&function)?;
    let name = match &attribute.name {
        Some(name) => name.clone(),
        None => task_name(&function.sig.ident.unraw().to_string(), function.sig.ident.span())?,
    };
    let description = match &attribute.description {
        Some(description) => description.clone(),
        None => description(doc_comment(&function.attrs), function.sig.ident.span())?,
    };
    let setters = attribute.setters();
    let (ident, visibility) = (&function.sig.ident, &function.vis);
    let answer = quote!(<#output as ::taskhost_sdk::__private::Answer>);
    Ok(quote! {
        #function

        #[doc(hidden)]
        #[allow(non_camel_case_types, missing_debug_implementations)]
        #visibility struct #ident {}

        impl ::taskhost_sdk::Task for #ident {
            const NAME: &'static str = #name;

            fn definition() -> ::taskhost_sdk::Definition {
                #[allow(unused_imports)]
                use ::taskhost_sdk::__private::{NoSchema as _, HasSchema as _};
                #[allow(unused_mut)]
                let mut definition = ::taskhost_sdk::Definition::new::<#input>(#name, #description);
                let output = ::taskhost_sdk::__private::Probe::<#answer::Output>::new();
                definition.set_output_schema((&output).schema());
                #setters
                definition
            }

            fn run(context: &::taskhost_sdk::Context, input: &str) -> ::taskhost_sdk::TaskResult<::std::string::String> {
                let input = ::taskhost_sdk::__private::read::<#input>(input)?;
                ::taskhost_sdk::__private::Answer::write(#ident(context, input))
            }
        }
    })
}

/// The types of the input and of what is returned.
fn signature(function: &ItemFn) -> Result<(&Type, &Type)> {
    let signature = &function.sig;
    let refuse = |span, what: &str| Err(Error::new(span, format!("{what}: {FORM}")));
    if let Some(token) = &signature.asyncness {
        return refuse(
            token.span(),
            "a task is not async: an attempt has a sandbox to itself and may block",
        );
    }
    if let syn::Safety::Unsafe(token) = &signature.safety {
        return refuse(token.span(), "a task is not unsafe");
    }
    if let Some(abi) = &signature.abi {
        return refuse(abi.span(), "a task has Rust's own ABI");
    }
    if !signature.generics.params.is_empty() {
        return refuse(signature.generics.span(), "a task has no generics: its input is one concrete type");
    }
    let parameters: Vec<&FnArg> = signature.inputs.iter().collect();
    let [FnArg::Typed(context), FnArg::Typed(input)] = parameters.as_slice() else {
        let span = if parameters.is_empty() {
            signature.paren_token.span.join()
        } else {
            signature.inputs.span()
        };
        return refuse(span, "a task takes two parameters");
    };
    let Type::Reference(reference) = &*context.ty else {
        return refuse(context.ty.span(), "the first parameter is a reference");
    };
    if reference.mutability.is_some() {
        return refuse(context.ty.span(), "the context is shared, not mutable");
    }
    let ReturnType::Type(_, output) = &signature.output else {
        return refuse(signature.ident.span(), "a task returns a result");
    };
    Ok((&input.ty, output))
}

/// The lines of a doc comment, without the space that `///` is followed by.
fn doc_comment(attributes: &[syn::Attribute]) -> String {
    let lines: Vec<String> = attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("doc"))
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) => Some(&pair.value),
            _ => None,
        })
        .filter_map(|value| match value {
            Expr::Lit(literal) => Some(&literal.lit),
            _ => None,
        })
        .filter_map(|literal| match literal {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        })
        .map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned())
        .collect();
    lines.join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(attribute: TokenStream, function: TokenStream) -> String {
        expand(attribute, function).unwrap().to_string()
    }

    fn refused(function: TokenStream) -> String {
        expand(quote!(), function).unwrap_err().to_string()
    }

    #[test]
    fn name_and_description_come_from_the_function() {
        let text = expanded(
            quote!(),
            quote! {
                /// Counts, and says
                /// how far it is.
                fn count(ctx: &Context, input: Input) -> TaskResult<u64> { Ok(1) }
            },
        );
        assert!(text.contains("\"count\" , \"Counts, and says\\nhow far it is.\""), "{text}");
        assert!(
            text.contains("fn count (ctx : & Context , input : Input)"),
            "the function stays: {text}"
        );
    }

    #[test]
    fn the_attribute_overrides_name_and_description() {
        let text = expanded(
            quote!(name = "other.name", description = "Said here."),
            quote! {
                /// Not this.
                fn count(_: &Context, input: Input) -> TaskResult<u64> { Ok(1) }
            },
        );
        assert!(text.contains("\"other.name\" , \"Said here.\""), "{text}");
    }

    #[test]
    fn a_wrong_signature_is_refused_with_the_right_one() {
        let form = "fn name(ctx: &Context, input: Input) -> TaskResult<Output>";
        for (function, reason) in [
            (
                quote!(
                    async fn f(ctx: &Context, input: I) -> TaskResult<O> {}
                ),
                "not async",
            ),
            (
                quote!(
                    unsafe fn f(ctx: &Context, input: I) -> TaskResult<O> {}
                ),
                "not unsafe",
            ),
            (
                quote!(
                    extern "C" fn f(ctx: &Context, input: I) -> TaskResult<O> {}
                ),
                "ABI",
            ),
            (
                quote!(
                    fn f<T>(ctx: &Context, input: T) -> TaskResult<O> {}
                ),
                "no generics",
            ),
            (
                quote!(
                    fn f() -> TaskResult<O> {}
                ),
                "two parameters",
            ),
            (
                quote!(
                    fn f(ctx: &Context) -> TaskResult<O> {}
                ),
                "two parameters",
            ),
            (
                quote!(
                    fn f(&self, input: I) -> TaskResult<O> {}
                ),
                "two parameters",
            ),
            (
                quote!(
                    fn f(ctx: Context, input: I) -> TaskResult<O> {}
                ),
                "is a reference",
            ),
            (
                quote!(
                    fn f(ctx: &mut Context, input: I) -> TaskResult<O> {}
                ),
                "not mutable",
            ),
            (
                quote!(
                    fn f(ctx: &Context, input: I) {}
                ),
                "returns a result",
            ),
            (
                quote!(
                    struct Task;
                ),
                "a task is a function",
            ),
        ] {
            let error = refused(function);
            assert!(error.contains(reason) && error.contains(form), "{error}");
        }
    }

    #[test]
    fn a_function_whose_name_is_no_task_name_needs_one() {
        let error = refused(quote!(
            fn größe(ctx: &Context, input: I) -> TaskResult<O> {}
        ));
        assert!(error.contains("no task name"), "{error}");
        expand(
            quote!(name = "size"),
            quote!(
                fn größe(ctx: &Context, input: I) -> TaskResult<O> {}
            ),
        )
        .unwrap();
    }
}
