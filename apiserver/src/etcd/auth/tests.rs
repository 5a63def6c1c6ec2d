//! Whole states, tables of requests against them.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_proto::auth::Permission;
use mainstay_proto::kv::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, Request, RequestOp, TxnRequest,
};
use mainstay_proto::watch::WatchCreateRequest;

use super::guard::Caller;
use super::need::{Guarded, Identity, Need, View, Who};
use super::permission::{Access, Span};
use super::state::AuthState;
use crate::etcd::errors::{self, EtcdError};
use crate::etcd::limits;

const READ: i32 = 0;
const WRITE: i32 = 1;
const READ_WRITE: i32 = 2;

fn permission(kind: i32, key: &'static str, range_end: &'static str) -> Option<Permission> {
    Some(Permission { kind, key: key.into(), range_end: range_end.into() })
}

/// Root; `reader` of [a, m); `writer` of [a, c) and reader of [c, e); `nobody` without a role.
fn state() -> AuthState {
    let mut state = AuthState::default();
    let password = Bytes::from_static(b"hash");
    for user in ["root", "reader", "writer", "nobody"] {
        state.add_user(user, Some(&password)).unwrap();
    }
    for role in ["root", "reads", "writes", "reads-more"] {
        state.add_role(role).unwrap();
    }
    state.grant_permission("reads", permission(READ, "a", "m").as_ref()).unwrap();
    state.grant_permission("writes", permission(READ_WRITE, "a", "c").as_ref()).unwrap();
    state.grant_permission("writes", permission(WRITE, "x", "").as_ref()).unwrap();
    state.grant_permission("reads-more", permission(READ, "c", "e").as_ref()).unwrap();
    for (user, role) in
        [("root", "root"), ("reader", "reads"), ("writer", "writes"), ("writer", "reads-more")]
    {
        state.grant_role(user, role).unwrap();
    }
    state.enable().unwrap();
    state
}

fn identity(user: &str, revision: u64) -> Identity {
    Identity { user: Arc::from(user), revision }
}

fn decide(view: &View, user: &str, need: &Need) -> Result<bool, EtcdError> {
    let identity = identity(user, view.state.revision);
    view.check((!user.is_empty()).then_some(&identity), need)
}

