//! What tests of clusters have in common: one at a time on this machine, which kind is tested, and the verdict.

use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Cluster, Kind, Options, Wanted};
use crate::history::{History, Load, Run, Summary, check};
use crate::simulation::random::Random;

/// Clusters are timed: two of them at once on few cores would take each other's time.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Three members of the kind that is tested; `None`, said loudly, when this machine has none.
pub fn options(what: &str, network: Wanted) -> Option<Options> {
    let kind = Kind::under_test();
    announce(&format!("{what}: three members of {kind:?}"));
    kind.is_present(what).then(|| Options { network, ..Options::three(kind) })
}

/// Whether there is time for what takes longer: `MAINSTAY_TEST_LONG=1`. Says what is left out.
pub fn is_long(what: &str) -> bool {
    let long = std::env::var_os("MAINSTAY_TEST_LONG").is_some();
    if !long {
        let text = format!("LEFT OUT: {what}; MAINSTAY_TEST_LONG=1 has it");
        // The test harness hides what goes through its own macros.
        let _lost = writeln!(std::io::stderr(), "{text}");
    }
    long
}

/// One line for whoever reads along.
pub fn announce(what: &str) {
    eprintln!("{what}");
}

/// Says what a history consists of.
///
/// # Panics
/// When it cannot be true; the whole of it is left in a file then.
pub fn judge(what: &str, history: &History) -> Summary {
    match check(history) {
        Ok(summary) => {
            announce(&format!("{what}: {summary}"));
            summary
        }
        Err(found) => {
            let file = format!("mainstay-history-{}.txt", std::process::id());
            let path = std::env::temp_dir().join(file);
            let _lost = std::fs::write(&path, format!("{history:#?}"));
            panic!("{what}: {found}\nthe whole history is in {}", path.display());
        }
    }
}

/// One cluster under faults that the seed draws, until the time is over; then the verdict.
pub fn random_faults(options: Options, seed: u64, end: Instant) {
    let mut cluster = Cluster::start(options);
    let run = Run::start(&cluster, &Load { seed, ..Load::usual() });
    let mut random = Random::new(seed);
    while Instant::now() < end {
        fault(&mut cluster, &mut random);
        run.wait_answered(20);
    }
    judge("random faults", &run.finish(&cluster));
}

/// One fault, and its end.
fn fault(cluster: &mut Cluster, random: &mut Random) {
    let size = cluster.size();
    let member = random.below(size);
    let other = (member + 1 + random.below(size - 1)) % size;
    let time = Duration::from_millis(random.between(50, 4000) as u64);
    let kind = random.below(6);
    announce(&format!("fault {kind} of member {member} (and {other}) for {time:?}"));
    match kind {
        0 => {
            cluster.kill(member);
            std::thread::sleep(time);
            cluster.start_member(member);
        }
        1 => {
            cluster.stop(member);
            cluster.start_member(member);
        }
        2 => {
            cluster.pause(member);
            std::thread::sleep(time);
            cluster.resume(member);
        }
        3 => {
            cluster.network().isolate(member, size);
            std::thread::sleep(time);
        }
        4 => {
            cluster.network().cut(member, other);
            std::thread::sleep(time);
        }
        _ => {
            (0..size).for_each(|member| cluster.kill(member));
            (0..size).for_each(|member| cluster.start_member(member));
        }
    }
    cluster.network().heal();
    cluster.wait_healthy();
}
