//! Changes that people ask for: a component pushed, a plugin removed. Nothing on disk changes before all is checked.

use super::RegistryError;
use super::entry::Entry;
use super::event::{Event, Reply};
use super::load::{Source, Version, blocking};
use super::scan::Files;
use super::service::{Service, owned_by_another};
use super::snapshot::Plugin;
use super::store_file;
use crate::executor::LoadError;
use crate::store::StoreError;
use std::path::PathBuf;
use std::sync::Arc;

impl Service {
    pub(super) fn push(&mut self, name: String, bytes: Arc<[u8]>, reply: Reply<Arc<Plugin>>) {
        let known = self.plugins.get(&name).map(|entry| entry.files.path.clone());
        let first = self.loader.options.dirs.first().cloned().unwrap_or_default();
        let path = known.unwrap_or_else(|| first.join(format!("{name}.wasm")));
        let (loader, events) = (self.loader.clone(), self.events.clone());
        self.loads.spawn(async move {
            let (wasm, beside) = (bytes.clone(), path.clone());
            let result = match blocking(move || Ok(Source::new(wasm, Source::read_manifest(&beside)?))).await {
                Ok(source) => loader.load(&name, source).await,
                Err(error) => Err(error),
            };
            let pushed = Event::Pushed {
                name,
                path,
                bytes,
                result,
                reply,
            };
            let _ = events.send(pushed).await; // the registry is stopped
        });
    }

    pub(super) async fn pushed(
        &mut self,
        name: &str,
        path: PathBuf,
        bytes: Arc<[u8]>,
        result: Result<Version, LoadError>,
    ) -> Result<Arc<Plugin>, RegistryError> {
        let version = result.map_err(|error| RegistryError::Refused(error.to_string()))?;
        let owned = self.own(name, &version).await;
        owned.map_err(|error| match error {
            StoreError::Conflict(_) => RegistryError::Refused(owned_by_another(&error)),
            error => RegistryError::Io(error.to_string()),
        })?;
        let target = path.clone();
        let written = blocking(move || {
            store_file::replace(&target, &bytes)
                .map_err(|error| LoadError::new(format!("{} cannot be written: {error}", target.display())))?;
            Files::at(target).ok_or_else(|| LoadError::new("the file is gone again"))
        });
        let files = match written.await {
            Ok(files) => files,
            Err(error) => {
                let before = self.plugins.get(name).and_then(|entry| entry.good.as_ref());
                let before = before.map(|(version, _)| version.names()).unwrap_or_default();
                if let Err(error) = self.store.own(name, before).await {
                    tracing::error!(plugin = name, %error, "task names could not be given back");
                }
                return Err(RegistryError::Io(error.to_string()));
            }
        };
        self.put_live(name, files, version).await
    }

    async fn put_live(&mut self, name: &str, files: Files, mut version: Version) -> Result<Arc<Plugin>, RegistryError> {
        let entry = self.plugins.entry(name.to_owned()).or_insert_with(|| Entry::new(files.clone()));
        let freed = entry.frees(&version);
        let source = version.source.take();
        entry.tried = None; // the manifest may have changed since it was read: what is on disk is looked at once more
        entry.files = files;
        entry.loading = None; // a load of the file before is overtaken
        entry.go_live(version, self.clock.now());
        let plugin = entry.plugin(name).map(Arc::new);
        self.publish();
        if freed {
            self.names_freed();
        }
        tracing::info!(plugin = name, "a plugin was pushed");
        self.keep(name, source);
        self.start_due();
        plugin.ok_or_else(|| RegistryError::UnknownPlugin(name.to_owned()))
    }

    pub(super) async fn remove(&mut self, name: &str) -> Result<(), RegistryError> {
        let entry = self
            .plugins
            .get(name)
            .ok_or_else(|| RegistryError::UnknownPlugin(name.to_owned()))?;
        let path = entry.files.path.clone();
        let removed = blocking(move || {
            store_file::remove(&path).map_err(|error| LoadError::new(format!("{} cannot be removed: {error}", path.display())))
        });
        removed.await.map_err(|error| RegistryError::Io(error.to_string()))?;
        self.forget(name).await;
        self.look().await; // another file of that name may take its place
        Ok(())
    }
}
