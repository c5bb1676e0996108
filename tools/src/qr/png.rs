//! PNG images of black and white squares.
//!
//! What holds here: a square is eight pixels wide, so that it is one byte of a one-bit row; the
//! image is stored and not compressed, for it is a few kilobytes and is shown for seconds. That is
//! the whole of what is needed of PNG here, and less than a crate for it.

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// The most that one stored block holds.
const BLOCK: usize = 0xffff;

/// The image of a square of `width` by `width` squares, row by row, dark or not.
pub fn eightfold(dark: &[bool], width: usize) -> Vec<u8> {
    let mut pixels = Vec::new();
    for row in dark.chunks(width) {
        // 0: the row is not filtered.
        let line = || row.iter().map(|dark| if *dark { 0 } else { 0xff });
        for _ in 0..8 {
            pixels.push(0);
            pixels.extend(line());
        }
    }
    let side = u32::try_from(width * 8).unwrap_or(u32::MAX).to_be_bytes();
    // One bit of grey; deflate, no interlacing.
    let header = [&side[..], &side, &[1, 0, 0, 0, 0]].concat();
    let mut image = SIGNATURE.to_vec();
    chunk(&mut image, b"IHDR", &header);
    chunk(&mut image, b"IDAT", &stored(&pixels));
    chunk(&mut image, b"IEND", &[]);
    image
}

fn chunk(image: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let named = [name, data].concat();
    image.extend(length.to_be_bytes());
    image.extend(&named);
    image.extend(crc32(&named).to_be_bytes());
}

/// A zlib stream of stored blocks.
fn stored(data: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = data.chunks(BLOCK).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    stream.extend(adler32(data).to_be_bytes());
    stream
}

fn crc32(data: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            let carry = 0u32.wrapping_sub(crc & 1);
            crc >> 1 ^ 0xedb8_8320 & carry
        })
    };
    !data.iter().fold(!0, step)
}

fn adler32(data: &[u8]) -> u32 {
    let step = |(a, b): (u32, u32), byte: &u8| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    };
    let (a, b) = data.iter().fold((1, 0), step);
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standards() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b"IEND"), 0xae42_6082);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn an_image_has_eight_pixels_a_square_and_blocks_of_lawful_size() {
        let image = eightfold(&[true, false, false, true], 2);
        assert_eq!(image[16..24], [0, 0, 0, 16, 0, 0, 0, 16]);
        let pixels = [[0, 0, 0xff].repeat(8), [0, 0xff, 0].repeat(8)].concat();
        let data = stored(&pixels);
        assert_eq!(data[..7], [0x78, 1, 1, 48, 0, !48, 0xff]);
        assert!(image.windows(data.len()).any(|part| part == data));
        let long = stored(&[0; BLOCK + 1]);
        assert_eq!((long[2], long[7 + BLOCK]), (0, 1));
    }
}
