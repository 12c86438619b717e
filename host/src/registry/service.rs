//! The loop that looks after the plugin directories: one event at a time, loads beside it, and a swap at the end of each.

use super::RegistryError;
use super::entry::{Again, Entry, Loading};
use super::event::{Event, Reply};
use super::kept::Kept;
use super::load::{Key, Loader, Source, Version, blocking};
use super::rules::Upcoming;
use super::scan::{Scan, scan};
use super::snapshot::Snapshot;
use super::watch::Watch;
use crate::clock::Clock;
use crate::executor::LoadError;
use crate::model::overrides::Override;
use crate::model::request::Given;
use crate::store::{Store, StoreError};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch as latest};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// How soon a file that may be half copied is looked at again.
const SOON: Duration = Duration::from_millis(250);
/// How soon a file that may be whole is looked at.
const AT_ONCE: Duration = Duration::from_millis(20);
/// However busy a directory is, it is looked at so often.
const MAX_DEBOUNCE: Duration = Duration::from_secs(1);

/// Where the others see what is loaded.
pub(super) struct Shelf {
    snapshot: Arc<arc_swap::ArcSwap<Snapshot>>,
    changes: latest::Sender<u64>,
}

impl Shelf {
    pub(super) fn new(snapshot: Arc<arc_swap::ArcSwap<Snapshot>>, changes: latest::Sender<u64>) -> Self {
        Self { snapshot, changes }
    }

    fn swap(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
        self.changes.send_modify(|count| *count += 1);
    }
}

pub(super) struct Service {
    pub(super) loader: Loader,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
    shelf: Shelf,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) kept: Kept,
    watch: Watch,
    pub(super) plugins: BTreeMap<String, Entry>,
    pub(super) loads: JoinSet<()>,
    /// What operators said of tasks by the API, by name.
    overrides: BTreeMap<String, Override>,
    /// Whether what they said before this start is known.
    overrides_read: bool,
    /// Numbers the loads.
    pub(super) started: u64,
    /// Who waits until nothing is loading.
    waiting: Vec<Reply<()>>,
    /// Plugins that are gone and whose names could not be given back yet.
    disown: BTreeSet<String>,
    told: HashSet<PathBuf>,
    unreadable: Vec<(PathBuf, String)>,
    /// Whether the directories have been looked at, and whether all that was found then has been loaded or refused.
    scanned: bool,
    ready: bool,
    next_look: Instant,
    first_hint: Option<Instant>,
    /// When a file that came and may be whole is looked at.
    whole: Option<Instant>,
    /// The private copies that are being written.
    pub(super) keeping: Option<JoinHandle<()>>,
}

