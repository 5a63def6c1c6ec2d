//! What a stream's watchers make the process hold, and whether there may be more of them.

use std::rc::Rc;

use mainstay_proto::watch::WatchCreateRequest;

use crate::etcd::{Caller, limits};
use crate::net::held::{self, Held, Pressure};

/// What a watcher makes the process hold, bytes, about: itself, and its range here, among the rights it
/// needs and at the store.
pub(super) fn cost(create: &WatchCreateRequest) -> usize {
    limits::WATCHER_BYTES + 3 * (create.key.len() + create.range_end.len())
}

/// All watchers of one stream.
pub(super) struct Room {
    /// Knows how many all streams of the connection have.
    caller: Rc<Caller>,
    watchers: usize,
    held: Held,
}

impl Room {
    pub(super) fn new(caller: Rc<Caller>) -> Room {
        Room { caller, watchers: 0, held: Held::connection() }
    }

    /// Whether there is a place for one more watcher, of this cost.
    pub(super) fn has_place(&self, cost: usize) -> bool {
        self.watchers < limits::WATCHERS_PER_STREAM
            && self.caller.watchers().get() < limits::WATCHERS_PER_CONNECTION
            && (held::pressure() < Pressure::Over
                || self.held.bytes() + cost <= limits::WATCHER_BYTES_ALWAYS)
    }

    pub(super) fn add(&mut self, cost: usize) {
        self.count(self.watchers + 1);
        self.held.set(self.held.bytes() + cost);
    }

    pub(super) fn remove(&mut self, cost: usize) {
        self.count(self.watchers - 1);
        self.held.set(self.held.bytes() - cost);
    }

    fn count(&mut self, watchers: usize) {
        let all = self.caller.watchers();
        all.set(all.get() - self.watchers + watchers);
        self.watchers = watchers;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.count(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ConnectionInfo;

    #[test]
    fn streams_of_a_connection_share_its_number_of_watchers() {
        let connection = Rc::new(ConnectionInfo::default());
        let caller = |connection: &Rc<ConnectionInfo>| {
            Rc::new(Caller::new(&http::HeaderMap::new(), connection.clone(), false))
        };
        let mut one = Room::new(caller(&connection));
        let other = Room::new(caller(&connection));
        let (many, few) = (limits::WATCHERS_PER_CONNECTION, 2);
        for _ in 0..few {
            one.add(10);
        }
        assert_eq!((connection.watchers.get(), one.held.bytes()), (few, 10 * few));
        connection.watchers.set(many - 1);
        assert!(one.has_place(10) && other.has_place(10));
        connection.watchers.set(many);
        assert!(!one.has_place(10) && !other.has_place(10));
        assert!(Room::new(caller(&Rc::default())).has_place(10), "another connection");
        one.remove(10);
        assert_eq!((connection.watchers.get(), one.held.bytes()), (many - 1, 10));
        assert!(other.has_place(10));
        drop(one);
        assert_eq!(connection.watchers.get(), many - few);
    }

    #[test]
    fn a_long_range_costs_more() {
        let create = |key: usize, end: usize| WatchCreateRequest {
            key: vec![b'k'; key].into(),
            range_end: vec![b'l'; end].into(),
            ..WatchCreateRequest::default()
        };
        assert_eq!(cost(&create(0, 0)), limits::WATCHER_BYTES);
        assert_eq!(cost(&create(1_000, 500)), limits::WATCHER_BYTES + 4_500);
    }
}
