//! `cairn key`: makes key files and shows what may be known of them. Secrets are never printed.

use std::path::{Path, PathBuf};

use cairn_ledger::lottery::bls::SeedSecret;
use cairn_ledger::lottery::{roster, seed};
use clap::Subcommand;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use ed25519_dalek::SigningKey;
use libp2p_identity::Keypair;
use serde::Serialize;

use crate::cli::Global;
use crate::exit::Failure;
use crate::key_file::{self, Purpose, Secret};
use crate::output::{self, line};

/// `cairn key …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a key in a new file that only you can read
    #[command(
        after_help = "Examples:\n  cairn key new --purpose author --out notary.key\n  \
                      cairn key new --purpose seed --out seed.key -o json"
    )]
    New {
        /// What it is for; no key serves two purposes
        #[arg(long, value_parser = purposes())]
        purpose: Purpose,
        /// The file; an existing one is never overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Show the public part of a key file
    #[command(after_help = "Example:\n  cairn key show notary.key")]
    Show {
        /// The key file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Each purpose with what it is for.
fn purposes() -> impl TypedValueParser<Value = Purpose> {
    let told = Purpose::ALL.map(|purpose| {
        PossibleValue::new(purpose.name()).help(match purpose {
            Purpose::Network => "Proves to other nodes which node this is",
            Purpose::Cosign => "Cosigns checkpoints",
            Purpose::Seed => "Signs an institution's contribution to a lottery's seed",
            Purpose::Author => "Signs entries",
            Purpose::Tag => "Turns identities into tags that show who is registered twice",
        })
    });
    PossibleValuesParser::new(told).try_map(|name| name.parse())
}

/// What may be known of a key.
#[derive(Debug, Default, Serialize)]
struct PublicPart {
    purpose: String,
    file: String,
    /// Hex: Ed25519, or BLS12-381 in G2 for seed keys. Tag keys have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof_of_possession: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commitment: Option<String>,
}

/// Runs a command.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    let part = match command {
        Command::New { purpose, out } => {
            let secret = key_file::create(purpose, &out)?;
            public_part(purpose, secret, &out)?
        }
        Command::Show { file } => {
            let (purpose, secret) = key_file::read(&file)?;
            public_part(purpose, secret, &file)?
        }
    };
    output::print(global, &part, table);
    Ok(())
}

fn public_part(purpose: Purpose, secret: Secret, file: &Path) -> Result<PublicPart, Failure> {
    let unsound = |error: &dyn std::fmt::Display| {
        let file = file.display();
        Failure::Failed(format!("{file} holds no {purpose} key: {error}"))
    };
    let mut part = PublicPart {
        purpose: purpose.to_string(),
        file: file.display().to_string(),
        ..PublicPart::default()
    };
    match purpose {
        Purpose::Author | Purpose::Cosign => {
            part.public_key = Some(ed25519(&secret));
        }
        Purpose::Network => {
            part.public_key = Some(ed25519(&secret));
            let pair = Keypair::ed25519_from_bytes(*secret).map_err(|e| unsound(&e))?;
            part.peer_id = Some(pair.public().to_peer_id().to_base58());
        }
        Purpose::Seed => {
            let secret = SeedSecret::from_bytes(&secret[..]).map_err(|e| unsound(&e))?;
            part.public_key = Some(hex::encode(secret.public_key()));
            part.proof_of_possession = Some(hex::encode(seed::prove_possession(&secret)));
        }
        Purpose::Tag => {
            part.commitment = Some(roster::tag_key_commitment(&secret).to_string());
        }
    }
    Ok(part)
}

fn ed25519(secret: &Secret) -> String {
    hex::encode(SigningKey::from_bytes(secret).verifying_key().as_bytes())
}

fn table(part: &PublicPart) -> Vec<(String, String)> {
    let mut lines = vec![line("purpose", &part.purpose), line("file", &part.file)];
    let optional = [
        ("public key", &part.public_key),
        ("peer id", &part.peer_id),
        ("proof of possession", &part.proof_of_possession),
        ("commitment", &part.commitment),
    ];
    let known = optional.into_iter();
    lines.extend(known.filter_map(|(name, value)| Some(line(name, value.as_ref()?))));
    lines
}