#[test]
fn every_change_counts_once_and_errors_are_etcds() {
    type Change = fn(&mut AuthState) -> Result<(), EtcdError>;
    let before = state();
    let cases: [(&str, Change, Result<u64, EtcdError>); 30] = [
        ("add", |s| s.add_user("new", None), Ok(1)),
        ("no name", |s| s.add_user("", None), Err(errors::USER_EMPTY)),
        ("twice", |s| s.add_user("reader", None), Err(errors::USER_EXISTS)),
        ("long", |s| s.add_user(&"n".repeat(32_768), None), Ok(1)),
        ("too long", |s| s.add_user(&"n".repeat(32_769), None), Err(errors::USER_NAME_TOO_LONG)),
        ("long role", |s| s.add_role(&"n".repeat(32_768)), Ok(1)),
        ("too long role", |s| s.add_role(&"n".repeat(32_769)), Err(errors::ROLE_NAME_TOO_LONG)),
        ("delete", |s| s.delete_user("reader"), Ok(1)),
        ("delete nobody", |s| s.delete_user("x"), Err(errors::USER_NOT_FOUND)),
        ("delete root", |s| s.delete_user("root"), Err(errors::INVALID_AUTH_MANAGEMENT)),
        ("password", |s| s.change_password("reader", &Bytes::new()), Ok(1)),
        ("whose", |s| s.change_password("x", &Bytes::new()), Err(errors::USER_NOT_FOUND)),
        ("grant", |s| s.grant_role("nobody", "reads"), Ok(1)),
        ("grant again", |s| s.grant_role("reader", "reads"), Ok(0)),
        ("grant root", |s| s.grant_role("nobody", "root"), Ok(1)),
        ("grant what", |s| s.grant_role("reader", "x"), Err(errors::ROLE_NOT_FOUND)),
        ("grant whom", |s| s.grant_role("x", "x"), Err(errors::USER_NOT_FOUND)),
        ("revoke", |s| s.revoke_role("reader", "reads"), Ok(1)),
        ("revoke what", |s| s.revoke_role("reader", "x"), Err(errors::ROLE_NOT_GRANTED)),
        ("revoke root", |s| s.revoke_role("root", "root"), Err(errors::INVALID_AUTH_MANAGEMENT)),
        ("role", |s| s.add_role("new"), Ok(1)),
        ("role again", |s| s.add_role("reads"), Err(errors::ROLE_EXISTS)),
        ("no role", |s| s.add_role(""), Err(errors::ROLE_EMPTY)),
        ("delete role", |s| s.delete_role("reads"), Ok(1)),
        ("delete root role", |s| s.delete_role("root"), Err(errors::INVALID_AUTH_MANAGEMENT)),
        ("none", |s| s.grant_permission("x", None), Err(errors::PERMISSION_NOT_GIVEN)),
        (
            "empty",
            |s| s.grant_permission("reads", permission(READ, "b", "a").as_ref()),
            Err(errors::INVALID_AUTH_MANAGEMENT),
        ),
        ("replace", |s| s.grant_permission("reads", permission(WRITE, "a", "m").as_ref()), Ok(1)),
        ("take", |s| s.revoke_permission("reads", &"a".into(), &"m".into()), Ok(1)),
        (
            "take what",
            |s| s.revoke_permission("reads", &"a".into(), &"n".into()),
            Err(errors::PERMISSION_NOT_GRANTED),
        ),
    ];
    for (what, change, expected) in cases {
        let mut after = before.clone();
        let result = change(&mut after);
        let counted = after.revision - before.revision;
        assert_eq!(result.map(|()| counted), expected, "{what}");
        if expected.is_err() || expected == Ok(0) {
            assert_eq!(after, before, "{what}");
        }
    }
}

#[test]
fn authentication_needs_root_and_voids_tokens_when_it_goes_off() {
    let mut state = AuthState::default();
    assert_eq!(state.enable(), Err(errors::ROOT_USER_NOT_FOUND));
    state.add_user("root", None).unwrap();
    assert_eq!(state.enable(), Err(errors::ROOT_ROLE_NOT_GRANTED));
    // The role itself need not have been made.
    state.grant_role("root", "root").unwrap();
    let revision = state.revision;
    assert_eq!(state.enable(), Ok(()));
    assert_eq!(state.enable(), Ok(()));
    assert_eq!(state.revision, revision);
    state.disable();
    assert_eq!((state.revision, state.tokens_since), (revision + 1, revision + 1));
    state.disable();
    assert_eq!(state.revision, revision + 1);
    state.delete_user("root").unwrap();
}

#[test]
fn logins() {
    let mut state = state();
    state.add_user("certificate", None).unwrap();
    for (user, expected) in [
        ("reader", None),
        ("absent", Some(errors::AUTH_FAILED)),
        ("", Some(errors::AUTH_FAILED)),
        ("certificate", Some(errors::NO_PASSWORD_USER)),
    ] {
        assert_eq!(state.password_of(user).err(), expected, "{user}");
    }
    state.disable();
    assert_eq!(state.password_of("reader").err(), Some(errors::AUTH_NOT_ENABLED));
}

