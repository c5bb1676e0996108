//! Frames between peers (`node/src/peers/streams.rs`), in pieces as they come from a socket.

use bytes::BytesMut;
use cairn_consensus::network::Lane;
use futures::FutureExt as _;
use tokio::io::{AsyncWriteExt as _, BufWriter};
use tokio_util::codec::Decoder as _;

use super::{Target, must};
use crate::streams::{self, rules};

pub struct Frames;

fn frame(id: u64, mark: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 9).unwrap_or(u32::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.push(mark);
    bytes.extend_from_slice(payload);
    bytes
}

impl Target for Frames {
    fn name(&self) -> &'static str {
        "frames"
    }

    /// The first byte says after how many bytes the stream is cut into pieces.
    fn seeds(&self) -> Vec<Vec<u8>> {
        let one = [vec![3], frame(1, 0, b"request")].concat();
        let three = [
            vec![200],
            frame(1, 0, b"request"),
            frame(7, 1, b""),
            frame(u64::MAX, 2, b"refused"),
        ];
        vec![one, three.concat()]
    }

    fn feed(&mut self, input: &[u8]) -> Result<String, String> {
        let (cut, stream) = input.split_first().unwrap_or((&0, &[]));
        let max_payload = rules(Lane::Control).max_payload;
        let mut codec = streams::Frames { max_payload };
        let mut buffer = BytesMut::new();
        let mut again = BufWriter::new(Vec::new());
        let mut frames = 0;
        for piece in stream.chunks(usize::from(*cut).max(1)) {
            buffer.extend_from_slice(piece);
            loop {
                match codec.decode(&mut buffer) {
                    Ok(Some(frame)) => {
                        frames += 1;
                        // Memory takes all at once.
                        let written = frame.write_to(&mut again).now_or_never();
                        must(matches!(written, Some(Ok(()))), "a frame is not written")?;
                    }
                    Ok(None) => break,
                    Err(error) => return Ok(format!("{error}")),
                }
            }
            must(
                buffer.capacity() <= 4 * (max_payload + 64),
                "memory beyond the lane's bound",
            )?;
        }
        let flushed = again.flush().now_or_never();
        must(matches!(flushed, Some(Ok(()))), "frames are not written")?;
        let again = again.get_ref();
        must(
            stream.starts_with(again) && again.len() + buffer.len() == stream.len(),
            "frames encode to other bytes than they came from",
        )?;
        Ok(["no frame", "one frame", "frames"][frames.min(2)].to_owned())
    }
}
