//! The operator's manifest of one plugin, `<name>.toml` beside `<name>.wasm`: what it may use and what it may touch.
//!
//! Strict, because it grants: a misspelt key is an error, and a key of a later version is refused by name, never ignored.

use super::Context;
use super::overrides::{self, Overrides};
use super::patterns::{self, EVENTS, SUBMIT};
use super::rules::{Entries, Rules};
use crate::executor::capabilities::{Folder, Grants};
use bytesize::ByteSize;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use toml::Value;

/// Variables, folders and patterns of each kind that one manifest may grant.
const MAX_GRANTS: usize = 100;
/// Bytes of a value or path.
const MAX_TEXT: usize = 4 << 10;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Document {
    digest: Option<String>,
    strict: bool,
    limits: LimitsTable,
    capabilities: Capabilities,
    tasks: Overrides,
    schedules: Entries,
    triggers: Entries,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LimitsTable {
    timeout: Option<f64>,
    fuel: Option<u64>,
    memory: Option<ByteSize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Capabilities {
    env: BTreeMap<String, String>,
    fs: Vec<FolderGrant>,
    events: Vec<String>,
    submit: Vec<String>,
    http: Option<Value>,
    secrets: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FolderGrant {
    host: PathBuf,
    guest: String,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Ro,
    Rw,
}

/// What bounds the plugin's own wishes; what it does not ask for is taken from here.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Limits {
    pub timeout: Option<Duration>,
    pub fuel: Option<u64>,
    pub memory: Option<u64>,
}

/// A manifest that holds.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    /// The only component that it is for: 64 hexadecimal digits.
    pub digest: Option<String>,
    pub limits: Limits,
    pub grants: Grants,
    /// What is granted, for people: no values of variables, which may be secret.
    pub sentences: Vec<String>,
    /// What wins over the plugin's own word on its tasks.
    pub tasks: Overrides,
    /// What is put when the plugin is loaded.
    pub rules: Arc<Rules>,
}

/// Reads a manifest; `name` is the plugin's. The error is a sentence.
pub(super) fn parse(name: &str, text: &str, context: &Context, plugin_dirs: &[PathBuf]) -> Result<Manifest, String> {
    let document: Document = toml::from_str(text).map_err(|error| at_line(name, text, &error))?;
    refuse_later(name, &document)?;
    let digest = document.digest.as_deref().map(digest).transpose();
    let limits = limits(&document.limits);
    let of_manifest = |why: String| format!("{name}.toml: {why}");
    let (digest, limits) = (digest.map_err(of_manifest)?, limits.map_err(of_manifest)?);
    let capabilities = document.capabilities;
    if capabilities.env.len() > MAX_GRANTS || capabilities.fs.len() > MAX_GRANTS {
        return Err(of_manifest(format!(
            "at most {MAX_GRANTS} variables and {MAX_GRANTS} folders can be granted"
        )));
    }
    let mut sentences: Vec<String> = capabilities.env.keys().map(|key| format!("may read the variable {key}")).collect();
    for (key, value) in &capabilities.env {
        variable(key, value).map_err(of_manifest)?;
    }
    let forbidden = Forbidden::new(context, plugin_dirs);
    let mut folders = Vec::new();
    for grant in &capabilities.fs {
        let folder = folder(grant, context, &forbidden).map_err(of_manifest)?;
        let verb = if folder.writable { "read and change" } else { "read" };
        sentences.push(format!("may {verb} the folder {} as {}", grant.host.display(), folder.guest));
        folders.push(folder);
    }
    let mut seen = std::collections::HashSet::new();
    if let Some(twice) = folders.iter().find(|folder| !seen.insert(&folder.guest)) {
        return Err(of_manifest(format!(
            "capabilities.fs names the guest folder {:?} twice",
            twice.guest
        )));
    }
    let events = patterns::read(&EVENTS, &capabilities.events, MAX_GRANTS).map_err(of_manifest)?;
    let submit = patterns::read(&SUBMIT, &capabilities.submit, MAX_GRANTS).map_err(of_manifest)?;
    sentences.extend(patterns::sentences(&EVENTS, &events));
    sentences.extend(patterns::sentences(&SUBMIT, &submit));
    overrides::check(&document.tasks).map_err(of_manifest)?;
    let rules = Rules::read(&document.schedules, &document.triggers);
    let rules = rules.map_err(|fault| format!("{name}.toml, line {}: {}", line(text, fault.at), fault.sentence))?;
    Ok(Manifest {
        digest,
        limits,
        grants: Grants {
            env: capabilities.env.into_iter().collect(),
            folders,
            events,
            submit,
            manifest: format!("{name}.toml"),
            strict: document.strict,
        },
        sentences,
        tasks: document.tasks,
        rules: Arc::new(rules),
    })
}

fn at_line(name: &str, text: &str, error: &toml::de::Error) -> String {
    let line = line(text, error.span().map_or(0, |span| span.start));
    let message = error.message().replace('\n', ", ");
    format!("{name}.toml, line {line}: {message}")
}

/// From 1.
fn line(text: &str, at: usize) -> usize {
    text.get(..at).map_or(1, |before| before.matches('\n').count() + 1)
}

fn refuse_later(name: &str, document: &Document) -> Result<(), String> {
    let capabilities = &document.capabilities;
    let later = [
        ("capabilities.http", &capabilities.http),
        ("capabilities.secrets", &capabilities.secrets),
    ];
    match later.iter().find(|(_, value)| value.is_some()) {
        Some((key, _)) => Err(format!("{key} comes in a later version of Taskhost; remove it from {name}.toml")),
        None => Ok(()),
    }
}

fn digest(text: &str) -> Result<String, String> {
    let hex = text.strip_prefix("sha256:").unwrap_or_default().to_ascii_lowercase();
    if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(hex);
    }
    Err(format!("digest is {text:?}; it must be \"sha256:\" and 64 hexadecimal digits"))
}