#[test]
fn who_may_touch_which_keys() {
    let view = View::new(state());
    let denied = Err(errors::PERMISSION_DENIED);
    for (user, access, key, range_end, expected) in [
        ("root", Access::Write, "\0", "\0", Ok(false)),
        ("reader", Access::Read, "a", "", Ok(false)),
        ("reader", Access::Read, "a", "m", Ok(false)),
        ("reader", Access::Read, "a", "n", denied),
        ("reader", Access::Read, "a", "\0", denied),
        ("reader", Access::Write, "a", "", denied),
        ("writer", Access::Read, "a", "e", Ok(false)),
        ("writer", Access::Write, "a", "e", denied),
        ("writer", Access::Write, "a", "c", Ok(false)),
        ("writer", Access::Write, "x", "", Ok(false)),
        ("writer", Access::Read, "x", "", denied),
        ("writer", Access::Write, "x", "\0", denied),
        ("nobody", Access::Read, "a", "", denied),
        ("absent", Access::Read, "a", "", denied),
        ("", Access::Read, "a", "", Err(errors::USER_EMPTY)),
    ] {
        let span = Span::new(&key.into(), &range_end.into());
        let need = Need::who(Who::User).and(access, span);
        assert_eq!(decide(&view, user, &need), expected, "{user} {access:?} {key:?} {range_end:?}");
    }
}

#[test]
fn who_may_ask_about_whom() {
    let view = View::new(state());
    let denied = Err(errors::PERMISSION_DENIED);
    for (user, who, expected) in [
        ("", Who::Anyone, Ok(false)),
        ("", Who::User, Err(errors::USER_EMPTY)),
        ("nobody", Who::User, Ok(false)),
        // Named by a certificate.
        ("absent", Who::User, denied),
        ("", Who::Root, Err(errors::USER_EMPTY)),
        ("absent", Who::Root, Err(errors::USER_NOT_FOUND)),
        ("reader", Who::Root, denied),
        ("root", Who::Root, Ok(false)),
        ("reader", Who::RootOrUser("reader".to_owned()), Ok(false)),
        ("reader", Who::RootOrUser("root".to_owned()), denied),
        ("", Who::RootOrUser(String::new()), Err(errors::USER_EMPTY)),
        ("reader", Who::RootOrRole("reads".to_owned()), Ok(false)),
        ("reader", Who::RootOrRole("writes".to_owned()), denied),
        ("root", Who::RootOrRole("absent".to_owned()), Ok(false)),
    ] {
        assert_eq!(decide(&view, user, &Need::who(who.clone())), expected, "{user} {who:?}");
    }
}

#[test]
fn tokens_are_good_as_long_as_the_user_and_the_password_are() {
    let mut state = state();
    let made_at = state.revision;
    for (user, revision, expected) in [
        ("reader", made_at, true),
        ("reader", made_at + 1, true),
        ("reader", 1, false),
        ("absent", made_at, false),
        ("", made_at, false),
    ] {
        assert_eq!(state.is_token_good(user, revision), expected, "{user} {revision}");
    }
    state.change_password("reader", &Bytes::new()).unwrap();
    assert!(!state.is_token_good("reader", made_at) && state.is_token_good("writer", made_at));
    state.delete_user("writer").unwrap();
    assert!(!state.is_token_good("writer", state.revision), "gone");
    state.add_user("writer", None).unwrap();
    assert!(!state.is_token_good("writer", made_at), "another one of that name");
    assert!(state.is_token_good("writer", state.revision));
    state.disable();
    assert!(!state.is_token_good("writer", state.revision - 1));
}

#[test]
fn no_token_is_kept_that_is_too_long_to_be_one() {
    let token = |value: &str| {
        let mut headers = http::HeaderMap::new();
        headers.insert("token", value.parse().expect("a value"));
        Caller::new(&headers, Default::default(), false).shown_token().map(str::len)
    };
    let most = limits::AUTH_TOKEN_BYTES;
    for (length, expected) in [(0, 0), (1, 1), (most, most), (most + 1, 0), (200 << 10, 0)] {
        assert_eq!(token(&"x".repeat(length)), Some(expected), "{length}");
    }
    assert_eq!(token("Bearer abc"), Some(3));
    assert!(
        Caller::new(&http::HeaderMap::new(), Default::default(), false).shown_token().is_none()
    );
}

