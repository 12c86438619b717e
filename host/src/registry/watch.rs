//! Hints that something changed on disk. They may be lost or too many: the slow rescan finds what they miss.

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::HashSet;
use std::path::PathBuf;

/// Watches folders, each by itself, and tells whenever something in one changes.
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    folders: HashSet<PathBuf>,
}

impl Watch {
    /// `changed` is called on a thread of its own, and must not block.
    pub(super) fn new(changed: impl Fn() + Send + 'static) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
            Ok(event) if !is_change(&event.kind) => (),
            _ => changed(), // also after an overflow: then anything may have changed
        });
        let watcher =
            watcher.inspect_err(|error| tracing::warn!(%error, "plugin directories are not watched, only looked at now and then"));
        Self {
            watcher: watcher.ok(),
            folders: HashSet::new(),
        }
    }

    /// Watches these folders and no others.
    pub(super) fn follow(&mut self, folders: Vec<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: HashSet<PathBuf> = folders.into_iter().collect();
        for gone in self.folders.difference(&wanted) {
            let _ = watcher.unwatch(gone); // it may be gone from disk, and its watch with it
        }
        let mut watched: HashSet<PathBuf> = self.folders.intersection(&wanted).cloned().collect();
        for new in wanted.difference(&self.folders) {
            match watcher.watch(new, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(new.clone());
                }
                Err(error) => tracing::debug!(folder = %new.display(), %error, "not watched; it is looked at now and then"),
            }
        }
        self.folders = watched;
    }
}

/// Reading changes nothing, and we read ourselves.
fn is_change(kind: &EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}