impl Service {
    pub(super) fn new(loader: Loader, store: Arc<dyn Store>, clock: Clock, shelf: Shelf, events: mpsc::Sender<Event>) -> Self {
        let hints = events.clone();
        Self {
            watch: Watch::new(move |is_whole| {
                let _ = hints.try_send(Event::Changed { is_whole }); // a full inbox is looked at soon anyhow
            }),
            kept: Kept::within(&loader.context.data_dir),
            loader,
            store,
            clock,
            shelf,
            events,
            plugins: BTreeMap::new(),
            loads: JoinSet::new(),
            overrides: BTreeMap::new(),
            overrides_read: false,
            started: 0,
            waiting: Vec::new(),
            disown: BTreeSet::new(),
            told: HashSet::new(),
            unreadable: Vec::new(),
            scanned: false,
            ready: false,
            next_look: Instant::now(),
            first_hint: None,
            whole: None,
            keeping: None,
        }
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Event>) {
        self.read_overrides().await;
        loop {
            tokio::select! {
                event = inbox.recv() => match event {
                    None | Some(Event::Stop) => break,
                    Some(event) => self.handle(event).await,
                },
                () = tokio::time::sleep_until(self.next_look) => self.look().await,
            }
            while self.loads.try_join_next().is_some() {}
            self.finish();
        }
        if let Some(keeping) = self.keeping {
            let _ = keeping.await; // what went wrong was told
        }
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Changed { is_whole } => self.debounce(is_whole),
            Event::Loaded { name, number, result } => self.loaded(name, number, result).await,
            Event::Revived { name, number, version } => self.revived(&name, number, version).await,
            Event::Reload(reply) => {
                self.waiting.push(reply);
                for entry in self.plugins.values_mut() {
                    entry.tried = None;
                }
                self.look().await;
            }
            Event::Push { name, bytes, reply } => self.push(name, bytes, reply),
            Event::Pushed {
                name,
                path,
                bytes,
                result,
                reply,
            } => {
                let answer = self.pushed(&name, path, bytes, result).await;
                let _ = reply.send(answer); // whoever asked has gone
            }
            Event::Remove { name, reply } => {
                let answer = self.remove(&name).await;
                let _ = reply.send(answer); // whoever asked has gone
            }
            Event::Override { task_name, patch, reply } => {
                let answer = self.override_task(task_name, patch).await;
                let _ = reply.send(answer); // whoever asked has gone
            }
            Event::Stop => (),
        }
    }

    /// Changes the operator's word on a task, and lets it hold from now on. Over what could not be read nothing is written.
    async fn override_task(&mut self, task_name: String, patch: Given) -> Result<(), RegistryError> {
        if !self.overrides_read {
            self.overrides = self.store.overrides().await.map_err(RegistryError::Store)?;
            self.overrides_read = true;
            self.publish();
        }
        let before = self.overrides.get(&task_name).cloned().unwrap_or_default();
        let word = before.patched(&patch).map_err(RegistryError::Patch)?;
        // One that was within its bound when it was given stays, whatever the bound is since.
        if patch.0.contains_key("timeout") {
            let versions = self.plugins.values().filter_map(|entry| entry.good.as_ref());
            let mut handlers = versions.flat_map(|(version, _)| &version.handlers);
            if let Some(handler) = handlers.find(|handler| handler.definition.name == task_name) {
                word.check_within(&handler.definition).map_err(RegistryError::Patch)?;
            }
        }
        let kept = self.store.put_override(&task_name, word.clone()).await;
        kept.map_err(RegistryError::Store)?;
        if word.is_empty() {
            self.overrides.remove(&task_name);
        } else {
            self.overrides.insert(task_name, word);
        }
        self.publish();
        Ok(())
    }

    /// What operators said before this start. Tasks run as their plugins say where it cannot be read.
    async fn read_overrides(&mut self) {
        match self.store.overrides().await {
            Ok(overrides) => (self.overrides, self.overrides_read) = (overrides, true),
            Err(error) => tracing::error!(
                %error,
                "what operators said of tasks could not be read; it does not hold until the next start, or until more is said"
            ),
        }
    }

    fn debounce(&mut self, is_whole: bool) {
        let now = Instant::now();
        let first = *self.first_hint.get_or_insert(now);
        if is_whole {
            self.whole.get_or_insert(now + AT_ONCE);
        }
        let quiet = now + Duration::from_secs_f64(self.loader.options.debounce);
        let latest = self.whole.unwrap_or(first + MAX_DEBOUNCE);
        self.next_look = quiet.min(latest);
    }

    /// Compares the directories with what is known, and starts to load what is new.
    pub(super) async fn look(&mut self) {
        (self.first_hint, self.whole) = (None, None);
        self.next_look = Instant::now() + Duration::from_secs_f64(self.loader.options.rescan);
        let options = self.loader.options.clone();
        let scan = match blocking(move || Ok(scan(&options))).await {
            Ok(scan) => scan,
            Err(error) => {
                tracing::error!(%error, "the plugin directories could not be looked at; trying again");
                return;
            }
        };
        self.disown_the_gone(&scan).await;
        if self.watch.follow(scan.folders.clone()) {
            self.next_look = Instant::now();
        }
        for path in scan.misnamed.iter().filter(|path| !self.told.contains(*path)) {
            tracing::warn!(file = %path.display(), "not a plugin: its name must be 1 to 128 characters of A-Z a-z 0-9 . _ -");
        }
        self.told = scan.misnamed.iter().cloned().collect();
        let gone = |(name, entry): (&String, &Entry)| {
            let gone = !scan.plugins.contains_key(name) && !scan.may_hide(&entry.files.path);
            gone.then(|| name.clone())
        };
        let gone: Vec<String> = self.plugins.iter().filter_map(gone).collect();
        for name in gone {
            self.forget(&name).await;
        }
        let now = self.clock.now();
        let mut told = false;
        for (name, found) in scan.plugins {
            let entry = self.plugins.entry(name.clone()).or_insert_with(|| Entry::new(found.files.clone()));
            told |= entry.others != found.others;
            entry.files = found.files;
            entry.others = found.others;
            if entry.may_try_again(now) {
                entry.tried = None;
            }
            if entry.tell_if_old(now) {
                told = true;
                let error = entry.trouble.as_ref().map(|trouble| trouble.sentence.as_str()).unwrap_or_default();
                tracing::warn!(plugin = name, error, "a plugin was refused");
            }
        }
        self.unreadable = scan.unreadable;
        self.scanned = true;
        self.start_due();
        if told {
            self.publish();
        }
        self.look_soon_if_quiet();
    }

    pub(super) fn look_soon_if_quiet(&mut self) {
        if self.plugins.values().any(Entry::is_quiet) {
            self.next_look = self.next_look.min(Instant::now() + SOON);
        }
    }

    /// Gives back the names of plugins whose files are gone: at the first look, and those that the store did not take before.
    async fn disown_the_gone(&mut self, scan: &Scan) {
        if !self.scanned && scan.unreadable.is_empty() {
            match self.store.owners().await {
                Ok(owners) => self.disown.extend(owners.into_values()),
                Err(error) => tracing::error!(%error, "who owns which task name could not be read"),
            }
        }
        self.disown.retain(|name| !scan.plugins.contains_key(name));
        for name in std::mem::take(&mut self.disown) {
            self.give_back(&name).await;
        }
    }

    async fn give_back(&mut self, name: &str) {
        if let Err(error) = self.store.own(name, Vec::new()).await {
            tracing::error!(plugin = name, %error, "the task names of a removed plugin could not be given back; trying again");
            self.disown.insert(name.to_owned());
        }
    }

    pub(super) fn start_due(&mut self) {
        let due: Vec<String> = self
            .plugins
            .iter()
            .filter(|(_, entry)| entry.is_due())
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            self.start(name);
        }
    }

    fn start(&mut self, name: String) {
        let Some(entry) = self.plugins.get_mut(&name) else { return };
        self.started += 1;
        let number = self.started;
        entry.tried = Some(entry.files.clone());
        let running = entry.good.as_ref().map(|(version, _)| version.key.clone());
        let (path, loader, events) = (entry.files.path.clone(), self.loader.clone(), self.events.clone());
        let task = self.loads.spawn(async move {
            let result = load(&loader, &name, path, running).await;
            let _ = events.send(Event::Loaded { name, number, result }).await; // the registry is stopped
        });
        entry.loading = Some(Loading { number, task });
    }

    async fn loaded(&mut self, name: String, number: u64, result: Result<Option<Version>, LoadError>) {
        let Some(entry) = self.plugins.get_mut(&name).filter(|entry| entry.is_loading(number)) else {
            return; // removed, or overtaken by a push
        };
        entry.loading = None;
        let asked = !self.waiting.is_empty();
        match result {
            Ok(Some(version)) => self.take(&name, version).await,
            Ok(None) => {
                let had = entry.trouble.take();
                if had.is_some_and(|trouble| trouble.shown) {
                    self.publish();
                }
            }
            Err(error) => {
                let again = if error.is_hosts() { Again::Soon } else { Again::Never };
                entry.refuse(error.to_string(), again, self.clock.now(), asked);
                if !entry.is_quiet() {
                    tracing::warn!(plugin = name, %error, "a plugin was refused");
                    self.publish();
                }
                if !error.is_hosts() {
                    self.revive(&name);
                }
            }
        }
        self.start_due();
        self.look_soon_if_quiet();
    }

    /// Makes a version live, if its task names are free.
    async fn take(&mut self, name: &str, mut version: Version) {
        let now = self.clock.now();
        let owned = self.own(name, &version).await;
        let Some(entry) = self.plugins.get_mut(name) else { return };
        match owned {
            Ok(()) => {
                let freed = entry.frees(&version);
                let source = version.source.take();
                tracing::info!(
                    plugin = name,
                    digest = version.key.digest(),
                    tasks = version.handlers.len(),
                    "a plugin is live"
                );
                entry.go_live(version, now);
                self.publish();
                self.keep(name, source);
                if freed {
                    self.names_freed();
                }
            }
            Err(error) => {
                let again = if matches!(error, StoreError::Conflict(_)) {
                    Again::NamesFreed
                } else {
                    Again::Soon
                };
                let sentence = owned_by_another(&error);
                tracing::warn!(plugin = name, error = sentence, "a plugin was refused");
                entry.refuse(sentence, again, now, true);
                self.publish();
            }
        }
    }

    /// Takes what a version needs in the store: its task names, and the schedules and triggers that come with it.
    pub(super) async fn own(&self, name: &str, version: &Version) -> Result<(), StoreError> {
        self.store.own(name, version.names()).await?;
        let upcoming = Upcoming {
            handlers: &version.handlers,
            others: self.shelf.snapshot.load_full(),
        };
        version.rules.put(&*self.store, &upcoming, self.clock.now()).await
    }

    /// Tries plugins again that were refused because of another's names.
    pub(super) fn names_freed(&mut self) {
        let blocked = |entry: &&mut Entry| entry.trouble.as_ref().is_some_and(|trouble| trouble.again == Again::NamesFreed);
        for entry in self.plugins.values_mut().filter(blocked) {
            entry.tried = None;
        }
        self.start_due();
    }

    pub(super) async fn forget(&mut self, name: &str) {
        let Some(entry) = self.plugins.remove(name) else { return };
        self.give_back(name).await;
        self.unkeep(name);
        if entry.good.is_some() {
            tracing::info!(plugin = name, "a plugin was removed");
        }
        self.names_freed();
        self.publish();
    }

    /// Says who was waiting that all is done, once it is.
    fn finish(&mut self) {
        let loading = self.plugins.values().any(|entry| entry.loading.is_some());
        if !self.scanned || loading {
            return;
        }
        if !self.ready {
            self.ready = true;
            self.publish();
        }
        for reply in self.waiting.drain(..) {
            let answer = match self.unreadable.first() {
                Some((dir, error)) => Err(RegistryError::Io(format!(
                    "the plugin directory {} cannot be read: {error}",
                    dir.display()
                ))),
                None => Ok(()),
            };
            let _ = reply.send(answer); // whoever asked has gone
        }
    }

    pub(super) fn publish(&self) {
        let plugins = self
            .plugins
            .iter()
            .filter_map(|(name, entry)| Some((name.clone(), Arc::new(entry.plugin(name)?))));
        let versions = self.plugins.values().filter_map(|entry| entry.good.as_ref());
        let handlers = versions.flat_map(|(version, _)| &version.handlers);
        let handlers = handlers.map(|handler| {
            let name = handler.definition.name.clone();
            let overridden = self.overrides.get(&name).map(|word| handler.overridden(word));
            let handler = match overridden {
                Some(Ok(overridden)) => Arc::new(overridden),
                Some(Err(why)) => {
                    tracing::error!(
                        task_name = name,
                        why,
                        "what an operator said of a task cannot be honoured; it is passed over"
                    );
                    handler.clone()
                }
                None => handler.clone(),
            };
            (name, handler)
        });
        self.shelf.swap(Snapshot {
            plugins: plugins.collect(),
            handlers: handlers.collect(),
            ready: self.ready,
        });
    }
}

pub(super) fn owned_by_another(error: &StoreError) -> String {
    match error {
        StoreError::Conflict(why) => LoadError::new(why).to_string(),
        error => LoadError::new(format!("its task names could not be claimed: {error}")).to_string(),
    }
}

/// Reads and loads; `None` where the files hold what runs already.
async fn load(loader: &Loader, name: &str, path: PathBuf, running: Option<Key>) -> Result<Option<Version>, LoadError> {
    let room = loader.room().await?;
    let source = blocking(move || Source::read(&path)).await?.within(room);
    if running.as_ref() == Some(&source.key) {
        return Ok(None);
    }
    loader.load(name, source).await.map(Some)
}
