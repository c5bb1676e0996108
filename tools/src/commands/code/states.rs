//! Many codes' states at once, each with its proof checked.

use bytes::Bytes;
use cairn_ledger::code::NAMESPACE;
use cairn_ledger::{canonical, map};
use cairn_proto::v1;

use crate::exit::Failure;
use crate::session::{Session, code_client};

/// Codes in one call: the most that a node takes.
const PAGE: usize = 1_000;

/// The proven states of `codes`, in their order; none where one was never issued.
pub async fn proven(
    session: &Session,
    codes: &[[u8; 32]],
) -> Result<Vec<Option<v1::CodeState>>, Failure> {
    let mut states = Vec::with_capacity(codes.len());
    for page in codes.chunks(PAGE) {
        states.extend(proven_page(session, page).await?);
    }
    Ok(states)
}

async fn proven_page(
    session: &Session,
    codes: &[[u8; 32]],
) -> Result<Vec<Option<v1::CodeState>>, Failure> {
    let request = v1::BatchGetStatusRequest {
        codes: codes
            .iter()
            .map(|code| Bytes::copy_from_slice(code))
            .collect(),
    };
    let answer = session.retry("asking for codes", async |channel| {
        let mut client = code_client(channel);
        client.batch_get_status(request.clone()).await
    });
    let answer = answer.await?.into_inner();
    let checkpoint = session
        .certify(&answer.checkpoint.unwrap_or_default())
        .await?;
    if answer.proofs.len() != codes.len() {
        let (node, asked, found) = (session.node(), codes.len(), answer.proofs.len());
        let message = format!("{node} gave {found} proofs for {asked} codes");
        return Err(Failure::InvalidProof(message));
    }
    let pairs = codes.iter().zip(&answer.proofs);
    pairs
        .map(|(code, proof)| {
            let value = map::verify(checkpoint.map_root(), &map::map_key(NAMESPACE, code), proof)
                .map_err(|error| refused(code, &error))?;
            value.map(|value| decode(code, &value)).transpose()
        })
        .collect()
}

/// The state in a proven value.
pub fn decode(code: &[u8], value: &[u8]) -> Result<v1::CodeState, Failure> {
    canonical::decode(value).map_err(|error| refused(code, &error))
}

fn refused(code: &[u8], error: &dyn std::fmt::Display) -> Failure {
    Failure::InvalidProof(format!("code {}: {error}", hex::encode(code)))
}
