//! When a checkpoint is signed, and from when its certificate counts.

use cairn_sim::fixture;
use cairn_storage::{LogStore, SimDisk};

use super::*;
use crate::network::SystemClock;

#[test]
fn a_checkpoint_is_signed_before_it_is_written_and_certified_after() {
    let ledger = fixture::Ledger::new(3, None);
    let chain = ledger.chain.clone();
    let log = Arc::new(LogStore::open(Arc::new(SimDisk::new())).unwrap());
    let store = Arc::new(StateStore::open(Arc::new(SimDisk::new()), &chain.id).unwrap());
    crate::applier::ensure_genesis(&chain, &store).unwrap();
    let cosigner = Cosigner::open(
        1,
        chain.clone(),
        ledger.cosign_key(1),
        Arc::new(SystemClock),
        SignGuard::open(log.clone()).unwrap(),
        store.clone(),
    )
    .unwrap();
    cosigner.begin().unwrap();

    let proposal = v1::Proposal {
        timestamp_ms: fixture::EPOCH_MS + 1,
        checkpoint: true,
        ..Default::default()
    };
    let block = apply::replay(&chain, &*store, &proposal, 1).unwrap();
    cosigner
        .block_computed(&block.header, &block.header_bytes, &block.header_hash)
        .unwrap();
    // The cosignature is on its way, and the guard knows of it also after a crash.
    let told = cosigner.notice().borrow().clone().unwrap();
    assert_eq!(told.height, 1);
    assert_eq!(apply::tip(&*store).unwrap().unwrap().header.height, 0);
    let guarded = SignGuard::open(log).unwrap().held().unwrap();
    assert_eq!((guarded.height, guarded.hash), (1, block.header_hash));

    // Enough others have signed too: nobody is told of a block that is not there.
    for member in [2, 3] {
        let key = ledger.cosign_key(member);
        let at = SystemClock.now_ms();
        let cosignature = checkpoint::cosign(&key, &chain.id, &block.header_hash, at);
        let notice = v1::CosignatureNotice {
            cosignature: Some(cosignature),
            ..told.clone()
        };
        cosigner.receive(member, &notice).unwrap();
    }
    assert_eq!(cosigner.certified_height(), None);
    assert!(cosigner.view().is_none());
    assert_eq!(cosigner.progress().tip, 0);

    store.commit_block(&block.writes, b"").unwrap();
    cosigner.block_applied(&block.header, 0).unwrap();
    assert_eq!(cosigner.certified_height(), Some(1));
    assert_eq!(cosigner.view().unwrap().height(), 1);
}
