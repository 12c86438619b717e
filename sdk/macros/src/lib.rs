//! The macros of `taskhost-sdk`; plugin authors reach them through `taskhost_sdk::prelude`.
//!
//! `#[task]` turns a function into a task definition. The derives do what those of `serde` and `schemars` do, so that a
//! plugin needs no other dependency than the SDK. This file only adapts; each idea has its own file, written over
//! `proc_macro2` so that unit tests can call it.

mod attribute;
mod derive;
mod handler;

use proc_macro::TokenStream;

/// Makes a function a task: `fn name(ctx: &Context, input: Input) -> TaskResult<Output>`.
///
/// `Input` implements `Deserialize` and `JsonSchema`, `Output` implements `Serialize`; where it also implements
/// `JsonSchema`, the schema of the result is published too. The function itself stays as it is, so tests call it.
///
/// | key | value | unset means |
/// |---|---|---|
/// | `name` | text matching `[A-Za-z0-9._-]{1,128}` | the function's name |
/// | `description` | text of at most 8 KiB | the function's doc comment |
/// | `timeout` | seconds of wall clock, above 0 | the host's default |
/// | `retries` | retries after the first attempt, 0 to 1,000 | the host's default (3) |
/// | `initial_delay` | seconds before the first retry, 0 or more | the host's default (60) |
/// | `backoff_factor` | the delay's growth from retry to retry, 1 or more | the host's default (2) |
/// | `max_delay` | the longest delay in seconds, 0 or more | the host's default (3600) |
/// | `priority` | 1 (most urgent) to 9 | 5 |
/// | `tags` | list of at most 32 texts matching `[A-Za-z0-9._-]{1,128}`, `["eod", "risk"]` | none |
/// | `memory` | bytes, `"64MiB"` (units `B KB KiB MB MiB GB GiB`) | the host's default |
/// | `fuel` | CPU budget, about 10¹⁰ a second, above 0 | four times what the timeout allows |
/// | `max_concurrency` | attempts that may run at once, 1 to 10,000 | as many as there are slots |
/// | `idempotent` | `false`: never rerun automatically after an attempt without an answer | `true` |
///
/// Limits are requests: the operator's configuration bounds them.
#[proc_macro_attribute]
pub fn task(arguments: TokenStream, item: TokenStream) -> TokenStream {
    handler::expand(arguments.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// As serde's `Deserialize`, with the same `#[serde(…)]` attributes, but without `serde` among the plugin's dependencies.
///
/// Types with lifetime parameters are refused: a task's input is owned. A plugin that depends on `serde` itself may
/// derive serde's own instead.
#[proc_macro_derive(Deserialize, attributes(serde))]
pub fn deserialize(item: TokenStream) -> TokenStream {
    derive::expand(derive::Trait::Deserialize, item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// As serde's `Serialize`, with the same `#[serde(…)]` attributes, but without `serde` among the plugin's dependencies.
#[proc_macro_derive(Serialize, attributes(serde))]
pub fn serialize(item: TokenStream) -> TokenStream {
    derive::expand(derive::Trait::Serialize, item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// As schemars' `JsonSchema`, with the same `#[schemars(…)]` and `#[serde(…)]` attributes, but without `schemars` among
/// the plugin's dependencies.
#[proc_macro_derive(JsonSchema, attributes(schemars, serde, validate, garde))]
pub fn json_schema(item: TokenStream) -> TokenStream {
    derive::expand(derive::Trait::JsonSchema, item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
