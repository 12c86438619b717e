//! What lies in the plugin directories, by name, size and time: cheap enough to be done every other second.

use super::Options;
use crate::model::{Time, name};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Folders that builds fill: no plugins there.
const SKIPPED: [&str; 2] = ["target", "node_modules"];
/// Files of one scan that are looked at; a directory with more is not one of plugins.
const MAX_FILES: usize = 10_000;

/// Tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    size: u64,
    inode: u64,
    device: u64,
    modified: (i64, i64),
    /// Nobody can set it, so it tells of a change that kept size and time of modification.
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            inode: metadata.ino(),
            device: metadata.dev(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn modified(&self) -> Time {
        let nanoseconds = u32::try_from(self.modified.1).unwrap_or(0);
        Time::from_timestamp(self.modified.0, nanoseconds).unwrap_or_default()
    }
}

/// The two files of a plugin at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    pub path: PathBuf,
    stamp: Stamp,
    manifest: Option<Stamp>,
}

impl Files {
    /// Looks at a component and the manifest beside it; `None` where there is no such file.
    pub(super) fn at(path: PathBuf) -> Option<Self> {
        let metadata = std::fs::metadata(&path).ok().filter(Metadata::is_file)?;
        let manifest = std::fs::metadata(path.with_extension("toml")).ok().filter(Metadata::is_file);
        Some(Self {
            stamp: Stamp::of(&metadata),
            manifest: manifest.as_ref().map(Stamp::of),
            path,
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.stamp.size
    }

    /// When one of the two was changed last.
    pub(super) fn modified(&self) -> Time {
        let manifest = self.manifest.as_ref().map(Stamp::modified);
        self.stamp.modified().max(manifest.unwrap_or_default())
    }
}

/// A plugin's files, and others of the same name that lose to them.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub files: Files,
    pub others: Vec<PathBuf>,
}

/// What a scan saw.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub plugins: BTreeMap<String, Found>,
    /// Directories and the folders in them, to be watched.
    pub folders: Vec<PathBuf>,
    /// Directories that are there and cannot be read: nobody knows what is in them.
    pub unreadable: Vec<(PathBuf, String)>,
    /// Files whose names no plugin can have.
    pub misnamed: Vec<PathBuf>,
}

/// Looks at all plugin directories. Blocks.
pub(super) fn scan(options: &Options) -> Scan {
    let mut scan = Scan::default();
    for dir in &options.dirs {
        let folders = scan.folder(dir);
        for folder in folders {
            scan.folder(&folder);
        }
    }
    scan
}

impl Scan {
    /// Takes the files of one folder; returns the folders in it.
    fn folder(&mut self, dir: &Path) -> Vec<PathBuf> {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                self.unreadable.push((dir.to_owned(), error.to_string()));
                return Vec::new();
            }
        };
        self.folders.push(dir.to_owned());
        let mut paths: Vec<PathBuf> = entries.flatten().take(MAX_FILES + 1).map(|entry| entry.path()).collect();
        if paths.len() > MAX_FILES {
            let why = format!("it has more than {MAX_FILES} entries, of which only some are looked at");
            self.unreadable.push((dir.to_owned(), why));
        }
        paths.sort();
        let mut folders = Vec::new();
        for path in paths {
            let Some(file) = path.file_name().and_then(|file| file.to_str()) else {
                continue;
            };
            if file.starts_with('.') || SKIPPED.contains(&file) {
                continue;
            }
            if path.extension().is_some_and(|extension| extension == "wasm") {
                self.file(path);
            } else if path.is_dir() {
                folders.push(path);
            }
        }
        folders
    }

    fn file(&mut self, path: PathBuf) {
        let Some(files) = Files::at(path) else { return };
        let stem = files.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if !name::is_valid(stem) {
            return self.misnamed.push(files.path);
        }
        match self.plugins.get_mut(stem) {
            Some(found) => found.others.push(files.path),
            None => {
                let stem = stem.to_owned();
                self.plugins.insert(stem, Found { files, others: Vec::new() });
            }
        }
    }

    /// Whether a file may still be there although it was not seen.
    pub(super) fn may_hide(&self, path: &Path) -> bool {
        self.unreadable.iter().any(|(dir, _)| path.starts_with(dir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_found_one_level_deep_and_the_first_of_a_name_wins() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            "a/one.wasm",
            "a/one.toml",
            "a/orphan.toml",
            "a/deep/two.wasm",
            "a/deep/deeper/no.wasm",
            "a/target/no.wasm",
            "a/.hidden/no.wasm",
            "a/.no.wasm",
            "a/bad name.wasm",
            "a/deep/one.wasm",
            "b/one.wasm",
            "b/folder.wasm/x",
        ];
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let dirs = ["a", "b", "missing"].map(|dir| root.path().join(dir)).to_vec();
        let scan = scan(&Options {
            dirs,
            ..Options::default()
        });
        assert_eq!(scan.plugins.keys().collect::<Vec<_>>(), ["one", "two"]);
        let one = &scan.plugins["one"];
        assert_eq!(one.files.path, root.path().join("a/one.wasm"));
        assert!(one.files.manifest.is_some());
        assert_eq!(one.others, [root.path().join("a/deep/one.wasm"), root.path().join("b/one.wasm")]);
        assert_eq!(scan.misnamed, [root.path().join("a/bad name.wasm")]);
        assert_eq!(scan.folders.len(), 3);
    }
    #[test]
    fn a_directory_with_too_many_files_hides_some_and_loses_none() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: String| root.path().join(name);
        for n in 0..=MAX_FILES {
            std::fs::write(path(format!("{n}.txt")), "").unwrap();
        }
        let scan = scan(&Options {
            dirs: vec![root.path().to_owned()],
            ..Options::default()
        });
        assert!(scan.may_hide(&path("p.wasm".to_owned())));
    }

    #[test]
    fn a_change_that_hides_itself_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("p.wasm");
        std::fs::write(&path, "one").unwrap();
        let before = Files::at(path.clone()).unwrap();
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(&path, "two").unwrap();
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(modified)
            .unwrap();
        let after = Files::at(path).unwrap();
        assert_eq!(before.modified(), after.modified());
        assert_ne!(before, after);
    }
}
