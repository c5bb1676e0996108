//! Key files: one line, `cairn-<purpose>-key-v1 <64 hex digits>`, for the owner's eyes only.
//!
//! What holds here: one key, one purpose; a file that others may use is no key file; secrets are
//! wiped from memory when they are dropped, and no `Debug` prints one. What stays out: files. Who
//! reads one opens it without following links, lets [`check`] look at what the system says of it,
//! and hands its bytes to [`parse`].

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use zeroize::Zeroizing;

/// A key file is one line of about 90 bytes; a file above this is none.
pub const MAX_BYTES: usize = 256;
/// The only permission bits that a key file may have.
pub const MODE: u32 = 0o600;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Proves to other nodes which node this is.
    Network,
    /// Cosigns checkpoints.
    Cosign,
    /// Signs an institution's contribution to a lottery's seed.
    Seed,
    /// Signs entries.
    Author,
    /// Turns identities into tags that show who is registered twice.
    Tag,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Purpose; 5] = [
        Purpose::Network,
        Purpose::Cosign,
        Purpose::Seed,
        Purpose::Author,
        Purpose::Tag,
    ];

    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Network => "network",
            Purpose::Cosign => "cosign",
            Purpose::Seed => "seed",
            Purpose::Author => "author",
            Purpose::Tag => "tag",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Purpose {
    type Err = String;

    fn from_str(name: &str) -> Result<Purpose, String> {
        let found = Purpose::ALL.into_iter().find(|p| p.name() == name);
        found.ok_or_else(|| "must be network, cosign, seed, author or tag".to_owned())
    }
}

/// The 32 bytes of a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// These bytes, wiped from now on.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Secret {
        Secret(bytes)
    }
}

impl Deref for Secret {
    type Target = [u8; 32];

    fn deref(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The text of a key file.
pub fn render(purpose: Purpose, secret: &Secret) -> Zeroizing<String> {
    let mut digits = Zeroizing::new([0; 64]);
    // 32 bytes are 64 digits.
    let _ = hex::encode_to_slice(&secret[..], &mut digits[..]);
    let digits = std::str::from_utf8(&digits[..]).unwrap_or_default();
    // Room for all, so that no half-filled string is left behind unwiped.
    let mut line = Zeroizing::new(String::with_capacity(MAX_BYTES));
    for part in ["cairn-", purpose.name(), "-key-v1 ", digits, "\n"] {
        line.push_str(part);
    }
    line
}

/// The key in a file's text.
pub fn parse(text: &[u8]) -> Option<(Purpose, Secret)> {
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    Purpose::ALL.into_iter().find_map(|purpose| {
        let digits = line.strip_prefix(format!("cairn-{purpose}-key-v1 ").as_bytes())?;
        let mut secret = Secret(Zeroizing::new([0; 32]));
        hex::decode_to_slice(digits, &mut secret.0[..]).ok()?;
        Some((purpose, secret))
    })
}

/// What the system says of a file.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// It is a plain file, not a link, folder or device.
    pub plain: bool,
    /// Its permission bits, those of 0o7777.
    pub mode: u32,
    /// Whose it is.
    pub owner: u32,
    /// Its bytes.
    pub len: u64,
}

/// Why a file is no key file, whatever is in it. The sentences follow the file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is a symbolic link, or no plain file.
    #[error("is not a plain file: put the key itself there, not a link to it")]
    NotAFile,
    /// Others may read or write it, or it is marked in another way.
    #[error("has mode {mode:04o}, and a key has 0600, so that nobody else may use it")]
    Mode {
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody else owns it.
    #[error("belongs to user {owner}, but this process runs as {me}")]
    Owner {
        /// Its owner.
        owner: u32,
        /// Who runs this process.
        me: u32,
    },
    /// It does not hold a key's line.
    #[error("is no key file: it must hold one line, \"cairn-<purpose>-key-v1\" and 64 hex digits")]
    Format,
}

impl Unfit {
    /// The command that mends it, for the file `path`.
    pub fn cure(&self, path: &str) -> Option<String> {
        match self {
            Unfit::Mode { .. } => Some(format!("chmod 0600 '{path}'")),
            Unfit::Owner { me, .. } => Some(format!("chown {me} '{path}'")),
            Unfit::Format => Some("cairn key new".to_owned()),
            Unfit::NotAFile => None,
        }
    }
}

/// Whether a file may hold a key that the user `me` uses.
pub fn check(facts: &Facts, me: u32) -> Result<(), Unfit> {
    let (mode, owner) = (facts.mode, facts.owner);
    if !facts.plain {
        return Err(Unfit::NotAFile);
    }
    if mode != MODE {
        return Err(Unfit::Mode { mode });
    }
    if owner != me {
        return Err(Unfit::Owner { owner, me });
    }
    if facts.len > MAX_BYTES as u64 {
        return Err(Unfit::Format);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rendered_is_parsed_and_names_its_purpose() {
        let secret = Secret::new(Zeroizing::new([0x2a; 32]));
        for purpose in Purpose::ALL {
            let text = render(purpose, &secret);
            let digits = "2a".repeat(32);
            assert_eq!(*text, format!("cairn-{purpose}-key-v1 {digits}\n"));
            assert!(text.len() <= MAX_BYTES);
            let found = parse(text.as_bytes()).unwrap();
            assert_eq!(found, (purpose, secret.clone()));
            assert_eq!(purpose.name().parse(), Ok(purpose));
        }
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    #[test]
    fn anything_but_the_line_is_no_key() {
        let hex = "2a".repeat(32);
        assert!(parse(format!("cairn-seed-key-v1 {hex}").as_bytes()).is_some());
        for text in [
            String::new(),
            hex.clone(),
            format!("cairn-author-key-v1 {}", &hex[2..]),
            format!("cairn-author-key-v1 {hex}00"),
            format!("cairn-author-key-v1  {hex}"),
            format!("cairn-author-key-v2 {hex}"),
            format!("cairn-other-key-v1 {hex}"),
            format!("cairn-author-key-v1 {hex}\n\n"),
            format!("cairn-author-key-v1 {hex}\r\n"),
        ] {
            assert!(parse(text.as_bytes()).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_file_that_others_may_use_is_no_key_file_and_the_cure_is_named() {
        let good = Facts {
            plain: true,
            mode: MODE,
            owner: 7,
            len: 88,
        };
        assert_eq!(check(&good, 7), Ok(()));
        let linked = Facts {
            plain: false,
            ..good
        };
        assert_eq!(check(&linked, 7), Err(Unfit::NotAFile));
        let foreign = check(&good, 8).unwrap_err();
        assert_eq!(foreign.cure("k").unwrap(), "chown 8 'k'");
        for mode in [0o644, 0o640, 0o604, 0o620, 0o700, 0o400, 0o4600] {
            let unfit = check(&Facts { mode, ..good }, 7).unwrap_err();
            assert_eq!(unfit.cure("k").unwrap(), "chmod 0600 'k'", "{mode:o}");
        }
        let long = Facts { len: 257, ..good };
        assert_eq!(check(&long, 7), Err(Unfit::Format));
    }
}
