//! The keys of `#[task(…)]`: which there are, what each accepts, and an error at the place of each mistake.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{
    Error, Expr, ExprArray, Ident, Lit, Result, Token,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
    spanned::Spanned,
};

const KEYS: &str = "name, description, timeout, retries, initial_delay, backoff_factor, max_delay, priority, tags, memory, fuel, \
                    max_concurrency, idempotent";
/// Bytes of a description, as the host takes them.
const MAX_DESCRIPTION: usize = 8 << 10;
/// Tags of one task, as the host takes them.
const MAX_TAGS: usize = 32;

/// What the author asked for. Only what was written is published; everything else is the host's default.
#[derive(Default, Debug)]
pub(crate) struct Attribute {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    timeout: Option<f64>,
    retries: Option<u64>,
    initial_delay: Option<f64>,
    backoff_factor: Option<f64>,
    max_delay: Option<f64>,
    priority: Option<u64>,
    tags: Option<Vec<String>>,
    memory: Option<String>,
    fuel: Option<u64>,
    max_concurrency: Option<u64>,
    idempotent: Option<bool>,
}

impl Parse for Attribute {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut attribute = Self::default();
        let mut seen: Vec<String> = Vec::new();
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            if seen.iter().any(|other| key == other) {
                return Err(Error::new(key.span(), format!("`{key}` is given twice")));
            }
            seen.push(key.to_string());
            if !input.peek(Token![=]) {
                return Err(Error::new(key.span(), format!("write `{key} = …`; the keys are {KEYS}")));
            }
            input.parse::<Token![=]>()?;
            attribute.set(&key, &input.parse()?)?;
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(attribute)
    }
}

impl Attribute {
    fn set(&mut self, key: &Ident, value: &Expr) -> Result<()> {
        match key.to_string().as_str() {
            "name" => self.name = Some(task_name(&text(value)?, value.span())?),
            "description" => self.description = Some(description(text(value)?, value.span())?),
            "timeout" => self.timeout = Some(number(value, "seconds above 0", |seconds| seconds > 0.0)?),
            "retries" => self.retries = Some(integer(value, "a whole number from 0 to 1000", |count| count <= 1000)?),
            "initial_delay" => self.initial_delay = Some(number(value, "seconds, 0 or more", |seconds| seconds >= 0.0)?),
            "backoff_factor" => self.backoff_factor = Some(number(value, "a factor of 1 or more", |factor| factor >= 1.0)?),
            "max_delay" => self.max_delay = Some(number(value, "seconds, 0 or more", |seconds| seconds >= 0.0)?),
            "priority" => {
                self.priority = Some(integer(value, "1 (most urgent) to 9 (least)", |priority| {
                    (1..=9).contains(&priority)
                })?);
            }
            "tags" => self.tags = Some(tags(value)?),
            "memory" => self.memory = Some(memory(value)?),
            "fuel" => self.fuel = Some(integer(value, "a whole number above 0", |fuel| fuel > 0)?),
            "max_concurrency" => {
                self.max_concurrency = Some(integer(value, "a whole number from 1 to 10000", |max| (1..=10_000).contains(&max))?);
            }
            "idempotent" => self.idempotent = Some(boolean(value)?),
            unknown => {
                return Err(Error::new(
                    key.span(),
                    format!("`{unknown}` is no key of #[task]; the keys are {KEYS}"),
                ));
            }
        }
        Ok(())
    }

