//! What a client makes us hold, and whether it gets on: looked at every [`limits::CHECK_INTERVAL`].

use super::{Closed, Connection, ErrorCode, Fault, StreamKey, frame};
use crate::net::held::{self, Pressure};
use crate::net::limits;

impl Connection {
    /// Counts what this connection makes the process hold.
    pub fn account(&mut self) {
        let block = self.block.as_ref().map_or(0, |block| block.bytes.len());
        self.held.set(
            limits::CONNECTION_BYTES
                + self.pending
                + self.output.len()
                + self.partial.len()
                + block
                + self.receive_window.held()
                + self.streams.len() * limits::STREAM_BYTES,
        );
    }

    /// Whether something is under way that [`check`](Connection::check) should look at.
    pub fn needs_checks(&self) -> bool {
        self.pending > 0
            || !self.output.is_empty()
            || !self.partial.is_empty()
            || self.block.is_some()
            || !self.settings_seen
            || !self.floods.is_fresh()
    }

    /// [`limits::CHECK_INTERVAL`] has passed. Drops answers that are not taken, and names their
    /// streams.
    ///
    /// # Errors
    /// The client is too slow to go on with it.
    pub fn check(&mut self) -> Result<Vec<StreamKey>, Fault> {
        self.checks = self.checks.wrapping_add(1);
        if self.checks.is_multiple_of(limits::RENEWAL_CHECKS) {
            self.floods.renew();
        }
        self.sent_before = std::mem::take(&mut self.sent);
        self.check_headers().inspect_err(|fault| self.fail(*fault))?;
        Ok(self.drop_stalled())
    }

    fn check_headers(&mut self) -> Result<(), Fault> {
        if let Some(block) = &mut self.block {
            block.checks += 1;
            if block.checks > limits::HEADER_CHECKS {
                return Err(Fault::calm("a header block takes too long"));
            }
        }
        if self.settings_seen && self.partial.is_empty() {
            return Ok(());
        }
        self.waiting += 1;
        let most = if self.settings_seen { limits::FRAME_CHECKS } else { limits::HEADER_CHECKS };
        if self.waiting > most { Err(Fault::calm("a frame takes too long")) } else { Ok(()) }
    }

    /// Says why the connection ends.
    pub(super) fn fail(&mut self, fault: Fault) {
        self.fault = Some(fault);
        frame::write_goaway(&mut self.output, self.last_stream, fault.code, fault.reason);
    }

    fn drop_stalled(&mut self) -> Vec<StreamKey> {
        if self.pending == 0 {
            return Vec::new();
        }
        let over = held::pressure() == Pressure::Over;
        let mut stalled = Vec::new();
        for (key, stream) in self.streams.all() {
            stream.progress.check(stream.pending_bytes());
            // What has a source (a watch) holds little and may wait, as long as there is room.
            let most = if over { 0 } else { limits::STALLED_CHECKS };
            if stream.progress.stalled > most && (over || stream.progress.whole) {
                stalled.push((stream.pending_bytes(), key));
            }
        }
        // The largest first; a little may wait for any time.
        stalled.sort_unstable_by_key(|(bytes, key)| (std::cmp::Reverse(*bytes), key.id));
        let floor = if over { limits::HELD_BYTES_ALWAYS } else { limits::PENDING_BYTES_FREE };
        let mut dropped = Vec::new();
        for (_, key) in stalled {
            if self.pending <= floor {
                break;
            }
            frame::write_reset(&mut self.output, key.id, ErrorCode::ENHANCE_YOUR_CALM);
            self.close(key, Closed::ResetByUs);
            dropped.push(key);
        }
        dropped
    }

    /// What may wait for this client: little, unless it takes what it is sent.
    fn pending_limit(&self) -> usize {
        if self.sent + self.sent_before >= limits::PROGRESS_BYTES {
            limits::PENDING_BYTES_MOVING
        } else {
            limits::PENDING_BYTES
        }
    }

    /// The client takes so little of its answers, or has so many streams while there is no room,
    /// that it may not begin more.
    pub(super) fn is_held_up(&self) -> bool {
        self.pending > self.pending_limit()
            || held::pressure() == Pressure::Over
                && (self.pending > limits::STREAM_SEND_BUFFER_BYTES
                    || self.streams.len() >= limits::STREAMS_ALWAYS)
    }

    /// Whether an answer of so many bytes can be kept until the client takes it.
    pub fn keeps(&self, bytes: usize) -> bool {
        if bytes <= limits::HELD_BYTES_ALWAYS {
            return true;
        }
        match held::pressure() {
            Pressure::Over => self.pending + bytes <= limits::PENDING_BYTES_FREE,
            Pressure::Low | Pressure::High => self.pending <= self.pending_limit(),
        }
    }

    /// There is no room, and this client has much of it: it gets nothing more of what can wait at
    /// its source.
    pub(super) fn is_paused(&self) -> bool {
        self.pending > limits::STREAM_SEND_BUFFER_BYTES && held::pressure() == Pressure::Over
    }
}
