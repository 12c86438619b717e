//! A plugin whose file was broken while nobody looked runs as it did before: from the private copy of its last good version.

use super::entry::Loading;
use super::event::Event;
use super::load::{Source, Version, blocking};
use super::service::Service;

impl Service {
    /// Keeps a private copy of what was made live: beside the loop, since a disk takes its time, and one after another.
    pub(super) fn keep(&mut self, name: &str, source: Option<Source>) {
        let Some(source) = source else { return };
        let (kept, plugin) = (self.kept.clone(), name.to_owned());
        self.beside(move || {
            if let Err(error) = kept.save(&plugin, &source) {
                tracing::warn!(plugin, %error, "no private copy of a plugin could be kept");
            }
        });
    }

    /// Gives up the private copy of a plugin that was removed.
    pub(super) fn unkeep(&mut self, name: &str) {
        let (kept, plugin) = (self.kept.clone(), name.to_owned());
        self.beside(move || {
            if let Err(error) = kept.forget(&plugin) {
                tracing::debug!(plugin, %error, "the private copy of a removed plugin stays");
            }
        });
    }

    fn beside(&mut self, work: impl FnOnce() + Send + 'static) {
        let before = self.keeping.take();
        self.keeping = Some(tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await; // what went wrong was told
            }
            let _ = tokio::task::spawn_blocking(work).await;
        }));
    }

    /// Loads what a plugin ran last, once, where the file that is there now is broken and nothing runs.
    pub(super) fn revive(&mut self, name: &str) {
        let Some(entry) = self.plugins.get_mut(name).filter(|entry| entry.good.is_none() && !entry.revived) else {
            return;
        };
        self.started += 1;
        let number = self.started;
        entry.revived = true;
        let (kept, loader, events, name) = (self.kept.clone(), self.loader.clone(), self.events.clone(), name.to_owned());
        let task = self.loads.spawn(async move {
            let (plugin, room) = (name.clone(), loader.room().await);
            let source = blocking(move || Ok(kept.load(&plugin).zip(room.ok()))).await.ok().flatten();
            let version = match source {
                Some((source, room)) => loader.load(&name, source.within(room)).await.ok(),
                None => None,
            };
            let _ = events.send(Event::Revived { name, number, version }).await; // the registry is stopped
        });
        entry.loading = Some(Loading { number, task });
    }

    pub(super) async fn revived(&mut self, name: &str, number: u64, version: Option<Version>) {
        let Some(entry) = self.plugins.get_mut(name).filter(|entry| entry.is_loading(number)) else {
            return; // removed, or overtaken by a push
        };
        entry.loading = None;
        if let Some(mut version) = version
            && self.own(name, &version).await.is_ok()
            && let Some(entry) = self.plugins.get_mut(name)
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
