//! One direction of flow control, of a stream or of the connection (RFC 9113, section 5.2).

use super::settings::LARGEST_WINDOW;

/// A window grew beyond what its number may hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overflow;

/// What may still be sent. Below zero after the client has lowered its initial window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SendWindow(i64);

impl SendWindow {
    pub(super) fn new(bytes: u32) -> SendWindow {
        SendWindow(i64::from(bytes))
    }

    /// Bytes that may be sent now.
    pub(super) fn available(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        assert!(bytes <= self.available(), "more sent than the window allows");
        self.0 -= bytes as i64;
    }

    /// By a WINDOW_UPDATE, or by a change of the initial window that may be negative.
    pub(super) fn change(&mut self, bytes: i64) -> Result<(), Overflow> {
        let sum = self.0 + bytes;
        if sum > i64::from(LARGEST_WINDOW) {
            return Err(Overflow);
        }
        self.0 = sum;
        Ok(())
    }
}

/// What the client may still send; given back in large steps, once half of it is consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReceiveWindow {
    size: u32,
    available: u32,
    /// Received and consumed, and not yet given back.
    consumed: u32,
}

impl ReceiveWindow {
    pub(super) fn new(size: u32) -> ReceiveWindow {
        ReceiveWindow { size, available: size, consumed: 0 }
    }

    /// Counts a received frame; it is an error when the client was not allowed to send so much.
    pub(super) fn receive(&mut self, bytes: u32) -> Result<(), Overflow> {
        self.available = self.available.checked_sub(bytes).ok_or(Overflow)?;
        Ok(())
    }

    /// Received and not consumed: what somebody holds.
    pub(super) fn held(&self) -> usize {
        (self.size - self.available - self.consumed) as usize
    }

    /// Counts what was consumed; the answer is the increment to send, if it is time for one.
    pub(super) fn consume(&mut self, bytes: u32) -> Option<u32> {
        self.consumed += bytes;
        assert!(self.available + self.consumed <= self.size, "consumed what was not received");
        if self.consumed < self.size / 2 {
            return None;
        }
        self.available += self.consumed;
        Some(std::mem::take(&mut self.consumed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_send_window_may_be_negative_and_never_too_large() {
        let mut window = SendWindow::new(100);
        window.spend(60);
        assert_eq!(window.change(-80), Ok(()));
        assert_eq!(window.available(), 0);
        assert_eq!(window.change(41), Ok(()));
        assert_eq!(window.available(), 1);
        assert_eq!(window.change(i64::from(LARGEST_WINDOW)), Err(Overflow));
        assert_eq!(window.change(i64::from(LARGEST_WINDOW) - 1), Ok(()));
    }

    proptest! {
        /// A client that sends what it may and a server that consumes it never come to a halt.
        #[test]
        fn a_receive_window_is_given_back(size in 2u32..1000, steps in prop::collection::vec(1u32..300, 1..200)) {
            let mut window = ReceiveWindow::new(size);
            let mut allowed = size;
            for step in steps {
                let sent = step.min(allowed);
                prop_assert_eq!(window.receive(sent), Ok(()));
                prop_assert_eq!(window.receive(size + 1), Err(Overflow));
                allowed = allowed - sent + window.consume(sent).unwrap_or(0);
                prop_assert!(allowed > size / 2 || allowed >= size - size / 2);
            }
        }
    }
}
