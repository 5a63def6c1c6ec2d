//! A request encoded once: every further request copies it and patches the key's digits, a stamp
//! in the value and, for optimistic updates, the expected revision.

use super::wire::{put_bytes, put_number, put_varint, varint_width};
use bytes::{Bytes, BytesMut};

/// Stands in a value where the stamp goes (16 hexadecimal digits).
pub const STAMP_PLACEHOLDER: &[u8; STAMP_WIDTH] = b"<stamp-16-bytes>";
/// Characters of a stamp.
pub const STAMP_WIDTH: usize = 16;
/// Stands in a key where a digit goes: a byte that no text and no key of ours holds.
const DIGIT_PLACEHOLDER: u8 = 0xfe;
/// Length prefix of a gRPC message: a flag byte and four of length.
pub const GRPC_PREFIX_BYTES: usize = 5;

/// How keys are written: `prefix` and a number of fixed width.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyShape {
    /// Everything before the number; never empty.
    pub prefix: String,
    /// Digits of the number, with leading zeros.
    pub digits: usize,
}

impl KeyShape {
    /// Keys 0 to `key_space` - 1 behind `prefix`.
    #[must_use]
    pub fn new(prefix: &str, key_space: u64) -> Self {
        assert!(!prefix.is_empty() && key_space > 0, "keys have a prefix, and there is one");
        let digits = (key_space - 1).max(1).ilog10() as usize + 1;
        Self { prefix: prefix.to_owned(), digits: digits.max(4) }
    }

    /// Bytes of each key.
    #[must_use]
    pub fn length(&self) -> usize {
        self.prefix.len() + self.digits
    }

    /// The key with placeholders for its digits.
    #[must_use]
    pub fn placeholder(&self) -> Vec<u8> {
        let mut key = self.prefix.clone().into_bytes();
        key.extend(self.digit_placeholders());
        key
    }

    /// The placeholders of the number alone, for values that name the key.
    #[must_use]
    pub fn digit_placeholders(&self) -> Vec<u8> {
        vec![DIGIT_PLACEHOLDER; self.digits]
    }

    /// The end of the range of all keys with the prefix.
    #[must_use]
    pub fn prefix_end(&self) -> Vec<u8> {
        let mut end = self.prefix.clone().into_bytes();
        if let Some(last) = end.last_mut() {
            *last += 1; // prefixes are ASCII, so this never overflows
        }
        end
    }
}

/// A gRPC frame with the places to patch.
#[derive(Clone, Debug)]
pub struct Template {
    frame: Vec<u8>,
    digit_offsets: Vec<usize>,
    digits: usize,
    stamp_offset: Option<usize>,
    revision: Option<(usize, usize)>, // offset and width of the varint
}

impl Template {
    /// Frames `message` and finds its placeholders.
    #[must_use]
    pub fn new(message: &[u8], shape: &KeyShape) -> Self {
        let mut frame = vec![0u8];
        frame.extend(u32::try_from(message.len()).expect("requests are small").to_be_bytes());
        frame.extend_from_slice(message);
        let digits = shape.digit_placeholders();
        let digit_offsets = occurrences(&frame, &digits);
        let stamp_offset = occurrences(&frame, STAMP_PLACEHOLDER).first().copied();
        Self { frame, digit_offsets, digits: shape.digits, stamp_offset, revision: None }
    }

    /// Copies the frame to `buffer` with everything patched in, and splits it off.
    pub fn render(&self, index: u64, stamp: u64, revision: i64, buffer: &mut BytesMut) -> Bytes {
        assert!(buffer.is_empty(), "the buffer holds nothing between requests");
        buffer.extend_from_slice(&self.frame);
        for offset in &self.digit_offsets {
            write_decimal(&mut buffer[*offset..offset + self.digits], index);
        }
        if let Some(offset) = self.stamp_offset {
            write_hexadecimal(&mut buffer[offset..offset + STAMP_WIDTH], stamp);
        }
        if let Some((offset, width)) = self.revision {
            write_varint(&mut buffer[offset..offset + width], revision as u64);
        }
        buffer.split().freeze()
    }
}

/// A `PutRequest`.
#[must_use]
pub fn put(shape: &KeyShape, value: &[u8]) -> Template {
    Template::new(&put_message(shape, value), shape)
}

