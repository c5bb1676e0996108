//! A disk that lies, for a planted bug: it says "synced" and does nothing.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cairn_storage::SimDisk;
use cairn_storage::disk::{Batch, Disk, DiskError, DiskRead, Durability, Limit};

/// Every write is buffered, and syncing succeeds at once.
#[derive(Debug)]
pub struct LyingDisk(pub SimDisk);

impl DiskRead for LyingDisk {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError> {
        self.0.get(key)
    }

    fn multi_get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, DiskError> {
        self.0.multi_get(keys)
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: Limit,
    ) -> Result<Vec<(Bytes, Bytes)>, DiskError> {
        self.0.scan(prefix, from, limit)
    }

    fn last(&self, prefix: &[u8]) -> Result<Option<(Bytes, Bytes)>, DiskError> {
        self.0.last(prefix)
    }
}

impl Disk for LyingDisk {
    fn write(&self, batch: &Batch<'_>, _durability: Durability) -> Result<(), DiskError> {
        self.0.write(batch, Durability::Buffered)
    }

    fn sync(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn snapshot(&self) -> Result<Arc<dyn DiskRead>, DiskError> {
        self.0.snapshot()
    }

    fn checkpoint(&self, path: &Path) -> Result<(), DiskError> {
        self.0.checkpoint(path)
    }

    fn approximate_bytes(&self) -> Result<u64, DiskError> {
        self.0.approximate_bytes()
    }

    fn tail_marker(&self) -> Result<Option<Bytes>, DiskError> {
        self.0.tail_marker()
    }

    fn set_tail_marker(&self, _marker: &[u8], _durability: Durability) -> Result<(), DiskError> {
        // Or the node would notice what it lost and refuse to start, which is another test's point.
        Ok(())
    }
}
