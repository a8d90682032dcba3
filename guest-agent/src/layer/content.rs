//! The content of a file in a layer.

use super::{Layer, ends};
use std::io::{self, Read};

/// The content of the current entry, with zeros where it has holes.
#[derive(Debug)]
pub struct Content<'a, R> {
    layer: &'a mut Layer<R>,
    position: u64,
    part: usize,
}

impl<'a, R: Read> Content<'a, R> {
    pub(super) fn new(layer: &'a mut Layer<R>) -> Self {
        Self { layer, position: 0, part: 0 }
    }

    /// The next piece that is no hole: where it begins and how long it is. Nothing of the one before is left then.
    pub fn piece(&mut self) -> Option<(u64, u64)> {
        match &self.layer.holes {
            Some(map) => {
                let piece = map.get(self.part).copied()?;
                self.part += 1;
                Some(piece)
            }
            None if self.part == 0 && self.layer.size > 0 => {
                self.part = 1;
                Some((0, self.layer.size))
            }
            None => None,
        }
    }

    /// Read of a piece what fits into `buffer`, and no more than `left` bytes.
    ///
    /// # Errors
    /// When the layer ends in the middle of the file.
    pub fn read_piece(&mut self, buffer: &mut [u8], left: u64) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(left.min(self.layer.stored)).unwrap_or(usize::MAX));
        let read = self.layer.input.read(&mut buffer[..wanted])?;
        if read == 0 && left > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, ends()));
        }
        self.layer.stored -= read as u64;
        Ok(read)
    }
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.layer.size;
        let Some(map) = &self.layer.holes else {
            let read = self.read_piece(buffer, size - self.position)?;
            self.position += read as u64;
            return Ok(read);
        };
        if buffer.is_empty() || self.position == size {
            return Ok(0);
        }
        let (offset, length) = map.get(self.part).copied().unwrap_or((size, 0));
        if self.position < offset {
            let zeros = buffer.len().min(usize::try_from(offset - self.position).unwrap_or(usize::MAX));
            buffer[..zeros].fill(0);
            self.position += zeros as u64;
            return Ok(zeros);
        }
        let read = self.read_piece(buffer, offset + length - self.position)?;
        self.position += read as u64;
        if self.position == offset + length {
            self.part += 1;
        }
        Ok(read)
    }
}
