//! Compiled code that is kept, so that a plugin is compiled once: in the host's private directory, as
//! `<sha256>-<settings>-<sha256 of the code>.cwasm`, and mapped from there.
//!
//! A file that does not match its name is thrown away and made again. So nothing is made durable: what a power cut tears does not match.

use super::compile::blocking;
use super::engine::LoadError;
use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Bytes of compiled code that are kept.
const MAX_CACHE: u64 = 1 << 30;

/// The directory.
pub(super) struct Cache {
    engine: Engine,
    dir: PathBuf,
    /// Fingerprint of the code-generation settings and of the engine's version.
    settings: String,
    /// Numbers the files under way.
    made: AtomicU64,
}

/// A file under way. It is gone once this is dropped, unless it was kept.
pub(super) struct Made(PathBuf);

impl Made {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // it was kept, or never made
    }
}

impl Cache {
    /// Prepares the directory; what other versions left there is removed.
    pub(super) fn new(engine: &Engine, dir: PathBuf) -> anyhow::Result<Self> {
        let mut hasher = std::hash::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let settings = format!("{:016x}", hasher.finish());
        private_dir(&dir).with_context(|| format!("cannot use {} for compiled code", dir.display()))?;
        // The compiler is started in another folder.
        let dir = dir.canonicalize()?;
        for entry in std::fs::read_dir(&dir)?.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let ours = name.split('-').nth(1) == Some(settings.as_str()) && name.ends_with(".cwasm");
            if !ours {
                let _ = std::fs::remove_file(entry.path()); // it costs room, nothing else
            }
        }
        Ok(Self {
            engine: engine.clone(),
            dir,
            settings,
            made: AtomicU64::new(0),
        })
    }

    fn prefix(&self, sha256: &str) -> String {
        format!("{sha256}-{}-", self.settings)
    }

    /// The code of a component with this SHA-256, in hexadecimal; `None` where it has to be made.
    pub(super) async fn find(&self, sha256: &str) -> Option<Component> {
        let (dir, engine, prefix) = (self.dir.clone(), self.engine.clone(), self.prefix(sha256));
        let found = blocking(move || {
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let Some(expect) = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".cwasm")) else {
                    continue;
                };
                match read_code(&engine, &entry.path(), expect) {
                    Ok(component) => return Ok(Some(component)),
                    Err(error) => {
                        tracing::warn!(file = name, error = format!("{error:#}"), "compiled code is damaged and made again");
                        let _ = std::fs::remove_file(entry.path());
                    }
                }
            }
            Ok(None)
        });
        found.await.ok().flatten()
    }

    /// Where the code of a component may be written.
    pub(super) fn room_for(&self, sha256: &str) -> Made {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}new-{}-{number}", self.prefix(sha256), std::process::id());
        Made(self.dir.join(name))
    }

    /// Gives the code the name that its content asks for, and maps it.
    pub(super) async fn keep(&self, made: Made, sha256: &str) -> Result<Component, LoadError> {
        let (dir, engine, prefix) = (self.dir.clone(), self.engine.clone(), self.prefix(sha256));
        let keep = move || -> anyhow::Result<Component> {
            let kept = dir.join(format!("{prefix}{}.cwasm", hash_file(made.path())?));
            std::fs::rename(made.path(), &kept)?;
            let component = map_code(&engine, &kept)?;
            prune(&dir, &kept)?;
            Ok(component)
        };
        blocking(move || keep().map_err(|error| LoadError::host(format!("compiled code could not be kept: {error:#}")))).await
    }
}

fn read_code(engine: &Engine, path: &Path, expect: &str) -> anyhow::Result<Component> {
    if hash_file(path)? != expect {
        bail!("the content does not match the name");
    }
    map_code(engine, path)
}

/// Maps code whose content was just found to match its name.
fn map_code(engine: &Engine, path: &Path) -> anyhow::Result<Component> {
    #[expect(
        unsafe_code,
        reason = "the file is the compiler's own: in a directory that only this user can write, whole by its hash, and never changed once named"
    )]
    // SAFETY: as said above.
    let component = unsafe { Component::deserialize_file(engine, path) }?;
    Ok(component)
}

/// Removes what was made longest ago, once all that is kept is too much. What runs stays mapped.
fn prune(dir: &Path, latest: &Path) -> std::io::Result<()> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)?.flatten() {
        let metadata = entry.metadata()?;
        if entry.path() != latest && entry.path().extension().is_some_and(|extension| extension == "cwasm") {
            files.push((metadata.modified()?, metadata.len(), entry.path()));
        }
    }
    files.sort();
    let mut room = MAX_CACHE.saturating_sub(std::fs::metadata(latest)?.len());
    for (_, size, path) in files.into_iter().rev() {
        match room.checked_sub(size) {
            Some(left) => room = left,
            None => {
                room = 0;
                std::fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

fn hash_file(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    Ok(hex(&hasher.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn private_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_was_made_longest_ago_gives_way() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, mib: u64, age: u64| {
            let path = dir.path().join(name);
            let file = std::fs::File::create(&path).unwrap();
            file.set_len(mib << 20).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age))
                .unwrap();
            path
        };
        let latest = make("latest.cwasm", 400, 9);
        let kept = [make("new.cwasm", 300, 1), make("newer.cwasm", 300, 0), make("other.txt", 900, 9)];
        let gone = [make("old.cwasm", 100, 2), make("older.cwasm", 1, 3)];
        prune(dir.path(), &latest).unwrap();
        assert!(latest.exists() && kept.iter().all(|path| path.exists()));
        assert!(!gone.iter().any(|path| path.exists()));
    }
}
