//! The text that Prometheus reads.

use std::fmt::Write as _;

use mainstay_engine::durations::{BUCKETS_US, DurationCounts};
use mainstay_engine::runtime::store::StoreStatus;

use super::peers;
use super::process;
use super::registry::{CoreMetrics, handling, sum};
use super::server::{CHECKS, server};
use crate::etcd::{ETCD_CLUSTER_VERSION, ETCD_VERSION, Method};
use crate::net::grpc::Code;

/// Prometheus' text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metric's name, what it means, and how to add it up.
type Sum = (&'static str, &'static str, fn(&CoreMetrics) -> u64);

/// etcd's counters that mean the same here.
const COUNTERS: &[Sum] = &[
    ("etcd_mvcc_range_total", "Total number of ranges seen by this member.", |core| {
        core.range_total.get()
    }),
    ("etcd_mvcc_put_total", "Total number of puts seen by this member.", |core| {
        core.put_total.get()
    }),
    ("etcd_mvcc_delete_total", "Total number of deletes seen by this member.", |core| {
        core.delete_total.get()
    }),
    ("etcd_mvcc_txn_total", "Total number of txns seen by this member.", |core| {
        core.transaction_total.get()
    }),
    ("etcd_debugging_mvcc_events_total", "Total number of events sent by this member.", |core| {
        core.events_total.get()
    }),
    ("etcd_debugging_lease_granted_total", "The total number of granted leases.", |core| {
        core.lease_granted_total.get()
    }),
    ("etcd_debugging_lease_revoked_total", "The total number of revoked leases.", |core| {
        core.lease_revoked_total.get()
    }),
    ("etcd_debugging_lease_renewed_total", "The number of renewed leases.", |core| {
        core.lease_renewed_total.get()
    }),
    ("etcd_server_health_success", "The total number of successful health checks.", |core| {
        core.health_success.get()
    }),
    ("etcd_server_health_failures", "The total number of failed health checks.", |core| {
        core.health_failures.get()
    }),
    (
        "etcd_network_client_grpc_received_bytes_total",
        "The total number of bytes received from grpc clients.",
        |core| core.received_bytes.get(),
    ),
    (
        "etcd_network_client_grpc_sent_bytes_total",
        "The total number of bytes sent to grpc clients.",
        |core| core.sent_bytes.get(),
    ),
];

const GAUGES: &[Sum] = &[
    ("etcd_debugging_mvcc_watch_stream_total", "Total number of watch streams.", |core| {
        core.watch_streams.get()
    }),
    ("etcd_debugging_mvcc_watcher_total", "Total number of watchers.", |core| core.watchers.get()),
];

/// The whole page. `disk_bytes` are what the store has on disk.
pub fn render(status: &StoreStatus, disk_bytes: u64) -> String {
    let mut page = Page::default();
    for (name, help, pick) in COUNTERS {
        page.single(name, "counter", help, sum(pick) as f64);
    }
    for (name, help, pick) in GAUGES {
        page.single(name, "gauge", help, sum(pick) as f64);
    }
    store(&mut page, status, disk_bytes);
    operation(&mut page, status);
    log(&mut page, status);
    cluster(&mut page, status);
    peers::write(&mut page, status.member_id, &server().peer_counts());
    calls(&mut page);
    call_times(&mut page);
    for (name, kind, value) in process::figures() {
        page.single(name, kind, "As the kernel counts it.", value);
    }
    page.0
}

