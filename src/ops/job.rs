//! What a command must know if it is begun, killed and begun again, kept in the state folder while it is under way.

use crate::base::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const FORMAT: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Written<T> {
    format: u8,
    job: T,
}

/// The file of one request: equal requests have equal files.
#[derive(Debug, Clone)]
pub struct JobFile(Place);

#[derive(Debug, Clone)]
enum Place {
    Disk(PathBuf),
    Memory(Arc<Mutex<Option<Vec<u8>>>>),
}

impl JobFile {
    /// `request` is what makes it this request and no other.
    pub fn of(state_dir: &Path, command: &str, request: &str) -> Self {
        let name = format!("{command}-{:016x}.json", xxhash_rust::xxh3::xxh3_64(request.as_bytes()));
        Self(Place::Disk(state_dir.join(name)))
    }

    /// Outlives a command as long as a clone of it does: for worlds that have no disk.
    pub fn in_memory() -> Self {
        Self(Place::Memory(Arc::default()))
    }

    pub fn path(&self) -> &Path {
        match &self.0 {
            Place::Disk(path) => path,
            Place::Memory(_) => Path::new("(memory)"),
        }
    }

    pub fn read<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let file = self.path().display();
        let Some(bytes) = self.bytes()? else { return Ok(None) };
        match serde_json::from_slice::<Written<T>>(&bytes) {
            Ok(written) if written.format == FORMAT => Ok(Some(written.job)),
            Ok(written) => {
                Err(Error::refuse(format!("{file} has format {}: use the newer version that wrote it", written.format)))
            }
            Err(error) => Err(Error::refuse(format!("{file} is damaged ({error}); remove it to begin anew"))),
        }
    }

    fn bytes(&self) -> Result<Option<Vec<u8>>> {
        match &self.0 {
            Place::Memory(bytes) => Ok(bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            Place::Disk(path) => match fs::read(path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(Error::fatal(format!("{} cannot be read: {error}", path.display()))),
            },
        }
    }

    /// Whole or not at all: written beside, then put in its place.
    pub fn write<T: Serialize>(&self, job: &T) -> Result<()> {
        let text = serde_json::to_vec(&Written { format: FORMAT, job }).map_err(Error::fatal)?;
        let path = match &self.0 {
            Place::Disk(path) => path,
            Place::Memory(bytes) => {
                *bytes.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                return Ok(());
            }
        };
        let failed = |error: std::io::Error| Error::fatal(format!("{} cannot be written: {error}", path.display()));
        let beside = path.with_extension("new");
        fs::write(&beside, text).map_err(failed)?;
        fs::File::open(&beside).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(&beside, path).map_err(failed)
    }

    /// It is done. Nothing happens if there is none.
    pub fn remove(&self) -> Result<()> {
        let path = match &self.0 {
            Place::Disk(path) => path,
            Place::Memory(bytes) => {
                *bytes.lock().unwrap_or_else(PoisonError::into_inner) = None;
                return Ok(());
            }
        };
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::fatal(format!("{} cannot be removed: {error}", path.display())))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_read_back_and_belongs_to_its_request() {
        let folder = tempfile::tempdir().unwrap();
        let file = JobFile::of(folder.path(), "rebuild", "products");
        assert_eq!(file.read::<Vec<u8>>(), Ok(None));
        file.write(&vec![1u8, 2]).unwrap();
        assert_eq!(JobFile::of(folder.path(), "rebuild", "products").read(), Ok(Some(vec![1u8, 2])));
        assert_eq!(JobFile::of(folder.path(), "rebuild", "articles").read::<Vec<u8>>(), Ok(None));
        fs::write(file.path(), b"{}").unwrap();
        assert!(file.read::<Vec<u8>>().unwrap_err().to_string().contains("remove it to begin anew"));
        file.remove().unwrap();
        file.remove().unwrap();
        assert_eq!(file.read::<Vec<u8>>(), Ok(None));
    }
}
