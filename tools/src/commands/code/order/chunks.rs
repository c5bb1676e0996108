//! An order's changes on their way: chunks that the ledger takes in one order only.

use bytes::Bytes;
use cairn_ledger::canonical;
use cairn_ledger::code::MAX_CHUNK_CODES;
use cairn_ledger::hash::Hash;
use cairn_proto::v1::{self, EntryKind, Visibility};
use ed25519_dalek::SigningKey;

use super::Change;
use crate::commands::code::states;
use crate::commands::in_order::Sequence;
use crate::exit::Failure;
use crate::session::{Session, sign_entry};
use crate::system;

/// The order's changes on their way.
pub struct Chunks<'a> {
    pub session: &'a Session,
    pub order_id: Hash,
    pub visibility: Visibility,
    pub authority: &'a SigningKey,
    /// By ascending code.
    pub changes: &'a [Change],
    /// The first change of the next chunk.
    next: usize,
    /// What the map proved of the order last; of one that is not there yet, nothing.
    pub proven: v1::OrderState,
}

impl<'a> Chunks<'a> {
    pub fn new(
        session: &'a Session,
        order_id: Hash,
        visibility: Visibility,
        authority: &'a SigningKey,
        changes: &'a [Change],
    ) -> Self {
        Chunks {
            session,
            order_id,
            visibility,
            authority,
            changes,
            next: 0,
            proven: v1::OrderState::default(),
        }
    }
}

impl Sequence for Chunks<'_> {
    fn total(&self) -> u64 {
        self.changes.len() as u64
    }

    async fn resume(&mut self, session: &Session) -> Result<u64, Failure> {
        // A node that is behind does not know the order yet.
        let (state, _) = states::order(session, &self.order_id).await?;
        self.proven = state.unwrap_or_default();
        let received = self.proven.received;
        self.next = usize::try_from(received).unwrap_or(usize::MAX);
        Ok(received.into())
    }

    fn next_entry(&mut self) -> Option<(v1::SignedEntry, u64)> {
        let first = self.next;
        let rest = self.changes.get(first..)?;
        let changes = &rest[..rest.len().min(MAX_CHUNK_CODES)];
        if changes.is_empty() {
            return None;
        }
        let codes: Vec<u8> = changes.iter().flat_map(|(code, _)| *code).collect();
        let body = canonical::encode(&v1::StatusChunk {
            order_id: self.order_id.to_bytes(),
            first_change: u32::try_from(first).ok()?,
            codes: codes.into(),
            expected_sequences: changes.iter().map(|(_, sequence)| *sequence).collect(),
            blind: Bytes::copy_from_slice(&system::random::<32>()),
        });
        self.next += changes.len();
        let entry = sign_entry(
            &self.session.chain,
            EntryKind::StatusChunk,
            self.visibility,
            self.order_id.to_bytes(),
            body,
            self.authority,
            &[],
        );
        Some((entry, changes.len() as u64))
    }
}
