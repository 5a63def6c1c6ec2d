//! What was asked of this door and how long it took, for Prometheus, in kube-apiserver's words.
//!
//! Each thread counts for itself, behind a lock that only a scrape contends for.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::collections::hash_map::{DefaultHasher, HashMap};
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::chain::Call;
use super::limits::MEASURED_SERIES;
use super::registry::catalog::Catalog;
use super::request::path::RequestInfo;

/// Upper ends of the histogram's buckets, in milliseconds: kube-apiserver's.
const BUCKETS_MS: [u32; 23] = [
    5, 25, 50, 100, 200, 400, 600, 800, 1000, 1250, 1500, 2000, 3000, 4000, 5000, 6000, 8000,
    10_000, 15_000, 20_000, 30_000, 45_000, 60_000,
];

/// What a request was, as its labels say it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels<'a> {
    /// `GET`, `LIST`, `WATCH`, `POST`, ...
    pub verb: &'static str,
    /// Empty where no known resource is asked for, so that nobody can make up labels.
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    /// `resource`, `namespace` or `cluster`
    pub scope: &'static str,
    pub dry_run: bool,
}

impl<'a> Labels<'a> {
    /// What a call is.
    pub fn of(call: &'a Call, catalog: &Catalog) -> Labels<'a> {
        let info = &call.info;
        let applies = call.header(http::header::CONTENT_TYPE).contains("apply-patch");
        let entry = catalog.find(&info.group, &info.version, &info.resource);
        let is_known = info.is_resource
            && entry.is_some_and(|entry| {
                let subresources = &entry.resource.subresources;
                info.subresource.is_empty()
                    || subresources.iter().any(|one| one.name == info.subresource)
            });
        let known = |text: &'a str| if is_known { text } else { "" };
        Labels {
            verb: verb(info, applies),
            group: known(&info.group),
            version: known(&info.version),
            resource: known(&info.resource),
            subresource: known(&info.subresource),
            scope: scope(info),
            dry_run: call.query.text("dryRun") == "All",
        }
    }
}

fn verb(info: &RequestInfo, applies: bool) -> &'static str {
    match (info.verb, info.subresource.as_str()) {
        (_, "attach" | "exec" | "portforward" | "proxy") => "CONNECT",
        ("get", _) => "GET",
        ("list", _) => "LIST",
        ("watch", _) => "WATCH",
        ("create" | "post", _) => "POST",
        ("update" | "put", _) => "PUT",
        ("patch", _) if applies => "APPLY",
        ("patch", _) => "PATCH",
        ("delete", _) => "DELETE",
        ("deletecollection", _) => "DELETECOLLECTION",
        ("head", _) => "HEAD",
        _ => "other",
    }
}

fn scope(info: &RequestInfo) -> &'static str {
    match (info.is_resource, info.name.is_empty(), info.namespace.is_empty()) {
        (false, ..) => "",
        (true, false, _) => "resource",
        _ if info.verb == "create" => "resource",
        (true, true, false) => "namespace",
        (true, true, true) => "cluster",
    }
}

/// The same, kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    dry_run: bool,
}

#[derive(Debug, Clone, Default)]
struct Counts {
    /// By status code.
    codes: BTreeMap<u16, u64>,
    buckets: [u64; BUCKETS_MS.len()],
    count: u64,
    sum_us: u64,
    /// Under way now: watches.
    running: i64,
}

/// By the hash of the labels.
type Table = HashMap<u64, (Series, Counts)>;

static TABLES: Mutex<Vec<Arc<Mutex<Table>>>> = Mutex::new(Vec::new());
static READING: AtomicI64 = AtomicI64::new(0);
static WRITING: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static OWN: OnceCell<Arc<Mutex<Table>>> = const { OnceCell::new() };
}

/// Counters stay usable when somebody panicked between two additions.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn own_table() -> Arc<Mutex<Table>> {
    OWN.with(|own| {
        let made = own.get_or_init(|| {
            let table = Arc::new(Mutex::new(Table::new()));
            locked(&TABLES).push(table.clone());
            table
        });
        made.clone()
    })
}

