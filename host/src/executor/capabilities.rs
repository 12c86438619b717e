//! What a component may do: what the operator granted, and nothing else.
//!
//! | import | |
//! |---|---|
//! | `taskhost:plugin/{types,context,log,checkpoint}` | always granted |
//! | `wasi:cli`, `wasi:io`, `wasi:clocks`, `wasi:random` | always granted; the environment holds what `env` grants, or nothing |
//! | `wasi:filesystem` | granted by `fs`; without, it shows no folder |
//! | `wasi:sockets` | not granted in this version: every call is refused |
//! | `taskhost:plugin/events` | granted by `events`; without, every call is denied |
//! | `taskhost:plugin/tasks` | granted by `submit`; without, every call is denied |
//! | any other | unknown: the component is refused |
//!
//! Plain Rust, Python and JavaScript components import the whole of `wasi:cli` whether they use it or not, and it gives nothing
//! away: so it counts as granted, and `strict` (which refuses what is not granted) can be met by them.

use super::engine::LoadError;
use super::outbox::Refused;
use std::path::PathBuf;
use wasmtime::Engine;
use wasmtime::component::Component;

/// What one plugin is granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// Folders.
    pub folders: Vec<Folder>,
    /// Types of events that may be emitted.
    pub events: Vec<Pattern>,
    /// Names of tasks that may be submitted, also as steps of a workflow.
    pub submit: Vec<Pattern>,
    /// The file that grants, for whoever has to change it.
    pub manifest: String,
    /// Whether imports that are not granted refuse the component, instead of being linked to a denial.
    pub strict: bool,
}

/// A folder of the host that a plugin sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Where it is.
    pub host: PathBuf,
    /// Where the guest sees it.
    pub guest: String,
    /// Whether it may be changed.
    pub writable: bool,
}

/// A name in which each `*` stands for any characters, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `name` fits.
    pub fn fits(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else {
            return self.0 == name;
        };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let inner = name.strip_prefix(first).and_then(|name| name.strip_suffix(last));
        // Each part as early as it comes: what follows it then has the most room.
        let found = inner.and_then(|inner| {
            let mut parts = middle.split('*');
            parts.try_fold(inner, |left, part| left.split_once(part).map(|(_, after)| after))
        });
        found.is_some()
    }
}

impl Grants {
    /// Whether an event of this type may be emitted; if not, why.
    pub fn may_emit(&self, event_type: &str) -> Result<(), Refused> {
        match self.events.iter().any(|pattern| pattern.fits(event_type)) {
            true => Ok(()),
            false => Err(self.denied("events.emit", &format!("events = [{event_type:?}]"))),
        }
    }

    /// Whether tasks of this name may be submitted; if not, why.
    pub fn may_submit(&self, task_name: &str) -> Result<(), Refused> {
        match self.submit.iter().any(|pattern| pattern.fits(task_name)) {
            true => Ok(()),
            false => Err(self.denied("tasks.submit", &format!("submit = [{task_name:?}]"))),
        }
    }

    fn denied(&self, call: &str, line: &str) -> Refused {
        let manifest = match self.manifest.as_str() {
            "" => "the plugin's manifest",
            name => name,
        };
        let line = super::answer::cut(line, 300);
        Refused::new(
            "denied",
            format!("{call} denied: {manifest} would grant it by {line} under [capabilities]"),
        )
    }
}

/// The interface that a plugin exports.
const HANDLER: &str = "taskhost:plugin/handler";

/// Imports of a component.
const MAX_IMPORTS: usize = 1_000;
/// Bytes of an import's name.
const MAX_NAME: usize = 200;

/// How an import stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Granted,
    Denied,
    Unknown,
}

