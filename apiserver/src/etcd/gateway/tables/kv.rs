//! Services KV and Watch.

use super::HEADER;
use crate::etcd::gateway::shape::{Names, Shape, bool, bytes, int64, message, names, string};

static SORT_ORDER: &Names = &["NONE", "ASCEND", "DESCEND"];
static SORT_TARGET: &Names = &["KEY", "VERSION", "CREATE", "MOD", "VALUE"];
static COMPARE_RESULT: &Names = &["EQUAL", "GREATER", "LESS", "NOT_EQUAL"];
static COMPARE_TARGET: &Names = &["VERSION", "CREATE", "MOD", "VALUE", "LEASE"];
static EVENT_TYPE: &Names = &["PUT", "DELETE"];
static FILTER_TYPE: &Names = &["NOPUT", "NODELETE"];

pub(in crate::etcd::gateway) static KEY_VALUE: Shape = Shape(&[
    bytes(1, "key"),
    int64(2, "create_revision"),
    int64(3, "mod_revision"),
    int64(4, "version"),
    bytes(5, "value"),
    int64(6, "lease"),
]);

pub(in crate::etcd::gateway) static RANGE_REQUEST: Shape = Shape(&[
    bytes(1, "key"),
    bytes(2, "range_end"),
    int64(3, "limit"),
    int64(4, "revision"),
    names(5, "sort_order", SORT_ORDER),
    names(6, "sort_target", SORT_TARGET),
    bool(7, "serializable"),
    bool(8, "keys_only"),
    bool(9, "count_only"),
    int64(10, "min_mod_revision"),
    int64(11, "max_mod_revision"),
    int64(12, "min_create_revision"),
    int64(13, "max_create_revision"),
]);

pub(in crate::etcd::gateway) static RANGE_RESPONSE: Shape = Shape(&[
    message(1, "header", &HEADER),
    message(2, "kvs", &KEY_VALUE).repeated(),
    bool(3, "more"),
    int64(4, "count"),
]);

pub(in crate::etcd::gateway) static PUT_REQUEST: Shape = Shape(&[
    bytes(1, "key"),
    bytes(2, "value"),
    int64(3, "lease"),
    bool(4, "prev_kv"),
    bool(5, "ignore_value"),
    bool(6, "ignore_lease"),
]);

pub(in crate::etcd::gateway) static PUT_RESPONSE: Shape =
    Shape(&[message(1, "header", &HEADER), message(2, "prev_kv", &KEY_VALUE)]);

pub(in crate::etcd::gateway) static DELETE_RANGE_REQUEST: Shape =
    Shape(&[bytes(1, "key"), bytes(2, "range_end"), bool(3, "prev_kv")]);

pub(in crate::etcd::gateway) static DELETE_RANGE_RESPONSE: Shape = Shape(&[
    message(1, "header", &HEADER),
    int64(2, "deleted"),
    message(3, "prev_kvs", &KEY_VALUE).repeated(),
]);

const REQUEST: &str = "etcdserverpb.RequestOp.request";
const RESPONSE: &str = "etcdserverpb.ResponseOp.response";
const TARGET_UNION: &str = "etcdserverpb.Compare.target_union";
const REQUEST_UNION: &str = "etcdserverpb.WatchRequest.request_union";

static REQUEST_OP: Shape = Shape(&[
    message(1, "request_range", &RANGE_REQUEST).one_of(REQUEST),
    message(2, "request_put", &PUT_REQUEST).one_of(REQUEST),
    message(3, "request_delete_range", &DELETE_RANGE_REQUEST).one_of(REQUEST),
    message(4, "request_txn", &TXN_REQUEST).one_of(REQUEST),
]);

static RESPONSE_OP: Shape = Shape(&[
    message(1, "response_range", &RANGE_RESPONSE).one_of(RESPONSE),
    message(2, "response_put", &PUT_RESPONSE).one_of(RESPONSE),
    message(3, "response_delete_range", &DELETE_RANGE_RESPONSE).one_of(RESPONSE),
    message(4, "response_txn", &TXN_RESPONSE).one_of(RESPONSE),
]);

static COMPARE: Shape = Shape(&[
    names(1, "result", COMPARE_RESULT),
    names(2, "target", COMPARE_TARGET),
    bytes(3, "key"),
    int64(4, "version").one_of(TARGET_UNION),
    int64(5, "create_revision").one_of(TARGET_UNION),
    int64(6, "mod_revision").one_of(TARGET_UNION),
    bytes(7, "value").one_of(TARGET_UNION),
    int64(8, "lease").one_of(TARGET_UNION),
    bytes(64, "range_end"),
]);

pub(in crate::etcd::gateway) static TXN_REQUEST: Shape = Shape(&[
    message(1, "compare", &COMPARE).repeated(),
    message(2, "success", &REQUEST_OP).repeated(),
    message(3, "failure", &REQUEST_OP).repeated(),
]);

pub(in crate::etcd::gateway) static TXN_RESPONSE: Shape = Shape(&[
    message(1, "header", &HEADER),
    bool(2, "succeeded"),
    message(3, "responses", &RESPONSE_OP).repeated(),
]);

pub(in crate::etcd::gateway) static COMPACTION_REQUEST: Shape =
    Shape(&[int64(1, "revision"), bool(2, "physical")]);

static WATCH_CREATE: Shape = Shape(&[
    bytes(1, "key"),
    bytes(2, "range_end"),
    int64(3, "start_revision"),
    bool(4, "progress_notify"),
    names(5, "filters", FILTER_TYPE).repeated(),
    bool(6, "prev_kv"),
    int64(7, "watch_id"),
    bool(8, "fragment"),
]);

static WATCH_CANCEL: Shape = Shape(&[int64(1, "watch_id")]);

pub(in crate::etcd::gateway) static WATCH_REQUEST: Shape = Shape(&[
    message(1, "create_request", &WATCH_CREATE).one_of(REQUEST_UNION),
    message(2, "cancel_request", &WATCH_CANCEL).one_of(REQUEST_UNION),
    message(3, "progress_request", &super::EMPTY).one_of(REQUEST_UNION),
]);

static EVENT: Shape = Shape(&[
    names(1, "type", EVENT_TYPE),
    message(2, "kv", &KEY_VALUE),
    message(3, "prev_kv", &KEY_VALUE),
]);

pub(in crate::etcd::gateway) static WATCH_RESPONSE: Shape = Shape(&[
    message(1, "header", &HEADER),
    int64(2, "watch_id"),
    bool(3, "created"),
    bool(4, "canceled"),
    int64(5, "compact_revision"),
    string(6, "cancel_reason"),
    bool(7, "fragment"),
    message(11, "events", &EVENT).repeated(),
]);