/// A signed token speaks for the rights of its time, and has to be renewed when they change.
#[test]
fn old_revisions_touch_no_keys() {
    let view = View::new(state());
    let newest = view.state.revision;
    let key = Need::read(Span::key(b"a"));
    for (revision, expected) in [
        (newest, Ok(false)),
        (newest + 1, Ok(false)),
        (newest - 1, Err(errors::OLD_AUTH_REVISION)),
        (0, Err(errors::USER_EMPTY)),
    ] {
        assert_eq!(view.check(Some(&identity("root", revision)), &key), expected);
        assert_eq!(view.check(Some(&identity("reader", revision)), &key), expected);
    }
    assert_eq!(view.check(Some(&identity("root", 1)), &Need::who(Who::Root)), Ok(false));
}

#[test]
fn leases_are_looked_at_unless_root_asks() {
    let view = View::new(state());
    let one = Need::who(Who::User).lease(Access::Write, 7);
    let all = Need { all_leases: true, ..Need::who(Who::User) };
    let none = Need::who(Who::User).lease(Access::Write, 0);
    for (user, need, expected) in [
        ("root", &one, Ok(false)),
        ("reader", &one, Ok(true)),
        ("root", &all, Ok(false)),
        ("reader", &all, Ok(true)),
        ("reader", &none, Ok(false)),
        ("", &all, Err(errors::USER_EMPTY)),
    ] {
        assert_eq!(decide(&view, user, need), expected, "{user} {need:?}");
    }
}

fn put(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), ..PutRequest::default() }
}

fn range(key: &'static str, range_end: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), range_end: range_end.into(), ..RangeRequest::default() }
}

fn operation(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

#[test]
fn what_requests_need() {
    let user = || Need::who(Who::User);
    let key = |key: &str| Span::key(key.as_bytes());
    let span = |key: &'static str, end: &'static str| Span::new(&key.into(), &end.into());
    let compare = Compare { key: "c".into(), range_end: "d".into(), ..Compare::default() };
    let deletion = |prev_kv| DeleteRangeRequest { key: "d".into(), range_end: "e".into(), prev_kv };
    let inner = TxnRequest {
        compare: vec![compare.clone()],
        success: vec![operation(Request::Put(PutRequest { lease: 7, ..put("p") }))],
        failure: vec![operation(Request::DeleteRange(deletion(true)))],
    };
    let outer = TxnRequest {
        compare: Vec::new(),
        success: vec![operation(Request::Range(range("r", "\0")))],
        failure: vec![operation(Request::Txn(inner))],
    };
    let watch = |key: &'static str, range_end: &'static str| WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..WatchCreateRequest::default()
    };
    for (found, expected) in [
        (range("a", "b").need(), user().and(Access::Read, span("a", "b"))),
        (put("p").need(), user().and(Access::Write, key("p"))),
        (
            PutRequest { prev_kv: true, ..put("p") }.need(),
            user().and(Access::Write, key("p")).and(Access::Read, key("p")),
        ),
        (deletion(false).need(), user().and(Access::Write, span("d", "e"))),
        (
            deletion(true).need(),
            user().and(Access::Write, span("d", "e")).and(Access::Read, span("d", "e")),
        ),
        (
            outer.need(),
            user()
                .and(Access::Read, span("r", "\0"))
                .and(Access::Read, span("c", "d"))
                .and(Access::Write, key("p"))
                .lease(Access::Write, 7)
                .and(Access::Write, span("d", "e"))
                .and(Access::Read, span("d", "e")),
        ),
        (watch("a", "").need(), user().and(Access::Read, key("a"))),
        (watch("a", "\0").need(), user().and(Access::Read, span("a", "\0"))),
        (watch("", "\0").need(), user().and(Access::Read, span("\0", "\0"))),
        (watch("", "").need(), user().and(Access::Read, key("\0"))),
    ] {
        assert_eq!(found.expect("valid"), expected);
    }
    // What is wrong in itself is told before who asks matters.
    assert!(range("", "").need().is_err() && put("").need().is_err());
}