fn standing(import: &str, grants: &Grants) -> Standing {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    let (package, interface) = name.split_once('/').unwrap_or((name, ""));
    match package {
        "taskhost:plugin" if version.starts_with("1.") => match interface {
            "types" | "context" | "log" | "checkpoint" => Standing::Granted,
            "events" if !grants.events.is_empty() => Standing::Granted,
            "tasks" if !grants.submit.is_empty() => Standing::Granted,
            "events" | "tasks" => Standing::Denied,
            _ => Standing::Unknown,
        },
        _ if !version.starts_with("0.2.") => Standing::Unknown,
        "wasi:cli" | "wasi:io" | "wasi:clocks" | "wasi:random" => Standing::Granted,
        "wasi:filesystem" if !grants.folders.is_empty() => Standing::Granted,
        "wasi:filesystem" | "wasi:sockets" => Standing::Denied,
        _ => Standing::Unknown,
    }
}

/// Checks what a component exports and imports; lists its imports, each granted or denied.
pub(crate) fn inspect(engine: &Engine, component: &Component, grants: &Grants) -> Result<Vec<(String, bool)>, LoadError> {
    let ty = component.component_type();
    let exports: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
    check_exports(&exports)?;
    let imports: Vec<&str> = ty.imports(engine).map(|(name, _)| name).collect();
    check_bounds(&imports)?;
    check_imports(&imports, grants)
}

fn check_exports(exports: &[&str]) -> Result<(), LoadError> {
    let wanted = |name: &&str| name.strip_prefix(HANDLER).is_some_and(|version| version.starts_with("@1."));
    if exports.iter().any(wanted) {
        return Ok(());
    }
    let what = match exports {
        [] => "nothing".to_owned(),
        some => list(some),
    };
    Err(LoadError::new(format!(
        "the component is built for another world: it exports {what}, and a plugin exports {HANDLER}@1.0.0"
    )))
}

/// The names are kept and shown as long as the plugin is loaded.
fn check_bounds(imports: &[&str]) -> Result<(), LoadError> {
    let long = imports.iter().find(|import| import.len() > MAX_NAME);
    match (imports.len(), long) {
        (count, _) if count > MAX_IMPORTS => Err(LoadError::new(format!(
            "the component has {count} imports; it may have {MAX_IMPORTS}"
        ))),
        (_, Some(long)) => Err(LoadError::new(format!(
            "the component imports a name of {} bytes; it may have {MAX_NAME}",
            long.len()
        ))),
        _ => Ok(()),
    }
}

fn check_imports(imports: &[&str], grants: &Grants) -> Result<Vec<(String, bool)>, LoadError> {
    let of = |wanted: Standing| -> Vec<&str> {
        let matching = imports.iter().filter(|import| standing(import, grants) == wanted);
        matching.copied().collect()
    };
    let unknown = of(Standing::Unknown);
    if !unknown.is_empty() {
        let unknown = list(&unknown);
        return Err(LoadError::new(format!(
            "the component imports {unknown}, which this host does not provide"
        )));
    }
    let denied = of(Standing::Denied);
    if grants.strict && !denied.is_empty() {
        return Err(LoadError::new(format!(
            "the component imports {}, which its manifest does not grant, and the manifest says strict = true",
            list(&denied)
        )));
    }
    let granted = |import: &&str| (import.to_string(), standing(import, grants) == Standing::Granted);
    Ok(imports.iter().map(granted).collect())
}

