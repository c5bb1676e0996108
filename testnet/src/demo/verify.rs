//! The outsider: processes that get a file and a chain id, or a node's address and a chain id, and
//! believe nothing else.
//!
//! What holds here: proofs are fetched first, as their owners would; they are verified offline, by
//! a command that is told no node; edited files must be refused. Then the whole draw is computed
//! again and the whole chain is replayed.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::Value;

use super::codes;
use super::lottery::Drawn;
use super::story::Story;
use crate::cairn::{Answer, Cairn, Field, args};
use crate::cluster::Cluster;
use crate::steps::thousands;

/// Applicants that are asked until one has won and one has not.
const ASKED: usize = 100;
/// What a command says of an invalid proof.
const INVALID: i32 = 10;

/// A proof that was verified offline.
#[derive(Debug, Serialize)]
pub struct Proof {
    pub what: String,
    pub file: PathBuf,
    pub bytes: u64,
}

/// What the outsider found.
#[derive(Debug)]
pub struct Verified {
    pub proofs: Vec<Proof>,
    pub recomputed: Value,
    pub replayed: Value,
}

/// Fetches proofs, verifies them offline, computes the draw again and replays the chain.
pub async fn run(story: &mut Story, cluster: &Cluster, drawn: &Drawn) -> anyhow::Result<Verified> {
    let what = "asking for proofs, verifying them offline, computing the draw again";
    story.steps.busy(what, false);
    let outsider = story.offline.in_folder(&story.layout.outsider());
    let (gathered, recomputed) = tokio::join!(
        gather(story, &outsider, drawn),
        recompute(story, &outsider, drawn)
    );
    let (gathered, recomputed) = (gathered?, recomputed?);
    let detail = "green, yellow, red, and the absence of a code; receipts; applicants' standings";
    let steps = &mut story.steps;
    steps.done("proofs asked for", detail, gathered.asking);
    let detail = format!(
        "{} proof files, with the chain id and no node; an edited file and another chain's id are \
         refused",
        gathered.proofs.len()
    );
    steps.done("verified offline", detail, gathered.verifying);
    let detail = format!(
        "{} rows with proofs: roster, seed and ranking are the same; the draw itself {:.0} ms",
        thousands(story.options.applicants.into()),
        draw_ms(&recomputed.value),
    );
    steps.done("draw recomputed", detail, recomputed.took);

    steps.busy("replaying the chain", false);
    let auditor = cluster.plan.nodes.last().context("no node")?;
    // Bodies of restricted entries are shown to the operator and to auditors only.
    let urls = [format!("http://{}", auditor.ports.admin)];
    let replay = outsider.online(&urls, &story.plan.chain_id);
    let replayed = replay.timed(args!["audit", "replay"]).await?;
    Field(&replayed.value, "ok").holds()?;
    let detail = format!(
        "{} blocks, {} entries, {} certificates: every root and outcome is the same",
        replayed.value["blocks"], replayed.value["entries"], replayed.value["certificates"],
    );
    steps.done("chain replayed", detail, replayed.took);
    Ok(Verified {
        proofs: gathered.proofs,
        recomputed: recomputed.value,
        replayed: replayed.value,
    })
}

/// How long the draw itself took, as `cairn lottery recompute` says.
pub fn draw_ms(recomputed: &Value) -> f64 {
    recomputed["draw_ms"].as_f64().unwrap_or(f64::NAN)
}

/// Proofs, verified.
struct Gathered {
    proofs: Vec<Proof>,
    asking: Duration,
    verifying: Duration,
}

async fn gather(story: &Story, outsider: &Cairn, drawn: &Drawn) -> anyhow::Result<Gathered> {
    let began = Instant::now();
    codes::ask(story, &drawn.issued).await?;
    let kept = |name: &str| story.layout.proof(name);
    let mut files = vec![
        (
            "the opening of the lottery, with its rules",
            fetch_entry(story, &drawn.id).await?,
        ),
        (
            "the lottery's state in the map",
            fetch_lottery(story, &drawn.id).await?,
        ),
        ("the minutes' receipt", kept("evidence.proof")),
        ("a yellow code", kept("code-yellow.proof")),
        ("a red code", kept("code-red.proof")),
        ("a green code", kept("code-green.proof")),
        ("the absence of a code", kept("code-unknown.proof")),
    ];
    let standings = standings(story, &drawn.id).await?;
    files.extend(standings.iter().map(|s| (s.what, s.proof.clone())));
    let asking = began.elapsed();
    let began = Instant::now();
    let proofs = offline(story, outsider, &files, &standings).await?;
    Ok(Gathered {
        proofs,
        asking,
        verifying: began.elapsed(),
    })
}

