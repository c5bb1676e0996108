//! A page to print: the pass as a QR code with what people may read beside it.
//!
//! What holds here: the page needs nothing else, no network and no fonts, and what it says in words
//! is what the pass proved when it was made; a gate reads the code, never the words.

use crate::output::timestamp;
use crate::qr::Qr;

/// What stands on the page.
#[derive(Debug)]
pub struct Page<'a> {
    pub code: &'a str,
    pub status: &'a str,
    pub region: &'a str,
    pub latest_as_of_ms: u64,
    pub valid_until_ms: u64,
    pub qr: &'a Qr,
}

/// The page as HTML.
pub fn html(page: &Page<'_>) -> String {
    let rows = [
        ("代码 Code", page.code.to_owned()),
        ("状态 Status", in_both(page.status)),
        ("地区 Region", page.region.to_owned()),
        ("最新于 Latest as of", timestamp(page.latest_as_of_ms)),
        ("有效至 Valid until", timestamp(page.valid_until_ms)),
    ];
    let rows = rows.map(|(name, value)| {
        let value = escaped(&value);
        format!("<tr><th>{name}</th><td>{value}</td></tr>\n")
    });
    format!(
        "<!DOCTYPE html>\n<html lang=\"zh\">\n<head>\n<meta charset=\"utf-8\">\n<title>Pass</title>\n\
         <style>\n@page {{ margin: 15mm }}\nbody {{ font: 12pt sans-serif; max-width: 130mm }}\n\
         svg {{ width: 120mm }}\nth {{ text-align: left; padding-right: 1em; white-space: nowrap }}\n\
         td {{ overflow-wrap: anywhere }}\n</style>\n</head>\n<body>\n<h1>纸质通行凭证 Pass on paper</h1>\n{}\
         <table>\n{}</table>\n<p>查验处扫描上方二维码，并自行规定凭证可用多久。请携带身份证；状态变化后请重新打印。</p>\n\
         <p lang=\"en\">Gates read the code above and decide how old it may be. Bring your \
         ID card. Print it anew when your status changes.</p>\n</body>\n</html>\n",
        page.qr.svg(),
        rows.concat()
    )
}

/// A status in Chinese and English.
fn in_both(status: &str) -> String {
    let chinese = match status {
        "green" => "绿",
        "yellow" => "黄",
        "red" => "红",
        _ => "目前无效",
    };
    format!("{chinese} {status}")
}

/// A region's name comes from the ledger, where anything may stand.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_from_the_ledger_cannot_write_the_page() {
        let qr = Qr::of("A").unwrap();
        let page = html(&Page {
            code: "07",
            status: "green",
            region: "<script>&",
            latest_as_of_ms: 0,
            valid_until_ms: 1,
            qr: &qr,
        });
        assert!(page.contains("<td>&lt;script>&amp;</td>"), "{page}");
        assert!(page.contains(&qr.svg()));
    }
}
