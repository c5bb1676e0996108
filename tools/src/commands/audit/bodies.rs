//! The bodies that a replay needs, where a node does not have them any more.
//!
//! What holds here: a body is taken from a folder only if it is the one that was signed, so whoever
//! kept it need not be trusted. A block with a body that is nowhere is not replayed.

use std::io::ErrorKind;
use std::path::PathBuf;

use bytes::Bytes;
use cairn_ledger::{canonical, hash};
use cairn_proto::v1;

use crate::commands::entry::Missing;
use crate::exit::Failure;
use crate::session::Session;

/// Where bodies are that nodes do not show.
#[derive(Debug)]
pub struct Bodies {
    folder: Option<PathBuf>,
}

impl Bodies {
    /// One file for each body, named by the entry's id, as `cairn entry get ID --body-out ID` writes
    /// them.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// Puts the bodies in that a block lacks; says of the first that is nowhere why.
    pub async fn complete(&self, session: &Session, block: &mut v1::Block) -> Result<(), Failure> {
        let Some(proposal) = &mut block.proposal else {
            return Ok(());
        };
        for entry in &mut proposal.entries {
            let envelope = canonical::decode::<v1::Envelope>(&entry.envelope)
                .map_err(|error| Failure::InvalidProof(error.to_string()))?;
            if envelope.body_len == 0 || !entry.body.is_empty() {
                continue;
            }
            let id = hash::plain(&entry.envelope);
            match self.kept(&id, &envelope)? {
                Some(body) => entry.body = body,
                None => {
                    let missing = Missing::of(session, &id).await?;
                    return Err(cannot_go_on(&id, missing));
                }
            }
        }
        Ok(())
    }

    /// The body of an entry from the folder, if it is there.
    fn kept(&self, id: &hash::Hash, envelope: &v1::Envelope) -> Result<Option<Bytes>, Failure> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        let path = folder.join(id.to_string());
        let name = path.display();
        let body = match std::fs::read(&path) {
            Ok(body) => body,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::Failed(format!("cannot read {name}: {error}"))),
        };
        if hash::plain(&body).0[..] != envelope.body_hash[..] {
            let message = format!("{name} is not the body that was signed in entry {id}");
            return Err(Failure::Failed(message));
        }
        Ok(Some(body.into()))
    }
}

fn cannot_go_on(id: &hash::Hash, missing: Missing) -> Failure {
    let how = match missing {
        Missing::Withheld => "",
        Missing::Erased(_) => {
            "; whoever kept it can replay with --bodies FOLDER, and the blocks before this one are \
             as computed here"
        }
    };
    Failure::Failed(format!(
        "cannot be replayed without the body of entry {id}: {missing}{how}"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_body_is_taken_only_if_it_is_the_one_that_was_signed() {
        let folder = tempfile::tempdir().unwrap();
        let id = hash::plain(b"an envelope");
        let envelope = v1::Envelope {
            body_hash: hash::plain(b"a body").to_bytes(),
            body_len: 6,
            ..Default::default()
        };
        let bodies = Bodies::new(Some(folder.path().to_owned()));
        assert_eq!(bodies.kept(&id, &envelope).unwrap(), None);
        assert_eq!(Bodies::new(None).kept(&id, &envelope).unwrap(), None);
        let path = folder.path().join(id.to_string());
        std::fs::write(&path, b"a body").unwrap();
        let kept = bodies.kept(&id, &envelope).unwrap().unwrap();
        assert_eq!(kept, Bytes::from_static(b"a body"));
        std::fs::write(&path, b"another").unwrap();
        let refused = bodies.kept(&id, &envelope).unwrap_err();
        assert!(refused.to_string().contains("not the body that was signed"));
    }

    #[test]
    fn an_erased_body_is_told_from_one_that_is_withheld() {
        let id = hash::plain(b"an envelope");
        let erased = cannot_go_on(&id, Missing::Erased(77)).to_string();
        assert!(erased.contains("erased by leaf 77") && erased.contains("--bodies"));
        let withheld = cannot_go_on(&id, Missing::Withheld).to_string();
        assert!(withheld.contains("admin listener") && !withheld.contains("erased"));
    }
}
