//! The gate: who may connect at all. A peer is known by the peer id that the member set gives it;
//! every other connection is dropped when its handshake has shown who calls, before any byte of
//! ours is decoded.
//!
//! What stays out: what members say to each other (`streams`) and when they dial (`transport`).

use std::collections::BTreeMap;

use cairn_proto::v1;
use libp2p::PeerId;
use libp2p::swarm::NetworkBehaviour;
use libp2p_allow_block_list::AllowedPeers;
use libp2p_connection_limits::ConnectionLimits;

/// Handshakes under way at once, from anyone. A thousand dials then cost 64 small buffers; members
/// redial, so one that is turned away comes back.
const MAX_PENDING_INCOMING: u32 = 64;

/// Two, so that a peer that lost power can come back before its old connection is found dead. The
/// older one is closed as soon as the newer one stands.
const MAX_CONNECTIONS_PER_PEER: u32 = 2;

/// Members of two epochs: those that come, and those that leave.
const MAX_PEERS: u32 = 2 * cairn_ledger::policy::MAX_MEMBERS as u32;

/// Why a member set cannot be used as a gate.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The member's peer id does not parse.
    #[error("member {raft_id} ({institution}) has no valid peer id: make the genesis anew")]
    BadPeerId {
        /// The member.
        raft_id: u64,
        /// Its institution.
        institution: String,
    },
    /// This node is not in the member set.
    #[error(
        "raft_id {0} is not in the genesis; set raft_id to this node's own, or joining = true where it is to come in"
    )]
    NotAMember(u64),
    /// The network key belongs to another member or to none.
    #[error(
        "the network key gives peer id {found}, but the genesis says {expected} for member {raft_id}; \
         point network_key at this member's key"
    )]
    WrongKey {
        /// The member that this node wants to be.
        raft_id: u64,
        /// The peer id in the genesis.
        expected: String,
        /// The peer id of the key.
        found: String,
    },
}

/// Members by peer id and by Raft id.
#[derive(Debug, Clone)]
pub struct Gate {
    raft_ids: BTreeMap<PeerId, u64>,
    peer_ids: BTreeMap<u64, PeerId>,
    me: u64,
    identity: PeerId,
}

impl Gate {
    /// The gate of `members`, seen from member `me` with the network identity `identity`.
    pub fn new(members: &v1::MemberSet, me: u64, identity: PeerId) -> Result<Gate, GateError> {
        let mut raft_ids = BTreeMap::new();
        let mut peer_ids = BTreeMap::new();
        for member in &members.members {
            let peer = PeerId::from_bytes(&member.peer_id).map_err(|_| GateError::BadPeerId {
                raft_id: member.raft_id,
                institution: member.institution.clone(),
            })?;
            raft_ids.insert(peer, member.raft_id);
            peer_ids.insert(member.raft_id, peer);
        }
        // This node's own key counts, whatever an older set says of it.
        raft_ids.retain(|_, raft_id| *raft_id != me);
        Ok(Gate {
            raft_ids,
            peer_ids,
            me,
            identity,
        })
    }

    /// Whether the members list this node with its network key, as those of the genesis must where
    /// a node starts for the first time.
    pub fn check_own(&self) -> Result<(), GateError> {
        let expected = self.peer_ids.get(&self.me);
        let expected = *expected.ok_or(GateError::NotAMember(self.me))?;
        if expected == self.identity {
            return Ok(());
        }
        Err(GateError::WrongKey {
            raft_id: self.me,
            expected: expected.to_string(),
            found: self.identity.to_string(),
        })
    }

    /// The member behind a peer id.
    pub fn raft_id(&self, peer: &PeerId) -> Option<u64> {
        self.raft_ids.get(peer).copied()
    }

    /// The other members.
    pub fn others(&self) -> impl Iterator<Item = (u64, PeerId)> + '_ {
        let me = self.me;
        self.peer_ids
            .iter()
            .filter(move |(id, _)| **id != me)
            .map(|(id, peer)| (*id, *peer))
    }

    /// Whether this node is the one of the two that dials: the lower peer id.
    pub fn dials(&self, peer: &PeerId) -> bool {
        self.identity.to_bytes() < peer.to_bytes()
    }

    /// The swarm's behaviour: limits first, then the list, then streams; a refusal by an earlier
    /// one leaves no trace in a later one.
    pub fn behaviour(&self) -> Behaviour {
        let established = MAX_PEERS.saturating_mul(MAX_CONNECTIONS_PER_PEER);
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(MAX_PENDING_INCOMING))
            .with_max_established_incoming(Some(established))
            .with_max_established_per_peer(Some(MAX_CONNECTIONS_PER_PEER));
        let mut allowed = libp2p_allow_block_list::Behaviour::<AllowedPeers>::default();
        for (_, peer) in self.others() {
            allowed.allow_peer(peer);
        }
        Behaviour {
            limits: libp2p_connection_limits::Behaviour::new(limits),
            allowed,
            streams: libp2p_stream::Behaviour::new(),
        }
    }
}

/// What the swarm runs.
#[derive(NetworkBehaviour)]
pub struct Behaviour {
    limits: libp2p_connection_limits::Behaviour,
    pub(super) allowed: libp2p_allow_block_list::Behaviour<AllowedPeers>,
    pub(super) streams: libp2p_stream::Behaviour,
}
