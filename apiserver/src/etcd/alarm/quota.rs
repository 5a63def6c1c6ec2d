//! The quota: how much a request takes, and when there is no more space, or some again.

use mainstay_proto::kv::{PutRequest, Request, RequestOp, TxnRequest};

/// Bytes that a key costs besides itself and its value, and a lease. As etcd reckons.
const KEY_OVERHEAD: u64 = 256;
const LEASE_OVERHEAD: u64 = 64;

/// What may be in use, bytes of live keys and values; 0 for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota(u64);

/// How a quota finds what is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// So far below the quota that an alarm can be taken back.
    Recovered,
    Tight,
}

impl Quota {
    /// As in `--quota-backend-bytes`: none for 0 and for less.
    pub fn of_flag(bytes: i64) -> Quota {
        Quota(u64::try_from(bytes).unwrap_or(0))
    }

    /// 0 for no limit.
    pub fn bytes(self) -> u64 {
        self.0
    }

    pub(super) fn is_set(self) -> bool {
        self.0 > 0
    }

    /// Whether `cost` bytes more may be in use.
    pub(super) fn allows(self, used: u64, cost: u64) -> bool {
        !self.is_set() || used.saturating_add(cost) < self.0
    }

    /// A twentieth of the quota lies between no space and space again, so that a store at its limit
    /// does not raise an alarm and take it back with every write.
    pub(super) fn verdict(self, used: u64) -> Verdict {
        // Without a quota there is none that its alarm could be for: it was another run's.
        if !self.is_set() || used < self.0 - self.0 / 20 {
            Verdict::Recovered
        } else {
            Verdict::Tight
        }
    }
}

pub(in crate::etcd) fn put_cost(request: &PutRequest) -> u64 {
    KEY_OVERHEAD + (request.key.len() + request.value.len()) as u64
}

pub(in crate::etcd) fn lease_cost() -> u64 {
    LEASE_OVERHEAD
}

/// That of the costlier branch; 0 for a transaction that puts nothing. The depth of nested
/// transactions is bounded by their decoder.
pub(in crate::etcd) fn transaction_cost(request: &TxnRequest) -> u64 {
    let branch = |operations: &[RequestOp]| {
        let cost = |operation: &RequestOp| match &operation.request {
            Some(Request::Put(put)) => put_cost(put),
            Some(Request::Txn(nested)) => transaction_cost(nested),
            _ => 0,
        };
        operations.iter().map(cost).sum()
    };
    u64::max(branch(&request.success), branch(&request.failure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_proto::kv::{DeleteRangeRequest, RangeRequest};

    #[test]
    fn what_requests_cost() {
        let put = PutRequest { key: "key".into(), value: "value".into(), ..Default::default() };
        assert_eq!(put_cost(&put), 264);
        let of = |request| RequestOp { request: Some(request) };
        let txn = |success: Vec<RequestOp>, failure: Vec<RequestOp>| TxnRequest {
            compare: vec![],
            success,
            failure,
        };
        let put = || of(Request::Put(put.clone()));
        let read = || of(Request::Range(RangeRequest::default()));
        let delete = || of(Request::DeleteRange(DeleteRangeRequest::default()));
        for (transaction, expected) in [
            (txn(vec![], vec![]), 0),
            (txn(vec![read(), delete()], vec![delete()]), 0),
            (txn(vec![put(), read(), put()], vec![put()]), 528),
            (txn(vec![], vec![put()]), 264),
            (txn(vec![of(Request::Txn(txn(vec![put()], vec![])))], vec![]), 264),
        ] {
            assert_eq!(transaction_cost(&transaction), expected, "{transaction:?}");
        }
    }

    #[test]
    fn quotas() {
        for (flag, used, cost, allowed) in [
            (0, u64::MAX, 1, true),
            (-1, u64::MAX, 1, true),
            (1000, 0, 999, true),
            (1000, 0, 1000, false),
            (1000, 900, 99, true),
            (1000, 900, 100, false),
            (1000, u64::MAX, 1, false),
        ] {
            assert_eq!(Quota::of_flag(flag).allows(used, cost), allowed, "{flag} {used} {cost}");
        }
        for (flag, used, expected) in [
            (1000, 0, Verdict::Recovered),
            (1000, 949, Verdict::Recovered),
            (1000, 950, Verdict::Tight),
            (0, u64::MAX, Verdict::Recovered),
        ] {
            assert_eq!(Quota::of_flag(flag).verdict(used), expected, "{flag} {used}");
        }
    }
}
