//! The documents against the repository: paths, links, tags, messages, tests, settings and reasons
//! that they name are there, and what they must list is listed.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders of the repository that documents may name and that hold sources.
const CRATES: [&str; 9] = [
    "proto",
    "ledger",
    "keys",
    "storage",
    "consensus",
    "sim",
    "node",
    "tools",
    "testnet",
];
const OTHER_FOLDERS: [&str; 3] = ["docs", ".ci", ".cargo"];
/// Made on a machine, never committed.
const MADE: [&str; 2] = ["testnet/data", "testnet/data/"];
const ENDINGS: [&str; 5] = [".rs", ".proto", ".md", ".toml", ".json"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files below `folder` with this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every document, by its path.
fn documents() -> BTreeMap<String, String> {
    let mut paths = files(&root().join("docs"), ".md");
    assert!(paths.len() >= 4, "the documents are in docs/");
    paths.extend(files(&root().join("testnet"), ".md"));
    paths.push(root().join("README.md"));
    let name = |path: &PathBuf| path.strip_prefix(root()).unwrap().display().to_string();
    paths
        .iter()
        .filter_map(|path| Some((name(path), fs::read_to_string(path).ok()?)))
        .collect()
}

/// The text of all sources below the crates' `part`s.
fn sources(part: &str) -> String {
    let all = CRATES
        .iter()
        .flat_map(|name| files(&root().join(name).join(part), ".rs"));
    all.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// What stands between single backticks, outside of fenced blocks.
fn quoted(document: &str) -> Vec<&str> {
    let prose = document.split("```").step_by(2);
    prose
        .flat_map(|prose| prose.split('`').skip(1).step_by(2))
        .collect()
}

/// What `text` has between `start` and `end`, everywhere.
fn between<'a>(text: &'a str, start: &str, end: &str) -> BTreeSet<&'a str> {
    let pieces = text.split(start).skip(1);
    pieces
        .filter_map(|p| p.split_once(end).map(|x| x.0))
        .collect()
}

