//! What a write needs to know besides the object: who, when, how, and chance.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::kube::authn::User;
use crate::kube::request::options::WriteOptions;

/// Facts about one request that writes.
#[derive(Debug)]
pub struct WriteContext {
    pub options: WriteOptions,
    /// Who is written into `managedFields`.
    pub field_manager: String,
    pub now: Now,
    /// Texts for `Warning` headers.
    pub warnings: Warnings,
    /// Who asked for it.
    pub user: User,
}

/// Warnings gathered while a request is worked on.
#[derive(Debug, Default)]
pub struct Warnings(RefCell<Vec<String>>);

impl Warnings {
    pub fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut texts = self.0.borrow_mut();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }

    pub fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// A moment as objects have it.
#[derive(Debug, Clone, Copy)]
pub struct Now(OffsetDateTime);

impl Now {
    pub fn new(time: SystemTime) -> Now {
        Now(OffsetDateTime::from(time))
    }

    /// RFC 3339 in whole seconds: `metav1.Time`.
    pub fn seconds(self) -> String {
        format_seconds(self.0)
    }

    /// The same, so many seconds later.
    pub fn seconds_after(self, seconds: i64) -> String {
        let later = self.0.checked_add(time::Duration::seconds(seconds));
        format_seconds(later.unwrap_or(self.0))
    }

    pub fn unix_seconds(self) -> i64 {
        self.0.unix_timestamp()
    }
}

fn format_seconds(time: OffsetDateTime) -> String {
    let whole = time.replace_nanosecond(0).unwrap_or(time);
    whole.format(&Rfc3339).expect("a time of this age has four digits of year")
}

/// Seconds since 1970 of an RFC 3339 time.
pub fn parse_time(text: &str) -> Option<i64> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp)
}

/// Chance, from the operating system's generator.
#[derive(Debug, Clone)]
pub struct Random(Arc<rustls::crypto::CryptoProvider>);

/// Letters and digits that make no words: those of names made by the server.
const NAME_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

impl Default for Random {
    fn default() -> Random {
        Random(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
    }
}

impl Random {
    pub fn fill(&self, bytes: &mut [u8]) {
        self.0.secure_random.fill(bytes).expect("the system has random bytes");
    }

    /// Evenly in `0..bound`, near enough for choosing names and delays.
    pub fn below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "a choice needs something to choose from");
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes) % bound
    }

    /// A random UUID (version 4).
    pub fn uuid(&self) -> String {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    /// The random end of a generated name.
    pub fn name_suffix(&self) -> String {
        const LENGTH: usize = 5;
        (0..LENGTH)
            .map(|_| char::from(NAME_ALPHABET[self.below(NAME_ALPHABET.len() as u64) as usize]))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_have_whole_seconds() {
        let now = Now::new(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_999));
        assert_eq!(now.seconds(), "2023-11-14T22:13:20Z");
        assert_eq!(now.seconds_after(41), "2023-11-14T22:14:01Z");
        assert_eq!(parse_time(&now.seconds()), Some(1_700_000_000));
        assert_eq!(parse_time("yesterday"), None);
    }

    #[test]
    fn identities_look_as_they_should() {
        let random = Random::default();
        let uuid = random.uuid();
        assert_eq!(uuid.len(), 36);
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert_ne!(uuid, random.uuid());
        let suffix = random.name_suffix();
        assert!(suffix.len() == 5 && suffix.bytes().all(|byte| NAME_ALPHABET.contains(&byte)));
    }
}
