//! The files that the two offices hand each other, so that each keeps its tag key to itself.
//!
//! The registrar writes inner tags (`serial,inner_tag`), the notary adds the tags that go into the
//! rows (`serial,inner_tag,tag`). The first line names the format, the chain, the lottery and the
//! number of rows; serials go up from 0. No identity is in either file.
//!
//! What holds here: a file is read whole or refused by its line; a file of tags is taken for a list
//! only where every inner tag is that of the person at this place, so that no order and no list is
//! mistaken for another. What stays out: whether the notary used the right key. Nobody else can
//! tell, so the notary's own command compares it with the rules.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;

use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::roster::tag;

use super::cohort::repeats;
use crate::cores;
use crate::key_file::Secret;
use crate::private_file;

const INNER: &str = "cairn-inner-tags-v1";
const OUTER: &str = "cairn-tags-v1";
/// Lines have 142 characters at most.
const BUFFER: usize = 1 << 18;

/// Of which lottery a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Of {
    /// The chain.
    pub chain_id: Hash,
    /// The lottery.
    pub lottery_id: Hash,
}

/// Why a file of tags is not taken.
#[derive(Debug, thiserror::Error)]
pub enum TagFileError {
    /// The disk failed, or the folder is not there.
    #[error("{path}: {cause}")]
    Io {
        /// Which file.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is damaged, or of something else.
    #[error("{path}, line {line}: {what}")]
    Line {
        /// Which file.
        path: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong there, and what to do.
        what: String,
    },
}

/// The notary's half over inner tags: what goes into the rows.
pub fn blind(notary_tag_key: &Secret, inner_tags: &[[u8; 32]]) -> Vec<[u8; 32]> {
    cores::fill(inner_tags.len(), |at| tag(notary_tag_key, &inner_tags[at]))
}

/// Writes the registrar's file.
pub fn write_inner(path: &Path, of: &Of, inner_tags: &[[u8; 32]]) -> Result<(), TagFileError> {
    write(path, INNER, of, inner_tags, &[])
}

/// Writes the notary's file. There are as many `tags` as inner ones.
pub fn write_outer(
    path: &Path,
    of: &Of,
    inner_tags: &[[u8; 32]],
    tags: &[[u8; 32]],
) -> Result<(), TagFileError> {
    write(path, OUTER, of, inner_tags, tags)
}

/// Reads the registrar's file: inner tags, no two alike.
pub fn read_inner(path: &Path, of: &Of) -> Result<Vec<[u8; 32]>, TagFileError> {
    let file = Reader::open(path)?;
    let (inner_tags, _) = file.read(INNER, of)?;
    refuse_repeats(path, &inner_tags)?;
    Ok(inner_tags)
}

/// Reads the notary's file, which must be of exactly these `inner_tags`, in this order.
pub fn read_outer(
    path: &Path,
    of: &Of,
    inner_tags: &[[u8; 32]],
) -> Result<Vec<[u8; 32]>, TagFileError> {
    let file = Reader::open(path)?;
    let (found, tags) = file.read(OUTER, of)?;
    let differs = found.iter().zip(inner_tags).position(|(a, b)| a != b);
    if let Some(serial) = differs {
        return Err(at(
            path,
            line_of(serial),
            "this is not the tag of the person at this place of the CSV file: the list was changed \
             or sorted since; pass the CSV file of `cairn lottery tag inner`, or run it again",
        ));
    }
    if found.len() != inner_tags.len() {
        let (has, wanted) = (found.len(), inner_tags.len());
        return Err(at(
            path,
            1,
            format_args!(
                "the file is of {has} applicants, and the CSV file has {wanted}; run `cairn \
                 lottery tag inner` again"
            ),
        ));
    }
    refuse_repeats(path, &tags)?;
    Ok(tags)
}

fn write(
    path: &Path,
    format: &str,
    of: &Of,
    inner_tags: &[[u8; 32]],
    tags: &[[u8; 32]],
) -> Result<(), TagFileError> {
    let written = private_file::write(path, |file| {
        let (chain, lottery, rows) = (of.chain_id, of.lottery_id, inner_tags.len());
        writeln!(file, "{format},{chain},{lottery},{rows}")?;
        for (serial, inner) in inner_tags.iter().enumerate() {
            write!(file, "{serial},{}", hex::encode(inner))?;
            match tags.get(serial) {
                Some(tag) => writeln!(file, ",{}", hex::encode(tag))?,
                None => writeln!(file)?,
            }
        }
        Ok(())
    });
    written.map_err(|cause| io(path, cause))
}

/// Tags by serial, in two columns; the second may be empty.
type Tags = (Vec<[u8; 32]>, Vec<[u8; 32]>);

struct Reader<'a> {
    path: &'a Path,
    file: BufReader<File>,
    line: usize,
    text: String,
}

