//! Stories in `tests/cases`: commands, each followed by what came of it.
//!
//! Lines that begin with `>` are commands, `#` begins a comment, everything else is what the command
//! before it is expected to tell. `UPDATE_CASES=1 cargo test -p mainstay-raft cases` writes down what
//! is told now; read the difference before believing it.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use mainstay_raft::{Change, Options, Transition};

use crate::cluster::{Cluster, describe, describe_membership, describe_message};

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text:?}"))
}

fn numbers(text: &str) -> Vec<u64> {
    text.split(',').filter(|part| !part.is_empty()).map(number).collect()
}

fn change(text: &str) -> Change {
    let (verb, id) = text.split_once(':').expect("verb:id");
    let id = number(id);
    match verb {
        "add-voter" => Change::AddVoter(id),
        "add-learner" => Change::AddLearner(id),
        "promote" => Change::Promote(id),
        "demote" => Change::Demote(id),
        "remove" => Change::Remove(id),
        _ => panic!("no such change: {verb}"),
    }
}

/// `cluster voters=1,2,3 others=4 pre-vote=off ...`
fn cluster(words: &[&str]) -> Cluster {
    let mut options = Options { pre_vote: false, check_quorum: false, ..Options::default() };
    let (mut voters, mut others, mut slow_disks) = (Vec::new(), Vec::new(), false);
    for word in words {
        let (name, value) = word.split_once('=').expect("name=value");
        match name {
            "voters" => voters = numbers(value),
            "others" => others = numbers(value),
            "pre-vote" => options.pre_vote = value == "on",
            "check-quorum" => options.check_quorum = value == "on",
            "lease-reads" => options.lease_reads = value == "on",
            "slow-disks" => slow_disks = value == "on",
            "message-bytes" => options.message_bytes = number(value) as usize,
            "inflight-messages" => options.inflight_messages = number(value) as usize,
            "inflight-bytes" => options.inflight_bytes = number(value) as usize,
            "cache-bytes" => options.cache_bytes = number(value) as usize,
            "snapshot-part-bytes" => options.snapshot_part_bytes = number(value) as usize,
            _ => panic!("no such option: {name}"),
        }
    }
    let mut cluster = Cluster::new(&voters, &others, options);
    cluster.slow_disks = slow_disks;
    cluster
}

fn run(cluster: &mut Cluster, command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let id = || number(words[1]);
    match words[0] {
        "cluster" => *cluster = self::cluster(&words[1..]),
        "campaign" => cluster.node(id()).campaign(),
        "tick" => cluster.tick(id(), number(words[2])),
        "settle" => cluster.settle(),
        "settle-quietly" => {
            cluster.settle();
            cluster.told.clear();
        }
        "ready" => {
            cluster.ready(id());
        }
        "write" => cluster.write(id(), number(words[2]) as usize),
        "deliver" => (0..number(words[1])).for_each(|_| {
            cluster.deliver_one();
        }),
        "drop" => {
            let dropped: Vec<_> = cluster.messages.drain(..).collect();
            dropped.iter().for_each(|m| cluster.tell(&format!("lost: {}", describe_message(m))));
        }
        "isolate" => {
            cluster.isolated.insert(id());
        }
        "reconnect" => {
            cluster.isolated.remove(&id());
        }
        "crash" => cluster.crash(id()),
        "start" => cluster.start(id()),
        "lose-disk" => cluster.lose_disk(id(), number(words[2])),
        "compact" => cluster.compact(id(), number(words[2])),
        "damage" => cluster.damage(id(), number(words[2])),
        "status" => status(cluster),
        "peers" => peers(cluster, id()),
        "log" => {
            let disk = &cluster.member(id()).disk;
            let log = disk.log.values().map(describe).collect::<Vec<_>>().join(", ");
            cluster.tell(&log);
        }
        _ => ask(cluster, &words),
    }
}

/// Commands that may be refused.
fn ask(cluster: &mut Cluster, words: &[&str]) {
    let node = cluster.node(number(words[1]));
    let refusal = match words[0] {
        "propose" => {
            let data = Bytes::from(words[2].to_string());
            node.propose(data).err().map(|error| error.to_string())
        }
        "change" => {
            let changes: Vec<Change> = words[2].split(',').map(change).collect();
            let transition = match words.get(3) {
                None => Transition::Auto,
                Some(&"joint") => Transition::Joint,
                Some(_) => Transition::JointUntilLeft,
            };
            node.propose_change(&changes, transition).err().map(|error| error.to_string())
        }
        "leave" => node.propose_leave().err().map(|error| error.to_string()),
        "transfer" => node.transfer_leader(number(words[2])).err().map(|error| error.to_string()),
        "read" => node.read_index(number(words[2])).err().map(|error| error.to_string()),
        other => panic!("no such command: {other}"),
    };
    if let Some(refusal) = refusal {
        cluster.tell(&format!("refused: {refusal}"));
    }
}

fn status(cluster: &mut Cluster) {
    let ids: Vec<u64> = cluster.members.keys().copied().collect();
    for id in ids {
        let line = match &cluster.members[&id].node {
            None => format!("{id} is down"),
            Some(node) => format!(
                "{id} {:?} in term {}, leader {}, commit {}, last {}@{}, {}",
                node.role(),
                node.term(),
                node.leader(),
                node.commit(),
                node.last_index(),
                node.term_at(node.last_index()).expect("the last has a term"),
                describe_membership(node.membership())
            ),
        };
        cluster.tell(&line);
    }
}

fn peers(cluster: &mut Cluster, id: u64) {
    for (peer, known) in cluster.node(id).peers() {
        let (state, matched, next) = (known.state, known.matched, known.next);
        let line = format!("{peer}: {state:?}, matched {matched}, next {next}");
        cluster.tell(&format!("{line}, in flight {}", known.in_flight));
    }
}

/// The story as it is told now.
fn told(story: &str) -> String {
    let mut cluster = Cluster::default();
    let mut text = String::new();
    for line in story.lines() {
        if line.is_empty() || line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        } else if let Some(command) = line.strip_prefix("> ") {
            text.push_str(&format!("{line}\n"));
            run(&mut cluster, command);
            text.push_str(&std::mem::take(&mut cluster.told));
        }
    }
    text
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let entries = std::fs::read_dir(folder).expect("the folder of cases");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    files
}

#[test]
fn cases() {
    let update = std::env::var("UPDATE_CASES").is_ok();
    let files = files();
    assert!(files.len() >= 30, "cases are missing: {}", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        let story = std::fs::read_to_string(&file).expect("a readable case");
        let told = std::panic::catch_unwind(|| told(&story));
        let Ok(told) = told else { panic!("{name}: see above") };
        if told != story && update {
            std::fs::write(&file, &told).expect("a writable case");
        } else if told != story {
            let differs = story.lines().zip(told.lines()).position(|(left, right)| left != right);
            let line = differs.map_or("the end".into(), |line| (line + 1).to_string());
            eprintln!("{name}: differs at line {line}. Told now:\n{told}");
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}; UPDATE_CASES=1 writes them anew");
}
