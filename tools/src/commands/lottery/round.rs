//! The beacon's round, from wherever it comes.
//!
//! What holds here: who brings a round is not believed; its signature is verified under the key in
//! the lottery's rules, and only the pinned round passes. A relay that does not have it yet is asked
//! again. What stays out: when the round may be handed in (`beacon`).

use std::path::Path;
use std::time::Duration;

use cairn_ledger::lottery::beacon;
use cairn_ledger::lottery::bls::SeedSecret;
use serde::Deserialize;

use super::state::Proven;
use crate::exit::Failure;
use crate::key_file;
use crate::session::Patience;

/// How long a relay may take for one answer.
const RELAY_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer; a round has some hundred.
const MAX_ANSWER: u64 = 1 << 16;

/// Where the round comes from.
pub enum Source {
    /// Signed here, with this key.
    Development(SeedSecret),
    /// Read from a file.
    File(Round),
    /// The address of a relay.
    Relay(String),
}

/// A round that somebody handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Its number.
    pub number: u64,
    /// The beacon's signature, which is checked before it is used.
    pub signature: [u8; 48],
}

impl Source {
    /// What the command line names; one of the three.
    pub fn open(
        dev_key: Option<&Path>,
        file: Option<&Path>,
        url: Option<String>,
    ) -> Result<Source, Failure> {
        match (dev_key, file, url) {
            (Some(path), ..) => key_file::seed(path).map(Source::Development),
            (_, Some(path), _) => read_round(path).map(Source::File),
            (.., Some(url)) => Ok(Source::Relay(url)),
            (None, None, None) => Err(Failure::Usage(
                "give --dev-key, --from-file or --url".to_owned(),
            )),
        }
    }

    /// Whether this is the lottery's beacon, before anybody waits for it.
    pub fn check(&self, lottery: &Proven) -> Result<(), Failure> {
        let id = lottery.id;
        match self {
            Source::Development(secret)
                if secret.public_key().as_slice() != lottery.beacon()?.public_key =>
            {
                Err(Failure::Failed(format!(
                    "the rules of lottery {id} name another beacon than this --dev-key; a public \
                     beacon's round is handed in with --from-file or --url"
                )))
            }
            Source::File(round) => round.verify(lottery).map_err(Failure::Failed),
            Source::Development(_) | Source::Relay(_) => Ok(()),
        }
    }

    /// The pinned round's signature. A relay is asked until it has the round, for as long as
    /// `patience`.
    pub async fn signature(
        &self,
        lottery: &Proven,
        patience: Duration,
    ) -> Result<[u8; 48], Failure> {
        match self {
            Source::Development(secret) => {
                Ok(beacon::sign_round(secret, lottery.state.beacon_round))
            }
            Source::File(round) => Ok(round.signature),
            Source::Relay(url) => {
                let mut patience = Patience::new(patience);
                loop {
                    let round = fetch(url, lottery.state.beacon_round).await;
                    let checked = round.and_then(|round| {
                        round.verify(lottery)?;
                        Ok(round.signature)
                    });
                    match checked {
                        Ok(signature) => return Ok(signature),
                        Err(what) if !patience.pause().await => {
                            return Err(Failure::Failed(format!(
                                "{what}; try another relay, or bring the round with --from-file"
                            )));
                        }
                        Err(_) => {}
                    }
                }
            }
        }
    }

    /// What everything that comes of it is labelled with.
    pub fn label(&self) -> &'static str {
        match self {
            Source::Development(_) => "development beacon, not a public one",
            Source::File(_) => {
                "handed in from a file, verified under the beacon's key in the rules"
            }
            Source::Relay(_) => {
                "fetched from a relay, verified under the beacon's key in the rules"
            }
        }
    }
}

impl Round {
    fn verify(&self, lottery: &Proven) -> Result<(), String> {
        let (id, pinned) = (lottery.id, lottery.state.beacon_round);
        if self.number != pinned {
            let number = self.number;
            return Err(format!(
                "this is round {number}, and lottery {id} pinned round {pinned}"
            ));
        }
        let chain = lottery.beacon().map_err(|failure| failure.to_string())?;
        let verified = beacon::verify_round(chain, self.number, &self.signature);
        verified.map(drop).map_err(|error| error.to_string())
    }
}

