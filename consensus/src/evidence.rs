//! Cosignatures that contradict each other: what is kept, and how loudly.
//!
//! What holds here: a valid cosignature of another header than ours at the same height is an alarm
//! at once; together with the same member's cosignature of ours it is a portable proof against that
//! key. Either may arrive first. What stays out: deciding what to do about it. People do that.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_proto::v1;

/// Conflicts kept that are not proofs yet. The first ones tell the story; a flood adds nothing.
const MAX_OPEN: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Alarms {
    count: u64,
    /// By height and member: a contradicting notice whose author has not signed ours yet.
    open: BTreeMap<(u64, u64), v1::CosignatureNotice>,
}

impl Alarms {
    /// `member` cosigned another header than ours; `ours` is our header with its cosignature of
    /// it, where known. A proof, if both are.
    pub(crate) fn conflict(
        &mut self,
        member: u64,
        theirs: &v1::CosignatureNotice,
        ours: Option<(Bytes, v1::Cosignature)>,
    ) -> Option<v1::Equivocation> {
        self.count += 1;
        tracing::error!(
            member,
            height = theirs.height,
            header = hex::encode(&theirs.header_hash),
            proven = ours.is_some(),
            "a member cosigned another header than the one that this node computed"
        );
        if let Some((header, cosignature)) = ours {
            return Some(proof(theirs, header, cosignature));
        }
        if self.open.len() < MAX_OPEN {
            self.open.insert((theirs.height, member), theirs.clone());
        }
        None
    }

    /// `member` cosigned our header. A proof, if it cosigned another before.
    pub(crate) fn agreed(
        &mut self,
        member: u64,
        notice: &v1::CosignatureNotice,
    ) -> Option<v1::Equivocation> {
        let theirs = self.open.remove(&(notice.height, member))?;
        let cosignature = notice.cosignature.clone()?;
        Some(proof(&theirs, notice.header.clone(), cosignature))
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

fn proof(
    theirs: &v1::CosignatureNotice,
    header: Bytes,
    cosignature: v1::Cosignature,
) -> v1::Equivocation {
    v1::Equivocation {
        header_a: header,
        cosignature_a: Some(cosignature),
        header_b: theirs.header.clone(),
        cosignature_b: theirs.cosignature.clone(),
    }
}