impl<'a> Reader<'a> {
    fn open(path: &'a Path) -> Result<Self, TagFileError> {
        let file = File::open(path).map_err(|cause| io(path, cause))?;
        Ok(Reader {
            path,
            file: BufReader::with_capacity(BUFFER, file),
            line: 0,
            text: String::new(),
        })
    }

    fn read(mut self, format: &str, of: &Of) -> Result<Tags, TagFileError> {
        let rows = self.head(format, of)?;
        let mut tags = Tags::default();
        for serial in 0..rows {
            if !self.next_line()? {
                return Err(self.wrong(format_args!(
                    "the file ends here, and its first line promises {rows} rows; it was cut \
                     short, have it sent again"
                )));
            }
            self.row(serial, format, &mut tags)?;
        }
        if self.next_line()? {
            return Err(self.wrong(format_args!(
                "a line too many: the first line promises {rows} rows"
            )));
        }
        Ok(tags)
    }

    fn head(&mut self, format: &str, of: &Of) -> Result<usize, TagFileError> {
        self.next_line()?;
        let fields: Vec<&str> = self.text.split(',').collect();
        let [is, chain, lottery, rows] = fields[..] else {
            return Err(self.wrong(format_args!("this is no file of {format}")));
        };
        if is != format {
            let step = if format == INNER { "inner" } else { "outer" };
            return Err(self.wrong(format_args!(
                "this is a file of {is}, and one of {format} is needed: what `cairn lottery tag \
                 {step}` wrote"
            )));
        }
        if chain != of.chain_id.to_string() {
            return Err(self.wrong(format_args!("the file is of another ledger: {chain}")));
        }
        if lottery != of.lottery_id.to_string() {
            return Err(self.wrong(format_args!(
                "the file is of another lottery: {lottery}; pass that of {}",
                of.lottery_id
            )));
        }
        rows.parse()
            .map_err(|_| self.wrong("the number of rows is no number"))
    }

    fn row(&self, serial: usize, format: &str, tags: &mut Tags) -> Result<(), TagFileError> {
        let mut fields = self.text.split(',');
        let found = fields.next().unwrap_or_default();
        if found != serial.to_string() {
            return Err(self.wrong(format_args!(
                "serial {serial} is due here, and this is \"{found}\": lines are missing, doubled \
                 or in another order"
            )));
        }
        tags.0.push(self.tag(fields.next())?);
        if format == OUTER {
            tags.1.push(self.tag(fields.next())?);
        }
        match fields.next() {
            None => Ok(()),
            Some(_) => Err(self.wrong("a field too many")),
        }
    }

    fn tag(&self, field: Option<&str>) -> Result<[u8; 32], TagFileError> {
        let mut tag = [0; 32];
        match field.map(|digits| hex::decode_to_slice(digits, &mut tag)) {
            Some(Ok(())) => Ok(tag),
            _ => Err(self.wrong("a tag is not 64 hex digits")),
        }
    }

    /// Whether there is one more line.
    fn next_line(&mut self) -> Result<bool, TagFileError> {
        self.text.clear();
        self.line += 1;
        let read = self.file.read_line(&mut self.text);
        let read = read.map_err(|cause| io(self.path, cause))?;
        // Files that went through another system may end their lines otherwise.
        let kept = self.text.trim_end_matches(['\r', '\n']).len();
        self.text.truncate(kept);
        Ok(read > 0)
    }

    fn wrong(&self, what: impl Display) -> TagFileError {
        at(self.path, self.line, what)
    }
}

/// Equal tags are one person: the roster would be refused.
fn refuse_repeats(path: &Path, tags: &[[u8; 32]]) -> Result<(), TagFileError> {
    let first = repeats(tags).into_iter().min_by_key(|(_, again)| *again);
    match first {
        None => Ok(()),
        Some((first, again)) => Err(at(
            path,
            line_of(again),
            format_args!("the same tag as in line {}", line_of(first)),
        )),
    }
}

