//! What opens the rows of a cohort: salts and holder keys, made once and kept in the receipts.
//!
//! What holds here: the receipts are whole and on disk before the first row is submitted, under
//! their final name only when they are complete, and nobody but their owner reads them. A salt that
//! is lost can never be found again, and with it nobody could show that a row is theirs.
//! Registering once more takes salts and keys from the receipts, so a run that was cut short goes
//! on as it began.

use std::io::Write;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use zeroize::Zeroizing;

use super::cohort::Cohort;
use super::holder_keys;
use super::receipts::{Lines, Receipt, ReceiptsError, Writer, io};
use crate::cores;
use crate::private_file;
use crate::system;

/// Where salts come from when there is no receipt yet: that of serial n is bytes 32n to 32n + 31 of
/// BLAKE3's extended output, keyed with a secret, of no input. Who does not have the secret learns nothing
/// from some about the others.
#[derive(Debug, Clone)]
pub enum SaltSource {
    /// The secret is of the operating system, and kept nowhere.
    Random,
    /// This secret: for lotteries in tests that are to come out alike.
    Derived([u8; 32]),
}

/// Salts that one core makes before it takes others.
const SALTS_AT_ONCE: usize = 1 << 14;

/// What opens all rows of a cohort, by serial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Openings {
    /// One a row.
    pub salts: Vec<[u8; 32]>,
    /// One a row, or none at all where nobody has a key.
    pub holder_keys: Vec<Option<[u8; 32]>>,
}

impl Openings {
    /// The holder key of `serial`; empty where it has none.
    pub fn holder_key(&self, serial: usize) -> &[u8] {
        let key = self.holder_keys.get(serial).and_then(Option::as_ref);
        key.map_or(&[], |key| &key[..])
    }

    /// How many rows have a holder key.
    pub fn keys(&self) -> usize {
        self.holder_keys.iter().flatten().count()
    }
}

/// The openings of a whole cohort, and the file that keeps them: read if it is there, otherwise
/// made and written. With `office_keys`, whoever brought no key gets one. What needs the openings, leaves
/// nothing behind and cannot fail is done `meanwhile`: writing takes one core, and waits for the disk.
pub fn openings<T>(
    path: &Path,
    cohort: &Cohort,
    source: &SaltSource,
    office_keys: bool,
    meanwhile: impl FnOnce(&Openings) -> T,
) -> Result<(Openings, T), ReceiptsError> {
    if path.exists() {
        let openings = read_openings(path, cohort, office_keys)?;
        let done = meanwhile(&openings);
        return Ok((openings, done));
    }
    let salts = make_salts(cohort.len(), source);
    let mut holder_keys = if office_keys || cohort.has_holder_keys() {
        (0..cohort.len()).map(|at| cohort.holder_key(at)).collect()
    } else {
        Vec::new()
    };
    let made = if office_keys {
        make_keys(&mut holder_keys, source)
    } else {
        Vec::new()
    };
    if holder_keys.iter().all(Option::is_none) {
        holder_keys = Vec::new();
    }
    let openings = Openings { salts, holder_keys };
    let (written, done) = thread::scope(|scope| {
        let writing =
            scope.spawn(|| private_file::write(path, |file| write(file, cohort, &openings, &made)));
        let done = meanwhile(&openings);
        (writing.join(), done)
    });
    let written = written.unwrap_or_else(|panic| resume_unwind(panic));
    written.map_err(|cause| io(path, cause))?;
    Ok((openings, done))
}

/// Makes the keys that are missing, and gives all secrets, one a row.
fn make_keys(keys: &mut [Option<[u8; 32]>], source: &SaltSource) -> Vec<Option<[u8; 32]>> {
    let missing = |(serial, key): (u64, &Option<_>)| key.is_none().then_some(serial);
    let serials: Vec<u64> = (0..).zip(keys.iter()).filter_map(missing).collect();
    let seed = match source {
        SaltSource::Random => None,
        SaltSource::Derived(seed) => Some(seed),
    };
    let mut made = holder_keys::make(&serials, seed).into_iter();
    let fill = |key: &mut Option<[u8; 32]>| match key {
        Some(_) => None,
        None => made.next().map(|made| {
            *key = Some(made.public);
            made.secret
        }),
    };
    keys.iter_mut().map(fill).collect()
}

