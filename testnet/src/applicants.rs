//! Applicants who do not exist: names and numbers made from a seed.
//!
//! Their numbers are resident-ID numbers in form (GB 11643: district, date of birth, running number,
//! check digit); the district 999999 does not exist, so none is anybody's, and no two are alike.

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

/// Writes a CSV file of `count` applicants; the same for the same seed. Where it has `tiers`, every
/// `n`th is in the tier that `tiers` names for `number % n`, with its tickets.
pub fn write_csv(
    path: &Path,
    count: u64,
    seed: [u8; 32],
    tiers: &[(&str, u32)],
) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let file = std::fs::File::create(path).with_context(context)?;
    write(BufWriter::with_capacity(1 << 20, file), count, seed, tiers).with_context(context)
}

fn write(mut out: impl Write, count: u64, seed: [u8; 32], tiers: &[(&str, u32)]) -> io::Result<()> {
    let mut start = [0; 8];
    start.copy_from_slice(&seed[..8]);
    let mut sequence = Sequence(u64::from_be_bytes(start));
    write!(out, "name,{IDENTITY_COLUMN},collected_at")?;
    writeln!(
        out,
        "{}",
        if tiers.is_empty() {
            ""
        } else {
            ",tier,tickets"
        }
    )?;
    for number in 0..count {
        let family = sequence.pick(&FAMILY);
        let first = sequence.pick(&GIVEN);
        let second = match sequence.below(3) {
            0 => "",
            _ => sequence.pick(&GIVEN),
        };
        let shop = 1 + sequence.below(240);
        let id = resident_id(number);
        write!(out, "{family}{first}{second},{id},pharmacy {shop}")?;
        match (number as usize).checked_rem(tiers.len()) {
            None => writeln!(out)?,
            Some(at) => writeln!(out, ",{},{}", tiers[at].0, tiers[at].1)?,
        }
    }
    out.flush()
}

/// The number of the applicant `number`, below 23 million: a thousand are born on each day.
fn resident_id(number: u64) -> String {
    let (day, running) = (number / 1_000, number % 1_000);
    let (year, month) = (1935 + day / (12 * 28), 1 + day / 28 % 12);
    let digits = format!("999999{year}{month:02}{:02}{running:03}", 1 + day % 28);
    let check = check_digit(&digits);
    format!("{digits}{check}")
}

/// ISO 7064, MOD 11-2, of decimal digits.
fn check_digit(digits: &str) -> char {
    let sum = digits.chars().filter_map(|digit| digit.to_digit(10));
    match (12 - sum.fold(0, |sum, digit| (sum + digit) * 2 % 11)) % 11 {
        10 => 'X',
        check => char::from_digit(check, 10).unwrap_or('X'),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn csv(count: u64, seed: u8) -> String {
        let mut out = Vec::new();
        write(&mut out, count, [seed; 32], &[]).unwrap();
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
                .all(|id| id.starts_with("999999") && id.len() == 18)
        );
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 2_000);
    }

    #[test]
    fn check_digits_are_those_of_the_standard() {
        // The examples that GB 11643-1999 gives.
        assert_eq!(check_digit("11010519491231002"), 'X');
        assert_eq!(check_digit("44052418800101001"), '4');
    }
}
