//! Key files: one line, `cairn-<purpose>-key-v1 <64 hex digits>`, for the owner's eyes only.
//!
//! What holds here: one key, one purpose; a file that others may use is no key file, and none is ever
//! overwritten; secrets are wiped from memory when they are dropped, and no `Debug` prints one. What
//! stays out: what a key signs.

mod file;

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use zeroize::Zeroizing;

pub use file::{ReadError, Unfit, create, read};

/// A key file is one line of about 90 bytes; a file above this is none.
const MAX_BYTES: usize = 256;
/// The only permission bits that a key file may have.
const MODE: u32 = 0o600;

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
}
