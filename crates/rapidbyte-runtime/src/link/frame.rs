//! Compression of whole frames, by the host.

use bytes::Bytes;
use std::io::{Read, Write};

/// How frames are packed between stages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// LZ4 blocks.
    Lz4,
    /// Zstandard, level 1.
    Zstd,
}

/// A payload on its way, with the size it had before.
#[derive(Debug)]
pub(crate) struct Frame {
    codec: Compression,
    size: usize,
    bytes: Bytes,
}

/// A frame that does not give back what was put in.
#[derive(Debug)]
pub(crate) struct Damaged;

impl Frame {
    /// Packs a payload; one that does not shrink travels as it is.
    pub(crate) fn pack(codec: Compression, bytes: Bytes) -> Self {
        let size = bytes.len();
        let packed = match codec {
            Compression::None => None,
            Compression::Lz4 => Some(lz4_flex::block::compress(&bytes)),
            Compression::Zstd => zstd_pack(&bytes).ok(),
        };
        match packed {
            Some(packed) if packed.len() < size => Self { codec, size, bytes: packed.into() },
            _ => Self { codec: Compression::None, size, bytes },
        }
    }

    pub(crate) fn is_packed(&self) -> bool {
        self.codec != Compression::None
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Undoes it, into no more than the recorded size.
    pub(crate) fn unpack(self) -> Result<Bytes, Damaged> {
        let out = match self.codec {
            Compression::None => return Ok(self.bytes),
            Compression::Lz4 => {
                let mut out = vec![0; self.size];
                let written = lz4_flex::block::decompress_into(&self.bytes, &mut out).map_err(|_| Damaged)?;
                if written != self.size {
                    return Err(Damaged);
                }
                out
            }
            Compression::Zstd => zstd_unpack(&self.bytes, self.size).map_err(|_| Damaged)?,
        };
        if out.len() == self.size { Ok(out.into()) } else { Err(Damaged) }
    }
}

fn zstd_pack(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::with_capacity(bytes.len() / 2), 1)?;
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn zstd_unpack(bytes: &[u8], size: usize) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(size);
    let cap = u64::try_from(size).unwrap_or(u64::MAX).saturating_add(1);
    zstd::stream::read::Decoder::with_buffer(bytes)?.take(cap).read_to_end(&mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_gives_back_what_was_put_in() {
        let text = Bytes::from("abcdefgh".repeat(10_000));
        for codec in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let frame = Frame::pack(codec, text.clone());
            assert_eq!(frame.is_packed(), codec != Compression::None);
            assert!(codec == Compression::None || frame.len() < text.len() / 10);
            assert_eq!(frame.unpack().expect("whole"), text);
        }
    }

    #[test]
    fn what_does_not_shrink_travels_as_it_is() {
        let frame = Frame::pack(Compression::Lz4, Bytes::from_static(b"x"));
        assert!(!frame.is_packed());
        assert_eq!(frame.unpack().expect("whole"), "x");
    }

    #[test]
    fn a_frame_that_would_grow_past_its_size_is_refused() {
        for codec in [Compression::Lz4, Compression::Zstd] {
            let mut frame = Frame::pack(codec, Bytes::from(vec![0; 1 << 20]));
            frame.size = 1 << 10;
            assert!(frame.unpack().is_err(), "{codec:?}");
        }
    }
}
