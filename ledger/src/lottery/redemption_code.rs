//! What a winner shows at the counter, as a QR code: the holder's signature and what it opens.
//!
//! The bytes, numbers big-endian:
//!
//! | from | bytes | what |
//! |---|---|---|
//! | 0 | 1 | version: 1 |
//! | 1 | 8 | serial |
//! | 9 | 8 | signed at, milliseconds since 1970 by the holder's clock |
//! | 17 | 32 | the salted hash of the identity |
//! | 49 | 32 | holder key, Ed25519 |
//! | 81 | 64 | the holder's signature over a [`Presented`](super::holder::Presented) |
//!
//! 145 bytes, shown as 218 characters of Base45 (RFC 9285), which a QR code holds in its
//! alphanumeric mode.
//!
//! What holds here: a code has one text and a text at most one meaning. Lottery, attempt and shop
//! are under the signature and not in the code: who scans it knows them. What stays out: whether
//! the signature is good, and whether the row won.

use crate::base45;
use crate::hash::Hash;

/// The first byte. Another layout gets another.
pub const VERSION: u8 = 1;
/// Bytes of a code.
pub const CODE_LEN: usize = 145;
/// Characters of a code's text.
pub const TEXT_LEN: usize = 218;

/// A code that was read, or is to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedemptionCode {
    /// The winner's row.
    pub serial: u64,
    /// The holder's clock, milliseconds since 1970.
    pub signed_at_ms: u64,
    /// The salted hash of the identity.
    pub identity_hash: Hash,
    /// The key in the row's commitment.
    pub holder_key: [u8; 32],
    /// Over shop, time and row.
    pub signature: [u8; 64],
}

/// Why a text is no code. Have it shown and scanned once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Something else was scanned, or a part is missing.
    #[error("a code has {TEXT_LEN} characters, this has {0}")]
    Length(usize),
    /// A character was lost or changed.
    #[error("these characters are not Base45")]
    Base45,
    /// From a newer program.
    #[error("the code has version {0}, and version {VERSION} is known here")]
    Version(u8),
}

impl RedemptionCode {
    /// The text that a QR code shows.
    pub fn to_text(&self) -> String {
        let bytes = [
            &[VERSION][..],
            &self.serial.to_be_bytes(),
            &self.signed_at_ms.to_be_bytes(),
            self.identity_hash.as_bytes(),
            &self.holder_key,
            &self.signature,
        ];
        base45::encode(&bytes.concat())
    }

    /// The code that `text` shows.
    pub fn from_text(text: &str) -> Result<RedemptionCode, CodeError> {
        if text.len() != TEXT_LEN {
            return Err(CodeError::Length(text.chars().count()));
        }
        let bytes = base45::decode(text).ok_or(CodeError::Base45)?;
        let (version, rest) = take::<1>(&bytes)?;
        if version != [VERSION] {
            return Err(CodeError::Version(version[0]));
        }
        let (serial, rest) = take(rest)?;
        let (signed_at_ms, rest) = take(rest)?;
        let (identity_hash, rest) = take(rest)?;
        let (holder_key, rest) = take(rest)?;
        let (signature, _) = take(rest)?;
        Ok(RedemptionCode {
            serial: u64::from_be_bytes(serial),
            signed_at_ms: u64::from_be_bytes(signed_at_ms),
            identity_hash: Hash(identity_hash),
            holder_key,
            signature,
        })
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), CodeError> {
    let (taken, rest) = bytes.split_first_chunk().ok_or(CodeError::Base45)?;
    Ok((*taken, rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code() -> RedemptionCode {
        RedemptionCode {
            serial: 543_383,
            signed_at_ms: 1_795_341_600_000,
            identity_hash: Hash([7; 32]),
            holder_key: [8; 32],
            signature: [9; 64],
        }
    }

    #[test]
    fn a_code_has_the_length_that_is_promised_and_comes_back() {
        let text = code().to_text();
        assert_eq!(text.len(), TEXT_LEN);
        assert_eq!(base45::decode(&text).unwrap().len(), CODE_LEN);
        assert_eq!(RedemptionCode::from_text(&text), Ok(code()));
    }

    #[test]
    fn what_is_no_code_is_refused_with_the_reason() {
        let text = code().to_text();
        let other = base45::encode(&[&[2][..], &[0; CODE_LEN - 1]].concat());
        for (text, error) in [
            (String::new(), CodeError::Length(0)),
            (format!("{text} "), CodeError::Length(TEXT_LEN + 1)),
            ("é".repeat(TEXT_LEN / 2), CodeError::Base45),
            (text.to_lowercase(), CodeError::Base45),
            (other, CodeError::Version(2)),
        ] {
            assert_eq!(RedemptionCode::from_text(&text), Err(error));
        }
    }

    proptest! {
        #[test]
        fn a_text_that_is_read_is_the_codes_own(bytes in prop::collection::vec(any::<u8>(), CODE_LEN - 1)) {
            let text = base45::encode(&[&[VERSION][..], &bytes].concat());
            let read = RedemptionCode::from_text(&text).unwrap();
            prop_assert_eq!(read.to_text(), text);
        }
    }
}
