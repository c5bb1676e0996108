//! HTML that holds no script and asks for nothing: one file, for a screen and for A4 paper.
//!
//! What holds here: markup is written in this program's source only (`&'static str`); whatever comes
//! from a ledger is text, and escaped. Marks that turn the direction of writing, and control
//! characters, are shown and not obeyed, so that a title cannot rearrange the lines around it.

use super::words::{Both, duration};
use crate::output::timestamp;

/// In milliseconds: what Beijing is ahead of UTC.
const BEIJING_MS: u64 = 8 * 3_600_000;

/// What a page begins with. The policy forbids scripts, frames, fonts and pictures from elsewhere,
/// whatever else the file says.
const HEAD: &str = r#"<!DOCTYPE html>
<html lang="zh-Hans">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
@page { size: A4; margin: 16mm 15mm 18mm; }
@page { @bottom-right { content: counter(page) " / " counter(pages); font: 8pt sans-serif; } }
* { box-sizing: border-box; }
body { font: 10pt/1.45 "Noto Sans CJK SC", "Source Han Sans SC", "PingFang SC", "Microsoft YaHei",
  "Helvetica Neue", Arial, sans-serif; color: #111; max-width: 190mm; margin: 0 auto; padding: 8mm; }
h1 { font-size: 17pt; margin: 0 0 1mm; }
h2 { font-size: 12.5pt; margin: 8mm 0 2mm; padding-bottom: 1mm; border-bottom: 0.6pt solid #111; }
h3 { font-size: 10.5pt; margin: 5mm 0 1.5mm; }
h1, h2, h3 { break-after: avoid; }
p { margin: 1.5mm 0; }
.en { color: #444; font-size: 0.88em; }
h1 .en, h2 .en, h3 .en { font-weight: normal; margin-left: 0.6em; }
table { width: 100%; border-collapse: collapse; margin: 1.5mm 0 3mm; }
th, td { border: 0.4pt solid #999; padding: 0.7mm 1.8mm; text-align: left; vertical-align: top;
  overflow-wrap: anywhere; }
tr { break-inside: avoid; }
th { background: #f1f1ee; font-weight: 600; }
table.facts { table-layout: fixed; }
table.facts th { width: 33%; }
th .en { display: inline-block; font-weight: normal; }
td .en { margin-left: 0.4em; }
.hash { font: 7.6pt/1.4 "DejaVu Sans Mono", Consolas, Menlo, monospace; }
td.hash, .told { white-space: pre-wrap; }
.told .hash { display: block; }
.box { border: 0.9pt solid #111; padding: 2.5mm 3.5mm; margin: 4mm 0; break-inside: avoid; }
.box.bad { border-style: double; border-width: 2.4pt; }
.title { font-size: 13pt; margin: 0 0 3mm; overflow-wrap: anywhere; }
ul { margin: 1.5mm 0; padding-left: 5mm; }
@media print { body { padding: 0; max-width: none; } }
</style>
"#;

/// A page on its way.
#[derive(Debug)]
pub struct Html(String);

/// What stands in a table.
#[derive(Debug, Clone)]
pub enum Cell {
    /// As it is; a line break starts a new line.
    Text(String),
    /// A hash, a key or a signature.
    Hash(String),
    /// A name, and the key that it stands for.
    Named(String, String),
    /// This program's own words.
    Words(Both),
    /// Milliseconds since 1970.
    Time(u64),
    /// Milliseconds.
    Duration(u64),
}

impl Html {
    /// A page with this title.
    pub fn new(title: &str) -> Html {
        let mut page = Html(String::new());
        page.markup(HEAD).markup("<title>").text(title);
        page.markup("</title>\n</head>\n<body>\n");
        page
    }

    /// The whole page.
    pub fn finish(mut self) -> String {
        self.markup("</body>\n</html>\n");
        self.0
    }

    /// Markup out of this program's source.
    pub fn markup(&mut self, markup: &'static str) -> &mut Html {
        self.0.push_str(markup);
        self
    }

    /// Text from anywhere.
    pub fn text(&mut self, text: &str) -> &mut Html {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' => self.0.push('\n'),
                hidden if is_hidden(hidden) => {
                    self.0.push_str(&format!("[U+{:04X}]", u32::from(hidden)));
                }
                plain => self.0.push(plain),
            }
        }
        self
    }

    /// Words in both languages, one behind the other.
    pub fn words(&mut self, words: Both) -> &mut Html {
        self.markup("<span lang=\"zh-Hans\">").text(&words.zh);
        self.markup("</span> <span class=\"en\" lang=\"en\">")
            .text(&words.en);
        self.markup("</span>")
    }

    /// A paragraph in each language.
    pub fn paragraph(&mut self, words: Both) -> &mut Html {
        self.markup("<p lang=\"zh-Hans\">").text(&words.zh);
        self.markup("</p>\n<p class=\"en\" lang=\"en\">")
            .text(&words.en);
        self.markup("</p>\n")
    }

    /// A heading of a section.
    pub fn section(&mut self, words: Both) -> &mut Html {
        self.markup("<h2>").words(words).markup("</h2>\n")
    }

    /// A heading within a section.
    pub fn heading(&mut self, words: Both) -> &mut Html {
        self.markup("<h3>").words(words).markup("</h3>\n")
    }

    /// A table of facts: a name and a value each. Nothing where there are none.
    pub fn facts(&mut self, facts: &[(Both, Cell)]) -> &mut Html {
        if facts.is_empty() {
            return self;
        }
        self.markup("<table class=\"facts\">\n");
        for (name, value) in facts {
            self.markup("<tr><th scope=\"row\">").words(name.clone());
            self.markup("</th>").cell(value).markup("</tr>\n");
        }
        self.markup("</table>\n")
    }

    /// A table with a header. Nothing where it has no rows.
    pub fn table(&mut self, header: &[Both], rows: &[Vec<Cell>]) -> &mut Html {
        if rows.is_empty() {
            return self;
        }
        self.markup("<table>\n<thead><tr>");
        for name in header {
            self.markup("<th scope=\"col\">")
                .words(name.clone())
                .markup("</th>");
        }
        self.markup("</tr></thead>\n<tbody>\n");
        for row in rows {
            self.markup("<tr>");
            for cell in row {
                self.cell(cell);
            }
            self.markup("</tr>\n");
        }
        self.markup("</tbody>\n</table>\n")
    }

    /// Sentences, each behind a dot.
    pub fn list(&mut self, sentences: &[Both]) -> &mut Html {
        self.markup("<ul>\n");
        for sentence in sentences {
            self.markup("<li>")
                .words(sentence.clone())
                .markup("</li>\n");
        }
        self.markup("</ul>\n")
    }

    fn cell(&mut self, cell: &Cell) -> &mut Html {
        match cell {
            Cell::Text(text) => {
                self.markup("<td class=\"told\"><bdi>").text(text);
                self.markup("</bdi></td>")
            }
            Cell::Hash(hash) => self
                .markup("<td class=\"hash\">")
                .text(hash)
                .markup("</td>"),
            Cell::Named(name, key) => {
                self.markup("<td class=\"told\"><bdi>").text(name);
                self.markup("</bdi><span class=\"hash\">").text(key);
                self.markup("</span></td>")
            }
            Cell::Words(words) => self.markup("<td>").words(words.clone()).markup("</td>"),
            Cell::Time(ms) => self.markup("<td>").words(time(*ms)).markup("</td>"),
            Cell::Duration(ms) => self.markup("<td>").words(duration(*ms)).markup("</td>"),
        }
    }
}

/// Control characters and marks of direction: they have no shape, and move what has.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{61c}' | '\u{feff}')
}

/// A time in Beijing and in UTC.
fn time(ms: u64) -> Both {
    let shown = |ms: u64| timestamp(ms).replace('T', " ").replace('Z', "");
    Both {
        zh: format!("北京时间 {}", shown(ms.saturating_add(BEIJING_MS))),
        en: format!("{} UTC", shown(ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup() {
        let mut page = Html::new("<script>alert(1)</script>");
        let evil = "</td><script src='//x'>&\"\u{202e}\u{7}";
        page.facts(&[(Both::of(evil, evil), Cell::Text(evil.to_owned()))]);
        page.table(
            &[Both::of(evil, evil)],
            &[vec![Cell::Hash(evil.to_owned())]],
        );
        page.paragraph(Both::of(evil, evil))
            .list(&[Both::of(evil, evil)]);
        let page = page.finish();
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("src='"), "{page}");
        assert!(!page.contains('\u{202e}') && !page.contains('\u{7}'));
        let escaped = "&lt;/td&gt;&lt;script src=&#39;//x&#39;&gt;&amp;&quot;[U+202E][U+0007]";
        assert_eq!(page.matches(escaped).count(), 10);
    }

    #[test]
    fn a_page_asks_for_nothing() {
        let page = Html::new("Masks").finish();
        for word in [
            "http:", "https:", "url(", "@import", "<link", "<img", "<script", "src=",
        ] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("default-src 'none'"));
    }

    #[test]
    fn times_are_told_in_beijing_and_in_utc() {
        let told = time(1_580_515_199_999);
        assert_eq!(told.zh, "北京时间 2020-02-01 07:59:59.999");
        assert_eq!(told.en, "2020-01-31 23:59:59.999 UTC");
    }
}
