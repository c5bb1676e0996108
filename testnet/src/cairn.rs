//! Runs the command `cairn` as a user would, and reads the JSON that it prints.
//!
//! What holds here: every command, its exit code and its answer stand in the command log, in order
//! of their end; an exit code other than the expected one is an error that carries what the command
//! said and names the log.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Answers of more than so many bytes are cut in the log.
const MAX_LOGGED: usize = 4_000;

/// Arguments of one command, from anything that is text or a path.
macro_rules! args {
    ($($arg:expr),* $(,)?) => {
        vec![$(::std::ffi::OsStr::new(&$arg).to_owned()),*]
    };
}
pub(crate) use args;

/// The command, with the flags that all its calls share.
#[derive(Debug, Clone)]
pub struct Cairn {
    program: PathBuf,
    shared: Vec<OsString>,
    folder: PathBuf,
    log: PathBuf,
}

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    /// The last JSON value on stdout; null where there was none.
    pub value: Value,
    /// All of them.
    pub values: Vec<Value>,
    /// From start to end.
    pub took: Duration,
}

/// Whether people see a command's progress while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Shown,
    Hidden,
}

impl Cairn {
    /// Calls that need no node.
    pub fn offline(program: &Path, folder: &Path, log: &Path) -> Cairn {
        Cairn {
            program: program.to_owned(),
            shared: Vec::new(),
            folder: folder.to_owned(),
            log: log.to_owned(),
        }
    }

    /// The same, asking `nodes` about the chain `chain_id`.
    pub fn online(&self, nodes: &[String], chain_id: &str) -> Cairn {
        Cairn {
            shared: args!["--node", nodes.join(","), "--chain-id", chain_id],
            ..self.clone()
        }
    }

    /// The same, started in `folder`.
    pub fn in_folder(&self, folder: &Path) -> Cairn {
        Cairn {
            folder: folder.to_owned(),
            ..self.clone()
        }
    }

    /// Runs a command that must succeed.
    pub async fn run(&self, args: Vec<OsString>) -> anyhow::Result<Value> {
        Ok(self.call(args, 0, Progress::Hidden).await?.value)
    }

    /// Runs a command that lists things, as one array or a line for each, and must succeed.
    pub async fn rows(&self, args: Vec<OsString>) -> anyhow::Result<Vec<Value>> {
        self.rows_of(args, 0).await
    }

    /// The same for one that must end with `code`.
    pub async fn rows_of(&self, args: Vec<OsString>, code: i32) -> anyhow::Result<Vec<Value>> {
        let values = self.call(args, code, Progress::Hidden).await?.values;
        Ok(match &values[..] {
            [Value::Array(rows)] => rows.clone(),
            _ => values,
        })
    }

    /// Runs a command that must succeed, and says how long it took.
    pub async fn timed(&self, args: Vec<OsString>) -> anyhow::Result<Answer> {
        self.call(args, 0, Progress::Hidden).await
    }

    /// Runs a command that must succeed, with its own progress on stderr.
    pub async fn shown(&self, args: Vec<OsString>) -> anyhow::Result<Answer> {
        self.call(args, 0, Progress::Shown).await
    }

    /// Runs a command that must end with `code`.
    pub async fn refused(&self, args: Vec<OsString>, code: i32) -> anyhow::Result<Value> {
        Ok(self.call(args, code, Progress::Hidden).await?.value)
    }

    async fn call(
        &self,
        args: Vec<OsString>,
        expected: i32,
        progress: Progress,
    ) -> anyhow::Result<Answer> {
        let shown = progress == Progress::Shown;
        let mut command = Command::new(&self.program);
        command
            .args(&args)
            .args(&self.shared)
            .args(["-o", "json"])
            .args((!shown).then_some("-q"))
            .current_dir(&self.folder)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(if shown {
                Stdio::inherit()
            } else {
                Stdio::piped()
            });
        if let Some(term) = std::env::var_os("TERM") {
            command.env("TERM", term);
        }
        let line = self.line(&args);
        let began = Instant::now();
        let output = output(command).await;
        let output = output.with_context(|| format!("cannot run {}", self.program.display()))?;
        let took = began.elapsed();
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        self.note(&format!(
            "$ {line}\n  {} after {:.3} s\n{}{}",
            output.status,
            took.as_secs_f64(),
            cut(&stdout),
            cut(&stderr),
        ))?;
        if output.status.code() != Some(expected) {
            let said = match stderr.trim() {
                "" => "it said so above".to_owned(),
                said => said.to_owned(),
            };
            bail!(
                "{line}\n  ended with {}, expected exit code {expected}: {said}\n  log: {}",
                output.status,
                self.log.display()
            );
        }
        let values = json_values(&stdout)
            .with_context(|| format!("{line}\n  printed no JSON; log: {}", self.log.display()))?;
        Ok(Answer {
            value: values.last().cloned().unwrap_or(Value::Null),
            values,
            took,
        })
    }