/// Behind the first line.
fn line_of(serial: usize) -> usize {
    serial + 2
}

fn at(path: &Path, line: usize, what: impl Display) -> TagFileError {
    TagFileError::Line {
        path: path.display().to_string(),
        line,
        what: what.to_string(),
    }
}

fn io(path: &Path, cause: std::io::Error) -> TagFileError {
    let path = path.display().to_string();
    TagFileError::Io { path, cause }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use zeroize::Zeroizing;

    use super::*;

    const OF: Of = Of {
        chain_id: Hash([0xc1; 32]),
        lottery_id: Hash([0xc2; 32]),
    };

    fn people(count: u8) -> Vec<[u8; 32]> {
        (0..count).map(|person| [person; 32]).collect()
    }

    fn notary() -> Secret {
        Secret::new(Zeroizing::new([9; 32]))
    }

    fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tags");
        (folder, path)
    }

    #[test]
    fn two_offices_come_to_the_same_tags_as_one_machine() {
        let (_folder, path) = folder();
        let inner = people(3);
        write_inner(&path, &OF, &inner).unwrap();
        let received = read_inner(&path, &OF).unwrap();
        assert_eq!(received, inner);
        let tags = blind(&notary(), &received);
        write_outer(&path, &OF, &received, &tags).unwrap();
        assert_eq!(read_outer(&path, &OF, &inner).unwrap(), tags);
        assert_eq!(tags[2], tag(&[9; 32], &inner[2]));
    }

    #[test]
    fn a_file_that_was_changed_on_the_way_is_refused_by_its_line() {
        let (_folder, path) = folder();
        write_inner(&path, &OF, &people(3)).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = good.lines().collect();
        let joined = |order: &[usize]| {
            let lines = order.iter().map(|at| format!("{}\n", lines[*at]));
            lines.collect::<String>()
        };
        for (text, line, said) in [
            (String::new(), 1, "no file of"),
            (good.replace("inner-", ""), 1, "a file of cairn-tags-v1"),
            (good.replace("c1", "c3"), 1, "another ledger"),
            (good.replace("c2", "c3"), 1, "another lottery"),
            (good.replacen(",3\n", ",x\n", 1), 1, "no number"),
            (joined(&[0, 2, 1, 3]), 2, "in another order"),
            (joined(&[0, 1, 1, 3]), 3, "in another order"),
            (joined(&[0, 1, 2]), 4, "cut short"),
            (joined(&[0, 1, 2, 3, 3]), 5, "a line too many"),
            (good.replacen("0,00", "0,0", 1), 2, "64 hex digits"),
            (good.replacen("\n1,", "\n1,,", 1), 3, "64 hex digits"),
            (good.replace("0101", "0000"), 3, "the same tag as in line 2"),
        ] {
            fs::write(&path, &text).unwrap();
            let error = read_inner(&path, &OF).unwrap_err();
            let TagFileError::Line {
                line: at, ref what, ..
            } = error
            else {
                panic!("{error}");
            };
            assert!(at == line && what.contains(said), "{error}: {said}, {line}");
        }
        fs::write(&path, good.replace('\n', "\r\n")).unwrap();
        assert_eq!(read_inner(&path, &OF).unwrap(), people(3));
    }

    #[test]
    fn tags_of_another_list_are_refused_by_the_first_line_that_differs() {
        let (_folder, path) = folder();
        let inner = people(4);
        let tags = blind(&notary(), &inner);
        write_outer(&path, &OF, &inner, &tags).unwrap();
        let mut sorted_otherwise = inner.clone();
        sorted_otherwise.swap(1, 2);
        for (list, expected) in [(&sorted_otherwise[..], "line 3"), (&inner[..3], "line 1")] {
            let error = read_outer(&path, &OF, list).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let mut twice = tags.clone();
        twice[3] = twice[0];
        write_outer(&path, &OF, &inner, &twice).unwrap();
        let error = read_outer(&path, &OF, &inner).unwrap_err().to_string();
        assert!(
            error.contains("line 5: the same tag as in line 2"),
            "{error}"
        );
    }
}