/// Whether a quoted token names a file or folder of this repository.
fn names_a_path(token: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/*".contains(c);
    let Some((first, _)) = token.split_once('/') else {
        return false;
    };
    token.chars().all(plain)
        && !MADE.contains(&token)
        && (CRATES.contains(&first)
            || OTHER_FOLDERS.contains(&first)
            || ENDINGS.iter().any(|ending| token.ends_with(ending)))
}

#[test]
fn documents_name_only_paths_that_exist() {
    for (name, document) in documents() {
        let paths = quoted(&document).into_iter().filter(|t| names_a_path(t));
        for path in paths {
            // What a pattern stands for is below the folder before it.
            let certain = path.split('*').next().unwrap_or_default();
            let certain = match path.contains('*') {
                true => certain.rsplit_once('/').map_or("", |(folder, _)| folder),
                false => certain,
            };
            let there = root().join(certain).exists();
            assert!(there, "{name} names {path}, which is not there");
        }
    }
}

/// A heading as its link is written.
fn anchor(heading: &str) -> String {
    let kept = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    };
    heading.trim().chars().filter_map(kept).collect()
}

fn anchors(document: &str) -> BTreeSet<String> {
    let lines = document.lines().filter(|line| line.starts_with('#'));
    lines
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let documents = documents();
    for (name, document) in &documents {
        let folder = Path::new(name).parent().unwrap();
        for link in between(document, "](", ")") {
            if link.starts_with("http") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => name.clone(),
                file => folder.join(file).display().to_string(),
            };
            let path = root().join(&target).canonicalize();
            let path = path.unwrap_or_else(|_| panic!("{name} links to {link}"));
            if !heading.is_empty() {
                let text = fs::read_to_string(path).unwrap();
                assert!(anchors(&text).contains(heading), "{name} links to {link}");
            }
        }
    }
}

/// String literals of the sources that name a domain or a BLS domain.
fn tags_in(text: &str, quote: char) -> BTreeSet<&str> {
    let literals = text.split(quote);
    let tag = |t: &&str| {
        t.len() < 80
            && !t.contains('\n')
            && (t.starts_with("cairn v1 ") || t.ends_with("_SSWU_RO_") || t.ends_with("_RO_NUL_"))
    };
    literals.filter(tag).collect()
}

#[test]
fn every_tag_in_the_sources_is_in_the_formats_and_the_other_way_round() {
    let (sources, formats) = (sources("src"), read("docs/formats.md"));
    let used = tags_in(&sources, '"');
    let declared = between(&sources, "Domain::new(\"", "\"");
    assert!(declared.len() >= 12 && declared.is_subset(&used));
    let mut listed = tags_in(&formats, '`');
    listed.remove("BLS12381G1_XMD:SHA-256_SSWU_RO_"); // the suite, not a tag of ours
    assert_eq!(used, listed);
}

/// Messages and enums by name, each a list of its lines without comments.
fn definitions(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    let mut open: Option<(String, Vec<String>)> = None;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        match (&mut open, words.as_slice()) {
            (None, ["message" | "enum", name, "{"]) => {
                open = Some(((*name).to_owned(), vec![line.to_owned()]));
            }
            (Some(_), ["}"]) => found.extend(open.take()),
            (Some((_, lines)), [_, ..]) => lines.push(line.to_owned()),
            _ => {}
        }
    }
    found
}

#[test]
fn messages_in_the_formats_are_those_of_the_proto_files() {
    let protos = files(&root().join("proto/cairn/v1"), ".proto");
    let protos: String = protos
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let defined = definitions(&protos);
    let stated = definitions(&read("docs/formats.md"));
    for (name, lines) in &stated {
        assert_eq!(Some(lines), defined.get(name), "{name}");
    }
    // Whatever a file of signed and hashed messages defines is stated.
    for file in [
        "entry",
        "block",
        "proof",
        "lottery",
        "code_status",
        "trust",
        "intake",
    ] {
        for name in definitions(&read(&format!("proto/cairn/v1/{file}.proto"))).keys() {
            assert!(
                stated.contains_key(name),
                "{name} is not in docs/formats.md"
            );
        }
    }
}

/// The lines of `chapter` that begin like `line`; each names tests, and all of them exist.
fn lines_with_tests(document: &str, chapter: &str, line: impl Fn(&str) -> bool) -> usize {
    let all = [sources("src"), sources("tests")].concat();
    let mut known = between(&all, "fn ", "(");
    // The simulator has one module for each of its invariants.
    known.extend(between(&all, "mod ", ";"));
    let document = read(document);
    let (_, chapter) = document.split_once(chapter).unwrap();
    let (chapter, _) = chapter.split_once("\n## ").unwrap();
    let lines: Vec<&str> = chapter.lines().filter(|text| line(text)).collect();
    for line in &lines {
        let sentence = |t: &&str| t.matches('_').count() >= 2 && !t.contains(['/', '.']);
        let tests: Vec<&str> = quoted(line).into_iter().filter(sentence).collect();
        assert!(!tests.is_empty(), "no test shows: {line}");
        for test in tests {
            assert!(known.contains(test), "there is no test {test}");
        }
    }
    lines.len()
}

#[test]
fn every_invariant_and_every_attack_names_tests_that_exist() {
    let numbered = |line: &str| line.starts_with(|c: char| c.is_ascii_digit());
    let invariants = lines_with_tests("docs/architecture.md", "## What always holds", numbered);
    assert!(invariants >= 20);
    let row = |line: &str| line.starts_with("| ") && !line.starts_with("| attack ");
    let attacks = lines_with_tests("docs/lotteries.md", "## Who tries what", row);
    assert!(attacks >= 20);
}

/// Fields of a struct of the node's configuration.
fn fields_of(source: &str, name: &str) -> BTreeSet<String> {
    let body = source.split(&format!("struct {name} {{")).nth(1).unwrap();
    let body = body.split('}').next().unwrap();
    let names = body.lines().filter_map(|line| line.trim().split_once(':'));
    names.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn operations_list_every_setting_metric_and_reason() {
    let operations = read("docs/operations.md");
    let listed: BTreeSet<&str> = quoted(&operations).into_iter().collect();
    let must = |what: &str, name: &str| {
        assert!(
            listed.contains(name),
            "docs/operations.md lacks the {what} {name}"
        );
    };
    let config = read("node/src/config.rs");
    for field in fields_of(&config, "File").union(&fields_of(&config, "FileTiming")) {
        must("setting", field);
    }
    for variable in between(&config, "env = \"", "\"") {
        must("variable", variable);
    }
    let metrics = read("node/src/metrics.rs");
    let names = fields_of(&metrics, "Metrics");
    assert!(names.len() >= 10);
    let gauges = between(&metrics, "gauge(\"", "\"");
    let gauges = gauges
        .union(&between(&metrics, "gauge(\n            \"", "\""))
        .copied()
        .collect::<Vec<_>>();
    assert!(gauges.len() >= names.len() - 1, "{gauges:?}");
    for gauge in gauges {
        must("metric", &format!("cairn_{gauge}"));
    }
    let (_, logs) = operations.split_once("## Logs").unwrap();
    let (logs, _) = logs.split_once("\n## ").unwrap();
    let (sources, rows) = (sources("src"), between(logs, "\n| `", "` |"));
    assert!(rows.len() >= 5);
    for words in rows {
        assert!(sources.contains(words), "no source logs: {words}");
    }
    let shouted = |t: &&&str| t.len() > 4 && t.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let places = [
        "node/src/grpc/errors.rs",
        "consensus/src/submit.rs",
        "ledger/src/admission.rs",
    ];
    let mut reasons = 0;
    for place in places {
        let source = read(place);
        let source = source.split("#[cfg(test)]").next().unwrap();
        let literals: Vec<&str> = source.split('"').skip(1).step_by(2).collect();
        for reason in literals.iter().filter(shouted) {
            reasons += 1;
            must("reason", reason);
        }
    }
    assert!(reasons > 20, "{reasons}");
}