fn make_salts(rows: usize, source: &SaltSource) -> Vec<[u8; 32]> {
    let secret = Zeroizing::new(match source {
        SaltSource::Random => system::random(),
        SaltSource::Derived(secret) => *secret,
    });
    let output = blake3::Hasher::new_keyed(&secret).finalize_xof();
    let mut salts = vec![[0; 32]; rows];
    cores::portions(&mut salts, SALTS_AT_ONCE, |first, salts| {
        let mut output = output.clone();
        output.set_position(32 * first as u64);
        output.fill(salts.as_flattened_mut());
    });
    salts
}

fn write(
    file: &mut impl Write,
    cohort: &Cohort,
    openings: &Openings,
    secrets: &[Option<[u8; 32]>],
) -> std::io::Result<()> {
    let mut lines = Writer::new(file, !secrets.is_empty())?;
    for (serial, salt) in openings.salts.iter().enumerate() {
        lines.line(&Receipt {
            serial: serial as u64,
            identity: cohort.identity(serial),
            salt: *salt,
            holder_key: openings.holder_key(serial),
            holder_secret: secrets.get(serial).copied().flatten(),
        })?;
    }
    lines.finish()
}

fn read_openings(
    path: &Path,
    cohort: &Cohort,
    office_keys: bool,
) -> Result<Openings, ReceiptsError> {
    let mut lines = Lines::open(path)?;
    let mut salts = Vec::with_capacity(cohort.len());
    let mut holder_keys = Vec::new();
    while let Some(receipt) = lines.next_receipt()? {
        let serial = salts.len();
        let same = receipt.serial == serial as u64
            && serial < cohort.len()
            && receipt.identity == cohort.identity(serial);
        let key = <[u8; 32]>::try_from(receipt.holder_key.as_slice()).ok();
        let own = same.then(|| cohort.holder_key(serial)).flatten();
        // A key that is not the applicant's own is one that the office made.
        let key_fits = key == own || own.is_none() && receipt.holder_secret.is_some();
        if !same || !key_fits {
            return Err(other_list(path, serial));
        }
        if key.is_none() && office_keys {
            let path = path.display().to_string();
            return Err(ReceiptsError::WithoutKeys { path });
        }
        if key.is_some() {
            holder_keys.resize(serial, None);
            holder_keys.push(key);
        }
        salts.push(receipt.salt);
    }
    if salts.len() != cohort.len() {
        return Err(other_list(path, salts.len()));
    }
    if !holder_keys.is_empty() {
        holder_keys.resize(salts.len(), None);
    }
    Ok(Openings { salts, holder_keys })
}

