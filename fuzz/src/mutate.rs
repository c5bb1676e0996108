//! Mutations: small ones, and those that fit what our formats are made of: lengths, varints,
//! fields, digits.

/// SplitMix64.
#[derive(Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`; 0 where `end` is.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Numbers at which something changes.
const EDGES: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];
/// Longest input: several times what any format has, and short enough to be fast.
const LONGEST: usize = 1 << 16;
/// Most changes to one input.
const CHANGES: usize = 6;

/// Changes `bytes` a few times; `other` is another input to take pieces from.
pub fn mutate(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    for _ in 0..=rng.below(CHANGES) {
        change(bytes, other, rng);
    }
    bytes.truncate(LONGEST);
}

fn change(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let len = bytes.len();
    let at = rng.below(len);
    let span = 1 + rng.below(16.min(len - at.min(len)).max(1));
    match rng.below(13) {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = rng.next() as u8;
            }
        }
        3 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = byte.wrapping_add([1, 255, 2, 254][rng.below(4)]);
            }
        }
        4 => bytes.truncate(at),
        5 => {
            bytes.drain(at..(at + span).min(len));
        }
        6 => {
            let piece = bytes[at..(at + span).min(len)].to_vec();
            insert(bytes, rng.below(len + 1), &piece);
        }
        7 => {
            let random: Vec<u8> = (0..span).map(|_| rng.next() as u8).collect();
            insert(bytes, at, &random);
        }
        8 => {
            // A number at its edge, big-endian, over what is there.
            let edge = EDGES[rng.below(EDGES.len())].to_be_bytes();
            let width = [1, 2, 4, 8][rng.below(4)];
            let end = (at + width).min(len);
            bytes[at..end].copy_from_slice(&edge[8 - (end - at)..]);
        }
        9 => {
            // A varint at its edge, for the one that is there.
            let end = (at..len).find(|&i| bytes[i] < 0x80).map_or(len, |i| i + 1);
            bytes.splice(at..end, varint(EDGES[rng.below(EDGES.len())]));
        }
        10 => {
            let from = rng.below(other.len());
            let to = (from + 1 + rng.below(256)).min(other.len());
            let end = match rng.below(2) {
                0 => at,
                _ => (at + (to - from)).min(len),
            };
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        11 => {
            // The beginning of this one and the end of the other.
            bytes.truncate(at);
            bytes.extend_from_slice(&other[rng.below(other.len())..]);
        }
        _ => {
            let to = rng.below(len);
            if len > 0 {
                bytes.swap(at, to);
            }
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let at = at.min(bytes.len());
    bytes.splice(at..at, piece.iter().copied());
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