async fn recompute(story: &Story, outsider: &Cairn, drawn: &Drawn) -> anyhow::Result<Answer> {
    let outsider = outsider.online(&story.plan.urls(), &story.plan.chain_id);
    let command = args!["lottery", "recompute", drawn.id];
    let recomputed = outsider.timed(command).await?;
    Field(&recomputed.value, "ok").holds()?;
    Field(&recomputed.value, "rows").is(story.options.applicants)?;
    Field(&recomputed.value, "seed").is(drawn.seed.as_str())?;
    Ok(recomputed)
}

async fn fetch_entry(story: &Story, id: &str) -> anyhow::Result<PathBuf> {
    let out = story.layout.proof("opening.proof");
    let get = args!["proof", "get", "entry", id, "--with-body", "--out", out];
    story.cairn.run(get).await?;
    Ok(out)
}

async fn fetch_lottery(story: &Story, id: &str) -> anyhow::Result<PathBuf> {
    let out = story.layout.proof("lottery.proof");
    let get = args!["proof", "get", "map", "lottery", id, "--out", out];
    story.cairn.run(get).await?;
    Ok(out)
}

/// One applicant's proof, and the slip that only they have.
struct Standing {
    what: &'static str,
    serial: u64,
    proof: PathBuf,
    slip: PathBuf,
}

/// The first applicants who won and who did not.
async fn standings(story: &Story, id: &str) -> anyhow::Result<Vec<Standing>> {
    let mut found: Vec<Standing> = Vec::new();
    let receipts = story.layout.lottery("receipts.csv");
    let file = fs::File::open(&receipts).context("receipts.csv")?;
    let mut lines = BufReader::new(file).lines();
    let header = lines.next().transpose()?.unwrap_or_default();
    for (serial, line) in (0..).zip(lines.take(ASKED)) {
        let slip = story.layout.proof("slip.csv");
        write_slip(&slip, &header, &line?)?;
        let check = args![
            "lottery",
            "check",
            id,
            "--receipts",
            slip,
            "--serial",
            serial.to_string()
        ];
        let verdict = Field(&story.cairn.run(check).await?, "verdict").text()?;
        let (what, name) = match verdict.as_str() {
            "won" => ("an applicant who won", "winner"),
            _ => ("an applicant who did not win", "not-won"),
        };
        if found.iter().any(|standing| standing.what == what) {
            continue;
        }
        let kept = story.layout.proof(&format!("{name}-slip.csv"));
        fs::rename(&slip, &kept)?;
        let proof = story.layout.proof(&format!("{name}.proof"));
        let get = args![
            "proof",
            "get",
            "applicant",
            id,
            serial.to_string(),
            "--out",
            proof
        ];
        story.cairn.run(get).await?;
        found.push(Standing {
            what,
            serial,
            proof,
            slip: kept,
        });
        if found.len() == 2 {
            break;
        }
    }
    if found.is_empty() {
        bail!("{} names no applicants", receipts.display());
    }
    Ok(found)
}

/// An applicant's own line of the receipts.
fn write_slip(path: &Path, header: &str, line: &str) -> anyhow::Result<()> {
    let mut file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    Ok(writeln!(file, "{header}\n{line}")?)
}

async fn offline(
    story: &Story,
    outsider: &Cairn,
    files: &[(&str, PathBuf)],
    standings: &[Standing],
) -> anyhow::Result<Vec<Proof>> {
    let chain_id = &story.plan.chain_id;
    let mut proofs = Vec::new();
    for (what, file) in files {
        let mut verify = args!["proof", "verify", file, "--chain-id", chain_id];
        if let Some(standing) = standings.iter().find(|standing| standing.proof == *file) {
            let serial = standing.serial.to_string();
            verify.extend(args!["--receipts", standing.slip]);
            let answer = outsider.run(verify).await?;
            if !answer.to_string().contains(&serial) {
                bail!("the proof of serial {serial} does not name it: {answer}");
            }
        } else {
            outsider.run(verify).await?;
        }
        proofs.push(Proof {
            what: (*what).to_owned(),
            file: file.clone(),
            bytes: fs::metadata(file)?.len(),
        });
    }
    let (_, honest) = files.first().context("no proofs")?;
    let edited = story.layout.outsider().join("edited.proof");
    let mut bytes = fs::read(honest)?;
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    fs::write(&edited, bytes)?;
    let verify = args!["proof", "verify", edited, "--chain-id", chain_id];
    outsider.refused(verify, INVALID).await?;
    let other = hex::encode(blake3::hash(b"another ledger").as_bytes());
    let verify = args!["proof", "verify", honest, "--chain-id", other];
    outsider.refused(verify, INVALID).await?;
    Ok(proofs)
}
