//! A text as a QR code: for a terminal, as SVG and as PNG.
//!
//! What holds here: dark on light with the quiet zone that scanners need, whatever colours a
//! terminal has.

mod png;

use std::fmt::Write as _;

use qrcode::{Color, EcLevel, QrCode};

/// Light modules around the code, as the standard asks for.
const QUIET: usize = 4;
/// Black on bright white, and back.
const INK: (&str, &str) = ("\x1b[30;107m", "\x1b[0m");

/// The modules, with the quiet zone.
#[derive(Debug)]
pub struct Qr {
    /// Row by row; whether a module is dark.
    dark: Vec<bool>,
    width: usize,
}

impl Qr {
    /// The code of `text`; none where it is too long for one.
    pub fn of(text: &str) -> Option<Qr> {
        // A quarter of the code may be dirty or reflect a lamp: level M stands for half of that.
        Qr::with_level(text, EcLevel::M)
    }

    /// The code of a long text on a screen: fewer and larger modules serve a camera better than
    /// ones that may be missing.
    pub fn of_long(text: &str) -> Option<Qr> {
        Qr::with_level(text, EcLevel::L)
    }

    fn with_level(text: &str, level: EcLevel) -> Option<Qr> {
        let code = QrCode::with_error_correction_level(text, level).ok()?;
        let inner = code.width();
        let width = inner + 2 * QUIET;
        let mut dark = vec![false; width * width];
        for (at, color) in code.to_colors().into_iter().enumerate() {
            let (row, column) = (at / inner + QUIET, at % inner + QUIET);
            dark[row * width + column] = color == Color::Dark;
        }
        Some(Qr { dark, width })
    }

    /// Two rows of modules a line. With `ink`, in colours that are right on any terminal.
    pub fn terminal(&self, ink: bool) -> String {
        let (on, off) = if ink { INK } else { ("", "") };
        let mut lines = Vec::new();
        for rows in self.dark.chunks(2 * self.width) {
            let (upper, lower) = rows.split_at(self.width);
            let below = lower.iter().chain(std::iter::repeat(&false));
            let blocks = upper.iter().zip(below).map(|pair| match pair {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
            let blocks: String = blocks.collect();
            lines.push(format!("{on}{blocks}{off}"));
        }
        lines.join("\n")
    }

    /// A drawing of one unit a module.
    pub fn svg(&self) -> String {
        let width = self.width;
        let mut path = String::new();
        for (at, _) in self.dark.iter().enumerate().filter(|(_, dark)| **dark) {
            // Writing to a string does not fail.
            let _ = write!(path, "M{} {}h1v1h-1z", at % width, at / width);
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {width}\" \
             shape-rendering=\"crispEdges\"><rect width=\"{width}\" height=\"{width}\" \
             fill=\"#fff\"/><path d=\"{path}\" fill=\"#000\"/></svg>\n"
        )
    }

    /// An image of eight pixels a module.
    pub fn png(&self) -> Vec<u8> {
        png::eightfold(&self.dark, self.width)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use cairn_ledger::lottery::redemption_code::TEXT_LEN;

    use super::*;

    #[test]
    fn a_redemption_code_fits_a_code_that_a_phone_shows_at_ease() {
        let text: String = "V50A:".chars().cycle().take(TEXT_LEN).collect();
        let qr = Qr::of(&text).unwrap();
        // Version 8: 49 modules.
        assert_eq!(qr.width, 49 + 2 * QUIET);
        assert!(Qr::of(&"a".repeat(4_000)).is_none());
    }

    #[test]
    fn all_forms_show_the_same_modules() {
        let qr = Qr::of("A").unwrap();
        assert_eq!(qr.width, 29);
        let shown = qr.terminal(false);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 15);
        assert!(lines.iter().all(|line| line.chars().count() == 29));
        // The finder pattern in the upper left corner: seven dark modules, then a light one.
        assert_eq!(
            lines[2].chars().skip(4).take(8).collect::<String>(),
            "█▀▀▀▀▀█ "
        );
        let dark = qr.dark.iter().filter(|dark| **dark).count();
        assert_eq!(qr.svg().matches("h1v1h-1z").count(), dark);
        assert!(qr.terminal(true).starts_with(INK.0));
    }
}
