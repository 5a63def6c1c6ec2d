//! SETTINGS: what the client wants of us, and what we tell it (RFC 9113, section 6.5).

use bytes::{BufMut, BytesMut};

use super::error::{ErrorCode, Fault};
use super::frame::{FRAME_BYTES, Head, LARGEST_FRAME_BYTES, kind};
use crate::net::limits;

const HEADER_TABLE_SIZE: u16 = 0x1;
const ENABLE_PUSH: u16 = 0x2;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
const MAX_HEADER_LIST_SIZE: u16 = 0x6;

/// What a window begins with unless someone says otherwise.
pub(super) const DEFAULT_WINDOW: u32 = 65_535;
/// No window may be larger.
pub(super) const LARGEST_WINDOW: u32 = 0x7fff_ffff;

/// The settings of the client that matter to a server that pushes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClientSettings {
    /// Bytes that the client spends on our header table.
    pub header_table_size: u32,
    /// What it takes on a new stream before it says that it takes more.
    pub initial_window_size: u32,
    /// The largest payload that it takes, in bytes.
    pub max_frame_size: u32,
}

impl Default for ClientSettings {
    fn default() -> ClientSettings {
        ClientSettings {
            header_table_size: 4096,
            initial_window_size: DEFAULT_WINDOW,
            max_frame_size: FRAME_BYTES as u32,
        }
    }
}

impl ClientSettings {
    /// Takes over the payload of a SETTINGS frame.
    pub(super) fn update(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Fault::frame_size("a setting takes six bytes"));
        }
        for [a, b, value @ ..] in settings {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*a, *b]) {
                HEADER_TABLE_SIZE => self.header_table_size = value,
                ENABLE_PUSH if value > 1 => {
                    return Err(Fault::protocol("SETTINGS_ENABLE_PUSH is 0 or 1"));
                }
                INITIAL_WINDOW_SIZE if value > LARGEST_WINDOW => {
                    return Err(Fault::new(
                        ErrorCode::FLOW_CONTROL_ERROR,
                        "SETTINGS_INITIAL_WINDOW_SIZE is at most 2^31-1",
                    ));
                }
                INITIAL_WINDOW_SIZE => self.initial_window_size = value,
                MAX_FRAME_SIZE if !(FRAME_BYTES as u32..=LARGEST_FRAME_BYTES).contains(&value) => {
                    return Err(Fault::protocol("SETTINGS_MAX_FRAME_SIZE is 2^14 to 2^24-1"));
                }
                MAX_FRAME_SIZE => self.max_frame_size = value,
                // The others ask nothing of a server, or are unknown and to be ignored.
                _ => {}
            }
        }
        Ok(())
    }
}

/// Our own settings, as a frame.
pub(super) fn write_own(output: &mut BytesMut, streams: u32) {
    let settings = [
        (MAX_CONCURRENT_STREAMS, streams),
        (INITIAL_WINDOW_SIZE, limits::STREAM_WINDOW_BYTES),
        (MAX_HEADER_LIST_SIZE, limits::HEADER_LIST_BYTES),
    ];
    Head { length: settings.len() * 6, kind: kind::SETTINGS, flags: 0, stream: 0 }.write(output);
    for (id, value) in settings {
        output.put_u16(id);
        output.put_u32(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked() {
        let default = ClientSettings::default();
        for (id, value, expected) in [
            (1, 0, Ok(ClientSettings { header_table_size: 0, ..default })),
            (2, 0, Ok(default)),
            (2, 1, Ok(default)),
            (2, 2, Err(ErrorCode::PROTOCOL_ERROR)),
            (3, 0, Ok(default)),
            (4, 0, Ok(ClientSettings { initial_window_size: 0, ..default })),
            (4, 0x7fff_ffff, Ok(ClientSettings { initial_window_size: 0x7fff_ffff, ..default })),
            (4, 0x8000_0000, Err(ErrorCode::FLOW_CONTROL_ERROR)),
            (5, 16_383, Err(ErrorCode::PROTOCOL_ERROR)),
            (5, 16_384, Ok(default)),
            (5, 0xff_ffff, Ok(ClientSettings { max_frame_size: 0xff_ffff, ..default })),
            (5, 0x100_0000, Err(ErrorCode::PROTOCOL_ERROR)),
            (0xff, 7, Ok(default)),
        ] {
            let mut payload = BytesMut::new();
            payload.put_u16(id);
            payload.put_u32(value);
            let mut settings = default;
            let result = settings.update(&payload).map(|()| settings).map_err(|fault| fault.code);
            assert_eq!(result, expected, "{id} = {value}");
        }
        assert_eq!(
            ClientSettings::default().update(&[0; 5]).map_err(|fault| fault.code),
            Err(ErrorCode::FRAME_SIZE_ERROR)
        );
    }
}
