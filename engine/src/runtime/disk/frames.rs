//! Reads frames back from the disk: one, or all of a stretch.

use std::io;

use super::buffer::AlignedBuffer;
use super::history::HistoryError;
use super::history_index::Stretch;
use crate::log::frame::{
    BLOCK_BYTES, FrameHeader, HEADER_BYTES, ReadHeader, frame_bytes, read_header,
};

/// Bytes read at once, unless a frame is larger.
const READ_BYTES: usize = 512 << 10;

/// Shows every frame of a stretch, with its place and payload, in order.
pub(super) fn visit_frames(
    stretch: &Stretch,
    salt: u64,
    mut visit: impl FnMut(u64, &FrameHeader, &[u8]) -> Result<(), String>,
) -> Result<(), HistoryError> {
    let mut frames = Frames::of(stretch, salt);
    while let Some((offset, read)) = frames.next()? {
        let payload = frames.payload(offset, &read)?;
        visit(offset, &read.header, payload).map_err(|reason| stretch.damaged(offset, reason))?;
    }
    Ok(())
}

/// Reads the first frame of a stretch, and no more than that.
pub(super) fn read_frame<'a>(
    stretch: &Stretch,
    salt: u64,
    buffer: &'a mut AlignedBuffer,
) -> Result<(FrameHeader, &'a [u8]), HistoryError> {
    let offset = stretch.offset;
    let damaged = |reason: String| stretch.damaged(offset, reason);
    let fill = |buffer: &mut AlignedBuffer, length: usize| {
        if length as u64 > stretch.end.saturating_sub(offset) {
            return Err(damaged("a frame reaches beyond what was written".to_owned()));
        }
        buffer.resize(length);
        stretch.file.read_blocks(offset, buffer).map_err(|error| damaged(error.to_string()))
    };
    fill(buffer, BLOCK_BYTES)?;
    let read = read_header(buffer.bytes(), salt, stretch.file.sequence)
        .map_err(|defect| damaged(defect.to_string()))?;
    let length = read.header.payload_length as usize;
    if frame_bytes(length) > BLOCK_BYTES {
        fill(buffer, frame_bytes(length))?;
    }
    let payload = &buffer.bytes()[HEADER_BYTES..][..length];
    read.check_payload(payload).map_err(|defect| damaged(defect.to_string()))?;
    Ok((read.header, payload))
}

/// The frames of a stretch, one after the other.
pub(super) struct Frames<'a> {
    window: Window<'a>,
    salt: u64,
    next: u64,
}

impl<'a> Frames<'a> {
    pub(super) fn of(stretch: &'a Stretch, salt: u64) -> Frames<'a> {
        let window = Window { stretch, start: stretch.offset, buffer: AlignedBuffer::default() };
        Frames { window, salt, next: stretch.offset }
    }

    /// The next one's place and header.
    pub(super) fn next(&mut self) -> Result<Option<(u64, ReadHeader)>, HistoryError> {
        let (offset, stretch) = (self.next, self.window.stretch);
        if offset >= stretch.end {
            return Ok(None);
        }
        let damaged = |reason: String| stretch.damaged(offset, reason);
        let block =
            self.window.read(offset, BLOCK_BYTES).map_err(|error| damaged(error.to_string()))?;
        let read = read_header(block, self.salt, stretch.file.sequence)
            .map_err(|defect| damaged(defect.to_string()))?;
        self.next += frame_bytes(read.header.payload_length as usize) as u64;
        Ok(Some((offset, read)))
    }

    /// The payload of the frame at `offset`.
    pub(super) fn payload(
        &mut self,
        offset: u64,
        read: &ReadHeader,
    ) -> Result<&[u8], HistoryError> {
        let stretch = self.window.stretch;
        let damaged = |reason: String| stretch.damaged(offset, reason);
        let length = read.header.payload_length as usize;
        let frame = self
            .window
            .read(offset, frame_bytes(length))
            .map_err(|error| damaged(error.to_string()))?;
        let payload = &frame[HEADER_BYTES..][..length];
        read.check_payload(payload).map_err(|defect| damaged(defect.to_string()))?;
        Ok(payload)
    }
}

/// Blocks of a stretch that were read at once.
struct Window<'a> {
    stretch: &'a Stretch,
    start: u64,
    buffer: AlignedBuffer,
}

impl Window<'_> {
    fn read(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let end = offset + length as u64;
        if end > self.stretch.end {
            return Err(io::Error::other("a frame reaches beyond what was written"));
        }
        if offset < self.start || end > self.start + self.buffer.bytes().len() as u64 {
            let available = self.stretch.end - offset;
            self.start = offset;
            self.buffer.resize(length.max(READ_BYTES.min(available as usize)));
            self.stretch.file.read_blocks(offset, &mut self.buffer)?;
        }
        Ok(&self.buffer.bytes()[(offset - self.start) as usize..][..length])
    }
}
