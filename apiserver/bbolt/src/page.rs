//! The bytes of pages: headers, elements, and the two pages that describe the file.
//!
//! All numbers are little endian. A page begins with id, kind, number of elements and the number
//! of pages that it overflows into. Elements of a leaf are (flags, distance to the key, key
//! length, value length), those of a branch (distance to the key, key length, child); distances
//! count from the element itself. Keys and values follow behind the last element.

/// The size of the pages that are written.
pub const PAGE_BYTES: usize = 4096;

/// Bytes of a page's header, and of an element of either kind.
pub(crate) const HEADER_BYTES: usize = 16;
pub(crate) const ELEMENT_BYTES: usize = 16;

/// Bytes before the inline page in the value of a bucket: root page and sequence.
pub(crate) const BUCKET_BYTES: usize = 16;

pub(crate) const BRANCH: u16 = 0x01;
pub(crate) const LEAF: u16 = 0x02;
pub(crate) const META: u16 = 0x04;
pub(crate) const FREELIST: u16 = 0x10;

/// The flag of a leaf's element whose value is a bucket.
pub(crate) const ELEMENT_IS_BUCKET: u32 = 1;

const META_MAGIC: u32 = 0xED0C_DAED;
const META_VERSION: u32 = 2;
/// Bytes that the checksum of a meta page covers, behind the page's header.
const META_CHECKED_BYTES: usize = 56;

/// Bytes of a meta page that count.
pub(crate) const META_PAGE_BYTES: usize = HEADER_BYTES + META_CHECKED_BYTES + 8;

/// A page's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageHeader {
    pub(crate) id: u64,
    pub(crate) flags: u16,
    pub(crate) count: u16,
    pub(crate) overflow: u32,
}

impl PageHeader {
    /// `None` when there are too few bytes.
    pub(crate) fn read(bytes: &[u8]) -> Option<PageHeader> {
        Some(PageHeader {
            id: u64_at(bytes, 0)?,
            flags: u16_at(bytes, 8)?,
            count: u16_at(bytes, 10)?,
            overflow: u32_at(bytes, 12)?,
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.overflow.to_le_bytes());
    }
}

/// What a meta page says. A file has two; the valid one with the larger transaction counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) page_bytes: u32,
    pub(crate) root: u64,
    pub(crate) freelist: u64,
    /// Pages that the file has, free ones included.
    pub(crate) page_count: u64,
    pub(crate) transaction: u64,
}

impl Meta {
    /// Reads a meta page. Total: any bytes give an answer.
    pub(crate) fn read(page: &[u8]) -> Result<Meta, &'static str> {
        let header = PageHeader::read(page).ok_or("it is too short")?;
        let body = page.get(HEADER_BYTES..META_PAGE_BYTES).ok_or("it is too short")?;
        let word = |offset| u32_at(body, offset).unwrap_or_default();
        let long = |offset| u64_at(body, offset).unwrap_or_default();
        if word(0) != META_MAGIC {
            return Err("its magic number is another");
        }
        if word(4) != META_VERSION {
            return Err("its format version is not 2");
        }
        if header.flags & META == 0 {
            return Err("its page is of another kind");
        }
        if long(META_CHECKED_BYTES) != fnv1a(&body[..META_CHECKED_BYTES]) {
            return Err("its checksum does not match");
        }
        Ok(Meta {
            page_bytes: word(8),
            root: long(16),
            freelist: long(32),
            page_count: long(40),
            transaction: long(48),
        })
    }

    /// Appends a whole page.
    pub(crate) fn write(&self, id: u64, out: &mut Vec<u8>) {
        let start = out.len();
        PageHeader { id, flags: META, count: 0, overflow: 0 }.write(out);
        out.extend_from_slice(&META_MAGIC.to_le_bytes());
        out.extend_from_slice(&META_VERSION.to_le_bytes());
        out.extend_from_slice(&self.page_bytes.to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        for number in [self.root, 0, self.freelist, self.page_count, self.transaction] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = fnv1a(&out[start + HEADER_BYTES..]);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.resize(start + PAGE_BYTES, 0);
    }
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn bytes_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes_at(bytes, offset).map(u16::from_le_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes_at(bytes, offset).map(u32::from_le_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes_at(bytes, offset).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_page_reads_back_and_notices_every_changed_byte() {
        let meta = Meta { page_bytes: 4096, root: 7, freelist: 2, page_count: 8, transaction: 1 };
        let mut page = Vec::new();
        meta.write(1, &mut page);
        assert_eq!(page.len(), PAGE_BYTES);
        assert_eq!(Meta::read(&page), Ok(meta));
        for offset in HEADER_BYTES..META_PAGE_BYTES {
            let mut changed = page.clone();
            changed[offset] ^= 0x10;
            assert!(Meta::read(&changed).is_err(), "byte {offset}");
        }
        for length in 0..META_PAGE_BYTES {
            assert!(Meta::read(&page[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn the_hash_is_fnv1a() {
        for (input, expected) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(fnv1a(input.as_bytes()), expected, "{input}");
        }
    }
}
