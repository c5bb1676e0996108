//! Many codes' states at once, and what else the map says about orders, each with its proof checked.

use bytes::Bytes;
use cairn_ledger::checkpoint::CertifiedCheckpoint;
use cairn_ledger::code::{NAMESPACE, ORDER_NAMESPACE};
use cairn_ledger::hash::Hash;
use cairn_ledger::{canonical, map};
use cairn_proto::schema::Described;
use cairn_proto::v1;
use prost::Message;

use super::codes_file::Listed;
use crate::commands::problems::Problems;
use crate::exit::Failure;
use crate::session::{Session, code_client};

/// Codes in one call: the most that a node takes.
const PAGE: usize = 1_000;
/// Calls on their way at once: a node proves on several cores, and none waits while this side
/// verifies.
const LANES: usize = 4;

/// The proven states of `codes`, in their order; none where one was never issued.
pub async fn proven(
    session: &Session,
    codes: &[[u8; 32]],
) -> Result<Vec<Option<v1::CodeState>>, Failure> {
    let pages: Vec<&[[u8; 32]]> = codes.chunks(PAGE).collect();
    let mut lanes = pages.chunks(pages.len().div_ceil(LANES).max(1));
    let mut lane = || in_turn(session, lanes.next().unwrap_or_default());
    let lanes: [_; LANES] = tokio::try_join!(lane(), lane(), lane(), lane())?.into();
    Ok(lanes.into_iter().flatten().collect())
}

async fn in_turn(
    session: &Session,
    pages: &[&[[u8; 32]]],
) -> Result<Vec<Option<v1::CodeState>>, Failure> {
    let mut states = Vec::new();
    for page in pages {
        states.extend(proven_page(session, page).await?);
    }
    Ok(states)
}

/// The proven states of those listed codes that were issued for `region`; the others are noted.
pub async fn of_region(
    session: &Session,
    region: &str,
    listed: &[Listed],
    problems: &mut Problems,
) -> Result<Vec<([u8; 32], v1::CodeState)>, Failure> {
    let codes: Vec<[u8; 32]> = listed.iter().map(|listed| listed.code).collect();
    let states = proven(session, &codes).await?;
    let mut found = Vec::with_capacity(codes.len());
    for (listed, state) in listed.iter().zip(states) {
        match state {
            None => problems.add(listed.line, "this code was never issued, which is proven"),
            Some(state) if state.region != region => {
                let region = state.region;
                problems.add(listed.line, format_args!("this code is of region {region}"));
            }
            Some(state) => found.push((listed.code, state)),
        }
    }
    Ok(found)
}

/// What the map proves under a key, if anything, and the certificate.
pub async fn value<M: Message + Default + Described>(
    session: &Session,
    namespace: &str,
    key: &[u8],
) -> Result<(Option<M>, CertifiedCheckpoint), Failure> {
    let value = session.map_value(namespace, key).await?;
    let decoded = value.value.map(|bytes| canonical::decode(&bytes));
    let decoded = decoded.transpose().map_err(|error| {
        let key = hex::encode(key);
        Failure::InvalidProof(format!("the map's {namespace} {key}: {error}"))
    })?;
    Ok((decoded, value.checkpoint))
}

/// What the map proves of an order: none where it was never accepted.
pub async fn order(
    session: &Session,
    id: &Hash,
) -> Result<(Option<v1::OrderState>, CertifiedCheckpoint), Failure> {
    value(session, ORDER_NAMESPACE, id.as_bytes()).await
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
