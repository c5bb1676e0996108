//! Base45 (RFC 9285): bytes in the 45 characters that QR codes hold most densely.
//!
//! What holds here: every text that is read is the one that its bytes are written as; groups whose
//! number does not fit are refused, not wrapped.

const ALPHABET: &[u8; 45] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:";
/// No character of the alphabet.
const NO_DIGIT: u8 = 0xff;
/// The digit of each character.
const DIGITS: [u8; 256] = digits();

const fn digits() -> [u8; 256] {
    let mut digits = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < ALPHABET.len() {
        digits[ALPHABET[digit] as usize] = digit as u8;
        digit += 1;
    }
    digits
}

/// Two bytes make three characters, the least significant first; a last single byte makes two.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(2) * 3);
    for group in bytes.chunks(2) {
        let mut number = group.iter().fold(0, |n, byte| n * 256 + usize::from(*byte));
        for _ in 0..=group.len() {
            text.push(char::from(ALPHABET[number % 45]));
            number /= 45;
        }
    }
    text
}

/// The bytes that `text` was written from; none where no bytes are written so.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 3 * 2 + 1);
    for group in text.as_bytes().chunks(3) {
        let number = group.iter().rev().try_fold(0, |number, character| {
            let digit = DIGITS[usize::from(*character)];
            (digit != NO_DIGIT).then_some(number * 45 + usize::from(digit))
        })?;
        match group.len() {
            3 => bytes.extend(u16::try_from(number).ok()?.to_be_bytes()),
            2 => bytes.push(u8::try_from(number).ok()?),
            _ => return None,
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_standard_hold() {
        for (bytes, text) in [
            ("AB", "BB8"),
            ("Hello!!", "%69 VD92EX0"),
            ("base-45", "UJCLQE7W581"),
            ("ietf!", "QED8WEX0"),
            ("", ""),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(decode("FGW"), Some(vec![255, 255]));
    }

    #[test]
    fn what_no_bytes_are_written_as_is_refused() {
        for text in ["GGW", ":::", "::", "U5:", "A", "ABCD", "ab8", "BB8\n", "é8"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn bytes_have_one_text_and_texts_one_meaning(bytes: Vec<u8>, text in "[0-9A-Z $%*+./:-]{0,12}") {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
            if let Some(read) = decode(&text) {
                prop_assert_eq!(encode(&read), text);
            }
        }
    }
}
