//! `plugin!`: the tasks of a crate become the one interface that a component exports.

use crate::Definition;
use serde_json::json;

/// Registers the tasks of a plugin and, in a component, exports them. Once per crate, at its root.
///
/// Name, version and description of the plugin are those of its `Cargo.toml`. Two tasks of one name do not compile:
///
/// ```compile_fail
/// use taskhost_sdk::prelude::*;
/// #[task]
/// fn one(_: &Context, input: u8) -> TaskResult<u8> { Ok(input) }
/// #[task(name = "one")]
/// fn two(_: &Context, input: u8) -> TaskResult<u8> { Ok(input) }
/// plugin!(one, two);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! plugin {
    ($($task:path),+ $(,)?) => {
        const _: () = ::core::assert!(
            $crate::__private::are_distinct(&[$(<$task as $crate::Task>::NAME),+]),
            "two tasks of this plugin have the same name"
        );

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Plugin;

            impl $crate::__private::Guest for Plugin {
                fn describe() -> ::std::string::String {
                    $crate::__private::describe(
                        ::core::env!("CARGO_PKG_NAME"),
                        ::core::env!("CARGO_PKG_VERSION"),
                        ::core::env!("CARGO_PKG_DESCRIPTION"),
                        ::std::vec![$(<$task as $crate::Task>::definition()),+],
                    )
                }

                fn run(
                    name: ::std::string::String,
                    input: ::std::string::String,
                ) -> ::core::result::Result<::std::string::String, $crate::__private::Failure> {
                    $(
                        if name == <$task as $crate::Task>::NAME {
                            return $crate::__private::run(<$task as $crate::Task>::run, &input);
                        }
                    )+
                    ::core::result::Result::Err($crate::TaskError::fatal(::std::format!("this plugin has no task `{name}`")).into())
                }
            }

            $crate::__private::export!(Plugin with_types_in $crate::__private::bindings);
        };
    };
}

/// The document that a plugin describes itself with.
pub fn describe(name: &str, version: &str, description: &str, tasks: Vec<Definition>) -> String {
    let tasks: Vec<_> = tasks.into_iter().map(Definition::into_json).collect();
    json!({ "name": name, "version": version, "description": description, "tasks": tasks }).to_string()
}

/// At compile time: whether no name occurs twice.
pub const fn are_distinct(names: &[&str]) -> bool {
    let mut one = 0;
    while one < names.len() {
        let mut other = one + 1;
        while other < names.len() {
            if equal(names[one].as_bytes(), names[other].as_bytes()) {
                return false;
            }
            other += 1;
        }
        one += 1;
    }
    true
}

/// `==` is not const yet.
const fn equal(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_occurs_twice_is_found() {
        assert!(are_distinct(&[]));
        assert!(are_distinct(&["a", "b", "ab"]));
        assert!(!are_distinct(&["a", "b", "a"]));
    }

    #[test]
    fn a_plugin_describes_itself_with_its_tasks() {
        let text = describe("demo", "1.2.3", "Shows.", vec![Definition::new::<u8>("one", "")]);
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&document["name"], &document["version"]), (&json!("demo"), &json!("1.2.3")));
        assert_eq!(document["tasks"][0]["name"], "one");
        assert_eq!(document["tasks"][0].get("description"), None);
    }
}
