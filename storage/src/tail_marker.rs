//! The tail marker's file: a few bytes outside the database, so that a database that comes back
//! shorter than it was is noticed.
//!
//! Two slots on pages of their own are written in turn, so that a torn write spoils one and leaves
//! the other. Buffered writes cost one `pwrite`; the fsync follows at most once in
//! [`FSYNC_INTERVAL`], so that a node does not pay two fsyncs for each commit. When the process
//! dies the kernel still has the newest marker; when the power fails the marker may be older, by
//! what the kernel had not written back. An older marker only sees less; it never raises a false
//! alarm.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::disk::{DiskError, Durability};
use crate::seal;

/// How far a buffered marker may lag behind while writes go on: 4 fsyncs a second beside hundreds.
const FSYNC_INTERVAL: Duration = Duration::from_millis(250);
/// Each slot on a page of its own: one torn page spoils one slot.
const SLOT_STRIDE: u64 = 4096;
/// Room for what the log store keeps here (16 bytes), and some more.
const MAX_MARKER_BYTES: usize = 128;
/// Length ‖ count ‖ checksum ‖ the bytes, padded.
const SLOT_BYTES: usize = 4 + 8 + 8 + MAX_MARKER_BYTES;
/// The file beside the database's own.
const FILE_NAME: &str = "TAIL-MARKER";

#[derive(Debug)]
pub(crate) struct TailMarker {
    file: File,
    count: u64,
    newest: Option<Bytes>,
    synced_at: Instant,
}

fn io_error(doing: &'static str) -> impl Fn(io::Error) -> DiskError {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full {
            detail: error.to_string(),
        },
        _ => DiskError::Io {
            doing,
            detail: error.to_string(),
        },
    }
}

impl TailMarker {
    /// Opens or makes the file in `folder`.
    pub(crate) fn open(folder: &Path) -> Result<Self, DiskError> {
        let path = folder.join(FILE_NAME);
        let failed = io_error("opening the tail marker");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(&failed)?;
        let len = file.metadata().map_err(&failed)?.len();
        let mut newest: Option<(u64, Bytes)> = None;
        for slot in 0..2 {
            let mut bytes = vec![0; SLOT_BYTES];
            match file.read_exact_at(&mut bytes, slot * SLOT_STRIDE) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(error) => return Err(failed(error)),
            }
            if let Some(found) = decode(&bytes)
                && newest.as_ref().is_none_or(|(count, _)| *count < found.0)
            {
                newest = Some(found);
            }
        }
        if newest.is_none() && len > 0 {
            return Err(DiskError::Corrupt {
                place: path.display().to_string(),
                detail: "neither slot of the tail marker is whole".into(),
            });
        }
        Ok(Self {
            file,
            count: newest.as_ref().map_or(0, |(count, _)| *count),
            newest: newest.map(|(_, marker)| marker),
            synced_at: Instant::now(),
        })
    }

    pub(crate) fn get(&self) -> Option<Bytes> {
        self.newest.clone()
    }

    pub(crate) fn set(&mut self, marker: &[u8], durability: Durability) -> Result<(), DiskError> {
        let failed = io_error("writing the tail marker");
        let count = self.count + 1;
        let slot = encode(count, marker)?;
        self.file
            .write_all_at(&slot, (count % 2) * SLOT_STRIDE)
            .map_err(&failed)?;
        if durability == Durability::Synced || self.synced_at.elapsed() >= FSYNC_INTERVAL {
            self.file.sync_all().map_err(&failed)?;
            self.synced_at = Instant::now();
        }
        self.count = count;
        self.newest = Some(Bytes::copy_from_slice(marker));
        Ok(())
    }
}

fn encode(count: u64, marker: &[u8]) -> Result<Vec<u8>, DiskError> {
    let len = u32::try_from(marker.len())
        .ok()
        .filter(|_| marker.len() <= MAX_MARKER_BYTES)
        .ok_or(DiskError::Unsupported {
            what: "room for a tail marker that long",
        })?;
    let mut head = Vec::with_capacity(12);
    head.extend_from_slice(&len.to_be_bytes());
    head.extend_from_slice(&count.to_be_bytes());
    let mut slot = head.clone();
    slot.extend_from_slice(&seal::seal(&head, marker));
    slot.resize(SLOT_BYTES, 0);
    Ok(slot)
}

fn decode(slot: &[u8]) -> Option<(u64, Bytes)> {
    let (head, rest) = slot.split_at_checked(12)?;
    let len = u32::from_be_bytes(head[..4].try_into().ok()?);
    let count = u64::from_be_bytes(head[4..].try_into().ok()?);
    let len = usize::try_from(len)
        .ok()
        .filter(|l| *l <= MAX_MARKER_BYTES)?;
    let sealed = Bytes::copy_from_slice(rest.get(..8 + len)?);
    Some((count, seal::unseal(head, &sealed)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_slot_counts_and_no_whole_slot_is_corruption() {
        let folder = tempfile::tempdir().unwrap();
        let mut marker = TailMarker::open(folder.path()).unwrap();
        assert_eq!(marker.get(), None);
        for text in [&b"one"[..], b"two", b"three"] {
            marker.set(text, Durability::Buffered).unwrap();
        }
        let path = folder.path().join(FILE_NAME);
        let reopened = TailMarker::open(folder.path()).unwrap();
        assert_eq!(reopened.get().unwrap(), &b"three"[..]);

        // The third write is in slot 1: damage there leaves the second one.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4096 + 21] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let reopened = TailMarker::open(folder.path()).unwrap();
        assert_eq!(reopened.get().unwrap(), &b"two"[..]);

        bytes[3] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(
            TailMarker::open(folder.path()),
            Err(DiskError::Corrupt { .. })
        ));
    }
}