    /// The statements that put what was written into the definition.
    pub(crate) fn setters(&self) -> TokenStream {
        let mut out = TokenStream::new();
        let mut set = |member: &str, value: Option<TokenStream>| {
            if let Some(value) = value {
                out.extend(quote! { definition.set(#member, #value); });
            }
        };
        set("timeout", self.timeout.map(json_number));
        set("priority", self.priority.map(|value| quote!(#value)));
        set("tags", self.tags.as_ref().map(|tags| quote!(&[#(#tags),*] as &[&str])));
        set("memory", self.memory.as_ref().map(|value| quote!(#value)));
        set("fuel", self.fuel.map(|value| quote!(#value)));
        set("max_concurrency", self.max_concurrency.map(|value| quote!(#value)));
        set("idempotent", self.idempotent.map(|value| quote!(#value)));
        let mut retry = |member: &str, value: Option<TokenStream>| {
            if let Some(value) = value {
                out.extend(quote! { definition.set_retry(#member, #value); });
            }
        };
        retry("max_retries", self.retries.map(|value| quote!(#value)));
        retry("initial_delay", self.initial_delay.map(json_number));
        retry("backoff_factor", self.backoff_factor.map(json_number));
        retry("max_delay", self.max_delay.map(json_number));
        out
    }
}

/// Whole numbers stay whole in the published document: `60`, not `60.0`.
fn json_number(value: f64) -> TokenStream {
    const EXACT: f64 = 9e15;
    if value.fract() == 0.0 && value < EXACT {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole, not negative and below 2^53"
        )]
        let whole = value as u64;
        quote!(#whole)
    } else {
        quote!(#value)
    }
}

/// Names go into URLs, file names and metrics, so they are few characters of a safe set.
pub(crate) fn task_name(name: &str, span: Span) -> Result<String> {
    safe("task name", name, span)
}

fn safe(what: &str, name: &str, span: Span) -> Result<String> {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=128).contains(&name.len()) && name.bytes().all(safe) {
        Ok(name.to_owned())
    } else {
        Err(Error::new(
            span,
            format!("`{name}` is no {what}: 1 to 128 of the characters A-Z a-z 0-9 . _ -"),
        ))
    }
}

/// A description that the host takes.
pub(crate) fn description(text: String, span: Span) -> Result<String> {
    match text.len() {
        length if length > MAX_DESCRIPTION => Err(Error::new(
            span,
            format!("the description has {length} bytes; the host takes {MAX_DESCRIPTION}"),
        )),
        _ => Ok(text),
    }
}

fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Lit(literal) => Some(&literal.lit),
        // Literals that come through a macro_rules macro are wrapped in an invisible group.
        Expr::Group(group) => literal(&group.expr),
        _ => None,
    }
}

fn text(value: &Expr) -> Result<String> {
    match literal(value) {
        Some(Lit::Str(text)) => Ok(text.value()),
        _ => Err(Error::new(value.span(), "write a text: \"…\"")),
    }
}

fn boolean(value: &Expr) -> Result<bool> {
    match literal(value) {
        Some(Lit::Bool(boolean)) => Ok(boolean.value),
        _ => Err(Error::new(value.span(), "write true or false")),
    }
}

fn integer(value: &Expr, expected: &str, accept: impl Fn(u64) -> bool) -> Result<u64> {
    match literal(value) {
        Some(Lit::Int(number)) => number.base10_parse().ok().filter(|number| accept(*number)),
        _ => None,
    }
    .ok_or_else(|| Error::new(value.span(), format!("write {expected}")))
}

fn number(value: &Expr, expected: &str, accept: impl Fn(f64) -> bool) -> Result<f64> {
    let number: Option<f64> = match literal(value) {
        Some(Lit::Int(number)) => number.base10_parse().ok(),
        Some(Lit::Float(number)) => number.base10_parse().ok(),
        _ => None,
    };
    number
        .filter(|number| number.is_finite() && accept(*number))
        .ok_or_else(|| Error::new(value.span(), format!("write {expected}")))
}

fn tags(value: &Expr) -> Result<Vec<String>> {
    let Expr::Array(ExprArray { elems, .. }) = value else {
        return Err(Error::new(value.span(), "write a list of texts: [\"eod\", \"risk\"]"));
    };
    let elements: &Punctuated<Expr, Token![,]> = elems;
    if elements.len() > MAX_TAGS {
        return Err(Error::new(
            value.span(),
            format!("there are {} tags; the host takes {MAX_TAGS}", elements.len()),
        ));
    }
    elements
        .iter()
        .map(|element| safe("tag", &text(element)?, element.span()))
        .collect()
}

fn memory(value: &Expr) -> Result<String> {
    const UNITS: [&str; 7] = ["B", "KB", "KiB", "MB", "MiB", "GB", "GiB"];
    let written = text(value)?;
    let digits = written.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit = written[digits.len()..].trim();
    let amount: Option<u64> = digits.parse().ok();
    if amount.is_some_and(|amount| amount > 0) && UNITS.contains(&unit) {
        Ok(written)
    } else {
        Err(Error::new(
            value.span(),
            "write an amount of memory such as \"128MiB\" (B KB KiB MB MiB GB GiB)",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(attribute: TokenStream) -> String {
        syn::parse2::<Attribute>(attribute).unwrap_err().to_string()
    }

    #[test]
    fn every_key_is_accepted_and_published_under_the_name_of_the_contract() {
        let attribute: Attribute = syn::parse2(quote! {
            name = "n", description = "d", timeout = 1.5, retries = 0, initial_delay = 10, backoff_factor = 2, max_delay = 60,
            priority = 9, tags = ["a", "b"], memory = "128MiB", fuel = 1_000, max_concurrency = 3, idempotent = false,
        })
        .unwrap();
        let setters = attribute.setters().to_string();
        for expected in [
            "set (\"timeout\" , 1.5f64)",
            "set_retry (\"max_retries\" , 0u64)",
            "set_retry (\"initial_delay\" , 10u64)",
            "set (\"priority\" , 9u64)",
            "& [\"a\" , \"b\"]",
            "\"128MiB\"",
            "set (\"fuel\" , 1000u64)",
            "set (\"max_concurrency\" , 3u64)",
            "set (\"idempotent\" , false)",
        ] {
            assert!(setters.contains(expected), "{expected} in {setters}");
        }
    }

    #[test]
    fn what_was_not_written_is_not_published() {
        let attribute: Attribute = syn::parse2(quote!()).unwrap();
        assert!(attribute.setters().is_empty());
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_the_range() {
        for priority in [
            quote!(priority = 0),
            quote!(priority = 10),
            quote!(priority = "high"),
            quote!(priority = -1),
        ] {
            assert!(refused(priority).contains("1 (most urgent) to 9"));
        }
        assert!(refused(quote!(timeout = 0)).contains("seconds above 0"));
        assert!(refused(quote!(timeout = "30s")).contains("seconds above 0"));
        assert!(refused(quote!(retries = 1001)).contains("0 to 1000"));
        assert!(refused(quote!(retries = 2.5)).contains("0 to 1000"));
        assert!(refused(quote!(backoff_factor = 0.5)).contains("1 or more"));
        assert!(refused(quote!(idempotent = "no")).contains("true or false"));
        assert!(refused(quote!(fuel = 0)).contains("above 0"));
    }

    #[test]
    fn texts_and_lists_are_checked() {
        assert!(refused(quote!(name = "two words")).contains("no task name"));
        assert!(refused(quote!(name = "")).contains("no task name"));
        assert!(refused(quote!(tags = "demo")).contains("list of texts"));
        assert!(refused(quote!(tags = ["demo", 3])).contains("write a text"));
        for tag in ["", "two words", &"x".repeat(129)] {
            assert!(refused(quote!(tags = [#tag])).contains("no tag"));
        }
        let tags = vec!["a"; 33];
        assert!(refused(quote!(tags = [#(#tags),*])).contains("33 tags"));
        let long = "x".repeat(8_193);
        assert!(refused(quote!(description = #long)).contains("8193 bytes"));
        for memory in ["128", "MiB", "0MiB", "128 megabytes", "-1MiB", "1.5GiB"] {
            assert!(refused(quote!(memory = #memory)).contains("128MiB"), "{memory}");
        }
    }

    #[test]
    fn unknown_repeated_and_bare_keys_are_refused() {
        let error = refused(quote!(retry = 3));
        assert!(error.contains("`retry` is no key") && error.contains("retries"), "{error}");
        assert!(refused(quote!(retries = 3, retries = 4)).contains("twice"));
        assert!(refused(quote!(idempotent)).contains("idempotent = "));
        assert!(refused(quote!(max_concurrency = 0)).contains("1 to 10000"));
    }
}
