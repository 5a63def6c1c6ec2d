//! Users, roles and permissions: who may do what with etcd's API.
//!
//! [`state`], [`permission`], [`need`] and [`token`] are pure data; [`requests`] says what each request
//! needs, [`guard`] is where requests pass, [`service`] the methods that change users and roles.

mod document;
mod guard;
mod need;
mod password;
mod permission;
mod requests;
pub(super) mod service;
mod state;
#[cfg(test)]
mod tests;
mod token;
mod turns;

use std::time::Duration;

pub(super) use guard::{Auth, Caller, Permit};
pub(super) use need::{Guarded, Need, Who};

use self::password::Passwords;
use self::token::Tokens;

/// How users show who they are; shared by all cores.
#[derive(Debug)]
pub struct AuthOptions {
    tokens: Tokens,
    passwords: Passwords,
    /// A client without a token is the user that its certificate names.
    client_cert_auth: bool,
    /// Other members must know the tokens of this one.
    has_company: bool,
}

impl AuthOptions {
    /// From `--auth-token`, `--auth-token-ttl` and `--bcrypt-cost` (4 to 31). Reads key files.
    ///
    /// # Errors
    /// What is wrong with the flag `--auth-token`.
    pub fn new(
        token_flag: &str,
        simple_token_ttl: Duration,
        bcrypt_cost: u32,
        client_cert_auth: bool,
        has_company: bool,
    ) -> Result<AuthOptions, String> {
        Ok(AuthOptions {
            tokens: Tokens::new(token_flag, simple_token_ttl)?,
            passwords: Passwords::new(bcrypt_cost),
            client_cert_auth,
            has_company,
        })
    }
}
