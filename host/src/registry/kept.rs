//! Private copies of the last good versions, so that a broken file does not take a plugin down at the next start either.
//!
//! `<data>/plugins/<sha256>.wasm` holds a component, `<data>/plugins/<name>.json` says which one a plugin ran last and under which
//! manifest. A convenience: where it cannot be kept, that is logged and nothing else.

use super::load::Source;
use super::store_file;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The directory of copies.
#[derive(Clone, Debug)]
pub(super) struct Kept(PathBuf);

#[derive(Serialize, Deserialize)]
struct Note {
    /// 64 hexadecimal digits.
    sha256: String,
    manifest: Option<String>,
}

impl Kept {
    pub(super) fn within(data_dir: &Path) -> Self {
        Self(data_dir.join("plugins"))
    }

    /// Keeps a copy of what runs now. Blocks.
    pub(super) fn save(&self, name: &str, source: &Source) -> std::io::Result<()> {
        let sha256 = source.key.sha256();
        let copy = self.0.join(format!("{sha256}.wasm"));
        if std::fs::metadata(&copy).map_or(0, |file| file.len()) != source.wasm.len() as u64 {
            store_file::replace(&copy, &source.wasm)?;
        }
        let note = Note {
            sha256,
            manifest: source.manifest.as_deref().map(str::to_owned),
        };
        store_file::replace(&self.note(name), &serde_json::to_vec(&note)?)?;
        self.sweep()
    }

    /// What a plugin ran last; `None` where that is not known or not whole. Blocks.
    pub(super) fn load(&self, name: &str) -> Option<Source> {
        let note: Note = serde_json::from_slice(&std::fs::read(self.note(name)).ok()?).ok()?;
        let wasm = std::fs::read(self.0.join(format!("{}.wasm", note.sha256))).ok()?;
        let source = Source::new(wasm.into(), note.manifest.map(Into::into));
        (source.key.sha256() == note.sha256).then_some(source)
    }

    /// Gives up the copy of a plugin that was removed. Blocks.
    pub(super) fn forget(&self, name: &str) -> std::io::Result<()> {
        match std::fs::remove_file(self.note(name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.and_then(|()| self.sweep()),
        }
    }

    fn note(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.json"))
    }

    /// Removes components that no note names.
    fn sweep(&self) -> std::io::Result<()> {
        let paths: Vec<PathBuf> = std::fs::read_dir(&self.0)?.flatten().map(|entry| entry.path()).collect();
        let of = |extension: &'static str| {
            paths
                .iter()
                .filter(move |path| path.extension().is_some_and(|found| found == extension))
        };
        let note = |path: &PathBuf| serde_json::from_slice::<Note>(&std::fs::read(path).ok()?).ok();
        let named: HashSet<String> = of("json").filter_map(note).map(|note| note.sha256).collect();
        let unnamed = |path: &&PathBuf| {
            !path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .is_some_and(|stem| named.contains(stem))
        };
        of("wasm").filter(unnamed).try_for_each(std::fs::remove_file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_kept_until_nobody_needs_it() {
        let root = tempfile::tempdir().unwrap();
        let kept = Kept::within(root.path());
        let source = |wasm: &[u8]| Source::new(wasm.into(), Some("strict = true".into()));
        let copies = || std::fs::read_dir(root.path().join("plugins")).unwrap().count();
        assert!(kept.load("p").is_none());
        kept.forget("p").unwrap();
        kept.save("p", &source(b"one")).unwrap();
        kept.save("q", &source(b"one")).unwrap();
        assert_eq!(copies(), 3);
        kept.save("p", &source(b"two")).unwrap();
        assert_eq!((copies(), &*kept.load("p").unwrap().wasm), (4, &b"two"[..]));
        kept.forget("p").unwrap();
        assert!(kept.load("p").is_none() && kept.load("q").is_some());
        assert_eq!(copies(), 2);
    }
}
