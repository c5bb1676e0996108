//! A journal's file: one process at a time, every record on the disk before it is acknowledged.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use cairn_ledger::hash::Hash;
use cairn_ledger::intake::{Journal, Said};
use ed25519_dalek::SigningKey;

use crate::exit::Failure;
use crate::system;

/// A journal that is open for writing.
#[derive(Debug)]
pub struct JournalFile {
    /// What it says.
    pub journal: Journal,
    path: PathBuf,
    file: File,
}

/// A file's name and what is wrong with it.
fn wrong(path: &Path, what: impl std::fmt::Display) -> Failure {
    Failure::Failed(format!("{}: {what}", path.display()))
}

/// A record that cannot be trusted to be on the disk.
fn unwritten(path: &Path, error: &io::Error) -> Failure {
    wrong(
        path,
        format_args!("{error}; the record is not kept: once there is space, record it again"),
    )
}

impl JournalFile {
    /// Begins a journal in a new file that only its owner reads.
    pub fn create(
        path: &Path,
        station: &SigningKey,
        chain_id: &Hash,
        region: String,
    ) -> Result<JournalFile, Failure> {
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create_new(true).mode(0o600);
        let file = options.open(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => wrong(
                path,
                "there is a file of this name; go on with it, or name another one",
            ),
            _ => wrong(path, error),
        })?;
        let (journal, frame) = Journal::open(station, chain_id, region, system::now_ms());
        let mut created = JournalFile {
            journal,
            path: path.to_owned(),
            file,
        };
        created.lock()?;
        created.append(&frame)?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let synced = File::open(folder.unwrap_or(Path::new("."))).and_then(|f| f.sync_all());
        synced.map_err(|error| wrong(path, error))?;
        Ok(created)
    }

    /// Opens a journal. What a power loss tore is cut off, and said.
    pub fn open(path: &Path) -> Result<JournalFile, Failure> {
        let file = OpenOptions::new().read(true).append(true).open(path);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => wrong(
                path,
                "there is no such journal; begin one with: cairn intake begin",
            ),
            _ => wrong(path, error),
        })?;
        let (journal, bytes, whole) = {
            let mut bytes = Vec::new();
            let read = (&file).read_to_end(&mut bytes);
            read.map_err(|error| wrong(path, error))?;
            let (journal, whole) = Journal::read(&bytes).map_err(|error| wrong(path, error))?;
            (journal, bytes.len(), whole)
        };
        let opened = JournalFile {
            journal,
            path: path.to_owned(),
            file,
        };
        opened.lock()?;
        if whole < bytes {
            let cut = opened.file.set_len(whole as u64);
            let synced = cut.and_then(|()| opened.file.sync_all());
            synced.map_err(|error| wrong(path, error))?;
            eprintln!(
                "{}: the last record was never finished ({} bytes): it was not acknowledged, and is \
                 removed; record it again if it is missing",
                path.display(),
                bytes - whole
            );
        }
        Ok(opened)
    }

    /// Reads a journal and changes nothing.
    pub fn read(path: &Path) -> Result<Journal, Failure> {
        let bytes = fs::read(path).map_err(|error| wrong(path, error))?;
        let (journal, _) = Journal::read(&bytes).map_err(|error| wrong(path, error))?;
        Ok(journal)
    }

    fn lock(&self) -> Result<(), Failure> {
        let locked = self.file.try_lock();
        locked.map_err(|_| wrong(&self.path, "another process has this journal open"))
    }

    /// Adds records; returns when all of them are on the disk.
    pub fn add(
        &mut self,
        station: &SigningKey,
        records: impl IntoIterator<Item = Said>,
    ) -> Result<(), Failure> {
        let mut frames = Vec::new();
        for said in records {
            let frame = self.journal.add(station, system::now_ms(), said);
            frames.extend(frame.map_err(|error| wrong(&self.path, error))?);
        }
        self.append(&frames)
    }

    fn append(&mut self, frames: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all(frames);
        let synced = written.and_then(|()| self.file.sync_data());
        synced.map_err(|error| unwritten(&self.path, &error))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;
    use cairn_proto::v1;

    use super::*;

    fn fact() -> Said {
        Said::Fact(v1::IntakeFact {
            kind: v1::EntryKind::CheckIn.into(),
            body: Bytes::from_static(b"a body"),
        })
    }

    #[test]
    fn a_record_that_was_torn_is_cut_off_and_the_journal_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let station = SigningKey::from_bytes(&[7; 32]);
        let region = "lakeside".to_owned();
        let mut file =
            JournalFile::create(&path, &station, &Hash([3; 32]), region.clone()).unwrap();
        file.add(&station, [fact()]).unwrap();
        let whole = fs::read(&path).unwrap();
        file.add(&station, [fact()]).unwrap();
        drop(file);
        let torn = fs::read(&path).unwrap();
        for cut in [whole.len() + 1, torn.len() - 1] {
            fs::write(&path, &torn[..cut]).unwrap();
            let mut file = JournalFile::open(&path).unwrap();
            assert_eq!(file.journal.facts.len(), 1);
            assert_eq!(fs::read(&path).unwrap(), whole);
            file.add(&station, [fact()]).unwrap();
            assert_eq!(JournalFile::read(&path).unwrap().facts.len(), 2);
        }
        let again = JournalFile::create(&path, &station, &Hash([3; 32]), region);
        assert!(again.is_err(), "nothing is written over");
    }

    #[test]
    fn a_journal_has_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let station = SigningKey::from_bytes(&[7; 32]);
        let file = JournalFile::create(&path, &station, &Hash([3; 32]), String::new()).unwrap();
        assert!(JournalFile::open(&path).is_err());
        drop(file);
        assert!(JournalFile::open(&path).is_ok());
    }
}
