//! Quotation marks in CSV files: one that is opened and never closed swallows the rest of the file,
//! and a reader that only sees records cannot say where it stood.

use std::io::{self, Read};

/// Passes a file on and remembers the line in which the last quotation mark was opened.
#[derive(Debug)]
pub struct Quotes<R> {
    inner: R,
    at: At,
    line: u64,
    opened: u64,
    ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    FieldStart,
    Plain,
    Quoted,
    /// Behind a mark that closes the field, or is the first of two that stand for one.
    MarkInQuoted,
}

/// The sentence of a file that ends inside a quotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a quotation mark opens in line {line} and is not closed")]
pub struct NotClosed {
    /// Counted from 1.
    pub line: u64,
}

impl<R> Quotes<R> {
    /// Reads `inner`.
    pub fn new(inner: R) -> Self {
        Quotes {
            inner,
            at: At::FieldStart,
            line: 1,
            opened: 0,
            ended: false,
        }
    }

    /// An error if the file was read to its end, which lies inside a quotation.
    pub fn closed(&self) -> Result<(), NotClosed> {
        if self.ended && self.at == At::Quoted {
            return Err(NotClosed { line: self.opened });
        }
        Ok(())
    }

    fn see_all(&mut self, bytes: &[u8]) {
        // Behind the first line, with its mark of UTF-8, bytes without a quotation mark only count lines;
        // what they leave the reader at is up to the last one.
        let plain = self.line > 1 && self.at != At::Quoted && !bytes.contains(&b'"');
        let Some(last) = bytes.last().filter(|_| plain) else {
            return bytes.iter().for_each(|byte| self.see(*byte));
        };
        self.line += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.at = match last {
            b',' | b'\r' | b'\n' => At::FieldStart,
            _ => At::Plain,
        };
    }

    fn see(&mut self, byte: u8) {
        self.at = match (self.at, byte) {
            (At::FieldStart, b'"') => {
                self.opened = self.line;
                At::Quoted
            }
            (At::Quoted, b'"') => At::MarkInQuoted,
            (At::Quoted, _) | (At::MarkInQuoted, b'"') => At::Quoted,
            (_, b',' | b'\r' | b'\n') => At::FieldStart,
            // The mark of UTF-8 may stand before the first field.
            (At::FieldStart, 0xef | 0xbb | 0xbf) if self.line == 1 => At::FieldStart,
            _ => At::Plain,
        };
        self.line += u64::from(byte == b'\n');
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.ended = read == 0 && !buf.is_empty();
        self.see_all(&buf[..read]);
        Ok(read)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn closed(text: &str) -> Result<(), NotClosed> {
        let mut quotes = Quotes::new(text.as_bytes());
        io::copy(&mut quotes, &mut io::sink()).unwrap();
        quotes.closed()
    }

    #[test]
    fn a_mark_that_is_never_closed_is_named_by_its_line() {
        assert_eq!(
            closed("id,x\n1,\"a\nb\"\n2,\"c\n3,d\n"),
            Err(NotClosed { line: 4 })
        );
        assert_eq!(closed("\u{feff}\"id\n"), Err(NotClosed { line: 1 }));
        let text = NotClosed { line: 5 }.to_string();
        assert_eq!(text, "a quotation mark opens in line 5 and is not closed");
    }

    #[test]
    fn pieces_without_a_mark_are_seen_as_byte_by_byte() {
        let texts = [
            "id,x\n1,\"a\nb\"\n2,\"c\n3,d\n",
            "id,x\n1,a\"b\n2,\"c\"\n3,\"d\ne",
            "\u{feff}id\n1\n2\r\n\"3\n",
        ];
        for text in texts {
            let mut one_by_one = Quotes::new(&[][..]);
            text.bytes().for_each(|byte| one_by_one.see(byte));
            for len in 1..text.len() {
                let mut pieces = Quotes::new(&[][..]);
                text.as_bytes()
                    .chunks(len)
                    .for_each(|piece| pieces.see_all(piece));
                let seen = |quotes: &Quotes<&[u8]>| (quotes.at, quotes.line, quotes.opened);
                assert_eq!(seen(&pieces), seen(&one_by_one), "{text} by {len}");
            }
        }
    }

    #[test]
    fn marks_that_open_nothing_are_left_alone() {
        for text in [
            "",
            "a,b\n",
            "a\"b,c\n",
            "\"a\"\"b\",c\n",
            "\"a\"",
            "\"\",\"\"\n",
            "x,5\"\n",
        ] {
            assert_eq!(closed(text), Ok(()), "{text}");
        }
    }
}