fn other_list(path: &Path, serial: usize) -> ReceiptsError {
    ReceiptsError::OtherList {
        path: path.display().to_string(),
        serial: serial as u64,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use ed25519_dalek::SigningKey;

    use super::super::cohort::{ColumnNames, tests::key};
    use super::super::receipts::find;
    use super::*;
    use crate::commands::problems::Problems;

    fn cohort(csv: &str) -> Cohort {
        let names = ColumnNames {
            identity: "id".to_owned(),
            holder_key: csv.contains("key").then(|| "key".to_owned()),
            ..Default::default()
        };
        let mut problems = Problems::default();
        let cohort = Cohort::read(csv.as_bytes(), &names, &[], &key(), &mut problems).unwrap();
        assert!(problems.is_empty());
        cohort
    }

    fn kept(
        path: &Path,
        people: &Cohort,
        source: &SaltSource,
        office_keys: bool,
    ) -> Result<Openings, ReceiptsError> {
        let found = openings(path, people, source, office_keys, Openings::clone);
        found.map(|(found, meanwhile)| {
            assert_eq!(found, meanwhile);
            found
        })
    }

    fn keyless(path: &Path, people: &Cohort) -> Result<Openings, ReceiptsError> {
        kept(path, people, &SaltSource::Random, false)
    }

    #[test]
    fn receipts_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipts.csv");
        let people =
            cohort("id\nplain\n\"with, comma\"\n\"with \"\"quotes\"\"\"\n\"two\nlines\"\n");
        let made = keyless(&path, &people).unwrap();
        assert_eq!((made.salts.len(), made.holder_keys.len()), (4, 0));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(keyless(&path, &people).unwrap(), made);
        let receipt = find(&path, 3).unwrap().unwrap();
        assert_eq!(receipt.identity, b"two\nlines");
        assert_eq!((receipt.serial, receipt.salt), (3, made.salts[3]));
        assert_eq!(find(&path, 4).unwrap(), None);
    }

    #[test]
    fn no_salt_is_made_twice() {
        let folder = tempfile::tempdir().unwrap();
        let people = cohort("id\na\nb\nc\n");
        let run = |name: &str| keyless(&folder.path().join(name), &people).unwrap().salts;
        let salts: BTreeSet<_> = [run("first"), run("second")].concat().into_iter().collect();
        assert_eq!(salts.len(), 6);
    }

    #[test]
    fn a_derived_salt_is_its_serials_part_of_the_keyed_output() {
        let rows = 2 * SALTS_AT_ONCE + 3;
        let mut output = vec![0; 32 * rows];
        let keyed = blake3::Hasher::new_keyed(&[5; 32]).finalize_xof();
        { keyed }.fill(&mut output);
        let salts = make_salts(rows, &SaltSource::Derived([5; 32]));
        assert_eq!(salts.as_flattened(), output);
    }

    #[test]
    fn the_office_makes_keys_for_whoever_brought_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipts.csv");
        let own = SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
        let people = cohort(&format!("id,key\na,{}\nb,\n", hex::encode(own)));
        let source = SaltSource::Derived([5; 32]);
        let made = kept(&path, &people, &source, true).unwrap();
        assert_eq!((made.holder_key(0), made.keys()), (&own[..], 2));
        let [first, second] = [0, 1].map(|serial| find(&path, serial).unwrap().unwrap());
        assert_eq!(first.holder_secret, None);
        let secret = SigningKey::from_bytes(&second.holder_secret.unwrap());
        assert_eq!(secret.verifying_key().as_bytes(), made.holder_key(1));

        // A later run takes what is there, with the flag or without.
        for office_keys in [true, false] {
            let again = kept(&path, &people, &SaltSource::Random, office_keys);
            assert_eq!(again.unwrap(), made);
        }
        let others = cohort(&format!("id,key\na,\nb,{}\n", hex::encode(own)));
        let error = kept(&path, &others, &source, true).unwrap_err();
        assert!(matches!(error, ReceiptsError::OtherList { serial: 0, .. }));
    }

    #[test]
    fn receipts_without_keys_are_not_taken_for_some_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipts.csv");
        let people = cohort("id\na\nb\n");
        keyless(&path, &people).unwrap();
        let error = kept(&path, &people, &SaltSource::Random, true).unwrap_err();
        assert!(error.to_string().contains("leave --with-holder-keys out"));
    }

    #[test]
    fn receipts_of_another_list_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipts.csv");
        keyless(&path, &cohort("id\na\nb\n")).unwrap();
        for (csv, first) in [("id\na\nc\n", 1), ("id\na\nb\nc\n", 2), ("id\na\n", 1)] {
            let error = keyless(&path, &cohort(csv)).unwrap_err();
            assert!(matches!(error, ReceiptsError::OtherList { serial, .. } if serial == first));
        }
    }
}
