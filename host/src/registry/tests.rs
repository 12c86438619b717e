//! Plugin directories that change, with a real store and small hand-written components.

use super::snapshot::PluginState;
use super::*;
use crate::executor::compile::CompileIn;
use crate::executor::tests::plugin;
use crate::store::sqlite::Sqlite;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

struct House {
    root: tempfile::TempDir,
    registry: Registry,
    task: JoinHandle<()>,
    store: Arc<Sqlite>,
}

impl House {
    async fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap()).await
    }

    async fn within(root: tempfile::TempDir) -> Self {
        let data = root.path().join("data");
        let store = Arc::new(Sqlite::open(&data).unwrap());
        let executor = executor::Options::default();
        let engine = Engine::with_compiler(&executor, 2, data.join("code"), Clock::System, CompileIn::Here).unwrap();
        let options = Options {
            dirs: vec![root.path().join("plugins")],
            debounce: 0.02,
            rescan: 0.3,
        };
        let context = Context {
            config_file: None,
            data_dir: data,
            executor,
        };
        let (registry, task) = Registry::start(options, engine, store.clone(), Clock::System, context).unwrap();
        let house = Self {
            root,
            registry,
            task,
            store,
        };
        house.until(|snapshot| snapshot.ready).await;
        house
    }

    async fn restart(self) -> Self {
        self.registry.stop().await;
        self.task.await.unwrap();
        let root = self.root;
        drop((self.registry, self.store));
        Self::within(root).await
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.path().join("plugins").join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        store_file::replace(&self.file(name), bytes).unwrap();
    }

    /// Makes a file old enough to be believed broken.
    fn age(&self, name: &str) {
        let file = std::fs::File::options().write(true).open(self.file(name)).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000))
            .unwrap();
    }

    async fn until(&self, what: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let mut changes = self.registry.changes();
        let wait = async {
            loop {
                let snapshot = self.registry.snapshot();
                if what(&snapshot) {
                    return snapshot;
                }
                changes.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        waited.unwrap_or_else(|_| panic!("it did not happen: {:?}", self.registry.snapshot().plugins))
    }

    fn error(&self, name: &str) -> Option<String> {
        self.registry.snapshot().plugins.get(name)?.error.clone()
    }
}

fn handles(names: &[&str]) -> Vec<u8> {
    let tasks: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
    plugin(&json!({ "version": names.join("+"), "tasks": tasks }))
}

fn exists(path: &Path) -> bool {
    path.try_exists().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_comes_changes_breaks_and_goes() {
    let house = House::new().await;
    house.put("p.wasm", &handles(&["a"]));
    let one = house.until(|snapshot| snapshot.handlers.contains_key("a")).await;
    let digest = one.plugins["p"].digest.clone();

    house.put("p.wasm", &handles(&["a", "b"]));
    let two = house.until(|snapshot| snapshot.handlers.contains_key("b")).await;
    assert_ne!(two.plugins["p"].digest, digest);

    house.put("p.wasm", b"rubbish");
    house.age("p.wasm");
    let broken = house.until(|snapshot| snapshot.plugins["p"].error.is_some()).await;
    assert_eq!(broken.plugins["p"].state, PluginState::Loaded);
    assert_eq!(broken.plugins["p"].digest, two.plugins["p"].digest);
    assert_eq!(broken.handlers.len(), 2);

    house.put("p.wasm", &handles(&["a", "b"]));
    house.until(|snapshot| snapshot.plugins["p"].error.is_none()).await;

    std::fs::remove_file(house.file("p.wasm")).unwrap();
    let gone = house.until(|snapshot| snapshot.plugins.is_empty()).await;
    assert!(gone.handlers.is_empty());
    assert!(house.store.owners().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_copy_is_no_error() {
    let house = House::new().await;
    let whole = handles(&["a"]);
    let mut changes = house.registry.changes();
    changes.mark_unchanged();
    std::fs::write(house.file("p.wasm"), &whole[..whole.len() / 2]).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(600), changes.changed()).await.is_err());
    std::fs::write(house.file("p.wasm"), &whole).unwrap();
    let snapshot = house.until(|snapshot| snapshot.handlers.contains_key("a")).await;
    assert_eq!(snapshot.plugins["p"].error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_name_has_one_owner_until_it_gives_it_up() {
    let house = House::new().await;
    house.put("first.wasm", &handles(&["a"]));
    house.until(|snapshot| snapshot.handlers.contains_key("a")).await;
    house.put("second.wasm", &handles(&["a", "b"]));
    let refused = house.until(|snapshot| snapshot.plugins.contains_key("second")).await;
    assert_eq!(refused.plugins["second"].state, PluginState::Failed);
    assert!(house.error("second").unwrap().contains("first"));
    let house = house.restart().await;
    assert!(house.error("second").unwrap().contains("first"));
    assert_eq!(house.registry.snapshot().handlers["a"].definition.plugin, "first");
    house.registry.remove("first").await.unwrap();
    let taken = house.until(|snapshot| snapshot.handlers.len() == 2).await;
    assert_eq!(taken.handlers["a"].definition.plugin, "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_a_file_that_went_while_nobody_looked_are_free() {
    let house = House::new().await;
    house.put("first.wasm", &handles(&["a"]));
    house.registry.reload().await.unwrap();
    std::fs::rename(house.file("first.wasm"), house.file("second.wasm")).unwrap();
    let house = house.restart().await;
    assert_eq!(house.registry.snapshot().handlers["a"].definition.plugin, "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_does_not_take_a_plugin_down_at_the_next_start() {
    let house = House::new().await;
    house.put("p.wasm", &handles(&["a"]));
    house.registry.reload().await.unwrap();
    house.put("p.wasm", b"rubbish");
    house.age("p.wasm");
    let house = house.restart().await;
    let plugin = house.registry.snapshot().plugins["p"].clone();
    assert_eq!(plugin.state, PluginState::Loaded);
    assert!(plugin.error.as_ref().unwrap().contains("not WebAssembly"), "{plugin:?}");
    assert_eq!(plugin.tasks, ["a"]);
    house.registry.remove("p").await.unwrap();
    house.put("p.wasm", b"rubbish");
    house.registry.reload().await.unwrap();
    assert_eq!(house.registry.snapshot().plugins["p"].state, PluginState::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_checked_before_anything_changes() {
    let house = House::new().await;
    let plugin = house.registry.push("p", handles(&["a"])).await.unwrap();
    assert_eq!((plugin.version.as_deref(), plugin.state), (Some("a"), PluginState::Loaded));
    let on_disk = std::fs::read(house.file("p.wasm")).unwrap();
    for (name, bytes) in [
        ("p", b"rubbish".to_vec()),
        ("p", handles(&["<script>"])),
        ("p", handles(&[])),
        ("q", handles(&["a"])),
        ("q q", handles(&["b"])),
        (".q", handles(&["b"])),
        ("../q", handles(&["b"])),
    ] {
        let error = house.registry.push(name, bytes).await.unwrap_err();
        assert!(matches!(error, RegistryError::Refused(_)), "{error}");
    }
    assert_eq!(std::fs::read(house.file("p.wasm")).unwrap(), on_disk);
    assert!(!exists(&house.file("q.wasm")));
    assert_eq!(house.registry.snapshot().plugins["p"].error, None);
    house.registry.push("p", handles(&["b"])).await.unwrap();
    house.registry.push("q", handles(&["a"])).await.unwrap();
    assert!(matches!(house.registry.remove("r").await, Err(RegistryError::UnknownPlugin(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_changes_during_a_push_is_not_passed_over() {
    let house = House::new().await;
    house.registry.push("p", handles(&["a"])).await.unwrap();
    house.put("p.toml", b"[limits]\nmemory = \"1MiB\"");
    house.until(|snapshot| snapshot.handlers["a"].definition.memory == 1 << 20).await;
    let (bytes, plugin) = (handles(&["a", "b"]), house.registry.clone());
    let push = tokio::spawn(async move { plugin.push("p", bytes).await.map(drop) });
    house.put("p.toml", b"[limits]\nmemory = \"2MiB\"");
    push.await.unwrap().unwrap();
    house
        .until(|snapshot| snapshot.handlers.get("b").is_some_and(|b| b.definition.memory == 2 << 20))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_the_hosts_fault_is_tried_again() {
    let house = House::new().await;
    let code = house.root.path().join("data/code");
    let away = house.root.path().join("away");
    std::fs::rename(&code, &away).unwrap();
    house.put("p.wasm", &handles(&["a"]));
    house.until(|snapshot| snapshot.plugins.contains_key("p")).await;
    assert!(house.error("p").is_some());
    std::fs::rename(&away, &code).unwrap();
    let well = house.until(|snapshot| snapshot.handlers.contains_key("a")).await;
    assert_eq!(well.plugins["p"].error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_read_with_its_plugin_and_by_itself() {
    let house = House::new().await;
    house.put("p.wasm", &handles(&["a"]));
    house.put("p.toml", b"[limits]\nmemory = \"1MiB\"");
    house.registry.reload().await.unwrap();
    assert_eq!(house.registry.snapshot().handlers["a"].definition.memory, 1 << 20);
    house.put("p.toml", b"[limits]\nmemory = \"2MiB\"");
    house.until(|snapshot| snapshot.handlers["a"].definition.memory == 2 << 20).await;
    house.put(
        "p.toml",
        b"digest = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"",
    );
    house.registry.reload().await.unwrap();
    assert!(house.error("p").unwrap().contains("pin"));
    assert_eq!(house.registry.snapshot().handlers.len(), 1);
}