/// Counts a request that was answered. A watch is answered when it begins.
pub fn answered(labels: &Labels<'_>, code: u16, took_us: u64) {
    change(labels, |counts| {
        *counts.codes.entry(code).or_default() += 1;
        // How long a watch was open says nothing of the server.
        if labels.verb != "WATCH" {
            let bucket = BUCKETS_MS.iter().position(|end| took_us <= u64::from(*end) * 1000);
            if let Some(bucket) = bucket {
                counts.buckets[bucket] += 1;
            }
            counts.count += 1;
            counts.sum_us += took_us;
        }
    });
}

fn change(labels: &Labels<'_>, with: impl FnOnce(&mut Counts)) {
    let mut hasher = DefaultHasher::new();
    labels.hash(&mut hasher);
    let key = hasher.finish();
    let table = own_table();
    let mut table = locked(&table);
    if table.len() >= MEASURED_SERIES && !table.contains_key(&key) {
        return;
    }
    with(&mut table.entry(key).or_insert_with(|| (labels.kept(), Counts::default())).1);
}

/// A request that goes on, from its beginning until it is dropped.
#[derive(Debug)]
pub struct Running(Work);

#[derive(Debug)]
enum Work {
    Read,
    Write,
    Watch(Series),
}

impl Running {
    /// A request that is answered soon.
    pub fn short(writes: bool) -> Running {
        let (work, counter) = if writes { (Work::Write, &WRITING) } else { (Work::Read, &READING) };
        counter.fetch_add(1, Ordering::Relaxed);
        Running(work)
    }

    /// A watch.
    pub fn watch(labels: &Labels<'_>) -> Running {
        change(labels, |counts| counts.running += 1);
        Running(Work::Watch(labels.kept()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        match &self.0 {
            Work::Read => drop(READING.fetch_sub(1, Ordering::Relaxed)),
            Work::Write => drop(WRITING.fetch_sub(1, Ordering::Relaxed)),
            Work::Watch(series) => change(&series.labels(), |counts| counts.running -= 1),
        }
    }
}

impl Labels<'_> {
    fn kept(&self) -> Series {
        Series {
            verb: self.verb,
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            resource: self.resource.to_owned(),
            subresource: self.subresource.to_owned(),
            scope: self.scope,
            dry_run: self.dry_run,
        }
    }
}

impl Series {
    fn labels(&self) -> Labels<'_> {
        Labels {
            verb: self.verb,
            group: &self.group,
            version: &self.version,
            resource: &self.resource,
            subresource: &self.subresource,
            scope: self.scope,
            dry_run: self.dry_run,
        }
    }

    /// Label pairs without braces.
    fn text(&self) -> String {
        let dry_run = if self.dry_run { "All" } else { "" };
        format!(
            "component=\"apiserver\",dry_run=\"{dry_run}\",group=\"{}\",resource=\"{}\",scope=\"{}\",subresource=\"{}\",verb=\"{}\",version=\"{}\"",
            self.group, self.resource, self.scope, self.subresource, self.verb, self.version
        )
    }
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        for (code, count) in &other.codes {
            *self.codes.entry(*code).or_default() += count;
        }
        for (own, other) in self.buckets.iter_mut().zip(other.buckets) {
            *own += other;
        }
        self.count += other.count;
        self.sum_us += other.sum_us;
        self.running += other.running;
    }
}

/// The sums over all threads, in order.
fn gathered() -> BTreeMap<Series, Counts> {
    let tables: Vec<Arc<Mutex<Table>>> = locked(&TABLES).clone();
    let mut all: BTreeMap<Series, Counts> = BTreeMap::new();
    for table in tables {
        for (series, counts) in locked(&table).values() {
            all.entry(series.clone()).or_default().add(counts);
        }
    }
    all
}

