//! Hints that something changed on disk. They may be lost or too many: the slow rescan finds what they miss.

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Watches folders, each by itself, and tells whenever something in one changes.
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    folders: HashSet<PathBuf>,
}

impl Watch {
    /// `changed` is called on a thread of its own, and must not block. It is told whether a file came that may be whole.
    pub(super) fn new(changed: impl Fn(bool) + Send + 'static) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
            Ok(event) if !is_change(&event.kind) => (),
            Ok(event) => changed(is_end(&event.kind) && event.paths.iter().any(|path| is_plugins(path))),
            Err(_) => changed(false), // as after an overflow: anything may have changed
        });
        let watcher =
            watcher.inspect_err(|error| tracing::warn!(%error, "plugin directories are not watched, only looked at now and then"));
        Self {
            watcher: watcher.ok(),
            folders: HashSet::new(),
        }
    }

    /// Watches these folders and no others. Whether there is one that was not watched before: what came into it meanwhile was not told.
    pub(super) fn follow(&mut self, folders: Vec<PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let wanted: HashSet<PathBuf> = folders.into_iter().collect();
        for gone in self.folders.difference(&wanted) {
            let _ = watcher.unwatch(gone); // it may be gone from disk, and its watch with it
        }
        let mut is_new = false;
        let mut watched: HashSet<PathBuf> = self.folders.intersection(&wanted).cloned().collect();
        for new in wanted.difference(&self.folders) {
            match watcher.watch(new, RecursiveMode::NonRecursive) {
                Ok(()) => is_new |= watched.insert(new.clone()),
                Err(error) => tracing::debug!(folder = %new.display(), %error, "not watched; it is looked at now and then"),
            }
        }
        self.folders = watched;
        is_new
    }
}

/// Reading changes nothing, and we read ourselves.
fn is_change(kind: &EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}

/// What comes last when a file is put there: it is closed after it was written, or renamed.
fn is_end(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Modify(ModifyKind::Name(_))
    )
}

fn is_plugins(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| extension == "wasm" || extension == "toml")
}