    /// The command as a person would type it.
    fn line(&self, args: &[OsString]) -> String {
        let words = args.iter().chain(&self.shared);
        let words = words.map(|word| word.to_string_lossy());
        let words = words.map(|word| match word.contains(' ') {
            true => format!("'{word}'"),
            false => word.into_owned(),
        });
        format!("cairn {}", words.collect::<Vec<_>>().join(" "))
    }

    fn note(&self, text: &str) -> anyhow::Result<()> {
        let mut options = File::options();
        let file = options
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.log);
        file.and_then(|mut file| writeln!(file, "{text}"))
            .with_context(|| format!("cannot write {}", self.log.display()))
    }
}

fn cut(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let short: String = line.chars().take(MAX_LOGGED).collect();
        let more = if short.len() < line.len() { " …" } else { "" };
        format!("  {short}{more}\n")
    });
    lines.collect()
}

fn json_values(text: &str) -> serde_json::Result<Vec<Value>> {
    let values = serde_json::Deserializer::from_str(text);
    values.into_iter().collect()
}

/// Runs a command to its end; one that nobody waits for any longer is killed.
pub async fn output(mut command: Command) -> anyhow::Result<Output> {
    let child = command.spawn()?;
    let watch = KillOnDrop(i32::try_from(child.id()).ok().and_then(Pid::from_raw));
    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await??;
    watch.disarm();
    Ok(output)
}

struct KillOnDrop(Option<Pid>);

impl KillOnDrop {
    /// It has ended.
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// A field of a command's answer.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a>(pub &'a Value, pub &'a str);

impl Field<'_> {
    /// As text.
    pub fn text(self) -> anyhow::Result<String> {
        let found = self.find().as_str().map(str::to_owned);
        found.with_context(|| format!("{self} is no text"))
    }

    /// As a whole number.
    pub fn number(self) -> anyhow::Result<u64> {
        let found = self.find().as_u64();
        found.with_context(|| format!("{self} is no whole number"))
    }

    /// Fails unless it is `true`.
    pub fn holds(self) -> anyhow::Result<()> {
        match self.find() {
            Value::Bool(true) => Ok(()),
            _ => bail!("{self} is not true"),
        }
    }

    /// Fails unless it is `expected`.
    pub fn is(self, expected: impl Into<Value>) -> anyhow::Result<()> {
        let expected = expected.into();
        match self.find() {
            found if *found == expected => Ok(()),
            _ => bail!("{self} is not {expected}"),
        }
    }

    fn find(&self) -> &Value {
        &self.0[self.1]
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" in {}", self.1, cut(&self.0.to_string()).trim())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cairn(program: &str, folder: &Path) -> Cairn {
        Cairn::offline(Path::new(program), folder, &folder.join("log"))
    }

    #[tokio::test]
    async fn the_last_json_value_is_the_answer_and_all_is_logged() {
        let folder = tempfile::tempdir().unwrap();
        let echo = cairn("/bin/echo", folder.path());
        let answer = echo.run(args!["{\"a\":", "1}"]).await;
        assert!(answer.is_err(), "the flags are no JSON");
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(
            log.contains("-o json -q") && log.contains("$ cairn"),
            "{log}"
        );
        let values = json_values("{\"a\":1}\n{\"a\":2}\n").unwrap();
        assert_eq!((values.len(), &values[1]["a"]), (2, &2.into()));
        assert!(json_values("").unwrap().is_empty());
    }

    #[tokio::test]
    async fn another_exit_code_is_an_error_that_names_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let no = cairn("/bin/false", folder.path());
        let error = no.run(args!["lottery", "list"]).await.unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("lottery list") && error.contains("log"),
            "{error}"
        );
        assert_eq!(no.refused(args!["x"], 1).await.unwrap(), Value::Null);
    }

    #[test]
    fn a_missing_field_is_named() {
        let value = serde_json::json!({"rows": 3, "ok": false});
        assert_eq!(Field(&value, "rows").number().unwrap(), 3);
        let error = Field(&value, "seed").text().unwrap_err().to_string();
        assert!(error.contains("seed") && error.contains("rows"), "{error}");
        assert!(Field(&value, "ok").holds().is_err());
        assert!(Field(&value, "rows").is(3).is_ok());
    }
}
