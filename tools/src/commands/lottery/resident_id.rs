//! Chinese resident-ID numbers (GB 11643): whether one can have been issued.
//!
//! What holds here: 18 characters; six digits of a region, a date of birth that exists, three
//! digits in sequence, and the check character (ISO 7064, mod 11-2) over the other 17; `x` in
//! lower case is refused, for it would make one person two. What stays out: whether a number was
//! issued and to whom, and which regions there ever were: their codes were redrawn many times.

/// How many characters a number has.
const LEN: usize = 18;
/// Nobody alive was born before.
const FIRST_YEAR: u32 = 1900;
/// No date of birth in this century's numbers lies behind it.
const LAST_YEAR: u32 = 2099;
/// ISO 7064 mod 11-2: the check character for each remainder of the weighted sum.
const CHECK: &[u8; 11] = b"10X98765432";

/// Why a text is no resident-ID number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResidentIdError {
    /// Too short or too long: 15 digits are the form before 1999.
    #[error("a resident-ID number has 18 characters, this has {0}")]
    Length(usize),
    /// Only the last character may be other than a digit.
    #[error("character {0} of the resident-ID number is not a digit")]
    NotADigit(usize),
    /// The check character is a digit or X.
    #[error("the resident-ID number ends with a small x; write it as X")]
    SmallX,
    /// No region begins with 0.
    #[error("the resident-ID number begins with 0, and no region does")]
    Region,
    /// No such day, or one that nobody living was born on.
    #[error("the resident-ID number has no valid date of birth: {0:08}")]
    Date(u32),
    /// Something was mistyped.
    #[error(
        "the resident-ID number's check character is wrong: one of its characters was mistyped"
    )]
    Check,
}

/// Checks one number.
pub fn check(text: &[u8]) -> Result<(), ResidentIdError> {
    let Ok(text) = <&[u8; LEN]>::try_from(text) else {
        return Err(ResidentIdError::Length(
            String::from_utf8_lossy(text).chars().count(),
        ));
    };
    let (digits, last) = (&text[..LEN - 1], text[LEN - 1]);
    if let Some(at) = digits.iter().position(|c| !c.is_ascii_digit()) {
        return Err(ResidentIdError::NotADigit(at + 1));
    }
    match last {
        b'x' => return Err(ResidentIdError::SmallX),
        b'X' | b'0'..=b'9' => {}
        _ => return Err(ResidentIdError::NotADigit(LEN)),
    }
    if digits[0] == b'0' {
        return Err(ResidentIdError::Region);
    }
    let date = number(&digits[6..14]);
    if !is_date(date / 10_000, date / 100 % 100, date % 100) {
        return Err(ResidentIdError::Date(date));
    }
    if check_character(digits) == last {
        Ok(())
    } else {
        Err(ResidentIdError::Check)
    }
}

/// The weights are the powers of two mod 11, so that Horner's rule gives the sum.
fn check_character(digits: &[u8]) -> u8 {
    let sum = digits
        .iter()
        .fold(0, |sum, digit| (sum + usize::from(digit - b'0')) * 2 % 11);
    CHECK[sum]
}

fn number(digits: &[u8]) -> u32 {
    digits
        .iter()
        .fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}

fn is_date(year: u32, month: u32, day: u32) -> bool {
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    (FIRST_YEAR..=LAST_YEAR).contains(&year) && (1..=days).contains(&day)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the standard writes it: weights by place, from the left.
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];

    fn issued() -> impl Strategy<Value = String> {
        let day = (1900u32..=2099, 1u32..=12, 1u32..=28);
        (100_000u32..1_000_000, day, 0u32..1_000).prop_map(|(region, (year, month, day), order)| {
            let digits = format!("{region}{year}{month:02}{day:02}{order:03}");
            let sum: u32 = digits
                .bytes()
                .zip(WEIGHTS)
                .map(|(c, w)| u32::from(c - b'0') * w)
                .sum();
            let last = "10X98765432".chars().nth((sum % 11) as usize).unwrap();
            format!("{digits}{last}")
        })
    }

    #[test]
    fn the_examples_of_the_standard_pass() {
        for id in ["11010519491231002X", "440524188001010014"] {
            let passes = check(id.as_bytes());
            // The second is of somebody born in 1880, whom no lottery meets.
            assert_eq!(passes.is_ok(), id.starts_with("11"), "{id}: {passes:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (id, error) in [
            ("110105491231002", ResidentIdError::Length(15)),
            ("一一一", ResidentIdError::Length(3)),
            ("11010519491231002x", ResidentIdError::SmallX),
            ("11010519491231002Y", ResidentIdError::NotADigit(18)),
            ("1101051949123100X2", ResidentIdError::NotADigit(17)),
            ("01010519491231002X", ResidentIdError::Region),
            ("11010519490229002X", ResidentIdError::Date(19_490_229)),
            ("11010519491301002X", ResidentIdError::Date(19_491_301)),
            ("110105194912310021", ResidentIdError::Check),
        ] {
            assert_eq!(check(id.as_bytes()), Err(error), "{id}");
        }
    }

    proptest! {
        #[test]
        fn every_number_that_can_be_issued_passes(id in issued()) {
            prop_assert_eq!(check(id.as_bytes()), Ok(()));
        }

        #[test]
        fn a_mistyped_digit_never_passes(id in issued(), at in 0usize..17, by in 1u8..10) {
            let mut id = id.into_bytes();
            id[at] = b'0' + (id[at] - b'0' + by) % 10;
            prop_assert!(check(&id).is_err());
        }

        #[test]
        fn two_neighbours_exchanged_never_pass(id in issued(), at in 0usize..17) {
            let mut id = id.into_bytes();
            prop_assume!(id[at] != id[at + 1]);
            id.swap(at, at + 1);
            prop_assert!(check(&id).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = check(&bytes);
        }
    }
}