/// This door's part of the metrics page.
pub fn render(kubernetes_version: &str) -> String {
    let all = gathered();
    let mut page = String::new();
    head(
        &mut page,
        "apiserver_request_total",
        "counter",
        "Requests by what they were and how they were answered.",
    );
    for (series, counts) in &all {
        for (code, count) in &counts.codes {
            let _infallible = writeln!(
                page,
                "apiserver_request_total{{code=\"{code}\",{}}} {count}",
                series.text()
            );
        }
    }
    head(
        &mut page,
        "apiserver_request_duration_seconds",
        "histogram",
        "Seconds from a request's head to its answer.",
    );
    for (series, counts) in all.iter().filter(|(_, counts)| counts.count > 0) {
        histogram(&mut page, &series.text(), counts);
    }
    head(&mut page, "apiserver_longrunning_requests", "gauge", "Watches that are open.");
    for (series, counts) in all.iter().filter(|(_, counts)| counts.running != 0) {
        let _infallible = writeln!(
            page,
            "apiserver_longrunning_requests{{{}}} {}",
            series.text(),
            counts.running
        );
    }
    head(
        &mut page,
        "apiserver_current_inflight_requests",
        "gauge",
        "Requests under way, watches left out.",
    );
    for (kind, counter) in [("mutating", &WRITING), ("readOnly", &READING)] {
        let count = counter.load(Ordering::Relaxed);
        let _infallible = writeln!(
            page,
            "apiserver_current_inflight_requests{{request_kind=\"{kind}\"}} {count}"
        );
    }
    head(&mut page, "kubernetes_build_info", "gauge", "The Kubernetes version that is served.");
    let _infallible =
        writeln!(page, "kubernetes_build_info{{git_version=\"{kubernetes_version}\"}} 1");
    page
}

fn head(page: &mut String, name: &str, kind: &str, help: &str) {
    let _infallible = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn histogram(page: &mut String, labels: &str, counts: &Counts) {
    const NAME: &str = "apiserver_request_duration_seconds";
    let mut below = 0;
    for (end_ms, count) in BUCKETS_MS.iter().zip(counts.buckets) {
        below += count;
        let end = f64::from(*end_ms) / 1000.0;
        let _infallible = writeln!(page, "{NAME}_bucket{{{labels},le=\"{end}\"}} {below}");
    }
    let (count, sum) = (counts.count, counts.sum_us as f64 / 1e6);
    let _infallible = writeln!(
        page,
        "{NAME}_bucket{{{labels},le=\"+Inf\"}} {count}\n{NAME}_sum{{{labels}}} {sum}\n{NAME}_count{{{labels}}} {count}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(resource: &str) -> Labels<'_> {
        Labels {
            verb: "GET",
            group: "measured.example.com",
            version: "v1",
            resource,
            subresource: "",
            scope: "resource",
            dry_run: false,
        }
    }

    #[test]
    fn threads_are_added_up() {
        let count = || answered(&labels("adders"), 200, 30_000);
        count();
        std::thread::spawn(count).join().unwrap();
        answered(&labels("adders"), 404, 100_000_000);
        let page = render("v1.36.2");
        let series = "component=\"apiserver\",dry_run=\"\",group=\"measured.example.com\",resource=\"adders\",\
                      scope=\"resource\",subresource=\"\",verb=\"GET\",version=\"v1\"";
        for line in [
            format!("apiserver_request_total{{code=\"200\",{series}}} 2\n"),
            format!("apiserver_request_total{{code=\"404\",{series}}} 1\n"),
            format!("apiserver_request_duration_seconds_bucket{{{series},le=\"0.025\"}} 0\n"),
            format!("apiserver_request_duration_seconds_bucket{{{series},le=\"0.05\"}} 2\n"),
            format!("apiserver_request_duration_seconds_bucket{{{series},le=\"60\"}} 2\n"),
            format!("apiserver_request_duration_seconds_bucket{{{series},le=\"+Inf\"}} 3\n"),
            format!("apiserver_request_duration_seconds_sum{{{series}}} 100.06\n"),
        ] {
            assert!(page.contains(&line), "{line} is missing in:\n{page}");
        }
        assert!(page.contains("kubernetes_build_info{git_version=\"v1.36.2\"} 1\n"));
    }

    #[test]
    fn watches_are_counted_while_they_are_open() {
        let open = || {
            let page = render("");
            page.lines()
                .filter(|line| line.contains("longrunning") && line.contains("watched"))
                .count()
        };
        let watch = Labels { verb: "WATCH", ..labels("watched") };
        let running = Running::watch(&watch);
        assert_eq!(open(), 1);
        drop(running);
        assert_eq!(open(), 0);
    }
}
