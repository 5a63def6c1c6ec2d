//! Random tokens that this server remembers: good until nobody has used them for a while. Those of
//! other members of a cluster it knows by their seal.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::Shown;
use super::sealed::{Said, Seal};

/// Letters in a token: 91 bits of chance.
pub(super) const LETTERS: usize = 16;

const ALPHABET: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Tokens of all cores. Whoever was given one can use it on any of them at once.
#[derive(Debug)]
pub(in crate::etcd::auth) struct SimpleTokens {
    ttl_ms: u64,
    most: usize,
    table: RwLock<HashMap<String, Entry>>,
    /// Of tokens made so far: makes each another one even if chance did not.
    made: AtomicU64,
    /// By which other members know tokens of this one, and it knows theirs.
    seal: Seal,
}

#[derive(Debug)]
struct Entry {
    user: Arc<str>,
    made_at: u64,
    /// Later with each use.
    expires_ms: AtomicU64,
}

impl SimpleTokens {
    /// Each token is good for `ttl` after its last use; at most `most` are remembered.
    pub(super) fn new(ttl: Duration, most: usize) -> SimpleTokens {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let (table, made, seal) = (RwLock::default(), AtomicU64::new(0), Seal::default());
        SimpleTokens { ttl_ms, most, table, made, seal }
    }

    pub(super) fn seal(&self) -> &Seal {
        &self.seal
    }

    pub(super) fn find(&self, token: &str, now_ms: u64) -> Option<Shown> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let entry = table.get(token)?;
        if entry.expires_ms.load(Ordering::Relaxed) <= now_ms {
            return None;
        }
        entry.expires_ms.store(now_ms.saturating_add(self.ttl_ms), Ordering::Relaxed);
        Some(Shown { user: entry.user.clone(), made_at: entry.made_at, speaks_for_now: true })
    }

    /// As [`find`](SimpleTokens::find), of a token that another member may have made: for as long
    /// after that as one is good that nobody uses, as only its maker knows of uses elsewhere.
    pub(super) fn adopt(&self, token: &str, now_ms: u64, now_s: u64) -> Option<Shown> {
        let Said { user, made_at, issued_s } = self.seal.open(token)?;
        if now_s.saturating_sub(issued_s).saturating_mul(1_000) >= self.ttl_ms {
            return None;
        }
        self.remember(token.to_owned(), user.clone(), made_at, now_ms);
        Some(Shown { user, made_at, speaks_for_now: true })
    }

    pub(super) fn make(
        &self,
        user: &str,
        revision: u64,
        random: [u8; LETTERS],
        (now_ms, now_s): (u64, u64),
    ) -> String {
        // A letter that is a little likelier than another costs a fraction of a bit.
        let letters = random.map(|byte| ALPHABET[usize::from(byte) % ALPHABET.len()]);
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let token = format!("{}.{number}", String::from_utf8_lossy(&letters));
        let said = Said { user: user.into(), made_at: revision, issued_s: now_s };
        let token = self.seal.seal(&token, &said).unwrap_or(token);
        self.remember(token.clone(), said.user, revision, now_ms);
        token
    }

    fn remember(&self, token: String, user: Arc<str>, made_at: u64, now_ms: u64) {
        let expires_ms = AtomicU64::new(now_ms.saturating_add(self.ttl_ms));
        let entry = Entry { user, made_at, expires_ms };
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= self.most {
            make_room(&mut table, now_ms);
        }
        table.insert(token, entry);
    }
}

/// Forgets those that have run out; if all are good, the sixteenth that was not used for longest, so
/// that this is not done again for each.
fn make_room(table: &mut HashMap<String, Entry>, now_ms: u64) {
    let before = table.len();
    table.retain(|_, entry| *entry.expires_ms.get_mut() > now_ms);
    if table.len() < before {
        return;
    }
    let expires = |entry: &Entry| entry.expires_ms.load(Ordering::Relaxed);
    let mut oldest: Vec<(u64, String)> =
        table.iter().map(|(token, entry)| (expires(entry), token.clone())).collect();
    oldest.sort_unstable();
    for (_, token) in oldest.into_iter().take(before / 16 + 1) {
        table.remove(&token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: u8) -> [u8; LETTERS] {
        std::array::from_fn(|place| seed.wrapping_mul(31).wrapping_add(place as u8))
    }

    #[test]
    fn use_keeps_a_token_alive() {
        let tokens = SimpleTokens::new(Duration::from_millis(100), 10);
        let token = tokens.make("u", 7, random(1), (0, 0));
        assert!(token.ends_with(".0") && token.len() == LETTERS + 2, "{token}");
        let shown = Shown { user: "u".into(), made_at: 7, speaks_for_now: true };
        for now_ms in [0, 99, 198, 297] {
            assert_eq!(tokens.find(&token, now_ms), Some(shown.clone()), "at {now_ms}");
        }
        assert_eq!(tokens.find(&token, 397), None);
        assert_eq!(tokens.find("", 0), None);
        assert_eq!(tokens.find("abcdefghijklmnop.0", 0), None);
    }

    #[test]
    fn the_same_chance_makes_another_token() {
        let tokens = SimpleTokens::new(Duration::from_millis(100), 10);
        let (first, second) =
            (tokens.make("a", 1, random(1), (0, 0)), tokens.make("b", 1, random(1), (0, 0)));
        assert_ne!(first, second);
        assert_eq!(&*tokens.find(&first, 1).expect("good").user, "a");
    }

    #[test]
    fn members_know_each_others_tokens() {
        let member = || {
            let tokens = SimpleTokens::new(Duration::from_secs(300), 10);
            tokens.seal().set(&[7; 32]);
            tokens
        };
        let (one, two) = (member(), member());
        let token = one.make("u", 7, random(1), (5, 1_000));
        let shown = Shown { user: "u".into(), made_at: 7, speaks_for_now: true };
        assert_eq!(two.find(&token, 9), None, "never seen");
        assert_eq!(two.adopt(&token, 9, 1_300), None, "too old to be known by its seal");
        // Clocks of members differ.
        for now_s in [1_299, 1_000, 900] {
            assert_eq!(two.adopt(&token, 9, now_s), Some(shown.clone()), "at {now_s}");
        }
        assert_eq!(two.find(&token, 300_000), Some(shown), "remembered, and used");
        assert_eq!(two.find(&token, 600_000), None, "not used for long");
    }

    #[test]
    fn the_table_is_bounded() {
        let tokens = SimpleTokens::new(Duration::from_millis(100), 32);
        let made: Vec<String> = (0..32)
            .map(|number| tokens.make("u", 1, random(number), (u64::from(number), 0)))
            .collect();
        assert!(tokens.find(&made[0], 40).is_some(), "used: not the oldest any more");
        let newest = tokens.make("u", 1, random(99), (50, 0));
        let good = |token: &String| tokens.find(token, 60).is_some();
        assert!(good(&newest) && good(&made[0]) && good(&made[31]));
        assert!(!good(&made[1]), "made room");
        // All have run out but the newest ones.
        for number in 0..100 {
            tokens.make("u", 1, random(number), (500, 0));
        }
        assert!(tokens.table.read().unwrap().len() <= 32);
    }
}
