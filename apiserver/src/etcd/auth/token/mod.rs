//! Tokens: what a user is given for a password, and shows with each request.
//!
//! [`simple`] ones are random and remembered in memory, [`jwt`] ones are signed and remembered by
//! nobody. Which of the two is `--auth-token`'s business.

mod jwt;
mod keys;
mod sealed;
mod simple;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use mainstay_engine::runtime::timer;

use self::jwt::Jwt;
pub(super) use self::sealed::SECRET_BYTES;
use self::simple::SimpleTokens;
use crate::duration;
use crate::etcd::errors::{self, EtcdError};
use crate::etcd::limits;

/// How long a signed token is good, unless `ttl=` says otherwise: etcd's default.
const JWT_TTL: Duration = Duration::from_secs(300);

/// Whom a token names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) user: Arc<str>,
    /// The auth revision at which it was made.
    pub(super) made_at: u64,
    /// Changes of rights since then are known to this server. Otherwise, as in etcd, the client has
    /// to get a new one after each.
    pub(super) speaks_for_now: bool,
}

/// The maker of tokens, shared by all cores.
#[derive(Debug)]
pub(super) enum Tokens {
    Simple(SimpleTokens),
    Jwt(Box<Jwt>),
}

impl Tokens {
    /// From `--auth-token` and, for simple ones, `--auth-token-ttl`. Reads the files of keys.
    pub(super) fn new(flag: &str, simple_ttl: Duration) -> Result<Tokens, String> {
        let (kind, options) = flag.split_once(',').unwrap_or((flag, ""));
        let options = parse_options(options)?;
        match kind {
            "simple" if options.is_empty() => {
                Ok(Tokens::Simple(SimpleTokens::new(simple_ttl, limits::AUTH_TOKENS)))
            }
            "simple" => Err("simple takes no options".to_owned()),
            "jwt" => Ok(Tokens::Jwt(Box::new(signed(&options)?))),
            _ => Err(format!("{kind:?} is none of simple and jwt")),
        }
    }

    /// Whether members have to share a secret to know each other's tokens, and it is not known yet.
    pub(super) fn lack_secret(&self) -> bool {
        match self {
            Tokens::Simple(tokens) => !tokens.seal().is_known(),
            Tokens::Jwt(_) => false,
        }
    }

    pub(super) fn set_secret(&self, secret: &[u8]) {
        if let Tokens::Simple(tokens) = self {
            tokens.seal().set(secret);
        }
    }

    pub(super) fn find(&self, token: &str) -> Option<Shown> {
        match self {
            Tokens::Simple(tokens) => {
                let now_ms = timer::monotonic_ms();
                let known = tokens.find(token, now_ms);
                known.or_else(|| tokens.adopt(token, now_ms, wall_seconds()))
            }
            Tokens::Jwt(jwt) => jwt.find(token, wall_seconds()),
        }
    }

    /// A new token for `user`, who has shown the password that was good at `revision`. Signing may
    /// take a millisecond.
    pub(super) fn make(&self, user: &str, revision: u64) -> Result<String, EtcdError> {
        match self {
            Tokens::Simple(tokens) => {
                let mut random = [0; simple::LETTERS];
                aws_lc_rs::rand::fill(&mut random).map_err(|_| errors::STOPPED)?;
                let now = (timer::monotonic_ms(), wall_seconds());
                Ok(tokens.make(user, revision, random, now))
            }
            Tokens::Jwt(jwt) => jwt.make(user, revision, wall_seconds()),
        }
    }
}

fn wall_seconds() -> u64 {
    timer::wall_clock().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `name=value` pairs, each name once.
fn parse_options(text: &str) -> Result<BTreeMap<&str, &str>, String> {
    let mut options = BTreeMap::new();
    for pair in text.split(',').filter(|_| !text.is_empty()) {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| format!("{pair:?} has to be of the form name=value"))?;
        if !["pub-key", "priv-key", "sign-method", "ttl"].contains(&name) {
            return Err(format!("{name:?} is none of pub-key, priv-key, sign-method and ttl"));
        }
        if options.insert(name, value).is_some() {
            return Err(format!("{name} is given twice"));
        }
    }
    Ok(options)
}

fn signed(options: &BTreeMap<&str, &str>) -> Result<Jwt, String> {
    let read = |name: &str| match options.get(name) {
        None => Ok(None),
        Some(path) => std::fs::read(Path::new(path))
            .map(Some)
            .map_err(|error| format!("{name}: can't read {path}: {error}")),
    };
    let method = options.get("sign-method").ok_or("jwt needs sign-method=, such as RS256")?;
    let ttl = options.get("ttl").map_or(Ok(JWT_TTL), |ttl| duration::parse(ttl))?;
    let (public, private) = (read("pub-key")?, read("priv-key")?);
    Jwt::new(method, public.as_deref(), private.as_deref(), ttl)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_checked_before_anything_is_served() {
        for (flag, expected) in [
            ("simple", ""),
            ("simple,ttl=5m", "no options"),
            ("", "simple and jwt"),
            ("JWT", "simple and jwt"),
            ("jwt", "sign-method"),
            ("jwt,sign-method=RS256", "priv-key"),
            ("jwt,sign-method=none,priv-key=/dev/null", "none"),
            ("jwt,sign-method", "name=value"),
            ("jwt,sign-method=HS256,sign-method=HS256", "twice"),
            ("jwt,key=x", "\"key\""),
            ("jwt,sign-method=HS256,priv-key=/does/not/exist", "/does/not/exist"),
            ("jwt,sign-method=HS256,priv-key=/dev/null", "empty"),
            ("jwt,sign-method=HS256,ttl=x,priv-key=/dev/null", "duration"),
        ] {
            match Tokens::new(flag, Duration::from_secs(1)) {
                Ok(_) => assert_eq!(expected, "", "{flag}"),
                Err(error) => {
                    assert!(!expected.is_empty() && error.contains(expected), "{flag}: {error}");
                }
            }
        }
    }
}
