//! Applicants who do not exist: names and numbers made from a seed.
//!
//! Their numbers begin with 999999, which is no district, and end in a running number, so that no
//! two are alike and none is anybody's.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context as _;

/// The column that identifies an applicant.
pub const IDENTITY_COLUMN: &str = "id_number";

const FAMILY: [&str; 40] = [
    "王", "李", "张", "刘", "陈", "杨", "赵", "黄", "周", "吴", "徐", "孙", "胡", "朱", "高", "林",
    "何", "郭", "马", "罗", "梁", "宋", "郑", "谢", "韩", "唐", "冯", "于", "董", "萧", "程", "曹",
    "袁", "邓", "许", "傅", "沈", "曾", "彭", "吕",
];
const GIVEN: [&str; 48] = [
    "伟", "芳", "娜", "敏", "静", "丽", "强", "磊", "军", "洋", "勇", "艳", "杰", "娟", "涛", "明",
    "超", "秀", "霞", "平", "刚", "桂", "英", "华", "玉", "萍", "红", "玲", "波", "辉", "建", "国",
    "文", "晨", "雨", "欣", "怡", "佳", "宇", "浩", "然", "梓", "涵", "子", "轩", "思", "梦", "琪",
];

/// A small generator for test data; nothing that matters is drawn with it.
struct Sequence(u64);

impl Sequence {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let index = self.below(from.len() as u64);
        usize::try_from(index)
            .ok()
            .and_then(|index| from.get(index))
            .unwrap_or(&"")
    }
}

/// Writes a CSV file of `count` applicants; the same for the same seed.
pub fn write_csv(path: &Path, count: u64, seed: [u8; 32]) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let file = std::fs::File::create(path).with_context(context)?;
    write(BufWriter::with_capacity(1 << 20, file), count, seed).with_context(context)
}

fn write(mut out: impl Write, count: u64, seed: [u8; 32]) -> io::Result<()> {
    let mut start = [0; 8];
    start.copy_from_slice(&seed[..8]);
    let mut sequence = Sequence(u64::from_be_bytes(start));
    writeln!(out, "name,{IDENTITY_COLUMN},collected_at")?;
    for number in 0..count {
        let family = sequence.pick(&FAMILY);
        let first = sequence.pick(&GIVEN);
        let second = match sequence.below(3) {
            0 => "",
            _ => sequence.pick(&GIVEN),
        };
        let (year, month, day) = (
            1935 + sequence.below(70),
            1 + sequence.below(12),
            1 + sequence.below(28),
        );
        let shop = 1 + sequence.below(240);
        writeln!(
            out,
            "{family}{first}{second},999999{year}{month:02}{day:02}{number:07},pharmacy {shop}"
        )?;
    }
    out.flush()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn csv(count: u64, seed: u8) -> String {
        let mut out = Vec::new();
        write(&mut out, count, [seed; 32]).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_same_seed_makes_the_same_people_and_nobody_twice() {
        let text = csv(2_000, 1);
        assert_eq!(text, csv(2_000, 1));
        assert_ne!(text, csv(2_000, 2));
        let mut ids: Vec<_> = text.lines().skip(1).map(|l| l.split(',').nth(1)).collect();
        assert!(
            ids.iter()
                .flatten()
                .all(|id| id.starts_with("999999") && id.len() == 21)
        );
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 2_000);
    }
}
