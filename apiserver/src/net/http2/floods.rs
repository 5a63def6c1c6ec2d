//! What a client may make us do for nothing (CVE-2019-9511 to 9518, CVE-2023-44487).
//!
//! Without a clock: the allowance is renewed from time to time by who has one, and work that is of
//! use earns a little.

use super::error::Fault;
use crate::net::limits;

/// The allowance of one connection.
#[derive(Debug)]
pub(super) struct Floods {
    control_frames: u32,
    resets: u32,
}

/// Each request and each frame of data excuses so many frames that are neither: window updates,
/// pings to measure the bandwidth.
const EARNED: u32 = 4;

impl Default for Floods {
    fn default() -> Floods {
        Floods { control_frames: limits::CONTROL_FRAMES, resets: limits::RESETS }
    }
}

impl Floods {
    pub(super) fn renew(&mut self) {
        *self = Floods::default();
    }

    /// Nothing of the allowance is used.
    pub(super) fn is_fresh(&self) -> bool {
        let fresh = Floods::default();
        self.control_frames == fresh.control_frames && self.resets == fresh.resets
    }

    /// Something useful happened.
    pub(super) fn earn(&mut self) {
        self.control_frames = (self.control_frames + EARNED).min(limits::CONTROL_FRAMES);
    }

    /// A short message is complete. It is as good as a request, and pays for a frame before it that had
    /// the rest; more of them and it was cut into too many.
    pub(super) fn message(&mut self) {
        self.control_frames = (self.control_frames + 1).min(limits::CONTROL_FRAMES);
    }

    /// A frame that neither asks for anything nor brings anything.
    pub(super) fn control_frame(&mut self) -> Result<(), Fault> {
        match self.control_frames.checked_sub(1) {
            Some(left) => {
                self.control_frames = left;
                Ok(())
            }
            None => Err(Fault::calm("too many frames that carry nothing")),
        }
    }

    /// A stream ended before it was answered, by the client's wish or fault.
    pub(super) fn reset(&mut self) -> Result<(), Fault> {
        match self.resets.checked_sub(1) {
            Some(left) => {
                self.resets = left;
                Ok(())
            }
            None => Err(Fault::calm("too many streams were reset")),
        }
    }
}
