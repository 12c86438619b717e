//! Where one plugin stands: what is on disk, what runs, and what is wrong.

use super::load::Version;
use super::scan::Files;
use super::snapshot::{Plugin, PluginState};
use crate::model::Time;
use std::path::PathBuf;
use tokio::task::AbortHandle;

/// A file that fails to load is taken for half copied while it is younger than this.
const YOUNG: chrono::TimeDelta = chrono::TimeDelta::seconds(2);

/// One plugin.
#[derive(Debug)]
pub(super) struct Entry {
    /// What was seen last.
    pub files: Files,
    /// Other files of its name, which are not used.
    pub others: Vec<PathBuf>,
    /// What was loaded last, or is being loaded.
    pub tried: Option<Files>,
    /// The load under way.
    pub loading: Option<Loading>,
    /// What runs, and since when.
    pub good: Option<(Version, Time)>,
    /// Whether the last good version of an earlier run has been tried.
    pub revived: bool,
    /// Why `tried` was refused.
    pub trouble: Option<Trouble>,
    /// How often in a row that was no fault of the file.
    setbacks: u32,
}

/// A load under way. Dropping it, as when the plugin is removed or a push overtakes it, gives it up.
#[derive(Debug)]
pub(super) struct Loading {
    pub number: u64,
    pub task: AbortHandle,
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a file was refused.
#[derive(Debug)]
pub(super) struct Trouble {
    pub sentence: String,
    pub since: Time,
    /// Whether people are told: not while the file may be half copied.
    pub shown: bool,
    /// When the same file is worth another try.
    pub again: Again,
}

/// When the same file is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// When it is asked for.
    Never,
    /// When another plugin gives up a task name.
    NamesFreed,
    /// Soon, and then less and less often: the host or the store was in trouble, not the file.
    Soon,
}

impl Entry {
    pub(super) fn new(files: Files) -> Self {
        Self {
            files,
            others: Vec::new(),
            tried: None,
            loading: None,
            good: None,
            revived: false,
            trouble: None,
            setbacks: 0,
        }
    }

    /// Whether this load is the one under way.
    pub(super) fn is_loading(&self, number: u64) -> bool {
        self.loading.as_ref().is_some_and(|loading| loading.number == number)
    }

    /// Makes a version the one that runs.
    pub(super) fn go_live(&mut self, version: Version, now: Time) {
        self.good = Some((version, now));
        self.trouble = None;
        self.setbacks = 0;
    }

    /// Whether the host's or the store's trouble was long enough ago.
    pub(super) fn may_try_again(&self, now: Time) -> bool {
        let wait = chrono::TimeDelta::seconds(1 << self.setbacks.min(6)) - chrono::TimeDelta::seconds(1);
        let soon = |trouble: &Trouble| trouble.again == Again::Soon && now - trouble.since >= wait;
        self.trouble.as_ref().is_some_and(soon)
    }

    /// Whether what is on disk has not been looked into.
    pub(super) fn is_due(&self) -> bool {
        self.loading.is_none() && self.tried.as_ref() != Some(&self.files)
    }

    /// Whether the file may still be half copied.
    pub(super) fn is_quiet(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| !trouble.shown)
    }

    /// Notes why the file was refused; told at once where the file is old enough, or somebody waits for the answer.
    pub(super) fn refuse(&mut self, sentence: String, again: Again, now: Time, asked: bool) {
        let young = now - self.files.modified() < YOUNG;
        self.setbacks = if again == Again::Soon { self.setbacks.saturating_add(1) } else { 0 };
        self.trouble = Some(Trouble {
            sentence,
            since: now,
            shown: asked || !young || again != Again::Never,
            again,
        });
    }

    /// Tells of a failure that has lasted too long for a copy under way; whether there was one.
    pub(super) fn tell_if_old(&mut self, now: Time) -> bool {
        let modified = self.files.modified();
        match &mut self.trouble {
            Some(trouble) if !trouble.shown && (now - modified >= YOUNG || now - trouble.since >= YOUNG) => {
                trouble.shown = true;
                true
            }
            _ => false,
        }
    }

    /// Whether a new version gives up a name that the running one has.
    pub(super) fn frees(&self, version: &Version) -> bool {
        let names = version.names();
        let before = self.good.as_ref().map(|(version, _)| version.names()).unwrap_or_default();
        before.iter().any(|name| !names.contains(name))
    }

    /// As operators see it; `None` before anything can be said.
    pub(super) fn plugin(&self, name: &str) -> Option<Plugin> {
        let trouble = self.trouble.as_ref().filter(|trouble| trouble.shown);
        if self.good.is_none() && trouble.is_none() {
            return None;
        }
        let error = trouble.map(|trouble| trouble.sentence.clone()).or_else(|| self.rivals());
        Some(match &self.good {
            Some((version, since)) => Plugin {
                error,
                loaded_at: Some(*since),
                ..version.record(name)
            },
            None => Plugin {
                name: name.to_owned(),
                state: PluginState::Failed,
                digest: None,
                version: None,
                description: None,
                size: self.files.size(),
                imports: Vec::new(),
                grants: Vec::new(),
                tasks: Vec::new(),
                error,
                loaded_at: None,
                compile_time: None,
            },
        })
    }

    fn rivals(&self) -> Option<String> {
        let other = self.others.first()?;
        Some(format!(
            "{} is not used, because {} has the same name and comes first: rename or remove one",
            other.display(),
            self.files.path.display()
        ))
    }
}
