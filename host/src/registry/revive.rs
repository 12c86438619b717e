//! A plugin whose file was broken while nobody looked runs as it did before: from the private copy of its last good version.

use super::event::Event;
use super::load::{Source, Version, blocking};
use super::service::Service;
use crate::executor::LoadError;

impl Service {
    /// Keeps a private copy of what was made live.
    pub(super) async fn keep(&self, name: &str, source: Option<Source>) {
        let Some(source) = source else { return };
        let (kept, plugin) = (self.kept.clone(), name.to_owned());
        if let Err(error) = blocking(move || kept.save(&plugin, &source).map_err(|error| LoadError::new(error.to_string()))).await {
            tracing::warn!(plugin = name, %error, "no private copy of a plugin could be kept");
        }
    }

    /// Loads what a plugin ran last, once, where the file that is there now is broken and nothing runs.
    pub(super) fn revive(&mut self, name: &str) {
        let Some(entry) = self.plugins.get_mut(name).filter(|entry| entry.good.is_none() && !entry.revived) else {
            return;
        };
        self.started += 1;
        let number = self.started;
        (entry.revived, entry.loading) = (true, Some(number));
        let (kept, loader, events, name) = (self.kept.clone(), self.loader.clone(), self.events.clone(), name.to_owned());
        self.loads.spawn(async move {
            let plugin = name.clone();
            let source = blocking(move || Ok(kept.load(&plugin))).await.ok().flatten();
            let version = match source {
                Some(source) => loader.load(&name, source).await.ok(),
                None => None,
            };
            let _ = events.send(Event::Revived { name, number, version }).await; // the registry is stopped
        });
    }

    pub(super) async fn revived(&mut self, name: &str, number: u64, version: Option<Version>) {
        let Some(entry) = self.plugins.get_mut(name).filter(|entry| entry.loading == Some(number)) else {
            return; // removed, or overtaken by a push
        };
        entry.loading = None;
        if let Some(mut version) = version
            && self.store.own(name, version.names()).await.is_ok()
        {
            version.source = None; // it came from there
            tracing::warn!(
                plugin = name,
                "the last good version runs, because the file that is there now was refused"
            );
            entry.good = Some((version, self.clock.now()));
            self.publish();
        }
        self.start_due();
        self.look_soon_if_quiet();
    }
}