fn store(page: &mut Page, status: &StoreStatus, disk_bytes: u64) {
    let switch = |is_so: bool| f64::from(u8::from(is_so));
    let leads = status.leader != 0 && status.leader == status.member_id;
    for (name, help, value) in [
        ("etcd_server_has_leader", "Whether or not a leader exists.", switch(status.leader != 0)),
        ("etcd_server_is_leader", "Whether or not this member is a leader.", switch(leads)),
        (
            "etcd_server_is_learner",
            "Whether or not this member is a learner.",
            switch(status.is_learner),
        ),
        (
            "etcd_debugging_mvcc_current_revision",
            "The current revision of store.",
            status.revision as f64,
        ),
        (
            "etcd_debugging_mvcc_compact_revision",
            "The revision of the last compaction in store.",
            status.compacted_revision as f64,
        ),
        ("etcd_debugging_mvcc_keys_total", "Total number of keys.", status.keys as f64),
        (
            "etcd_mvcc_db_total_size_in_bytes",
            "Bytes of the log, its key indexes and snapshots on disk.",
            disk_bytes as f64,
        ),
        (
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            "Bytes of live keys and values.",
            status.live_bytes as f64,
        ),
        (
            "mainstay_store_no_space",
            "Whether writes that add something are refused: the quota is reached or the disk full.",
            f64::from(u8::from(status.no_space)),
        ),
        ("mainstay_store_leases", "Leases that exist.", status.leases as f64),
        ("mainstay_store_watchers", "Watchers of all doors.", status.watchers as f64),
    ] {
        page.single(name, "gauge", help, value);
    }
    for (name, help, index) in [
        (
            "etcd_server_proposals_committed_total",
            "The total number of proposals committed.",
            status.raft_index,
        ),
        (
            "etcd_server_proposals_applied_total",
            "The total number of proposals applied.",
            status.raft_applied_index,
        ),
    ] {
        page.single(name, "gauge", help, index as f64);
    }
    page.head("etcd_server_id", "gauge", "Server or member ID in hexadecimal format.");
    page.line("etcd_server_id", &format!("{{server_id=\"{:x}\"}}", status.member_id), 1.0);
    for (name, label, version, help) in [
        ("etcd_server_version", "server_version", ETCD_VERSION, "Which version of etcd's API."),
        ("etcd_cluster_version", "cluster_version", ETCD_CLUSTER_VERSION, "Which version."),
        (
            "mainstay_build_info",
            "version",
            env!("CARGO_PKG_VERSION"),
            "Which version of Mainstay is running.",
        ),
    ] {
        page.head(name, "gauge", help);
        page.line(name, &format!("{{{label}=\"{version}\"}}"), 1.0);
    }
}

/// Alarms, quota, compaction and checks.
fn operation(page: &mut Page, status: &StoreStatus) {
    let server = server();
    for (name, help, counter) in [
        (
            "mainstay_defragment_requests_total",
            "Calls to Defragment, which has nothing to do here.",
            &server.defragments,
        ),
        (
            "mainstay_auto_compactions_total",
            "Compactions that --auto-compaction-retention asked for.",
            &server.auto_compactions,
        ),
        (
            "mainstay_compaction_requests_total",
            "Compactions that etcd clients asked for.",
            &server.compactions,
        ),
        (
            "mainstay_writes_refused_total",
            "Writes of etcd clients that an alarm or the quota has refused.",
            &server.refused_writes,
        ),
    ] {
        page.single(name, "counter", help, counter.get() as f64);
    }
    page.single(
        "etcd_server_quota_backend_bytes",
        "gauge",
        "Current backend storage quota size in bytes; 0 for none.",
        server.quota_bytes.get() as f64,
    );
    page.single(
        "etcd_debugging_auth_revision",
        "gauge",
        "The current revision of auth store.",
        server.auth_revision.get() as f64,
    );
    let name = "etcd_debugging_server_alarms";
    page.head(name, "gauge", "Alarms for every member in cluster; 1 for an active alarm.");
    for (kind, value) in [("NOSPACE", &server.no_space_alarms), ("CORRUPT", &server.corrupt_alarms)]
    {
        let labels = format!("{{alarm_type=\"{kind}\",server_id=\"{:x}\"}}", status.member_id);
        page.line(name, &labels, value.get() as f64);
    }
    checks(page);
}

