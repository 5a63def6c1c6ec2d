//! Service Watch: many watchers on one stream, each a cursor into the store's history.
//!
//! [`session`] is the stream's state, [`cursor`] one watcher at work, [`message`] what is sent,
//! [`rights`] what may be seen, [`room`] how many watchers there may be.
//! Nothing is queued per watcher: the next events are fetched when the client has taken the last.

mod cursor;
mod message;
mod rights;
mod room;
mod session;

pub(super) use session::serve;
