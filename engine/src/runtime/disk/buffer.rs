//! Memory that direct I/O accepts: it starts at a multiple of the block size.

use crate::log::frame::BLOCK_BYTES;

/// Zeroed bytes whose address and length are multiples of [`BLOCK_BYTES`].
#[derive(Debug, Default)]
pub(super) struct AlignedBuffer {
    /// Never grown after it was made, so `start` stays right.
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    /// At least `length` bytes, all zero.
    pub(super) fn zeroed(length: usize) -> AlignedBuffer {
        let length = length.next_multiple_of(BLOCK_BYTES);
        let bytes = vec![0; length + BLOCK_BYTES];
        let start = bytes.as_ptr().align_offset(BLOCK_BYTES);
        assert!(start < BLOCK_BYTES);
        AlignedBuffer { bytes, start, length }
    }

    /// Bytes that [`resize`](AlignedBuffer::resize) can reach without new memory.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.len().saturating_sub(BLOCK_BYTES)
    }

    /// Changes the length; what the bytes hold afterwards is not specified.
    pub(super) fn resize(&mut self, length: usize) {
        let length = length.next_multiple_of(BLOCK_BYTES);
        if length <= self.capacity() {
            self.length = length;
        } else {
            *self = AlignedBuffer::zeroed(length);
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_reused() {
        let mut buffer = AlignedBuffer::zeroed(5000);
        assert_eq!(buffer.bytes().len(), 8192);
        assert!(buffer.bytes().as_ptr().addr().is_multiple_of(BLOCK_BYTES));
        let address = buffer.bytes().as_ptr();
        buffer.resize(1);
        assert_eq!((buffer.bytes().len(), buffer.bytes().as_ptr()), (4096, address));
        buffer.resize(8193);
        assert_eq!(buffer.bytes().len(), 12288);
        assert!(buffer.bytes().as_ptr().addr().is_multiple_of(BLOCK_BYTES));
    }
}
