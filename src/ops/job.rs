//! What a command must know if it is begun, killed and begun again, kept in the state folder while it is under way.

use crate::base::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const FORMAT: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Written<T> {
    format: u8,
    job: T,
}

/// The file of one request: equal requests have equal files.
#[derive(Debug, Clone)]
pub struct JobFile(PathBuf);

impl JobFile {
    /// `request` is what makes it this request and no other.
    pub fn of(state_dir: &Path, command: &str, request: &str) -> Self {
        Self(state_dir.join(format!("{command}-{:016x}.json", xxhash_rust::xxh3::xxh3_64(request.as_bytes()))))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn read<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let file = self.0.display();
        let bytes = match fs::read(&self.0) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::fatal(format!("{file} cannot be read: {error}"))),
        };
        match serde_json::from_slice::<Written<T>>(&bytes) {
            Ok(written) if written.format == FORMAT => Ok(Some(written.job)),
            Ok(written) => {
                Err(Error::refuse(format!("{file} has format {}: use the newer version that wrote it", written.format)))
            }
            Err(error) => Err(Error::refuse(format!("{file} is damaged ({error}); remove it to begin anew"))),
        }
    }

    /// Whole or not at all: written beside, then put in its place.
    pub fn write<T: Serialize>(&self, job: &T) -> Result<()> {
        let failed = |error: std::io::Error| Error::fatal(format!("{} cannot be written: {error}", self.0.display()));
        let beside = self.0.with_extension("new");
        let text = serde_json::to_vec(&Written { format: FORMAT, job }).map_err(Error::fatal)?;
        fs::write(&beside, text).map_err(failed)?;
        fs::File::open(&beside).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(&beside, &self.0).map_err(failed)
    }

    /// It is done. Nothing happens if there is none.
    pub fn remove(&self) -> Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::fatal(format!("{} cannot be removed: {error}", self.0.display())))
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
