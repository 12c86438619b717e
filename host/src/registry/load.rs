//! From files to a version of a plugin that can be swapped in: read, compiled, described and checked, with nothing changed yet.

use super::describe::{self, Described, Speaker};
use super::manifest::{self, Manifest};
use super::overrides;
use super::rules::Rules;
use super::snapshot::{Handler, Import, Plugin, PluginState};
use super::{Context, Options};
use crate::executor::{Engine, LoadError, MAX_COMPONENT};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a manifest.
const MAX_MANIFEST: usize = 1 << 20;
/// Sources that are in memory at once: a hundred large files that come together are not all read together.
const READ: usize = 4;

/// What two files held.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub wasm: Arc<[u8]>,
    pub manifest: Option<Arc<str>>,
    pub key: Key,
    /// Held as long as the bytes are.
    _room: Option<Arc<OwnedSemaphorePermit>>,
}

/// Tells whether two sources are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    wasm: [u8; 32],
    manifest: Option<[u8; 32]>,
}

impl Key {
    /// `sha256:…` of the component.
    pub(super) fn digest(&self) -> String {
        format!("sha256:{}", self.sha256())
    }

    /// The same in bare hexadecimal.
    pub(super) fn sha256(&self) -> String {
        use std::fmt::Write;
        self.wasm.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl Source {
    /// Blocks for as long as hashing takes.
    pub(super) fn new(wasm: Arc<[u8]>, manifest: Option<Arc<str>>) -> Self {
        let hash = |bytes: &[u8]| Sha256::digest(bytes).into();
        let key = Key {
            wasm: hash(&wasm),
            manifest: manifest.as_ref().map(|text| hash(text.as_bytes())),
        };
        Self {
            wasm,
            manifest,
            key,
            _room: None,
        }
    }

    /// Reads a component and the manifest beside it. Blocks.
    pub(super) fn read(path: &Path) -> Result<Self, LoadError> {
        let wasm = read(path, MAX_COMPONENT)?.ok_or_else(|| LoadError::new("the file is gone"))?;
        Ok(Self::new(wasm.into(), Self::read_manifest(path)?))
    }

    /// Gives its room back when its bytes go.
    pub(super) fn within(self, room: OwnedSemaphorePermit) -> Self {
        Self {
            _room: Some(Arc::new(room)),
            ..self
        }
    }

    /// Reads the manifest beside a component, where there is one. Blocks.
    pub(super) fn read_manifest(wasm: &Path) -> Result<Option<Arc<str>>, LoadError> {
        let path = wasm.with_extension("toml");
        let Some(bytes) = read(&path, MAX_MANIFEST)? else { return Ok(None) };
        let text = String::from_utf8(bytes).map_err(|_| LoadError::new(format!("{} is not UTF-8 text", path.display())))?;
        Ok(Some(text.into()))
    }
}

fn read(path: &Path, max: usize) -> Result<Option<Vec<u8>>, LoadError> {
    let failed = |error: std::io::Error| LoadError::host(format!("{} cannot be read: {error}", path.display()));
    // Opening a pipe would wait for whoever writes to it, for ever.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(LoadError::new(format!("{} is no plain file", path.display())));
    }
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > max {
        return Err(LoadError::new(format!("{} is larger than {max} bytes", path.display())));
    }
    Ok(Some(bytes))
}

/// A version of a plugin, ready to be swapped in.
#[derive(Debug)]
pub(super) struct Version {
    pub key: Key,
    pub handlers: Vec<Arc<Handler>>,
    pub version: Option<String>,
    pub description: Option<String>,
    pub imports: Vec<Import>,
    pub grants: Vec<String>,
    pub size: u64,
    pub compile_time: Option<Duration>,
    /// Schedules and triggers that come with it.
    pub rules: Arc<Rules>,
    /// What it was made of, until a copy is kept.
    pub source: Option<Source>,
}

impl Version {
    /// What the registry tells of it once it is loaded.
    pub(super) fn record(&self, name: &str) -> Plugin {
        Plugin {
            name: name.to_owned(),
            state: PluginState::Loaded,
            digest: Some(self.key.digest()),
            version: self.version.clone(),
            description: self.description.clone(),
            size: self.size,
            imports: self.imports.clone(),
            grants: self.grants.clone(),
            tasks: self.names(),
            error: None,
            loaded_at: None,
            compile_time: self.compile_time,
        }
    }

