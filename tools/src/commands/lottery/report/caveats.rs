//! How a report is checked, and what it does not show.

use super::html::Html;
use super::words::Both;

/// Writes the last two sections.
pub fn section(page: &mut Html) {
    page.section(Both::of("如何自行核对", "How to check this"));
    page.list(&[
        Both::of(
            "用 cairn lottery export 导出公开记录，再用 cairn lottery recompute --from 离线重算；只需信任账本编号。",
            "Export the public record with cairn lottery export and compute it again offline with \
             cairn lottery recompute --from; only the chain id has to be trusted.",
        ),
        Both::of(
            "文件哈希均为 BLAKE3；时间均为账本时间，会签时间除外。",
            "Hashes of documents are BLAKE3; times are ledger time, but for those of cosignatures.",
        ),
    ]);
    page.section(Both::of("本报告不能证明", "What this does not show"));
    page.list(&[
        Both::of(
            "名册所列之人确有资格，且无人被漏登；",
            "that the roster names the people it should, and leaves nobody out;",
        ),
        Both::of(
            "所引文件的内容属实：账本只有其哈希；",
            "that the documents named here say the truth: the ledger has their hashes only;",
        ),
        Both::of(
            "中签者是否已领取：兑付记录不在本报告之内；",
            "who redeemed what was won: redemptions are not in this report;",
        ),
        Both::of(
            "在候补名单用尽之后，是否还有名额被放弃。",
            "whether places were given up after the waiting list had come to its end.",
        ),
    ]);
}