/// A round from a relay, which is not believed.
async fn fetch(url: &str, round: u64) -> Result<Round, String> {
    let address = format!("{}/public/{round}", url.trim_end_matches('/'));
    let asked = address.clone();
    let answer = tokio::task::spawn_blocking(move || {
        let config = ureq::Agent::config_builder().timeout_global(Some(RELAY_TIMEOUT));
        let agent: ureq::Agent = config.build().into();
        let mut answer = agent.get(&asked).call()?;
        answer
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_string()
    });
    let wrong = |what: &dyn std::fmt::Display| format!("{address}: {what}");
    let text = answer.await.map_err(|error| wrong(&error))?;
    parse_round(&text.map_err(|error| wrong(&error))?).map_err(|what| wrong(&what))
}

/// A round as drand's HTTP relays give it.
#[derive(Debug, Deserialize)]
struct RoundFile {
    round: u64,
    signature: String,
    /// Redundant; if it is there it must be right.
    randomness: Option<String>,
}

fn read_round(path: &Path) -> Result<Round, Failure> {
    let wrong =
        |what: &dyn std::fmt::Display| Failure::Failed(format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    parse_round(&text).map_err(|what| wrong(&what))
}

fn parse_round(text: &str) -> Result<Round, String> {
    let file: RoundFile = serde_json::from_str(text)
        .map_err(|e| format!("expected {{\"round\": N, \"signature\": \"HEX\"}}: {e}"))?;
    let mut signature = [0; 48];
    hex::decode_to_slice(&file.signature, &mut signature)
        .map_err(|_| "the signature is not 96 hex digits, a compressed point in G1")?;
    let randomness = hex::encode(beacon::randomness(&signature));
    if file.randomness.is_some_and(|given| given != randomness) {
        return Err("the randomness is not the SHA-256 of the signature".to_owned());
    }
    Ok(Round {
        number: file.round,
        signature,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn round(json: &str) -> Result<(u64, [u8; 48]), String> {
        parse_round(json).map(|round| (round.number, round.signature))
    }

    /// A relay on loopback that answers each connection once.
    fn relay(answers: Vec<String>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 1_024];
                let read = stream.read(&mut asked).unwrap();
                assert!(asked[..read].starts_with(b"GET /chain/public/9 "));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        format!("http://{address}/chain/")
    }

    #[tokio::test]
    async fn a_relay_is_asked_for_the_round_and_not_believed() {
        let hex = hex::encode([7; 48]);
        let body = format!(r#"{{"round": 9, "signature": "{hex}"}}"#);
        let whole = |status: &str, body: &str| {
            let length = body.len();
            format!(
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
        };
        let long = " ".repeat(MAX_ANSWER as usize + 1);
        let url = relay(vec![
            whole("404 Not Found", ""),
            whole("200 OK", "soon"),
            whole("200 OK", &long),
            whole("200 OK", &body),
        ]);
        for _ in 0..3 {
            let refused = fetch(&url, 9).await.unwrap_err();
            assert!(refused.contains("/chain/public/9: "), "{refused}");
        }
        let round = fetch(&url, 9).await.unwrap();
        assert_eq!((round.number, round.signature), (9, [7; 48]));
    }

    #[test]
    fn a_round_is_read_as_relays_give_it() {
        let signature = [7; 48];
        let hex = hex::encode(signature);
        let plain = format!(r#"{{"round": 9, "signature": "{hex}"}}"#);
        assert_eq!(round(&plain), Ok((9, signature)));
        let randomness = hex::encode(beacon::randomness(&signature));
        let full = |randomness: &str| {
            format!(r#"{{"round": 9, "signature": "{hex}", "randomness": "{randomness}", "x": 1}}"#)
        };
        assert_eq!(round(&full(&randomness)), Ok((9, signature)));
        let wrong = round(&full(&"00".repeat(32))).unwrap_err();
        assert!(wrong.contains("randomness"), "{wrong}");
    }

    #[test]
    fn the_uncompressed_form_and_other_files_are_refused() {
        let long = format!(r#"{{"round": 9, "signature": "{}"}}"#, "00".repeat(96));
        assert!(round(&long).unwrap_err().contains("96 hex digits"));
        assert!(round("{}").unwrap_err().contains("missing field"));
        assert!(round("round 9").is_err());
    }
}