/// The first few, for a sentence.
fn list(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| name.escape_debug().take(100).collect())
        .collect();
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    shown.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(imports: &[&str], grants: &Grants) -> String {
        check_imports(imports, grants).unwrap_err().to_string()
    }

    fn folders() -> Grants {
        let folder = Folder {
            host: "/prices".into(),
            guest: "/prices".into(),
            writable: false,
        };
        Grants {
            folders: vec![folder],
            ..Grants::default()
        }
    }

    #[test]
    fn imports_are_granted_denied_or_unknown() {
        let cases = [
            ("taskhost:plugin/log@1.0.0", Standing::Granted),
            ("taskhost:plugin/log@1.7.0", Standing::Granted),
            ("taskhost:plugin/log@2.0.0", Standing::Unknown),
            ("taskhost:plugin/events@1.0.0", Standing::Denied),
            ("taskhost:plugin/secrets@1.0.0", Standing::Unknown),
            ("wasi:cli/environment@0.2.12", Standing::Granted),
            ("wasi:filesystem/types@0.2.0", Standing::Denied),
            ("wasi:sockets/tcp@0.2.0", Standing::Denied),
            ("wasi:http/outgoing-handler@0.2.0", Standing::Unknown),
            ("wasi:cli/environment@0.3.0", Standing::Unknown),
            ("env", Standing::Unknown),
        ];
        for (import, expect) in cases {
            assert_eq!(standing(import, &Grants::default()), expect, "{import}");
        }
        assert_eq!(standing("wasi:filesystem/types@0.2.0", &folders()), Standing::Granted);
    }

    #[test]
    fn grants_of_events_and_submissions_are_two() {
        let patterns = |texts: &[&str]| texts.iter().copied().map(Pattern::new).collect();
        let grants = Grants {
            events: patterns(&["settlement.*", "done"]),
            submit: patterns(&["backtest"]),
            manifest: "p.toml".into(),
            ..Grants::default()
        };
        for import in ["taskhost:plugin/events@1.0.0", "taskhost:plugin/tasks@1.0.0"] {
            assert_eq!(standing(import, &grants), Standing::Granted, "{import}");
        }
        let only_events = Grants {
            submit: Vec::new(),
            ..grants.clone()
        };
        assert_eq!(standing("taskhost:plugin/tasks@1.0.0", &only_events), Standing::Denied);
        assert!(grants.may_emit("settlement.eod").is_ok() && grants.may_emit("done").is_ok() && grants.may_submit("backtest").is_ok());
        for (refused, line) in [
            (grants.may_emit("backtest"), r#"events = ["backtest"]"#),
            (grants.may_submit("settlement.x"), r#"submit = ["settlement.x"]"#),
        ] {
            let refused = refused.unwrap_err();
            assert_eq!(refused.kind, "denied");
            assert!(
                refused.message.contains(line) && refused.message.contains("p.toml"),
                "{}",
                refused.message
            );
        }
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        let cases = [
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("a.*", "a.", true),
            ("a.*", "a.b.c", true),
            ("a.*", "ab", false),
            ("*", "anything", true),
            ("*.done", "a.b.done", true),
            ("*.done", "done", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "ac", false),
            ("a*bc*c", "abcc", true),
            ("a*bc*c", "abc", false),
            ("**", "", true),
            ("a**b", "ab", true),
            ("*a*b*", "xbxaxb", true),
            ("*a*b*", "xbxa", false),
        ];
        for (pattern, name, expect) in cases {
            assert_eq!(Pattern::new(pattern).fits(name), expect, "{pattern} {name}");
        }
    }

    #[test]
    fn strict_refuses_what_is_not_granted() {
        let imports = ["wasi:cli/environment@0.2.0", "wasi:filesystem/types@0.2.0"];
        assert!(!check_imports(&imports, &Grants::default()).unwrap()[1].1);
        let strict = |grants| Grants { strict: true, ..grants };
        assert!(refused(&imports, &strict(Grants::default())).contains("wasi:filesystem/types@0.2.0"));
        check_imports(&imports, &strict(folders())).unwrap();
    }

    #[test]
    fn refusals_name_what_is_wrong() {
        assert!(refused(&["a:b/c@1.0.0"], &Grants::default()).contains("a:b/c@1.0.0"));
        let error = check_exports(&["wasi:cli/run@0.2.0"]).unwrap_err().to_string();
        assert!(error.contains("another world") && error.contains("wasi:cli/run@0.2.0"));
        assert!(check_exports(&["taskhost:plugin/handler@2.0.0"]).is_err());
        check_exports(&["x", "taskhost:plugin/handler@1.1.0"]).unwrap();
        check_bounds(&["a:b/c@1.0.0"; 1_000]).unwrap();
        assert!(check_bounds(&["a:b/c@1.0.0"; 1_001]).is_err() && check_bounds(&["x".repeat(201).as_str()]).is_err());
    }
}
