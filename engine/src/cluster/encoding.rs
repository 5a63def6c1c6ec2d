//! The facts of a member as a document's content, and back.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::MemberInfo;

/// The first byte of the content.
const FORMAT: u8 = 1;

impl MemberInfo {
    /// Name and addresses. Id and vote are told elsewhere.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u8(FORMAT);
        put_text(&mut bytes, &self.name);
        for urls in [&self.peer_urls, &self.client_urls] {
            bytes.put_u32_le(u32::try_from(urls.len()).expect("few"));
            urls.iter().for_each(|url| put_text(&mut bytes, url));
        }
        bytes.freeze()
    }

    /// `None` if the content makes no sense: that of a member that was removed is empty.
    pub fn decode(mut content: &[u8]) -> Option<MemberInfo> {
        if content.try_get_u8().ok()? != FORMAT {
            return None;
        }
        let name = text(&mut content)?;
        let (peer_urls, client_urls) = (texts(&mut content)?, texts(&mut content)?);
        content.is_empty().then_some(MemberInfo {
            name,
            peer_urls,
            client_urls,
            ..MemberInfo::default()
        })
    }
}

fn put_text(bytes: &mut BytesMut, text: &str) {
    bytes.put_u32_le(u32::try_from(text.len()).expect("short"));
    bytes.put_slice(text.as_bytes());
}

fn text(content: &mut &[u8]) -> Option<String> {
    let length = content.try_get_u32_le().ok()? as usize;
    let (text, rest) = content.split_at_checked(length)?;
    *content = rest;
    String::from_utf8(text.to_vec()).ok()
}

fn texts(content: &mut &[u8]) -> Option<Vec<String>> {
    let count = content.try_get_u32_le().ok()?;
    let mut texts = Vec::new();
    for _ in 0..count {
        texts.push(text(content)?);
    }
    Some(texts)
}

#[cfg(test)]
mod tests {
    use mainstay_raft::Membership;

    use super::*;
    use crate::cluster::members;

    fn info() -> MemberInfo {
        let urls = |texts: &[&str]| texts.iter().map(|&url| String::from(url)).collect();
        MemberInfo {
            name: String::from("one"),
            peer_urls: urls(&["http://a:2380", "http://b:2380"]),
            client_urls: urls(&["http://a:2379"]),
            ..MemberInfo::default()
        }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        let content = info().encode();
        assert_eq!(MemberInfo::decode(&content), Some(info()));
        for end in 0..content.len() {
            assert_eq!(MemberInfo::decode(&content[..end]), None, "{end}");
        }
        assert_eq!(MemberInfo::decode(&[&content[..], &[0]].concat()), None);
        assert_eq!(MemberInfo::decode(&[1, 0, 0, 0, 0, 255, 255, 255, 255]), None);
    }

    #[test]
    fn names_of_documents_hold_ids() {
        for id in [1, 0xfeed, u64::MAX] {
            assert_eq!(MemberInfo::id_of_document(&MemberInfo::document_name(id)), Some(id));
        }
        for name in [&b"member/1"[..], b"member/", b"memb", b"member/000000000000000g"] {
            assert_eq!(MemberInfo::id_of_document(name), None);
        }
    }

    #[test]
    fn members_are_those_of_the_membership() {
        let membership = Membership { learners: vec![9], ..Membership::of_voters(&[3, 5]) };
        let content = info().encode();
        let gone = MemberInfo::document_name(7);
        let known = MemberInfo::document_name(5);
        let facts = |name: &[u8]| (name == known || name == gone).then_some(&content);
        let found = members(&membership, facts);
        let expected = [
            MemberInfo { id: 3, ..MemberInfo::default() },
            MemberInfo { id: 5, ..info() },
            MemberInfo { id: 9, is_learner: true, ..MemberInfo::default() },
        ];
        assert_eq!(found, expected);
    }
}