/// Health checks by page and name.
fn checks(page: &mut Page) {
    let labels = |(kind, name): (&str, &str)| format!("name=\"{name}\",type=\"{kind}\"");
    let checks = || CHECKS.into_iter().zip(&server().checks);
    let name = "etcd_server_healthcheck";
    page.head(name, "gauge", "The result of each kind of healthcheck.");
    // One that nobody asked for has no result, and 0 would say that it failed.
    for (check, metrics) in checks().filter(|(_, metrics)| metrics.has_result()) {
        page.line(name, &format!("{{{}}}", labels(check)), metrics.last_succeeded.get() as f64);
    }
    let name = "etcd_server_healthchecks_total";
    page.head(name, "counter", "The total number of each kind of healthcheck.");
    for (check, metrics) in checks() {
        for (status, counter) in [("success", &metrics.successes), ("error", &metrics.failures)] {
            let labels = format!("{{{},status=\"{status}\"}}", labels(check));
            page.line(name, &labels, counter.get() as f64);
        }
    }
}

/// What the log has cost.
fn log(page: &mut Page, status: &StoreStatus) {
    let name = "etcd_disk_wal_fsync_duration_seconds";
    page.head(name, "histogram", "The time from handing a batch to the log until it is durable.");
    page.histogram(name, "", status.log_times);
    page.single(
        "etcd_disk_wal_write_bytes_total",
        "gauge",
        "Total number of bytes written in WAL.",
        status.logged_bytes as f64,
    );
    page.single(
        "etcd_server_proposals_pending",
        "gauge",
        "Revisions that are taken and not yet committed.",
        status.uncommitted_revisions as f64,
    );
}

/// What members make of each other, and names that dashboards look for.
fn cluster(page: &mut Page, status: &StoreStatus) {
    for (name, kind, help, value) in [
        (
            "etcd_server_leader_changes_seen_total",
            "counter",
            "The number of leader changes seen.",
            status.leader_changes as f64,
        ),
        (
            "etcd_server_read_indexes_failed_total",
            "counter",
            "The total number of failed read indexes seen.",
            server().failed_read_indexes.get() as f64,
        ),
        (
            "etcd_server_learner_promote_successes",
            "counter",
            "The total number of successful learner promotions that this member was asked for.",
            server().promotions.get() as f64,
        ),
        (
            "etcd_server_learner_promote_failures",
            "counter",
            "The total number of failed learner promotions that this member was asked for.",
            server().failed_promotions.get() as f64,
        ),
        (
            "etcd_debugging_mvcc_pending_events_total",
            "gauge",
            "Events that wait to be sent: no watcher has a queue.",
            0.0,
        ),
        (
            "etcd_disk_defrag_inflight",
            "gauge",
            "Whether or not defrag is active: there is nothing to defragment.",
            0.0,
        ),
    ] {
        page.single(name, kind, help, value);
    }
    page.single(
        "etcd_server_proposals_failed_total",
        "counter",
        "Writes refused because too many wait for the disk, or because it is full.",
        server().failed_writes.get() as f64,
    );
}

/// Calls by method, as the gRPC middleware that etcd uses counts them.
fn calls(page: &mut Page) {
    type Pick = fn(&CoreMetrics, Method) -> u64;
    let totals: [(&str, &str, Pick); 3] = [
        (
            "grpc_server_started_total",
            "Total number of RPCs started on the server.",
            |core, method| core.calls[method as usize].started.get(),
        ),
        (
            "grpc_server_msg_received_total",
            "Total number of RPC stream messages received on the server.",
            |core, method| core.calls[method as usize].received.get(),
        ),
        (
            "grpc_server_msg_sent_total",
            "Total number of gRPC stream messages sent by the server.",
            |core, method| core.calls[method as usize].sent.get(),
        ),
    ];
    for (name, help, pick) in totals {
        page.head(name, "counter", help);
        for &method in Method::ALL {
            let value = sum(|core| pick(core, method));
            page.line(name, &format!("{{{}}}", labels(method)), value as f64);
        }
    }
    let name = "grpc_server_handled_total";
    page.head(name, "counter", "Total number of RPCs completed on the server.");
    for &method in Method::ALL {
        for code in Code::ALL {
            let value = sum(|core| core.calls[method as usize].handled[code as usize].get());
            // Like the middleware: a pair that has not occurred is not shown, success always is.
            if value > 0 || code == Code::Ok {
                let labels = format!("{{grpc_code=\"{}\",{}}}", code_label(code), labels(method));
                page.line(name, &labels, value as f64);
            }
        }
    }
}