fn limits(table: &LimitsTable) -> Result<Limits, String> {
    let timeout = match table.timeout.map(Duration::try_from_secs_f64) {
        None => None,
        Some(Ok(timeout)) if !timeout.is_zero() => Some(timeout),
        Some(_) => return Err("limits.timeout must be seconds, more than 0".to_owned()),
    };
    if table.fuel == Some(0) {
        return Err("limits.fuel must be more than 0".to_owned());
    }
    if table.memory.is_some_and(|memory| memory.as_u64() < super::describe::MIN_MEMORY) {
        return Err("limits.memory must be 64KiB or more".to_owned());
    }
    Ok(Limits {
        timeout,
        fuel: table.fuel,
        memory: table.memory.map(|memory| memory.as_u64()),
    })
}

fn variable(key: &str, value: &str) -> Result<(), String> {
    if key.is_empty() || key.len() > 256 || key.contains(['=', '\0']) {
        return Err(format!(
            "capabilities.env names the variable {key:?}, which no environment can hold"
        ));
    }
    if value.len() > MAX_TEXT || value.contains('\0') {
        return Err(format!("capabilities.env.{key} must be at most {MAX_TEXT} bytes of text"));
    }
    Ok(())
}

/// What no grant may reach: whoever changes these changes what the host does.
struct Forbidden {
    data: PathBuf,
    plugins: Vec<PathBuf>,
    config: Option<PathBuf>,
}

impl Forbidden {
    fn new(context: &Context, plugin_dirs: &[PathBuf]) -> Self {
        let real = |path: &Path| {
            path.canonicalize()
                .or_else(|_| std::path::absolute(path))
                .unwrap_or(path.to_owned())
        };
        Self {
            data: real(&context.data_dir),
            plugins: plugin_dirs.iter().map(|dir| real(dir)).collect(),
            config: context.config_file.as_deref().map(real),
        }
    }

    /// Why this folder cannot be granted.
    fn objection(&self, folder: &Path) -> Option<&'static str> {
        if overlap(folder, &self.data) {
            return Some("it overlaps the host's data directory");
        }
        if self.plugins.iter().any(|dir| overlap(folder, dir)) {
            return Some("it overlaps a plugin directory");
        }
        if self.config.as_ref().is_some_and(|file| file.starts_with(folder)) {
            return Some("it holds the configuration file");
        }
        None
    }
}

fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn folder(grant: &FolderGrant, context: &Context, forbidden: &Forbidden) -> Result<Folder, String> {
    let shown = grant.host.display();
    let guest = Path::new(&grant.guest);
    let plain = guest
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !guest.is_absolute() || !plain || grant.guest.len() > MAX_TEXT || grant.guest.contains('\0') {
        return Err(format!(
            "capabilities.fs shows {shown} as {:?}; that must be an absolute path without ..",
            grant.guest
        ));
    }
    let base = context.config_file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let host = Path::new(".").join(base).join(&grant.host);
    let host = host
        .canonicalize()
        .map_err(|error| format!("capabilities.fs grants the folder {shown}, which cannot be found: {error}"))?;
    if !host.is_dir() {
        return Err(format!("capabilities.fs grants {shown}, which is no folder"));
    }
    if let Some(objection) = forbidden.objection(&host) {
        return Err(format!(
            "capabilities.fs grants the folder {shown}, which cannot be granted: {objection}"
        ));
    }
    Ok(Folder {
        host,
        guest: grant.guest.clone(),
        writable: grant.mode == Mode::Rw,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct House {
        root: tempfile::TempDir,
        context: Context,
    }

    impl House {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            for dir in ["prices", "conf/near", "data/deep", "plugins"] {
                std::fs::create_dir_all(root.path().join(dir)).unwrap();
            }
            std::fs::write(root.path().join("conf/taskhost.toml"), "").unwrap();
            std::fs::write(root.path().join("file"), "").unwrap();
            let context = Context {
                config_file: Some(root.path().join("conf/taskhost.toml")),
                data_dir: root.path().join("data"),
                executor: crate::executor::Options::default(),
            };
            Self { root, context }
        }

        fn parse(&self, text: &str) -> Result<Manifest, String> {
            parse("p", text, &self.context, &[self.root.path().join("plugins")])
        }

        fn grant(&self, host: &str, guest: &str) -> Result<Manifest, String> {
            self.parse(&format!(
                "[capabilities]\nfs = [{{ host = {host:?}, guest = {guest:?}, mode = \"ro\" }}]"
            ))
        }
    }

    #[test]
    fn a_manifest_bounds_and_grants() {
        let house = House::new();
        let text = r#"
            digest = "sha256:ABCDabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcd"
            strict = true
            [limits]
            timeout = 300
            fuel = 3_000_000_000_000
            memory = "256MiB"
            [capabilities]
            env = { REGION = "eu" }
            fs = [{ host = "../prices", guest = "/prices", mode = "rw" }]
        "#;
        let manifest = house.parse(text).unwrap();
        assert_eq!(manifest.digest.unwrap(), "abcd".repeat(16));
        assert_eq!(manifest.limits.timeout, Some(Duration::from_secs(300)));
        assert_eq!(
            (manifest.limits.fuel, manifest.limits.memory),
            (Some(3_000_000_000_000), Some(256 << 20))
        );
        assert!(manifest.grants.strict && manifest.grants.folders[0].writable);
        assert_eq!(
            manifest.grants.folders[0].host,
            house.root.path().join("prices").canonicalize().unwrap()
        );
        assert_eq!(manifest.grants.env, [("REGION".to_owned(), "eu".to_owned())]);
        assert!(!manifest.sentences.iter().any(|sentence| sentence.contains("eu")));
        let empty = house.parse("").unwrap();
        assert_eq!(empty.grants.manifest, "p.toml");
        let nothing = Grants {
            manifest: "p.toml".into(),
            ..Grants::default()
        };
        assert_eq!((empty.grants, empty.sentences), (nothing, Vec::<String>::new()));
    }

    #[test]
    fn events_and_submissions_are_granted_by_patterns() {
        let house = House::new();
        let grants = |events: &[&str], submit: &[&str]| house.parse(&format!("[capabilities]\nevents = {events:?}\nsubmit = {submit:?}\n"));
        let manifest = grants(&["settlement.*", "a:b/c"], &["backtest", "risk*"]).unwrap();
        assert_eq!(manifest.sentences[0], "may emit events settlement.*");
        assert_eq!(manifest.sentences[3], "may submit risk*");
        let texts: Vec<&str> = manifest.grants.submit.iter().map(|pattern| pattern.as_str()).collect();
        assert_eq!(texts, ["backtest", "risk*"]);
        let long = "x".repeat(257);
        for bad in ["", "a b", "a?", "ä", &long] {
            let error = grants(&[bad], &[]).unwrap_err();
            assert!(error.contains("capabilities.events") && error.contains("p.toml"), "{error}");
            assert!(grants(&[], &[bad]).unwrap_err().contains("capabilities.submit"));
        }
        assert!(grants(&[], &["a/b"]).unwrap_err().contains("a/b"));
        assert!(grants(&["x"; 101], &[]).unwrap_err().contains("101"));
        assert!(house.parse("[capabilities]\nevents = \"x\"").unwrap_err().contains("line 2"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let house = House::new();
        let cases = [
            ("\nlimit = 1", "line 2"),
            ("[limits]\ntime = 1", "time"),
            ("[limits]\ntimeout = 0", "limits.timeout"),
            ("[limits]\ntimeout = nan", "limits.timeout"),
            ("[limits]\nfuel = -1", "line 2"),
            ("[limits]\nmemory = \"lots\"", "line 2"),
            ("[limits]\nmemory = 1", "limits.memory"),
            ("digest = \"sha256:12\"", "digest"),
            ("[capabilities]\nenv = { \"A=B\" = \"\" }", "A=B"),
            ("[capabilities]\nevents = [7]", "line 2"),
            ("[[capabilities.http]]\nhost = \"x\"", "capabilities.http comes"),
            ("[tasks.x]\npriority = 0", "tasks.x.priority"),
            ("[tasks.x]\ntimeout = -1", "tasks.x.timeout"),
            ("[tasks.x]\nmax_concurrency = 0", "tasks.x.max_concurrency is 0"),
            ("[tasks.x]\nmemory = 1", "line 2"),
            ("[tasks.x.retry]\nmax_retries = 5000", "tasks.x.retry.max_retries"),
            ("[tasks.x.retry]\nretries = 5", "line 2"),
            ("\n[[schedules]]\nname = \"x\"", "line 2: schedules[0]"),
            (
                "[[schedules]]\nname = \"x\"\ntask_name = \"t\"\ncron_expression = \"nonsense\"",
                "schedules[0].cron_expression",
            ),
            (
                "[[schedules]]\ntask_name = \"t\"\ncron_expression = \"@daily\"",
                "schedules[0].name",
            ),
            (
                "[[schedules]]\nname = \"x\"\ntask_name = \"t\"\ncron_expression = \"@daily\"\ncolour = 1",
                "colour",
            ),
            (
                "[[triggers]]\nname = \"x\"\ntask_name = \"t\"\nevent_type = \"a b\"",
                "triggers[0].event_type",
            ),
            (
                "[[triggers]]\nname = \"x\"\ntask_name = \"t\"\nevent_type = \"a\"\npayload = { x = inf }",
                "not finite",
            ),
            ("[capabilities]\nfs = [{ host = \"x\", guest = \"/x\" }]", "mode"),
            ("[", "line 1"),
        ];
        for (text, word) in cases {
            let error = house.parse(text).unwrap_err();
            assert!(
                error.contains(word) && error.contains("p.toml") && !error.contains('\n'),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn folders_that_hold_the_hosts_own_are_never_granted() {
        let house = House::new();
        for (host, word) in [
            ("../data", "data directory"),
            ("../data/deep", "data directory"),
            ("..", "data directory"),
            ("/", "data directory"),
            ("../plugins", "plugin directory"),
            (".", "configuration"),
            ("../conf", "configuration"),
            ("../nowhere", "cannot be found"),
            ("../file", "no folder"),
        ] {
            let error = house.grant(host, "/x").unwrap_err();
            assert!(error.contains(word), "{host}: {error}");
        }
        house.grant("near", "/x").unwrap();
        for guest in ["x", "/x/../y", "", "./x"] {
            assert!(house.grant("near", guest).unwrap_err().contains("absolute"), "{guest}");
        }
        std::os::unix::fs::symlink(house.root.path().join("data"), house.root.path().join("prices/link")).unwrap();
        assert!(house.grant("../prices/link", "/x").unwrap_err().contains("data directory"));
    }
}
