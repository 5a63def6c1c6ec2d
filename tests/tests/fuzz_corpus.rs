//! The fuzz targets with their corpus, and with changes to it that a seed decides.
//!
//! `MAINSTAY_FUZZ_SEED` and `MAINSTAY_FUZZ_RUNS` choose others and more of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use mainstay_tests::fuzz::mutate::{Random, mutated};
use mainstay_tests::fuzz::{TARGETS, Target};

/// A few seconds for all targets in a build that is not optimized.
const RUNS: u64 = 1000;
const SEED: u64 = 20_260_101;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => default,
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name)
}

/// The inputs of a target, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = folder(name);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    let inputs: Vec<_> = paths.iter().map(|path| std::fs::read(path).expect("a file")).collect();
    assert!(inputs.len() >= 3, "{} has {} inputs", folder.display(), inputs.len());
    inputs
}

fn run(name: &str, target: Target) {
    let corpus = corpus(name);
    let (seed, runs) = (number("MAINSTAY_FUZZ_SEED", SEED), number("MAINSTAY_FUZZ_RUNS", RUNS));
    println!("{name}: seed {seed}, {runs} runs");
    let mut random = Random::new(seed);
    let changed = (0..runs).map(|_| mutated(&corpus, &mut random));
    for (at, input) in corpus.iter().cloned().chain(changed).enumerate() {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&input))) {
            let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("{name}: input {at} of seed {seed}: {hex}");
            eprintln!("as text: {}", String::from_utf8_lossy(&input));
            std::panic::resume_unwind(panic);
        }
    }
}

/// One test for each target, so that they run beside each other.
macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let name = stringify!($name);
                let (_, target) = TARGETS.iter().find(|target| target.0 == name).expect("a target");
                run(name, *target);
            }
        )*

        #[test]
        fn every_target_is_run_and_has_a_file_for_the_fuzzer() {
            let names = [$(stringify!($name)),*];
            for (name, _) in TARGETS {
                assert!(names.contains(&name), "{name} has no test here");
                let file = folder("../fuzz_targets").join(format!("{name}.rs"));
                assert!(file.exists(), "{} is missing", file.display());
            }
        }
    };
}

targets! {
    http2 hpack grpc_framing etcd_message gateway_json log_frame peer_message protobuf json yaml patch
    label_selector
}

#[test]
fn the_same_seed_gives_the_same_inputs() {
    let corpus = vec![b"{\"a\": 1}".to_vec(), vec![0; 50]];
    let inputs = |seed| {
        let mut random = Random::new(seed);
        (0..100).map(|_| mutated(&corpus, &mut random)).collect::<Vec<_>>()
    };
    assert_eq!(inputs(1), inputs(1));
    assert_ne!(inputs(1), inputs(2));
}