/// How long unary calls took; those that nobody has called are left out.
fn call_times(page: &mut Page) {
    let name = "grpc_server_handling_seconds";
    let help = "How long unary RPCs took until they were answered.";
    page.head(name, "histogram", help);
    for &method in Method::ALL {
        let counts = handling(method);
        if counts.count > 0 {
            page.histogram(name, &labels(method), counts);
        }
    }
}

fn labels(method: Method) -> String {
    format!(
        "grpc_method=\"{}\",grpc_service=\"{}\",grpc_type=\"{}\"",
        method.name(),
        method.service(),
        method.kind().label()
    )
}

/// A code's name as grpc-go prints it.
fn code_label(code: Code) -> String {
    if code == Code::Ok { "OK".to_owned() } else { format!("{code:?}") }
}

#[derive(Default)]
pub(super) struct Page(String);

// Writing to a String cannot fail.
impl Page {
    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn line(&mut self, name: &str, labels: &str, value: f64) {
        let _infallible = writeln!(self.0, "{name}{labels} {value}");
    }

    /// The lines of a histogram that [`head`](Page::head) has declared. `labels` without braces.
    pub(super) fn histogram(&mut self, name: &str, labels: &str, counts: DurationCounts) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut below = 0;
        for (end_us, count) in BUCKETS_US.iter().zip(counts.buckets) {
            below += count;
            let end = *end_us as f64 / 1e6;
            let labels = format!("{{{labels}{comma}le=\"{end}\"}}");
            self.line(&format!("{name}_bucket"), &labels, below as f64);
        }
        let all = format!("{{{labels}{comma}le=\"+Inf\"}}");
        self.line(&format!("{name}_bucket"), &all, counts.count as f64);
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        self.line(&format!("{name}_sum"), &labels, counts.sum_us as f64 / 1e6);
        self.line(&format!("{name}_count"), &labels, counts.count as f64);
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.head(name, kind, help);
        self.line(name, "", value);
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::of_core;

    #[test]
    fn the_page_is_well_formed() {
        of_core(0).call(Method::Range).end(Code::OutOfRange);
        let status = StoreStatus { revision: 7, member_id: 0xabc, ..StoreStatus::default() };
        let page = render(&status, 5 << 20);
        assert!(page.contains("\netcd_debugging_mvcc_current_revision 7\n"), "{page}");
        assert!(page.contains("\netcd_mvcc_db_total_size_in_bytes 5242880\n"), "{page}");
        assert!(page.contains("\netcd_server_id{server_id=\"abc\"} 1\n"), "{page}");
        assert!(page.contains(
            "grpc_server_handled_total{grpc_code=\"OutOfRange\",grpc_method=\"Range\",\
             grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1\n"
        ));
        assert!(page.contains("grpc_server_handling_seconds_count{grpc_method=\"Range\""));
        assert!(page.contains("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.0001\"} 0\n"));
        assert!(page.contains("etcd_disk_wal_fsync_duration_seconds_sum 0\n"));
        let mut declared = std::collections::BTreeSet::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.split(' ').next().expect("a name");
                assert!(declared.insert(name.to_owned()), "{name} declared twice");
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().expect("a name");
                let base = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|suffix| name.strip_suffix(suffix))
                    .filter(|base| declared.contains(*base));
                assert!(declared.contains(base.unwrap_or(name)), "{name} not declared");
                let value = line.rsplit(' ').next().expect("a value");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
    }
}
