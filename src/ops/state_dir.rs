//! The state folder: made where it is missing, and written to once, to find out at the start rather than later.

use crate::base::error::{Error, Result};
use std::fs;
use std::path::Path;

pub fn prepare(folder: &Path) -> Result<()> {
    let probe = folder.join(format!(".probe-{}", std::process::id()));
    let outcome = fs::create_dir_all(folder).and_then(|()| fs::write(&probe, b"")).and_then(|()| fs::remove_file(&probe));
    outcome.map_err(|error| {
        let folder = folder.display();
        Error::refuse(format!(
            "state_dir {folder} cannot be written: {error}; give this user the right to write there, or name another folder"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_and_left_empty() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/b");
        prepare(&state).unwrap();
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), b"").unwrap();
        let error = prepare(&folder.path().join("file/state")).unwrap_err().to_string();
        assert!(error.contains("file/state cannot be written") && error.contains("or name another folder"), "{error}");
    }
}