/// A `RangeRequest` for one key.
#[must_use]
pub fn get(shape: &KeyShape, serializable: bool) -> Template {
    let mut message = Vec::new();
    put_bytes(&mut message, 1, &shape.placeholder());
    put_number(&mut message, 7, u64::from(serializable));
    Template::new(&message, shape)
}

/// A `RangeRequest` for all keys of the prefix, at most `limit` of them (0: all).
#[must_use]
pub fn list(shape: &KeyShape, limit: u64, serializable: bool) -> Template {
    let mut message = Vec::new();
    put_bytes(&mut message, 1, shape.prefix.as_bytes());
    put_bytes(&mut message, 2, &shape.prefix_end());
    put_number(&mut message, 3, limit);
    put_number(&mut message, 7, u64::from(serializable));
    Template::new(&message, shape)
}

/// A `WatchRequest` that creates a watch on the whole prefix.
#[must_use]
pub fn watch_create(shape: &KeyShape) -> Template {
    let (mut create, mut message) = (Vec::new(), Vec::new());
    put_bytes(&mut create, 1, shape.prefix.as_bytes());
    put_bytes(&mut create, 2, &shape.prefix_end());
    put_bytes(&mut message, 1, &create);
    Template::new(&message, shape)
}

/// Kubernetes' optimistic update: `Txn{mod_revision(key) == revision ? Put : Range}`, one
/// template for every width that the revision's varint can have.
#[derive(Clone, Debug)]
pub struct UpdateTemplates {
    by_width: Vec<Template>,
}

impl UpdateTemplates {
    /// Encodes the update of a key of `shape` to `value`.
    #[must_use]
    pub fn new(shape: &KeyShape, value: &[u8]) -> Self {
        Self { by_width: (1..=9).map(|width| update(shape, value, width)).collect() }
    }

    /// Renders the update that expects `revision`.
    pub fn render(&self, index: u64, stamp: u64, revision: i64, buffer: &mut BytesMut) -> Bytes {
        let revision = revision.max(0);
        let width = varint_width(revision as u64); // 1 to 9: revisions are positive 64 bit
        self.by_width[width - 1].render(index, stamp, revision, buffer)
    }
}

fn update(shape: &KeyShape, value: &[u8], width: usize) -> Template {
    const TARGET_MOD_REVISION: u64 = 2;
    let mut compare = Vec::new();
    put_number(&mut compare, 2, TARGET_MOD_REVISION); // result EQUAL is 0, left out
    put_bytes(&mut compare, 3, &shape.placeholder());
    put_varint(&mut compare, 6 << 3); // mod_revision, present even when 0: it is a oneof
    let revision_in_compare = compare.len();
    compare.resize(compare.len() + width, 0);

    let (mut success, mut range, mut failure) = (Vec::new(), Vec::new(), Vec::new());
    put_bytes(&mut success, 2, &put_message(shape, value));
    put_bytes(&mut range, 1, &shape.placeholder());
    put_bytes(&mut failure, 1, &range);

    let mut message = Vec::new();
    put_bytes(&mut message, 1, &compare);
    let compare_start = message.len() - compare.len();
    put_bytes(&mut message, 2, &success);
    put_bytes(&mut message, 3, &failure);
    let mut template = Template::new(&message, shape);
    template.revision = Some((GRPC_PREFIX_BYTES + compare_start + revision_in_compare, width));
    template
}

fn put_message(shape: &KeyShape, value: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    put_bytes(&mut message, 1, &shape.placeholder());
    put_bytes(&mut message, 2, value);
    message
}

/// Where `needle` stands in `bytes`, without overlaps.
fn occurrences(bytes: &[u8], needle: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut offset = 0;
    while let Some(window) = bytes.get(offset..offset + needle.len()) {
        if window == needle {
            found.push(offset);
            offset += needle.len();
        } else {
            offset += 1;
        }
    }
    found
}

fn write_decimal(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    assert!(value == 0, "the key's number fits its digits");
}