    /// The names that it claims.
    pub(super) fn names(&self) -> Vec<String> {
        self.handlers.iter().map(|handler| handler.definition.name.clone()).collect()
    }
}

/// What loading needs.
#[derive(Clone, Debug)]
pub(super) struct Loader {
    pub engine: Engine,
    pub context: Context,
    pub options: Arc<Options>,
    room: Arc<Semaphore>,
}

impl Loader {
    pub(super) fn new(engine: Engine, context: Context, options: Options) -> Self {
        Self {
            engine,
            context,
            options: Arc::new(options),
            room: Arc::new(Semaphore::new(READ)),
        }
    }

    /// The right to read another source into memory.
    pub(super) async fn room(&self) -> Result<OwnedSemaphorePermit, LoadError> {
        let room = self.room.clone().acquire_owned().await;
        room.map_err(|error| LoadError::host(error.to_string()))
    }

    /// Does everything that can be refused.
    pub(super) async fn load(&self, name: &str, source: Source) -> Result<Version, LoadError> {
        let this = self.clone();
        let (plugin, text) = (name.to_owned(), source.manifest.clone());
        let manifest = blocking(move || {
            let text = text.as_deref().unwrap_or_default();
            manifest::parse(&plugin, text, &this.context, &this.options.dirs).map_err(LoadError::new)
        })
        .await?;
        let key = source.key.clone();
        let digest = key.digest();
        if let Some(pin) = manifest.digest.as_ref().filter(|pin| digest != format!("sha256:{pin}")) {
            return Err(LoadError::new(format!(
                "the component is {digest}, and {name}.toml allows only sha256:{pin}: put the right file there or change the pin"
            )));
        }
        let size = source.wasm.len() as u64;
        let code = self
            .engine
            .load(source.wasm.clone(), &key.sha256(), manifest.grants.clone())
            .await?;
        let document = code.describe().await?;
        let imports = code.imports().into_iter().map(|(name, granted)| Import { name, granted });
        let imports = imports.collect();
        let compile_time = code.compile_time();
        let (described, handlers) = self.handlers(name, digest, &manifest, document, Arc::new(code)).await?;
        Ok(Version {
            key,
            handlers,
            version: described.version,
            description: described.description,
            imports,
            grants: manifest.sentences,
            size,
            compile_time,
            rules: manifest.rules,
            source: Some(source),
        })
    }

    async fn handlers(
        &self,
        name: &str,
        digest: String,
        manifest: &Manifest,
        document: String,
        code: Arc<crate::executor::Code>,
    ) -> Result<(Described, Vec<Arc<Handler>>), LoadError> {
        let (this, plugin, limits) = (self.clone(), name.to_owned(), manifest.limits);
        let (tasks, rules) = (manifest.tasks.clone(), manifest.rules.clone());
        blocking(move || {
            let speaker = Speaker {
                plugin: &plugin,
                digest: &digest,
                limits,
                executor: &this.context.executor,
            };
            let mut described = describe::parse(&document, &speaker).map_err(LoadError::new)?;
            let in_manifest = |why: String| LoadError::new(format!("{plugin}.toml: {why}"));
            let definitions = described.tasks.iter_mut().map(|(definition, _)| definition);
            overrides::apply(&tasks, definitions).map_err(in_manifest)?;
            let tasks = std::mem::take(&mut described.tasks).into_iter();
            let handlers = tasks.map(|(definition, schema)| Arc::new(Handler::new(definition, code.clone(), schema)));
            let handlers: Vec<_> = handlers.collect();
            match rules.misfit(&handlers) {
                Some(why) => Err(in_manifest(why)),
                None => Ok((described, handlers)),
            }
        })
        .await
    }
}

/// Loads one component with the manifest beside it as a host of this configuration would, and leaves everything as it is.
pub async fn load_one(file: &Path, engine: Engine, context: Context, options: Options) -> Result<(Plugin, Vec<Arc<Handler>>), LoadError> {
    let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
    super::check_name(&name).map_err(LoadError::new)?;
    let file = file.to_owned();
    let source = blocking(move || Source::read(&file)).await?;
    let version = Loader::new(engine, context, options).load(&name, source).await?;
    Ok((version.record(&name), version.handlers))
}

/// Off the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, LoadError> + Send + 'static) -> Result<T, LoadError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(LoadError::new(format!("loading failed: {error}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_that_is_a_pipe_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let wasm = folder.path().join("p.wasm");
        std::fs::write(&wasm, "x").unwrap();
        let made = std::process::Command::new("mkfifo").arg(folder.path().join("p.toml")).status();
        assert!(made.unwrap().success());
        assert!(Source::read(&wasm).unwrap_err().to_string().contains("no plain file"));
    }
}
