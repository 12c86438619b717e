//! The SDK's derives stand in for serde's and schemars': the forms that plugins use must come out the same.

use std::collections::BTreeMap;
use taskhost_sdk::{Task, prelude::*, serde_json::Value};

/// Everything at once.
#[derive(Deserialize, Serialize, JsonSchema, Debug, Clone, PartialEq, Default)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Options {
    #[serde(alias = "quick")]
    quick_run: bool,
    #[schemars(range(min = 1, max = 9))]
    level: u8,
    #[serde(skip)]
    hidden: Option<u8>,
    children: Vec<Self>,
    side: Side,
    shape: Shape,
    pages: BTreeMap<String, Page<f64>>,
}

#[derive(Deserialize, Serialize, JsonSchema, Debug, Clone, Copy, PartialEq, Default)]
#[serde(rename_all = "snake_case")]
enum Side {
    #[default]
    BuyAll,
    SellAll,
}

#[derive(Deserialize, Serialize, JsonSchema, Debug, Clone, PartialEq)]
#[serde(tag = "kind")]
enum Shape {
    Unit,
    Named {
        #[serde(default = "one")]
        corners: u8,
    },
    Wrapped(Inner),
}

fn one() -> u8 {
    1
}

impl Default for Shape {
    fn default() -> Self {
        Self::Named { corners: one() }
    }
}

#[derive(Deserialize, Serialize, JsonSchema, Debug, Clone, PartialEq)]
struct Inner {
    #[serde(flatten)]
    pair: Pair,
    #[serde(rename = "X", skip_serializing_if = "Option::is_none")]
    x: Option<i8>,
}

#[derive(Deserialize, Serialize, JsonSchema, Debug, Clone, PartialEq)]
struct Pair {
    id: Id,
}

#[derive(Deserialize, Serialize, JsonSchema, Debug, Clone, PartialEq)]
#[serde(transparent)]
struct Id(String);

#[derive(Deserialize, Serialize, JsonSchema, Debug, Clone, PartialEq)]
struct Page<T> {
    items: Vec<T>,
    next: Option<Box<Page<T>>>,
}

#[derive(Deserialize, Serialize, JsonSchema, Debug, Clone, PartialEq)]
#[serde(try_from = "String", into = "String")]
struct Upper(String);

impl TryFrom<String> for Upper {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == text.to_uppercase() {
            Ok(Self(text))
        } else {
            Err(format!("{text} is not in capitals"))
        }
    }
}

impl From<Upper> for String {
    fn from(upper: Upper) -> Self {
        upper.0
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Either {
    Number(u8),
    Text { text: Upper },
}

#[task]
fn same(_: &Context, input: Options) -> TaskResult<Options> {
    Ok(input)
}

#[task]
fn either(_: &Context, input: Either) -> TaskResult<String> {
    Ok(match input {
        Either::Number(number) => number.to_string(),
        Either::Text { text } => text.into(),
    })
}

#[test]
fn every_form_comes_back_as_it_went_in() {
    let value = json!({
        "quickRun": true, "level": 3, "children": [], "side": "sell_all",
        "shape": { "kind": "Wrapped", "id": "a", "X": -1 },
        "pages": { "a": { "items": [1.5], "next": { "items": [], "next": null } } },
    });
    assert_eq!(Context::mock().run::<same>(&value).unwrap(), value);
}

#[test]
fn defaults_and_aliases_apply() {
    let answer = Context::mock()
        .run::<same>(&json!({ "quick": true, "shape": { "kind": "Named" } }))
        .unwrap();
    assert_eq!(answer["quickRun"], true);
    assert_eq!(
        (&answer["side"], &answer["shape"]),
        (&json!("buy_all"), &json!({ "kind": "Named", "corners": 1 }))
    );
}

#[test]
fn the_pointer_reaches_into_nested_types() {
    let refused = |input: Value| Context::mock().run::<same>(&input).unwrap_err().invalid_input().remove(0);
    assert_eq!(refused(json!({ "children": [{}, { "levle": 1 }] })).pointer, "/children/1/levle");
    let error = refused(json!(3));
    assert_eq!(
        (error.pointer.as_str(), error.detail.as_str()),
        ("", "invalid type: integer `3`, expected struct Options")
    );
}

#[test]
fn conversions_and_untagged_enums_work() {
    let run = |input: Value| Context::mock().run::<either>(&input);
    assert_eq!(run(json!(7)).unwrap(), "7");
    assert_eq!(run(json!({ "text": "UP" })).unwrap(), "UP");
    assert!(run(json!({ "text": "low" })).is_err());
}

#[test]
fn schemas_are_named_after_the_types_and_know_the_defaults() {
    let schema = same::definition().into_json()["input_schema"].clone();
    assert_eq!(
        (&schema["title"], &schema["description"]),
        (&json!("Options"), &json!("Everything at once."))
    );
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["children"]["items"], json!({ "$ref": "#" }));
    assert_eq!(schema["properties"]["level"]["maximum"], 9);
    assert_eq!(schema["properties"]["shape"]["default"], json!({ "kind": "Named", "corners": 1 }));
    assert_eq!(schema["properties"].get("hidden"), None);
    assert_eq!(
        schema["$defs"]["Page_for_double"]["properties"]["next"]["anyOf"][0]["$ref"],
        "#/$defs/Page_for_double"
    );
    assert_eq!(schema["$defs"]["Side"]["enum"], json!(["buy_all", "sell_all"]));
}