fn write_hexadecimal(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn write_varint(out: &mut [u8], mut value: u64) {
    let last = out.len() - 1;
    for (position, byte) in out.iter_mut().enumerate() {
        let more = if position == last { 0 } else { 0x80 };
        *byte = (value & 0x7f) as u8 | more;
        value >>= 7;
    }
    assert!(value == 0, "the varint fits its width");
}

/// Reads a stamp back from the front of a value.
#[must_use]
pub fn read_stamp(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value.get(..STAMP_WIDTH)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::wire::message;
    use mainstay_proto::kv::{
        Compare, CompareResult, CompareTarget, PutRequest, RangeRequest, Request, RequestOp,
        TargetUnion, TxnRequest,
    };
    use mainstay_proto::watch::{WatchCreateRequest, WatchRequest, WatchRequestUnion};
    use prost::Message;

    fn shape() -> KeyShape {
        KeyShape::new("/registry/things/", 100_000)
    }

    /// The message behind the gRPC prefix, whose length must be right.
    fn unframed(frame: &[u8]) -> &[u8] {
        let (prefix, message) = frame.split_at(GRPC_PREFIX_BYTES);
        assert_eq!(prefix, [&[0][..], &(message.len() as u32).to_be_bytes()].concat());
        message
    }

    #[test]
    fn keys_have_a_fixed_width_and_a_range_that_holds_them_all() {
        for (key_space, digits) in [(1, 4), (10_000, 4), (10_001, 5), (10_000_000, 7)] {
            assert_eq!(KeyShape::new("/p/", key_space).digits, digits, "{key_space}");
        }
        assert_eq!(shape().prefix_end(), b"/registry/things0");
    }

    #[test]
    fn a_put_is_patched_everywhere() {
        let value = [&STAMP_PLACEHOLDER[..], b" and the rest"].concat();
        let template = put(&shape(), &value);
        let mut buffer = BytesMut::new();
        for (index, stamp) in [(0, 0), (7, 0xabc), (99_999, u64::MAX)] {
            let frame = template.render(index, stamp, 0, &mut buffer);
            let request = unframed(&frame);
            let key = format!("/registry/things/{index:05}");
            assert_eq!(message(request, 1), Ok(Some(key.as_bytes())));
            let value = message(request, 2).unwrap().unwrap();
            assert_eq!(value, format!("{stamp:016x} and the rest").as_bytes());
            assert_eq!(read_stamp(value), Some(stamp));
        }
    }

    #[test]
    fn every_request_is_byte_for_byte_what_prost_encodes() {
        let key = Bytes::from("/registry/things/00042");
        let (prefix, end) = (Bytes::from("/registry/things/"), Bytes::from("/registry/things0"));
        let mut buffer = BytesMut::new();
        let mut check = |template: Template, expected: Vec<u8>| {
            let frame = template.render(42, 0, 0, &mut buffer);
            assert_eq!(unframed(&frame), expected);
        };
        let one = RangeRequest { key: key.clone(), ..Default::default() };
        let stale = RangeRequest { serializable: true, ..one.clone() };
        check(get(&shape(), false), one.encode_to_vec());
        check(get(&shape(), true), stale.encode_to_vec());
        let all = RangeRequest {
            key: prefix.clone(),
            range_end: end.clone(),
            limit: 500,
            ..Default::default()
        };
        check(list(&shape(), 500, false), all.encode_to_vec());
        let written = PutRequest { key, value: Bytes::from("value"), ..Default::default() };
        check(put(&shape(), b"value"), written.encode_to_vec());
        let create = WatchCreateRequest { key: prefix, range_end: end, ..Default::default() };
        let union = Some(WatchRequestUnion::Create(create));
        check(watch_create(&shape()), WatchRequest { request_union: union }.encode_to_vec());
    }

    #[test]
    fn an_update_is_byte_for_byte_what_prost_encodes() {
        let templates = UpdateTemplates::new(&shape(), b"value");
        let key = Bytes::from("/registry/things/00042");
        let range = RangeRequest { key: key.clone(), ..Default::default() };
        let put = PutRequest { key: key.clone(), value: "value".into(), ..Default::default() };
        let operation = |request| vec![RequestOp { request: Some(request) }];
        let mut buffer = BytesMut::new();
        for revision in [0, 1, 127, 128, 16_384, 2_097_152, i64::MAX] {
            let compare = Compare {
                result: CompareResult::Equal as i32,
                target: CompareTarget::Mod as i32,
                key: key.clone(),
                target_union: Some(TargetUnion::ModRevision(revision)),
                range_end: Bytes::new(),
            };
            let expected = TxnRequest {
                compare: vec![compare],
                success: operation(Request::Put(put.clone())),
                failure: operation(Request::Range(range.clone())),
            };
            let frame = templates.render(42, 0, revision, &mut buffer);
            assert_eq!(unframed(&frame), expected.encode_to_vec(), "revision {revision}");
        }
    }
}
